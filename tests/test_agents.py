"""What every installed agent must pass. To register one is to have it tested here."""

import os

import gymnasium as gym
import numpy as np
import pytest
from small_tasks import SMALL_TASKS

import hare_gym
from hare_gym.checks import check_agent
from hare_gym.errors import HareError, MissingPackageError, UnknownNameError

every_agent = pytest.mark.parametrize("name", hare_gym.agent_names())

TASKS = {
    "HareBilinear-v0": {"num_items": 16, "num_users": 4, "horizon": 60},
    "HareClassification-v0": {"table": "wine", "horizon": 60},
    "HareSkills-v0": {"num_users": 4, "horizon": 12},
    "HarePrompts-v0": {"horizon": 60},
    **{id: {"horizon": 60} for id in SMALL_TASKS},
}


@pytest.fixture
def agent(name):
    try:
        return hare_gym.make_agent(name)
    except MissingPackageError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def modes_of(id):
    env = gym.make(id, disable_env_checker=True)
    return env.unwrapped.modes


@every_agent
def test_it_keeps_the_contract(agent, name):
    # numbers, texts, and a pool that changes: what one of them finds, the others would find again
    offered = ["HareBilinear-v0", "SmallText-v0", "SmallSlate-v0"]
    if agent.modes == {"write"}:  # it may need texts that can be measured, or a user's own
        offered += ["HareSkills-v0", "HareLaMP4-v0"]
    if "slate" in agent.modes:  # it may need prompts, or outcomes
        offered += ["HarePrompts-v0"]
    playable = [id for id in offered if agent.modes & set(modes_of(id))]
    assert playable, "no environment here has a mode that it plays"
    check_agent(agent, playable)


@every_agent
def test_a_misspelt_hyperparameter_is_refused(agent, name):
    with pytest.raises(HareError, match="aplha"):
        hare_gym.make_agent(name, aplha=1.0)


@every_agent
def test_no_round_of_any_task_beats_the_oracle(agent, name):
    for id, knobs in TASKS.items():
        for mode in agent.modes & set(modes_of(id)):
            env = gym.make(id, disable_env_checker=True, action_mode=mode, **knobs)
            observation, _ = env.reset(seed=11)
            try:
                agent.reset(env.unwrapped.task, np.random.default_rng(11))
            except HareError:
                continue
            if agent.privileged:
                agent.attach(env.unwrapped)
            truncated = False
            while not truncated:
                action = agent.act(observation)
                after, reward, _, truncated, info = env.step(action)
                if "outcome" in info:
                    agent.feedback(observation, action, info["outcome"])
                agent.update(observation, action, reward)
                assert info["regret"] >= -1e-9, (id, mode)
                observation = after


def test_an_agent_that_is_not_privileged_cannot_be_attached():
    with pytest.raises(TypeError, match=r"^Random is not privileged\.$"):
        hare_gym.make_agent("random").attach(None)


def test_the_oracle_is_the_only_privileged_one():
    found = []
    for name in hare_gym.agent_names():
        try:
            if hare_gym.agent_class(name).privileged:
                found.append(name)
        except (MissingPackageError, UnknownNameError):
            continue
    assert found == ["oracle"]
