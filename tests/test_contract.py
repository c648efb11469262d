"""One contract, three environments with nothing else in common; and the task's description itself."""

import dataclasses
import json
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from small_tasks import SMALL_TASKS, TEXTS

import hare_gym
from hare_gym.checks import check_task
from hare_gym.contract import (
    TEXT_CHARSET,
    TaskSpec,
    nth_observation,
    observation_space,
    pool_text_of,
    pool_texts_of,
    sanitise,
    stack_actions,
    text_space,
)
from hare_gym.errors import ContractError

PLAYED = [
    ("SmallNumeric-v0", "select"),
    ("SmallNumeric-v0", "synthesize"),
    ("SmallText-v0", "write"),
    ("SmallSlate-v0", "slate"),
    ("SmallSlate-v0", "select"),
]


@pytest.mark.parametrize(("id", "mode"), PLAYED)
def test_three_kinds_of_task_keep_the_contract(id, mode):
    check_task(gym.make(id, action_mode=mode))


@pytest.mark.parametrize(("id", "mode"), PLAYED)
def test_gymnasium_accepts_them(id, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(gym.make(id, action_mode=mode, render_mode="ansi").unwrapped)


@pytest.mark.parametrize(("id", "mode"), PLAYED)
def test_one_agent_plays_them_all(id, mode):
    env = gym.make(id, action_mode=mode)
    agent = hare_gym.make_agent("random")
    observation, _ = env.reset(seed=0)
    agent.reset(env.unwrapped.task, np.random.default_rng(0))
    rounds, truncated = 0, False
    while not truncated:
        action = agent.act(observation)
        assert action in env.action_space
        observation, reward, _, truncated, _ = env.step(action)
        agent.update(observation, action, reward)
        rounds += 1
    assert rounds == env.unwrapped.task.horizon == 40


def tasks():
    for id in SMALL_TASKS:
        env = gym.make(id)
        env.reset(seed=3)
        yield env.unwrapped.task
    env = gym.make("HareBilinear-v0", horizon=7, nonlinearity=1 / 3)
    env.reset(seed=3)
    yield env.unwrapped.task


@pytest.mark.parametrize("task", list(tasks()), ids=lambda task: task.id)
def test_a_task_survives_json_bit_for_bit(task):
    again = TaskSpec.from_json(task.to_json())
    assert again == task
    assert hash(again) == hash(task)
    assert again.digest == task.digest
    assert again.to_json() == task.to_json()
    for field in dataclasses.fields(TaskSpec):
        one, two = getattr(task, field.name), getattr(again, field.name)
        if isinstance(one, np.ndarray):
            assert one.tobytes() == two.tobytes()
            assert not two.flags.writeable
        else:
            assert one == two


def pinned_task(**changes):
    values = {
        "id": "Pinned-v0",
        "action_mode": "select",
        "horizon": 10,
        "num_users": 2,
        "query_dim": 3,
        "content_dim": 2,
        "num_items": 4,
        "pool": np.arange(8.0).reshape(4, 2) / 7,
        "pool_texts": ("a", "é", "c", "d"),
        "kwargs": {"b": 0.1, "a": [1, None, True]},
    }
    return TaskSpec(**{**values, **changes})


def test_the_digest_is_the_same_for_ever():
    """Records carry it: a change here orphans every record made so far."""
    assert pinned_task().digest == "bc8635ce7f0f0ead753e4682154585f563ae5a6f72a71de88128fc21282be68f"
    assert pinned_task(kwargs={"a": [1, None, True], "b": 0.1}).digest == pinned_task().digest


@pytest.mark.parametrize(
    "change",
    [
        {"id": "Pinned-v1"},
        {"horizon": 11},
        {"pool": np.nextafter(np.arange(8.0).reshape(4, 2) / 7, 2)},
        {"pool": None},
        {"pool_texts": None},
        {"kwargs": {}},
        {"reward_version": "2"},
        {"encoder": "x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_counts_in_the_digest(change):
    changed = pinned_task(**change)
    assert changed.digest != pinned_task().digest
    assert changed != pinned_task()


def test_a_task_with_nan_has_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        pinned_task(kwargs={"a": float("nan")}).to_json()


def test_a_task_cannot_be_changed():
    task = pinned_task()
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.horizon = 3
    with pytest.raises(ValueError, match="read-only"):
        task.pool[0, 0] = 9.0
    mine = np.zeros((4, 2))
    task = pinned_task(pool=mine)
    mine[0, 0] = 5.0
    assert task.pool[0, 0] == 0.0


def test_old_json_loads():
    """The very text that version 0.1.0 writes."""
    text = (
        '{"action_mode":"write","content_dim":2,"encoder":null,"has_query_text":true,"horizon":3,"id":"Old-v0",'
        '"kwargs":{},"num_items":1,"num_users":1,"pool":[[0.1,0.2]],"pool_texts":["x"],"query_dim":1,'
        '"reward_version":"1","slate_size":1,"text_length":9}'
    )
    assert json.loads(TaskSpec.from_json(text).to_json()) == json.loads(text)


@pytest.mark.parametrize(
    ("given", "length", "expected"),
    [
        ("plain text\n\twith lines", 100, "plain text\n\twith lines"),
        ("naïve", 100, "na?ve"),
        ("Ωmega 🙂 \x00", 100, "?mega ? ?"),
        ("“quoted” – é", 100, "“quoted” – é"),
        ("cut here", 3, "cut"),
        ("", 5, ""),
    ],
)
def test_sanitise_fits_any_text_into_the_space(given, length, expected):
    assert sanitise(given, length) == expected
    assert sanitise(given, length) in text_space(length)
    assert sanitise(sanitise(given, length), length) == expected


def test_the_text_space_admits_its_charset_and_the_empty_text():
    space = text_space(len(TEXT_CHARSET))
    assert "" in space
    assert TEXT_CHARSET in space
    assert "🙂" not in space
    assert TEXT_CHARSET + "a" not in space
    assert all(text in text_space(60) for text in TEXTS)


def test_batches_take_apart_and_together():
    observations = {"query": np.arange(6.0).reshape(2, 3), "user": np.array([4, 5]), "query_text": ("a", "b")}
    second = nth_observation(observations, 1)
    assert second["query"].tolist() == [3.0, 4.0, 5.0]
    assert (second["user"], second["query_text"]) == (5, "b")
    assert stack_actions(["x", "y"]) == ("x", "y")
    assert stack_actions([1, 2]).tolist() == [1, 2]
    assert stack_actions([np.zeros(2), np.ones(2)]).shape == (2, 2)


def test_the_digest_does_not_depend_on_the_process():
    code = "import test_contract; print(test_contract.pinned_task().digest)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=__file__.rpartition("/")[0]
    )
    assert out.stdout.strip() == pinned_task().digest


def test_pool_texts_go_into_one_text_and_come_out_again():
    texts = ["first item\nwith lines", "", "a form\ffeed", "Ω long" * 9]
    observation = {"pool_mask": np.array([1, 1, 1, 1, 0]), "pool_text": pool_text_of(texts, 20)}
    assert pool_texts_of(observation) == ("first item\nwith line", "", "a form feed", ("? long" * 9)[:20])
    assert pool_texts_of({"pool_mask": np.array([1, 0]), "pool_text": pool_text_of([""], 20)}) == ("",)
    assert pool_texts_of({"pool_mask": np.zeros(2), "pool_text": pool_text_of([], 20)}) == ()
    with pytest.raises(ContractError, match=r"has no pool_text: look at spec.has_pool_text"):
        pool_texts_of({"pool_mask": np.ones(2)})


def test_only_tasks_with_pool_texts_say_so():
    without, with_texts = pinned_task(pool=None), pinned_task(pool=None, has_pool_text=True, text_length=7)
    assert "has_pool_text" not in json.loads(without.to_json())
    assert json.loads(with_texts.to_json())["has_pool_text"] is True
    assert TaskSpec.from_json(with_texts.to_json()) == with_texts
    assert with_texts.digest != pinned_task(pool=None, text_length=7).digest
    space = observation_space(with_texts)["pool_text"]
    assert "pool_text" not in observation_space(without).spaces
    assert pool_text_of(["a" * 9] * 4, 7) in space
    assert "a" * (4 * 8 + 1) not in space
