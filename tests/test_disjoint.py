"""Disjoint LinUCB and Thompson sampling: exact in both forms of the inverse, true to the paper, safe to save."""

import re

import numpy as np
import pytest
from scipy import stats

from hare_agents.disjoint import Context, RidgeBank
from hare_agents.linucb_disjoint import DisjointLinUCB
from hare_agents.thompson_disjoint import DisjointThompson
from hare_gym import make_agent, make_environment
from hare_gym.contract import TaskSpec, action_space
from hare_gym.errors import ActionError, ConfigError, DataError, UnknownNameError

AGENTS = {"linucb-disjoint": DisjointLinUCB, "lints-disjoint": DisjointThompson}


def task(mode="select", items=7, users=1, dim=5, pool=True, slate_size=3):
    vectors = np.zeros((items, 2)) if pool else None
    return TaskSpec("Fake-v0", mode, 100, users, dim, 2, items, slate_size if mode == "slate" else 1, vectors)


def started(name, spec, seed=0, **hyperparameters):
    agent = make_agent(name, **hyperparameters)
    agent.reset(spec, np.random.default_rng(seed))
    return agent


def look(rng, spec, user=0):
    return {"query": rng.standard_normal(spec.query_dim), "user": np.int64(user)}


def batch_ridge(X, rewards, x, ridge):
    """Mean and variance of x . theta, from all data at once."""
    A = ridge * np.eye(len(x)) + X.T @ X
    return x @ np.linalg.solve(A, X.T @ rewards), x @ np.linalg.solve(A, x)


class Reference:
    """Li et al. 2010, Algorithm 1, line by line."""

    def __init__(self, num_arms, d, alpha):
        self.alpha = alpha
        self.A = [np.eye(d) for _ in range(num_arms)]
        self.b = [np.zeros(d) for _ in range(num_arms)]

    def scores(self, x):
        p = []
        for A, b in zip(self.A, self.b, strict=True):
            A_inv = np.linalg.inv(A)
            p.append(A_inv @ b @ x + self.alpha * np.sqrt(x @ A_inv @ x))
        return np.array(p)

    def update(self, a, x, r):
        self.A[a] += np.outer(x, x)
        self.b[a] += r * x


# -- the bank ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [1.0, 0.3])
@pytest.mark.parametrize("d", [1, 2, 6, 9])
def test_posterior_equals_batch_ridge_in_every_form(d, ridge):
    """Arms at every count from 0, so that low-rank, just dense and long dense arms stand side by side."""
    K = 24
    rng = np.random.default_rng(d)
    bank = RidgeBank(K, d, ridge)
    data = [([], []) for _ in range(K)]
    pulls = rng.permutation(np.repeat(np.arange(K), np.arange(K)))
    for t, k in enumerate(pulls):
        x, r = rng.standard_normal(d), rng.random()
        bank.update(k, x, r)
        data[k][0].append(x)
        data[k][1].append(r)
        if t % 7 == 0 or t == len(pulls) - 1:
            x = rng.standard_normal(d)
            means, variances = bank.posterior(x)
            for arm, (X, rewards) in enumerate(data):
                expected = batch_ridge(np.array(X).reshape(-1, d), np.array(rewards), x, ridge)
                assert means[arm] == pytest.approx(expected[0], rel=1e-8, abs=1e-10)
                assert variances[arm] == pytest.approx(expected[1], rel=1e-8)
    assert bank.counts.tolist() == list(range(K))
    dense = bank.counts > (d + 1) // 2
    assert len(bank.state()["inverse"]) == dense.sum()
    assert len(bank.state()["low_rank"]) == bank.counts[~dense].sum()


def test_an_arm_changes_its_form_when_its_rows_would_cost_more_than_its_triangle():
    bank, rng = RidgeBank(2, 6, 1.0), np.random.default_rng(0)
    for count in range(1, 5):
        bank.update(1, rng.standard_normal(6), 0.5)
        state = bank.state()
        assert (len(state["low_rank"]), len(state["inverse"])) == ((count, 0) if count <= 3 else (0, 1))


def test_periodic_cholesky_replaces_inverse_and_mean():
    rng = np.random.default_rng(3)
    X, rewards = rng.standard_normal((40, 4)), rng.random(40)
    plain, refactored = RidgeBank(1, 4, 1.0), RidgeBank(1, 4, 1.0, refactor_every=10)
    for bank in (plain, refactored):
        for x, r in zip(X[:19], rewards[:19], strict=True):
            bank.update(0, x, r)
        # an error that Sherman-Morrison alone would carry along
        bank._P *= 1.01
        bank.theta += 0.1
        bank.update(0, X[19], rewards[19])
    x = rng.standard_normal(4)
    expected = batch_ridge(X[:20], rewards[:20], x, 1.0)
    mean, variance = (float(part[0]) for part in refactored.posterior(x))
    assert (mean, variance) == pytest.approx(expected, rel=1e-10)
    assert float(plain.posterior(x)[1][0]) != pytest.approx(expected[1], rel=1e-3)


def test_near_collinear_features_stay_within_a_millionth():
    rng = np.random.default_rng(5)
    d, n = 8, 20_000
    direction = rng.standard_normal(d)
    X = 3.0 * rng.standard_normal((n, 1)) * direction + 1e-4 * rng.standard_normal((n, d))
    bank = RidgeBank(1, d, 1.0)
    for x in X:
        bank.update(0, x, 0.5)
    A = np.eye(d) + X.T @ X
    for x in (X[0], direction, rng.standard_normal(d)):
        assert float(bank.posterior(x)[1][0]) == pytest.approx(x @ np.linalg.solve(A, x), rel=1e-6)


@pytest.mark.parametrize(("ridge", "size"), [(1e-9, 1.0), (1.0, 3e4), (1e-6, 0.99)])
def test_telling_contexts_of_a_weak_prior_lose_no_digits(ridge, size):
    """Sherman-Morrison alone is off by more than the whole variance here after a few updates."""
    rng = np.random.default_rng(4)
    bank = RidgeBank(2, 20, ridge)
    X = size * np.eye(20)[rng.integers(20, size=30)]
    for n, x in enumerate(X, start=1):
        bank.update(1, x, 0.5)
        expected = batch_ridge(X[:n], np.full(n, 0.5), x, ridge)
        means, variances = bank.posterior(x)
        assert (means[1], variances[1]) == pytest.approx(expected, rel=1e-8)


def test_a_precision_that_is_not_positive_definite_names_the_fix():
    bank = RidgeBank(2, 3, 1e-12)
    with pytest.raises(
        DataError,
        match=re.escape(
            "Item 1's precision matrix is no longer positive definite: the contexts are too large or too collinear "
            "for the ridge 1e-12. Scale them to a length near 1 or use a larger ridge."
        ),
    ):
        bank.update(1, np.array([1e9, 1e9, 1e9]), 0.5)
    assert not any(value.any() for value in bank.state().values())


# -- the agents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_linucb_chooses_as_the_papers_algorithm_does(alpha):
    spec = task(items=9, users=3, dim=4)
    agent = started("linucb-disjoint", spec, alpha=alpha)
    reference, rng = Reference(9, 4 + 1 + 3, alpha), np.random.default_rng(1)
    theta = rng.standard_normal((9, 8))
    forms = set()
    for t in range(400):
        observation = look(rng, spec, user=rng.integers(3))
        x = np.concatenate([observation["query"], [1.0], np.eye(3)[observation["user"]]])
        expected = reference.scores(x)
        assert agent.scores(observation) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        k = agent.act(observation)
        assert expected[k] >= expected.max() - 1e-9
        r = float(theta[k] @ x > rng.standard_normal())
        reference.update(k, x, r)
        agent.update(observation, k, r)
        forms.add((agent.bank._num_dense > 0, agent.bank._num_rows > 0))
    assert {(False, True), (True, True)} <= forms


def test_thompson_draws_are_those_of_independent_posteriors():
    spec = task(items=5, dim=3)
    agent, rng = started("lints-disjoint", spec, v=0.7), np.random.default_rng(2)
    for k, count in enumerate((0, 1, 2, 6, 30)):
        for _ in range(count):
            agent.update(look(rng, spec), k, rng.random())
    observation = look(rng, spec)
    x = np.append(observation["query"], 1.0)
    means, variances = agent.bank.posterior(x)
    means, deviations = means.copy(), 0.7 * np.sqrt(variances)
    scaled = (np.array([agent.scores(observation) for _ in range(4000)]) - means) / deviations
    for column in scaled.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    correlations = np.corrcoef(scaled.T)[np.triu_indices(5, 1)]
    assert np.abs(correlations).max() < 5.0 / np.sqrt(4000)
    # the same choices as drawing theta~ itself
    thetas = np.stack(
        [
            rng.multivariate_normal(agent.bank.theta[k], 0.49 * np.linalg.inv(np.eye(4) + gram), 4000)
            for k, gram in enumerate(_grams(agent.bank))
        ]
    )
    whole = np.bincount((thetas @ x).argmax(axis=0), minlength=5)
    scalar = np.bincount([agent.act(observation) for _ in range(4000)], minlength=5)
    kept = whole + scalar > 10
    assert stats.chi2_contingency([whole[kept], scalar[kept]]).pvalue > 1e-4


def _grams(bank):
    for packed in bank.state()["gram"]:
        upper = np.zeros((bank.dim, bank.dim))
        upper.T[np.tril_indices(bank.dim)] = packed
        yield upper + np.triu(upper, 1).T


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("mode", ["select", "slate"])
def test_acting_is_valid_and_leaves_the_learned_state_alone(name, mode):
    spec = task(mode, users=4)
    agent, rng, space = started(name, spec), np.random.default_rng(0), action_space(spec)
    for _ in range(60):
        observation = look(rng, spec, rng.integers(4))
        before = agent.state()
        action = agent.act(observation)
        agent.probabilities(observation)
        assert space.contains(action)
        assert mode == "select" or len(set(action)) == 3
        for key, value in agent.state().items():
            assert value.tobytes() == before[key].tobytes()
        agent.update(observation, action, rng.random())
    assert agent.bank.counts.sum() == (60 if mode == "select" else 180)


def test_a_slate_holds_the_highest_bounds_and_credits_each_item():
    spec = task("slate")
    agent, rng = started("linucb-disjoint", spec), np.random.default_rng(0)
    for _ in range(20):
        observation = look(rng, spec)
        scores = agent.scores(observation)
        slate = agent.act(observation)
        assert np.sort(scores[slate])[::-1].tolist() == np.sort(scores)[:-4:-1].tolist()
        agent.update(observation, slate, rng.random())
    before = agent.bank.counts.copy()
    agent.update(observation, np.array([2, 0, 5]), 1.0)
    assert (agent.bank.counts - before).tolist() == [1, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("mode", ["select", "slate"])
def test_masked_items_are_never_chosen(name, mode):
    spec = task(mode, pool=False)
    agent, rng = started(name, spec), np.random.default_rng(0)
    for _ in range(50):
        mask = np.zeros(7, dtype=np.int8)
        mask[rng.permutation(7)[:4]] = 1
        observation = look(rng, spec) | {"pool": np.zeros((7, 2)), "pool_mask": mask}
        action = agent.act(observation)
        assert mask[action].all()
        agent.update(observation, action, rng.random())
    observation["pool_mask"] = np.zeros(7, dtype=np.int8)
    with pytest.raises(DataError, match=r"^No item can be used this round: pool_mask is zero everywhere\.$"):
        agent.act(observation)


def test_ties_fall_at_random_and_the_generator_decides():
    spec = task(items=4)
    observation = look(np.random.default_rng(0), spec)
    agent = started("linucb-disjoint", spec)
    picks = np.bincount([agent.act(observation) for _ in range(800)], minlength=4)
    assert stats.chisquare(picks).pvalue > 1e-4
    assert agent.probabilities(observation).tolist() == [0.25] * 4
    first = started("linucb-disjoint", spec, seed=5)
    again = started("linucb-disjoint", spec, seed=5)
    assert [first.act(observation) for _ in range(20)] == [again.act(observation) for _ in range(20)]


@pytest.mark.parametrize(
    ("users", "knobs", "x"),
    [
        (1, {}, [7.0, 8.0, 1.0]),
        (3, {}, [7.0, 8.0, 1.0, 0.0, 0.0, 1.0]),
        (3, {"intercept": False}, [7.0, 8.0, 0.0, 0.0, 1.0]),
        (3, {"user_features": False}, [7.0, 8.0, 1.0]),
        (1, {"intercept": False}, [7.0, 8.0]),
    ],
)
@pytest.mark.parametrize("name", AGENTS)
def test_the_context_holds_query_intercept_and_user(name, users, knobs, x):
    agent = started(name, task(users=users, dim=2), **knobs)
    agent.act({"query": np.array([0.5, 0.5]), "user": 0})
    observation = {"query": np.array([7.0, 8.0]), "user": np.int64(users - 1)}
    agent.update(observation, 3, 1.0)
    assert agent.state()["b"][3].tolist() == x


@pytest.mark.parametrize("name", AGENTS)
def test_saving_and_loading_is_exact_to_the_bit(name):
    spec = task(items=20, users=2, dim=5)
    agent, rng = started(name, spec), np.random.default_rng(0)
    for k in rng.permutation(np.repeat(np.arange(20), np.arange(20))):
        agent.update(look(rng, spec, rng.integers(2)), k, rng.random())
    saved = agent.state()
    assert 0 < len(saved["inverse"]) < 20
    assert len(saved["low_rank"])
    assert {str(value.dtype) for value in saved.values()} == {"float64", "int64"}

    loaded = started(name, spec)
    loaded.load_state(saved)
    agent.rng, loaded.rng = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(150):
        observation, r = look(rng, spec, rng.integers(2)), rng.random()
        action = agent.act(observation)
        assert loaded.act(observation) == action
        k = int(rng.integers(20))
        agent.update(observation, k, r)
        loaded.update(observation, k, r)
    for key, value in agent.state().items():
        assert value.tobytes() == loaded.state()[key].tobytes()


def test_a_state_of_another_precision_task_or_story_is_refused():
    spec = task(items=3, dim=2)
    agent = started("linucb-disjoint", spec)
    agent.update({"query": np.ones(2), "user": 0}, 1, 1.0)
    state = agent.state()
    for altered, text in (
        (
            state | {"theta": state["theta"].astype(np.float32)},
            "State array 'theta' is float32, not float64: posteriors are kept in float64 only, because float32 "
            "loses their small variances. Save and load them without converting.",
        ),
        (
            state | {"b": state["b"][:2]},
            "State array 'b' has shape (2, 3), not (3, 3): it belongs to a task of other dimensions.",
        ),
        (
            state | {"counts": np.array([1, 0, 0])},
            "The state's counts, owners and ranks contradict each other: it was altered after saving.",
        ),
        (
            {key: value for key, value in state.items() if key != "gram"},
            "The state has no array 'gram': it was saved by another agent or version.",
        ),
    ):
        with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
            agent.load_state(altered)
        for key, value in agent.state().items():
            assert value.tobytes() == state[key].tobytes()


@pytest.mark.filterwarnings("ignore:overflow encountered in dot:RuntimeWarning")
@pytest.mark.parametrize("name", AGENTS)
def test_bad_input_is_named_and_learned_nothing_of(name):
    spec = task(users=3)
    agent = started(name, spec)
    good = {"query": np.ones(5), "user": 1}
    agent.update(good, 2, 0.5)
    before = agent.state()
    nan, huge = np.ones(5), np.ones(5)
    nan[3], huge[1] = np.nan, 1e200
    for observation, text in (
        (good | {"query": nan}, "Feature 3 is nan: features must be finite numbers."),
        (good | {"query": -np.inf * np.ones(5)}, "Feature 0 is -inf: features must be finite numbers."),
        (
            good | {"query": huge},
            "The features are so large that their squares overflow: scale them to a length near 1.",
        ),
        (good | {"query": np.ones(1)}, "The query must have shape (5,), not (1,)."),
        (good | {"user": 3}, "User 3 is not among the task's 3: use 0 to 2."),
        (good | {"user": -1}, "User -1 is not among the task's 3: use 0 to 2."),
    ):
        for call in (lambda o=observation: agent.act(o), lambda o=observation: agent.update(o, 2, 0.5)):
            with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
                call()
    for reward in (np.nan, np.inf):
        with pytest.raises(DataError, match=f"^The reward is {reward}: rewards must be finite numbers\\.$"):
            agent.update(good, 2, reward)
    with pytest.raises(ActionError, match=r"^Item -1 is not in the pool of 7: use 0 to 6\.$"):
        agent.update(good, -1, 0.5)
    for key, value in agent.state().items():
        assert value.tobytes() == before[key].tobytes()


@pytest.mark.parametrize("name", AGENTS)
def test_hyperparameters_are_checked_by_name_and_range(name):
    with pytest.raises(UnknownNameError, match=f"^Unknown knob of agent '{name}' 'rigde'. Did you mean 'ridge'\\?$"):
        make_agent(name, rigde=1.0)
    with pytest.raises(ConfigError, match=f"^agent '{name}': ridge must be greater than 0, not 0.0\\.$"):
        make_agent(name, ridge=0)


@pytest.mark.parametrize("name", AGENTS)
def test_models_that_cannot_fit_are_refused_with_the_way_out(name):
    text = (
        "1000 disjoint models of width 5006 can need 280.1 GiB, and the limit is 8. Use user_features=False, fewer "
        "items, or a joint model."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        started(name, task(items=1000, users=5000))
    started(name, task(items=1000, users=5000), user_features=False)


def test_the_context_is_not_copied_into_what_was_learned():
    context, bank = Context(task(dim=2), True, True), RidgeBank(7, 3, 1.0)
    for value in (1.0, 2.0):
        bank.update(0, context({"query": np.full(2, value), "user": 0}), 1.0)
    assert bank.state()["b"][0].tolist() == [3.0, 3.0, 2.0]


@pytest.mark.parametrize("name", AGENTS)
def test_diagnostics_are_finite_and_the_width_shrinks(name):
    spec = task(dim=2)
    agent, rng = started(name, spec), np.random.default_rng(0)
    assert agent.diagnostics() == {"items_learned": 0.0}
    widths = []
    for _ in range(200):
        observation = {"query": np.array([0.6, 0.8]), "user": 0}
        agent.update(observation, agent.act(observation), rng.random())
        widths.append(agent.diagnostics()["mean_width"])
    assert widths[-1] < 0.5 * widths[0]
    assert agent.diagnostics()["items_learned"] == 1.0


@pytest.mark.parametrize("name", AGENTS)
def test_it_beats_random_on_the_linear_world(name):
    regrets = {}
    for contender in (name, "random"):
        env = make_environment("HareLinear-v0", horizon=4000, num_items=16, num_users=5, num_clusters=8)
        observation, _ = env.reset(seed=11)
        agent = started(contender, env.unwrapped.task, seed=1)
        total = 0.0
        for _ in range(4000):
            action = agent.act(observation)
            following, reward, _, _, info = env.step(action)
            agent.update(observation, action, float(reward))
            total += info["regret"]
            observation = following
        regrets[contender] = total
    assert regrets[name] < 0.6 * regrets["random"], regrets
