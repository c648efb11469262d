"""Stable-Baselines3's algorithms as agents: they learn, they are what the library computes, they disturb nobody."""

import random
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from toy import observation, toy_task

from hare_agents.random import Random
from hare_agents.sb3 import PLAYS, StableBaselines3
from hare_gym import make_environment
from hare_gym.checks import check_agent
from hare_gym.contract import action_space
from hare_gym.errors import ConfigError, DataError, UnknownNameError

SELECT = [name for name, modes in PLAYS.items() if "select" in modes]
SYNTHESIZE = [name for name, modes in PLAYS.items() if "synthesize" in modes]
QUICK = {"learning_starts": 20, "batch_size": 16, "policy_kwargs": {"net_arch": [16]}}


def toy_reward(seen, action):
    if np.ndim(action) == 0:
        content = np.eye(len(seen["query"]))[action]
    else:
        content = np.asarray(action, dtype=float)
        content = content / max(1.0, np.linalg.norm(content))
    return float(0.5 + 0.5 * content @ seen["query"])


def started(algorithm, task=None, seed=0, **kwargs):
    task = task or toy_task()
    agent = StableBaselines3(algorithm=algorithm, kwargs=kwargs)
    agent.reset(task, np.random.default_rng(seed))
    return agent


def quick(algorithm, mode="select", seed=0, **kwargs):
    """An agent whose training is cheap."""
    return started(algorithm, toy_task(mode), seed, **(QUICK if algorithm in ("DQN", "SAC", "TD3", "DDPG") else {}))


def play(agent, rounds, seed=1, observed=lambda t: True):
    rng = np.random.default_rng(seed)
    actions, rewards = [], []
    for t in range(rounds):
        seen = observation(rng, agent.spec)
        action = agent.act(seen)
        reward = toy_reward(seen, action)
        if observed(t):
            agent.update(seen, action, reward)
        actions.append(action)
        rewards.append(reward)
    return np.array(actions), np.array(rewards)


def same_arrays(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# -- playing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "mode"), [(a, "select") for a in SELECT] + [(a, "synthesize") for a in SYNTHESIZE]
)
def test_plays_the_bilinear_world(algorithm, mode):
    env = make_environment("HareBilinear-v0", action_mode=mode, horizon=60, num_items=8, num_clusters=4).unwrapped
    seen, _ = env.reset(seed=3)
    agent = started(algorithm, env.task, **(QUICK if algorithm in ("DQN", "SAC", "TD3", "DDPG") else {}))
    before = {name: array for name, array in agent.state().items() if name.startswith("policy/")}
    truncated = False
    while not truncated:
        action = agent.act(seen)
        assert env.action_space.contains(action)
        following, reward, _, truncated, _ = env.step(action)
        agent.update(seen, action, reward)
        seen = following
    # PPO trains after 64 rounds only
    assert algorithm == "PPO" or not same_arrays(before, {name: agent.state()[name] for name in before})


@pytest.mark.parametrize("algorithm", ["A2C", "DQN"])  # PPO is what the registry's own test checks
def test_keeps_the_contract(algorithm):
    check_agent(StableBaselines3(algorithm=algorithm, kwargs=QUICK if algorithm == "DQN" else {}))


@pytest.mark.parametrize(
    ("algorithm", "mode", "rounds", "kwargs"),
    [
        ("PPO", "select", 1000, {}),
        ("A2C", "select", 1000, {}),
        ("DQN", "select", 800, {"train_freq": 1}),
        ("PPO", "synthesize", 1000, {}),
    ],
)
def test_learns_a_small_linear_problem(algorithm, mode, rounds, kwargs):
    task = toy_task(mode, horizon=rounds)
    agent = started(algorithm, task, **kwargs)
    _, rewards = play(agent, rounds)
    chance = Random()
    chance.reset(task, np.random.default_rng(0))
    _, by_chance = play(chance, rounds)
    assert rewards[-rounds // 4 :].mean() > by_chance.mean() + 0.1


SMALL = {"policy_kwargs": {"net_arch": [16]}}


@pytest.mark.parametrize(
    ("algorithm", "mode", "kwargs"),
    [
        (PPO, "select", {"n_steps": 16, "batch_size": 16}),
        (PPO, "synthesize", {"n_steps": 16, "batch_size": 16}),
        (A2C, "select", {"n_steps": 16}),
        (DQN, "select", {"learning_starts": 30, "target_update_interval": 20, **SMALL}),
        (TD3, "synthesize", {"learning_starts": 30, "train_freq": 3, "gradient_steps": -1, **SMALL}),
    ],
)
def test_learns_exactly_what_the_librarys_own_loop_learns(algorithm, mode, kwargs, monkeypatch):
    """``learn()`` on an environment of one-step episodes, and the same rounds through the agent."""
    # batches in a fixed order, since the two loops draw from different generators
    monkeypatch.setattr(ReplayBuffer, "sample", lambda self, size, env=None: self._get_samples(latest(self, size)))
    task = toy_task(mode, horizon=144)
    agent = started(algorithm.__name__, task, **kwargs)
    rounds = []

    class OneStep(gym.Env):
        observation_space = agent._model.observation_space
        action_space = action_space(task)
        source = np.random.default_rng(5)

        def reset(self, *, seed=None, options=None):
            self.seen = observation(self.source, task)
            return agent._context(self.seen), {}

        def step(self, action):
            action = int(action) if mode == "select" else action.copy()
            reward = toy_reward(self.seen, action)
            rounds.append((self.seen, action, reward))
            return agent._context(self.seen), reward, True, False, {}

    reference = algorithm("MlpPolicy", OneStep(), device="cpu", seed=0, **agent._arguments(task))
    reference.set_parameters(agent._model.get_parameters())
    start = {name: value.clone() for name, value in agent._model.policy.state_dict().items()}
    # a Gaussian's action is stored as drawn but played clipped: without clipping both loops store the same
    if algorithm is PPO and mode == "synthesize":
        with torch.no_grad():
            for model in (reference, agent._model):
                model.policy.log_std.fill_(-2.0)
    reference.learn(144)
    for seen, action, reward in rounds:
        agent.update(seen, action, reward)
    assert agent._model.num_timesteps == reference.num_timesteps == 144
    assert agent._model._n_updates == reference._n_updates > 0
    ours, theirs = agent._model.policy.state_dict(), reference.policy.state_dict()
    for name in ours:
        assert not torch.allclose(ours[name], start[name])
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


def latest(buffer, size):
    return np.arange(max(0, buffer.pos - size), buffer.pos)


@pytest.mark.parametrize("algorithm", ["DQN", "SAC"])
def test_the_replay_buffer_holds_the_observed_rounds(algorithm):
    mode = PLAYS[algorithm][0]
    agent = quick(algorithm, mode)
    actions, rewards = play(agent, 30, observed=lambda t: t % 3 == 0)
    buffer = agent._model.replay_buffer
    assert buffer.pos == 10
    np.testing.assert_allclose(buffer.actions[:10, 0].squeeze(), actions[::3], atol=1e-6)
    np.testing.assert_allclose(buffer.rewards[:10, 0], rewards[::3], rtol=1e-6)
    assert buffer.dones[:10].all()


def test_a_path_names_another_algorithm():
    agent = StableBaselines3(algorithm="stable_baselines3.a2c:A2C", policy="stable_baselines3.a2c:MlpPolicy")
    agent.reset(toy_task(), np.random.default_rng(0))
    same = started("A2C")
    assert np.array_equal(play(agent, 40)[0], play(same, 40)[0])


def test_state_dependent_noise():
    agent = started("PPO", toy_task("synthesize"), use_sde=True, sde_sample_freq=4)
    actions, _ = play(agent, 70)
    assert np.isfinite(actions).all()


# -- rounds without a reward, batches, masks --------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SELECT)
def test_unobserved_rounds_leave_no_trace(algorithm):
    agent = quick(algorithm)
    before = agent.state()
    play(agent, 40, observed=lambda t: False)
    assert same_arrays(before, agent.state())
    play(agent, 40, observed=lambda t: t % 2 == 1)
    assert agent._model.num_timesteps == 20


@pytest.mark.parametrize(("algorithm", "mode"), [("PPO", "select"), ("DQN", "select"), ("TD3", "synthesize")])
def test_acting_leaves_what_was_learned_unchanged(algorithm, mode):
    agent = quick(algorithm, mode)
    play(agent, 70)
    before = agent.state()
    agent.act(observation(np.random.default_rng(0), agent.spec))
    agent.probabilities(observation(np.random.default_rng(0), agent.spec))
    assert same_arrays(before, agent.state())


@pytest.mark.parametrize(("algorithm", "mode"), [("PPO", "select"), ("DQN", "select"), ("PPO", "synthesize")])
def test_a_batch_is_learned_from_as_the_behaviour_policy_chose_it(algorithm, mode):
    agent = quick(algorithm, mode)
    rng = np.random.default_rng(0)
    singles = [observation(rng, agent.spec) for _ in range(20)]
    batch = {key: np.stack([seen[key] for seen in singles]) for key in ("query", "user")}
    actions = agent.act_batch(batch)
    assert actions.shape == ((20,) if mode == "select" else (20, 4))
    remembered = list(agent._pending.values())
    agent.update_batch(batch, actions, np.array([toy_reward(s, a) for s, a in zip(singles, actions, strict=True)]))
    assert agent._model.num_timesteps == 20
    if algorithm == "PPO":
        stored = agent._model.rollout_buffer.log_probs[:20, 0]
        np.testing.assert_array_equal(stored, [float(log_prob) for _, _, log_prob in remembered])


@pytest.mark.parametrize(("algorithm", "mode"), [("PPO", "select"), ("PPO", "synthesize"), ("SAC", "synthesize")])
def test_a_late_reward_is_learned_from_as_if_just_decided(algorithm, mode):
    agents = [quick(algorithm, mode) for _ in range(2)]
    seen = observation(np.random.default_rng(0), agents[0].spec)
    actions = [agent.act(seen) for agent in agents]
    agents[1].act(observation(np.random.default_rng(9), agents[1].spec))
    for agent, action in zip(agents, actions, strict=True):
        agent.update(seen, action, 0.7)
    buffers = [agent._buffer() for agent in agents]
    assert buffers[0].pos == buffers[1].pos == 1
    names = ("observations", "rewards", "values", "log_probs") if algorithm == "PPO" else ("observations", "actions")
    for name in names:
        late, prompt = getattr(buffers[1], name)[0], getattr(buffers[0], name)[0]
        # a content beyond the box was clipped, and only its clipped form comes back
        if mode == "select" or name != "log_probs":
            np.testing.assert_allclose(late, prompt, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("algorithm", SELECT)
def test_masked_items_are_never_chosen(algorithm):
    task = replace(toy_task(items=5), pool=None)
    agent = started(algorithm, task, **(QUICK if algorithm == "DQN" else {}))
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = np.zeros(5, dtype=np.int8)
        mask[rng.choice(5, 2, replace=False)] = 1
        seen = observation(rng, task) | {"pool": rng.standard_normal((5, 4)), "pool_mask": mask}
        action = agent.act(seen)
        assert mask[action] == 1
        p = agent.probabilities(seen)
        assert p[mask == 0].sum() == 0.0
        assert p.sum() == pytest.approx(1.0)
        agent.update(seen, action, 0.5)


@pytest.mark.parametrize("algorithm", SELECT)
def test_probabilities_are_those_of_act(algorithm):
    agent = quick(algorithm)
    play(agent, 300)
    seen = observation(np.random.default_rng(4), agent.spec)
    counts = np.bincount([agent.act(seen) for _ in range(2000)], minlength=4)
    p = agent.probabilities(seen)
    # five standard errors
    assert (np.abs(counts / 2000 - p) <= 5 * np.sqrt(p * (1 - p) / 2000)).all()


def test_no_probabilities_for_vectors():
    agent = started("PPO", toy_task("synthesize"))
    assert agent.probabilities(observation(np.random.default_rng(0), agent.spec)) is None


# -- randomness and global state --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "mode"), [(a, "select") for a in SELECT] + [(a, "synthesize") for a in SYNTHESIZE]
)
def test_same_seed_same_actions_and_another_seed_others(algorithm, mode):
    first, again, other = (play(quick(algorithm, mode, seed), 70)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_two_agents_in_turn_play_as_each_does_alone():
    alone = [play(quick(name), 150)[0] for name in ("PPO", "DQN")]
    agents = [quick(name) for name in ("PPO", "DQN")]
    sources = [np.random.default_rng(1), np.random.default_rng(1)]
    together = [[], []]
    for _ in range(150):
        for agent, source, actions in zip(agents, sources, together, strict=True):
            seen = observation(source, agent.spec)
            actions.append(agent.act(seen))
            agent.update(seen, actions[-1], toy_reward(seen, actions[-1]))
            np.random.random(), torch.rand(1), random.random()  # noqa: NPY002
    assert np.array_equal(together[0], alone[0])
    assert np.array_equal(together[1], alone[1])


@pytest.fixture
def global_state():
    """A state in which NumPy holds back the second of a pair of normals, and torch has two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    np.random.seed(11)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002

    def snapshot():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            numpy_state[1].tolist(),
            numpy_state[2:],
            torch.get_rng_state().tolist(),
            random.getstate(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
        )

    yield snapshot
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("algorithm", "mode"), [("PPO", "select"), ("DQN", "select"), ("TD3", "synthesize")])
def test_global_state_is_untouched(algorithm, mode, global_state):
    before = global_state()
    assert before[1][1] == 1  # the held-back normal
    play(quick(algorithm, mode), 70)
    assert global_state() == before


def test_an_error_inside_the_library_reaches_the_caller_and_leaves_global_state_untouched(global_state, monkeypatch):
    agent = quick("A2C")
    seen = observation(np.random.default_rng(0), agent.spec)

    def broken():
        np.random.random(), torch.rand(1)  # noqa: NPY002
        raise FloatingPointError("the loss is NaN")

    monkeypatch.setattr(agent._model, "train", broken)
    before = global_state()
    for _ in range(4):
        agent.update(seen, agent.act(seen), 0.5)
    with pytest.raises(FloatingPointError, match="the loss is NaN") as caught:
        agent.update(seen, agent.act(seen), 0.5)
    assert caught.traceback[-1].name == "broken"
    assert global_state() == before


def test_importing_the_module_does_not_import_torch():
    code = "import sys, hare_agents.sb3; sys.exit('torch' in sys.modules or 'stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- state ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "mode"), [(a, "select") for a in SELECT] + [(a, "synthesize") for a in SYNTHESIZE]
)
def test_a_loaded_agent_continues_exactly(algorithm, mode):
    agent = quick(algorithm, mode)
    play(agent, 75)
    loaded = quick(algorithm, mode, seed=9)
    state = agent.state()
    loaded.load_state(state)
    assert same_arrays(state, loaded.state())
    assert all(array.dtype != object for array in state.values())
    loaded.rng.bit_generator.state = agent.rng.bit_generator.state
    assert np.array_equal(play(agent, 75, seed=2)[0], play(loaded, 75, seed=2)[0])
    assert same_arrays(agent.state(), loaded.state())


def test_a_state_is_a_copy():
    agent = quick("A2C")
    state = agent.state()
    copies = {name: array.copy() for name, array in state.items()}
    play(agent, 20)
    assert same_arrays(state, copies)


def test_reset_forgets():
    agent = quick("PPO")
    first, _ = play(agent, 100)
    agent.reset(agent.spec, np.random.default_rng(0))
    assert np.array_equal(play(agent, 100)[0], first)


def test_diagnostics_are_the_librarys_training_figures():
    agent = quick("A2C")
    assert agent.diagnostics() == {}
    play(agent, 10)
    assert "train/entropy_loss" in agent.diagnostics()


# -- errors -----------------------------------------------------------------------------------------------------


class OwnLoop(PPO):
    def collect_rollouts(self, *args, **kwargs):
        return super().collect_rollouts(*args, **kwargs)


@pytest.mark.parametrize(
    ("knobs", "error", "text"),
    [
        (
            {"algorithm": "PP0"},
            UnknownNameError,
            "Unknown algorithm of agent 'sb3' 'PP0'. Did you mean 'PPO'? "
            'Another package\'s is named "package.module:Class".',
        ),
        ({"algoritm": "PPO"}, UnknownNameError, "Unknown knob of agent 'sb3' 'algoritm'. Did you mean 'algorithm'?"),
        (
            {"kwargs": {"n_step": 8}},
            UnknownNameError,
            "Unknown argument of PPO 'n_step'. Did you mean 'n_steps'?",
        ),
        (
            {"kwargs": {"seed": 8}},
            ConfigError,
            "agent 'sb3': kwargs must not hold 'seed': the agent sets it itself.",
        ),
        ({"kwargs": [1]}, ConfigError, "agent 'sb3': kwargs must be a mapping of names to values, not [1]."),
        ({"policy": "MlpPolice"}, UnknownNameError, "Unknown policy of PPO 'MlpPolice'. Did you mean 'MlpPolicy'?"),
        (
            {"algorithm": "no_such_package:TRPO"},
            UnknownNameError,
            "algorithm 'no_such_package:TRPO' of agent 'sb3': there is no module 'no_such_package'. "
            "Install its package.",
        ),
        (
            {"algorithm": "stable_baselines3:PPOO"},
            UnknownNameError,
            "Unknown algorithm in stable_baselines3 'PPOO'. Did you mean 'PPO'?",
        ),
        (
            {"algorithm": "collections:OrderedDict"},
            ConfigError,
            "agent 'sb3': collections:OrderedDict is not an on-policy or off-policy algorithm of "
            "Stable-Baselines3. Algorithms that can be played: A2C, DDPG, DQN, PPO, SAC, TD3.",
        ),
        (
            {"algorithm": f"{__name__}:OwnLoop"},
            ConfigError,
            f"agent 'sb3': {__name__}:OwnLoop gathers its rollouts in a way of its own, which cannot be played "
            "round by round. Algorithms that can be played: A2C, DDPG, DQN, PPO, SAC, TD3.",
        ),
    ],
)
def test_errors_at_construction(knobs, error, text):
    with pytest.raises(error) as caught:
        StableBaselines3(**knobs)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("algorithm", "mode", "can"),
    [
        ("DQN", "synthesize", "Algorithms that can: A2C, DDPG, PPO, SAC, TD3."),
        ("SAC", "select", "Algorithms that can: A2C, DQN, PPO."),
        ("PPO", "slate", "No algorithm here can."),
    ],
)
def test_a_mode_that_an_algorithm_cannot_play(algorithm, mode, can):
    with pytest.raises(ConfigError) as caught:
        started(algorithm, toy_task(mode))
    assert str(caught.value) == f"agent 'sb3': {algorithm} cannot play action mode {mode!r}. {can}"


def test_the_librarys_own_complaint_is_passed_on():
    with pytest.raises(
        ConfigError, match=r"^agent 'sb3': PPO could not be built for action mode 'select': .*batch_size"
    ) as caught:
        started("PPO", n_steps=1, batch_size=1)
    assert isinstance(caught.value.__cause__, AssertionError)


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite(reward):
    agent = quick("PPO")
    seen = observation(np.random.default_rng(0), agent.spec)
    before = agent.state()
    with pytest.raises(DataError) as caught:
        agent.update(seen, agent.act(seen), reward)
    assert str(caught.value) == f"agent 'sb3': the reward must be a finite number, not {reward}."
    assert same_arrays(before, agent.state())


def test_a_state_that_does_not_fit():
    agent = quick("PPO")
    with pytest.raises(
        DataError, match=r"^agent 'sb3': the state holds no 'policy/.*'; was it another algorithm's\?"
    ):
        agent.load_state(quick("DQN").state())
    wider = started("PPO", policy_kwargs={"net_arch": [8]})
    with pytest.raises(DataError, match=r"has shape \(8, 6\) in the state, not \(64, 6\)"):
        agent.load_state(wider.state())


def test_every_algorithm_of_the_library_is_listed():
    import stable_baselines3

    theirs = {
        name
        for name, item in vars(stable_baselines3).items()
        if isinstance(item, type) and issubclass(item, BaseAlgorithm)
    }
    assert theirs == set(PLAYS)
    assert all(isinstance(action_space(toy_task(mode)), spaces.Space) for modes in PLAYS.values() for mode in modes)
