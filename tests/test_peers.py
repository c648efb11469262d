"""Vowpal Wabbit and MABWiser as agents. Without the packages: skipped here, an error in continuous integration."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from toy import observation, toy_task

from hare_agents.mabwiser import POLICIES, MABWiser
from hare_agents.random import Random
from hare_agents.vw import VowpalWabbit, VowpalWabbitConfig
from hare_gym import make_environment
from hare_gym.checks import check_agent
from hare_gym.errors import ConfigError, DataError, MissingPackageError, UnknownNameError

EXPLORATIONS = VowpalWabbitConfig.__dataclass_fields__["exploration"].metadata["choices"]
CONTEXTUAL = ("LinUCB", "LinTS", "LinGreedy")


@pytest.fixture(scope="module", autouse=True)
def peers():
    missing = [name for name in ("vowpalwabbit", "mabwiser") if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed. Install with: pip install 'hare-gym[peers]'"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def toy_reward(seen, action):
    return float(0.5 + 0.5 * seen["query"][action])


def favourite(seen, action):
    """Whatever the context, item 2 is the best by far."""
    return 0.9 if action == 2 else 0.2


def started(agent, task=None, seed=0):
    agent.reset(task or toy_task(), np.random.default_rng(seed))
    return agent


def play(agent, rounds, seed=1, observed=lambda t: True, reward_of=toy_reward):
    rng = np.random.default_rng(seed)
    actions, rewards = [], []
    for t in range(rounds):
        seen = observation(rng, agent.spec)
        action = agent.act(seen)
        reward = reward_of(seen, action)
        if observed(t):
            agent.update(seen, action, reward)
        actions.append(action)
        rewards.append(reward)
    return np.array(actions), np.array(rewards)


def same_arrays(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


ALL = [(VowpalWabbit, {"exploration": name}) for name in EXPLORATIONS]
ALL += [(MABWiser, {"policy": name}) for name in POLICIES]
NAMES = [next(iter(knobs.values())) for _, knobs in ALL]
every_agent = pytest.mark.parametrize(("make", "knobs"), ALL, ids=NAMES)


# -- both -------------------------------------------------------------------------------------------------------


@every_agent
def test_plays_the_bilinear_world(make, knobs):
    env = make_environment("HareBilinear-v0", horizon=60, num_items=8, num_clusters=4).unwrapped
    seen, _ = env.reset(seed=3)
    agent = started(make(**knobs), env.task)
    truncated = False
    while not truncated:
        action = agent.act(seen)
        assert env.action_space.contains(action)
        following, reward, _, truncated, _ = env.step(action)
        agent.update(seen, action, reward)
        seen = following


@every_agent
def test_keeps_the_contract(make, knobs):
    check_agent(make(**knobs))


@pytest.mark.parametrize(
    ("make", "knobs"),
    [*((VowpalWabbit, {"exploration": name}) for name in EXPLORATIONS)]
    + [(MABWiser, {"policy": name}) for name in CONTEXTUAL],
)
def test_learns_a_small_linear_problem(make, knobs):
    _, rewards = play(started(make(**knobs)), 600)
    _, by_chance = play(started(Random()), 600)
    assert rewards[-200:].mean() > by_chance.mean() + 0.12


@pytest.mark.parametrize("policy", [name for name in POLICIES if name not in (*CONTEXTUAL, "Random")])
def test_policies_without_context_find_the_best_item(policy):
    # at its own temperature of 1 softmax hardly prefers anything
    agent = started(MABWiser(policy=policy, **({"tau": 0.1} if policy == "Softmax" else {})))
    actions, _ = play(agent, 400, reward_of=favourite)
    assert (actions[-200:] == 2).mean() > 0.4  # by chance 0.25, five standard errors 0.15


@every_agent
def test_same_seed_same_actions_and_another_seed_others(make, knobs):
    first, again, other = (play(started(make(**knobs), seed=seed), 60)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "pair",
    [
        (ALL[0], ALL[1]),
        ((MABWiser, {"policy": "LinTS"}), (MABWiser, {"policy": "EpsilonGreedy"})),
    ],
)
def test_two_agents_in_turn_play_as_each_does_alone(pair):
    alone = [play(started(make(**knobs)), 80)[0] for make, knobs in pair]
    agents = [started(make(**knobs)) for make, knobs in pair]
    sources = [np.random.default_rng(1), np.random.default_rng(1)]
    together = [[], []]
    for _ in range(80):
        for agent, source, actions in zip(agents, sources, together, strict=True):
            seen = observation(source, agent.spec)
            actions.append(agent.act(seen))
            agent.update(seen, actions[-1], toy_reward(seen, actions[-1]))
    assert np.array_equal(together[0], alone[0])
    assert np.array_equal(together[1], alone[1])


@every_agent
def test_numpys_global_state_is_untouched(make, knobs):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    play(started(make(**knobs)), 20)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@every_agent
def test_unobserved_rounds_leave_no_trace(make, knobs):
    agent = started(make(**knobs))
    play(agent, 10)
    before = agent.state()
    play(agent, 20, observed=lambda t: False)
    assert same_arrays(before, agent.state())
    play(agent, 20, observed=lambda t: t % 2 == 1)


@every_agent
def test_a_loaded_agent_continues_exactly(make, knobs):
    agent = started(make(**knobs))
    loaded = started(make(**knobs), seed=9)
    for rounds in (0, 60):
        play(agent, rounds)
        state = agent.state()
        assert all(array.dtype != object for array in state.values())
        loaded.load_state(state)
        assert same_arrays(state, loaded.state())
    loaded.rng.bit_generator.state = agent.rng.bit_generator.state
    actions = [play(one, 60, seed=2)[0] for one in (agent, loaded)]
    assert np.array_equal(*actions)
    assert same_arrays(agent.state(), loaded.state())


@every_agent
def test_masked_items_are_never_chosen(make, knobs):
    task = replace(toy_task(items=5), pool=None)
    agent = started(make(**knobs), task)
    rng = np.random.default_rng(0)
    for _ in range(40):
        mask = np.zeros(5, dtype=np.int8)
        mask[rng.choice(5, 2, replace=False)] = 1
        seen = observation(rng, task) | {"pool": rng.standard_normal((5, 4)), "pool_mask": mask}
        action = agent.act(seen)
        assert mask[action] == 1
        agent.update(seen, action, 0.5)


@every_agent
@pytest.mark.parametrize("reward", [float("nan"), float("-inf")])
def test_a_reward_that_is_not_finite(make, knobs, reward):
    agent = started(make(**knobs))
    play(agent, 5)
    before = agent.state()
    name = "vw" if make is VowpalWabbit else "mabwiser"
    with pytest.raises(DataError) as caught:
        agent.update(observation(np.random.default_rng(0), agent.spec), 1, reward)
    assert str(caught.value) == f"agent '{name}': the reward must be a finite number, not {reward}."
    assert same_arrays(before, agent.state())


@pytest.mark.parametrize("agent", [VowpalWabbit, MABWiser])
def test_a_query_that_is_not_finite(agent):
    agent = started(agent())
    play(agent, 5)
    seen = {"query": np.array([0.0, np.nan, 0.0, 0.0]), "user": 0}
    with pytest.raises(DataError, match="the query holds NaN or infinity"):
        agent.update(seen, 1, 0.5)


@pytest.mark.parametrize(("agent", "package"), [(VowpalWabbit, "vowpalwabbit"), (MABWiser, "mabwiser")])
def test_a_missing_package(agent, package, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Without(package), *sys.meta_path])
    with pytest.raises(MissingPackageError) as caught:
        agent()
    assert str(caught.value) == f"{package} is not installed. Install it with: pip install 'hare-gym[peers]'"


class _Without:
    """A finder in whose world one package does not exist."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("module", ["vw", "mabwiser"])
def test_importing_the_module_does_not_import_the_package(module):
    code = f"import sys, hare_agents.{module}; sys.exit('vowpalwabbit' in sys.modules or 'mabwiser' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- Vowpal Wabbit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exploration", EXPLORATIONS)
def test_vw_draws_from_its_probabilities(exploration):
    agent = started(VowpalWabbit(exploration=exploration))
    play(agent, 50)
    seen = observation(np.random.default_rng(4), agent.spec)
    p = agent.probabilities(seen)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    counts = np.bincount([agent.act(seen) for _ in range(2000)], minlength=4)
    assert (np.abs(counts / 2000 - p) <= 5 * np.sqrt(p * (1 - p) / 2000)).all()


def test_vw_epsilon_greedy_is_epsilon_greedy():
    agent = started(VowpalWabbit(epsilon=0.2))
    play(agent, 200)
    p = agent.probabilities(observation(np.random.default_rng(4), agent.spec))
    np.testing.assert_allclose(np.sort(p), [0.05, 0.05, 0.05, 0.85], atol=1e-6)


def test_vw_learns_with_the_chance_of_the_moment_of_drawing(monkeypatch):
    agent = started(VowpalWabbit())
    play(agent, 100)
    rng = np.random.default_rng(3)
    singles = [observation(rng, agent.spec) for _ in range(10)]
    batch = {key: np.stack([seen[key] for seen in singles]) for key in ("query", "user")}
    chances = [agent.probabilities(seen) for seen in singles]
    actions = agent.act_batch(batch)
    lines = []
    learn = agent._vw.learn
    monkeypatch.setattr(agent._vw, "learn", lambda example: (lines.append(list(example)), learn(example)))
    agent.update_batch(batch, actions, np.full(10, 0.25))
    for example, action, p in zip(lines, actions, chances, strict=True):
        labels = [line.split(" ")[0] for line in example[1:]]
        assert [k for k, label in enumerate(labels) if not label.startswith("|")] == [action]
        assert labels[action] == f"0:0.75:{p[action]:.9g}"


def test_vw_learns_from_an_item_that_it_did_not_draw():
    agent = started(VowpalWabbit(exploration="regcb"))
    seen = observation(np.random.default_rng(0), agent.spec)
    for _ in range(30):
        for item in range(4):
            agent.update(seen, item, 1.0 if item == 3 else 0.0)
    assert agent.probabilities(seen).argmax() == 3


def test_vw_interactions_find_what_single_features_cannot():
    """The best item turns over with the user: without user x item nothing can be learned."""

    def by_user(seen, action):
        return float(action == (1 if seen["user"] else 2))

    with_users, without = (
        play(started(VowpalWabbit(interactions=products)), 400, reward_of=by_user)[1][-200:].mean()
        for products in ("qi ui", "qi")
    )
    assert with_users > 0.9
    assert without < 0.7


def test_vw_item_ids_learn_what_the_vectors_do_not_show():
    task = replace(toy_task(), pool=np.ones((4, 4)))
    rewards = [
        play(started(VowpalWabbit(item_ids=ids), task), 300, reward_of=favourite)[1][-150:].mean()
        for ids in (True, False)
    ]
    assert rewards[0] > 0.8
    assert rewards[1] < 0.6


def test_vw_says_nothing(capfd):
    for exploration in EXPLORATIONS:
        agent = started(VowpalWabbit(exploration=exploration))
        play(agent, 5)
        agent.load_state(agent.state())
        play(agent, 5)
        agent.reset(agent.spec, np.random.default_rng(0))
        del agent
    assert capfd.readouterr() == ("", "")


def test_vw_state_that_does_not_fit():
    agent = started(VowpalWabbit())
    with pytest.raises(DataError) as caught:
        agent.load_state({})
    assert str(caught.value) == (
        "agent 'vw': the state must hold 'model', the bytes of a Vowpal Wabbit model as uint8."
    )
    with pytest.raises(DataError, match=r"^agent 'vw': the state's model could not be loaded: "):
        agent.load_state({"model": np.zeros(100, dtype=np.uint8)})


def test_vw_an_item_that_could_not_be_used():
    agent = started(VowpalWabbit())
    seen = observation(np.random.default_rng(0), agent.spec) | {"pool_mask": np.array([1, 0, 1, 1])}
    with pytest.raises(DataError) as caught:
        agent.update(seen, 1, 0.5)
    assert str(caught.value) == "agent 'vw': item 1 could not be used in the round that it is to learn from."


@pytest.mark.parametrize(
    ("knobs", "error", "text"),
    [
        (
            {"exploration": "squarcb"},
            UnknownNameError,
            "Unknown exploration of agent 'vw' 'squarcb'. Did you mean 'squarecb'?",
        ),
        ({"epsilo": 0.1}, UnknownNameError, "Unknown knob of agent 'vw' 'epsilo'. Did you mean 'epsilon'?"),
        ({"epsilon": 1.5}, ConfigError, "agent 'vw': epsilon must be at most 1, not 1.5."),
        (
            {"interactions": "qi xi"},
            ConfigError,
            "agent 'vw': interaction 'xi' must be two or more letters out of q (the query), u (the user), "
            "i (the item's vector), a (the item's index).",
        ),
    ],
)
def test_vw_errors(knobs, error, text):
    with pytest.raises(error) as caught:
        VowpalWabbit(**knobs)
    assert str(caught.value) == text


# -- MABWiser ---------------------------------------------------------------------------------------------------


def test_mabwiser_linucb_is_disjoint_ridge_regression():
    """Li et al. 2010, algorithm 1, from its formulas."""
    agent = started(MABWiser(policy="LinUCB", alpha=0.7))
    rng = np.random.default_rng(1)
    A, b = np.stack([np.eye(6)] * 4), np.zeros((4, 6))
    for t in range(150):
        seen = observation(rng, agent.spec)
        x = np.concatenate([seen["query"], np.eye(2)[seen["user"]]])
        action = agent.act(seen)
        if t > 0:
            bounds = [x @ np.linalg.solve(A[k], b[k]) + 0.7 * np.sqrt(x @ np.linalg.solve(A[k], x)) for k in range(4)]
            assert bounds[action] == pytest.approx(max(bounds))
        reward = toy_reward(seen, action)
        agent.update(seen, action, reward)
        A[action] += np.outer(x, x)
        b[action] += reward * x
    np.testing.assert_allclose(agent.state()["A"], A)
    np.testing.assert_allclose(agent.state()["Xty"], b)


@pytest.mark.parametrize("policy", ["UCB1", "EpsilonGreedy", "Softmax", "Popularity"])
def test_mabwiser_tries_every_item_once_first(policy):
    orders = set()
    for seed in range(5):
        actions, _ = play(started(MABWiser(policy=policy), toy_task(items=4), seed), 4)
        assert sorted(actions) == [0, 1, 2, 3]
        orders.add(tuple(actions))
    assert len(orders) > 1


@pytest.mark.parametrize("policy", [*CONTEXTUAL, "ThompsonSampling", "Random"])
def test_mabwiser_draws_uniformly_before_the_first_reward(policy):
    agent = started(MABWiser(policy=policy))
    actions, _ = play(agent, 400, observed=lambda t: False)
    assert np.bincount(actions, minlength=4).min() > 57  # five standard errors below 100


def test_mabwiser_thompson_sampling_counts_successes():
    agent = started(MABWiser(policy="ThompsonSampling"))
    seen = observation(np.random.default_rng(0), agent.spec)
    for _ in range(400):
        agent.update(seen, 1, 0.25)
    state = agent.state()
    assert state["arm_to_success_count"][1] + state["arm_to_fail_count"][1] == 402  # a Beta(1, 1) prior
    assert abs(state["arm_to_success_count"][1] - 101) < 44  # five standard errors


@pytest.mark.parametrize(
    ("knobs", "error", "text"),
    [
        (
            {"policy": "linucb"},
            UnknownNameError,
            "Unknown policy of agent 'mabwiser' 'linucb'. Did you mean 'LinUCB'?",
        ),
        ({"alfa": 1}, UnknownNameError, "Unknown knob of agent 'mabwiser' 'alfa'. Did you mean 'alpha'?"),
        ({"alpha": 0}, ConfigError, "agent 'mabwiser': alpha must be greater than 0, not 0.0."),
    ],
)
def test_mabwiser_errors(knobs, error, text):
    with pytest.raises(error) as caught:
        MABWiser(**knobs)
    assert str(caught.value) == text


def test_mabwiser_state_that_does_not_fit():
    agent = started(MABWiser())
    with pytest.raises(DataError) as caught:
        agent.load_state({})
    assert str(caught.value) == "agent 'mabwiser': the state must hold 'tried', an array of shape (4,)."
    other = started(MABWiser(policy="UCB1"))
    play(other, 5)
    with pytest.raises(DataError) as caught:
        agent.load_state(other.state())
    assert str(caught.value) == "agent 'mabwiser': the state holds no 'A'; was it another policy's?"
