"""Random, Oracle, the joint linear agents and hybrid LinUCB: rules, batches, saving, and regret."""

import numpy as np
import pytest

from hare_agents.epsilon_greedy import EpsilonGreedy
from hare_agents.items import best_item, greedy_probabilities, top_items
from hare_agents.linear import Belief, with_one
from hare_agents.linucb import JointLinUCB, most_optimistic
from hare_agents.linucb_hybrid import HybridLinUCB
from hare_agents.oracle import Oracle
from hare_agents.random import Random
from hare_agents.thompson import JointThompson, draw
from hare_gym import make_agent, make_environment
from hare_gym.contract import Agent, TaskSpec, action_space, nth_observation
from hare_gym.errors import ConfigError, ContractError, DataError, UnknownNameError

JOINT = {"epsilon-greedy": EpsilonGreedy, "linucb": JointLinUCB, "lints": JointThompson}
ZOO = {**JOINT, "linucb-hybrid": HybridLinUCB, "random": Random}


def task(mode, pool=True, items=12, users=5, q=4, d=3, **rest):
    vectors = np.random.default_rng(0).standard_normal((items, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    slate_size = 3 if mode == "slate" else 1
    return TaskSpec(
        "Fake-v0", mode, 1000, users, q, d, items, slate_size, pool=vectors if pool else None, **rest
    )  # fmt: skip


def observations(spec, size, seed=1):
    """A batch of observations; a pool that changes is padded with NaN, which no agent may look at."""
    rng = np.random.default_rng(seed)
    batch = {
        "query": rng.standard_normal((size, spec.query_dim)),
        "user": rng.integers(spec.num_users, size=size),
    }
    if spec.pool is None:
        mask = (rng.random((size, spec.num_items)) < 0.6).astype(np.int8)
        mask[:, :3] = 1
        pool = rng.standard_normal((size, spec.num_items, spec.content_dim))
        batch |= {"pool_mask": mask, "pool": np.where(mask[:, :, None], pool, np.nan)}
    return batch


def started(name, spec, seed=0, rounds=0, **hyperparameters):
    agent = make_agent(name, **hyperparameters)
    agent.reset(spec, np.random.default_rng(seed))
    batch, rng = observations(spec, rounds, seed=9), np.random.default_rng(8)
    for i in range(rounds):
        observation = nth_observation(batch, i)
        agent.update(observation, agent.act(observation), rng.random())
    return agent


CASES = [
    (name, mode, pool)
    for name, cls in ZOO.items()
    for mode in ("select", "slate", "synthesize", "write")
    for pool in (True, False)
    if mode in cls.modes
]


@pytest.mark.parametrize(("name", "mode", "pool"), CASES)
class TestEveryAgent:
    def test_actions_are_valid_and_acting_changes_nothing(self, name, mode, pool):
        spec = task(mode, pool)
        agent = started(name, spec, rounds=60)
        assert isinstance(agent, ZOO[name])
        before = agent.state()
        batch = observations(spec, 30)
        for i in range(30):
            observation = nth_observation(batch, i)
            action = agent.act(observation)
            assert action_space(spec).contains(action)
            if "pool_mask" in observation and mode in ("select", "slate"):
                assert observation["pool_mask"][action].all()
        assert all(np.array_equal(value, before[key]) for key, value in agent.state().items())
        assert all(np.isfinite(value) for value in agent.diagnostics().values())

    def test_state_goes_round_bit_for_bit(self, name, mode, pool):
        spec = task(mode, pool)
        agent, other = started(name, spec, rounds=70), started(name, spec)
        other.load_state(agent.state())
        agent.rng, other.rng = np.random.default_rng(3), np.random.default_rng(3)
        batch = observations(spec, 40)
        for i in range(40):
            observation = nth_observation(batch, i)
            actions = agent.act(observation), other.act(observation)
            assert np.array_equal(*actions) if mode != "write" else actions[0] == actions[1]
            agent.update(observation, actions[0], 0.3)
            other.update(observation, actions[1], 0.3)

    @pytest.mark.parametrize("size", [1, 9])
    def test_batches_do_what_the_loop_does(self, name, mode, pool, size):
        spec = task(mode, pool)
        batched, looped = started(name, spec, rounds=40), started(name, spec, rounds=40)
        for step in range(12):
            batch = observations(spec, size, seed=step)
            actions, expected = batched.act_batch(batch), Agent.act_batch(looped, batch)
            assert type(actions) is type(expected)
            if mode == "synthesize" and size > 1:
                assert np.allclose(actions, expected, atol=1e-4)
            else:
                assert np.array_equal(actions, expected)
            rewards = np.random.default_rng(step).random(size)
            batched.update_batch(batch, expected, rewards)
            Agent.update_batch(looped, batch, expected, rewards)
        for key, value in batched.state().items():
            same = looped.state()[key]
            assert np.array_equal(value, same) if size == 1 else np.allclose(value, same, rtol=1e-9, atol=1e-12)

    def test_probabilities_are_those_of_the_actions(self, name, mode, pool):
        spec = task(mode, pool)
        agent = started(name, spec, rounds=40)
        observation = nth_observation(observations(spec, 1), 0)
        chances = agent.probabilities(observation)
        if mode != "select" or name == "lints":
            assert chances is None
            return
        assert chances.sum() == pytest.approx(1.0)
        draws = np.array([agent.act(observation) for _ in range(3000)])
        observed = np.bincount(draws, minlength=spec.num_items) / 3000
        # five standard deviations of a count
        assert np.all(np.abs(observed - chances) <= 5.0 * np.sqrt(chances * (1.0 - chances) / 3000) + 1e-12)


class TestItems:
    def test_equal_scores_are_drawn_from_and_the_generator_is_used_only_then(self):
        rng = np.random.default_rng(0)
        before = rng.bit_generator.state
        assert best_item(np.array([1.0, 3.0, 2.0]), None, rng) == 1
        assert top_items(np.array([1.0, 3.0, 2.0]), 2, None, rng).tolist() == [1, 2]
        assert rng.bit_generator.state == before
        draws = [best_item(np.array([3.0, 1.0, 3.0]), None, rng) for _ in range(200)]
        assert 60 < draws.count(0) < 140
        assert set(draws) == {0, 2}
        slates = {tuple(top_items(np.array([1.0, 2.0, 1.0]), 2, None, rng).tolist()) for _ in range(50)}
        assert slates == {(1, 0), (1, 2)}

    def test_items_that_cannot_be_used_are_never_chosen(self):
        rng, scores = np.random.default_rng(0), np.array([np.nan, 3.0, 1.0])
        usable = np.array([False, False, True])
        assert best_item(scores, usable, rng) == 2
        assert greedy_probabilities(scores, usable).tolist() == [0.0, 0.0, 1.0]

    @pytest.mark.parametrize(
        ("call", "text"),
        [
            (
                lambda rng: best_item(np.array([1.0, np.nan]), None, rng),
                "Item 1 has the score nan: the query or the item's vector holds NaN or infinity.",
            ),
            (
                lambda rng: top_items(np.array([np.inf, 1.0, 0.0]), 2, None, rng),
                "Item 0 has the score inf: the query or the item's vector holds NaN or infinity.",
            ),
            (
                lambda rng: best_item(np.ones(2), np.zeros(2, bool), rng),
                "No item can be used this round: pool_mask is zero everywhere.",
            ),
            (
                lambda rng: top_items(np.ones(3), 2, np.array([True, False, False]), rng),
                "A slate of 2 items was asked for, but 1 can be used this round.",
            ),
        ],
    )
    def test_bad_scores_are_refused(self, call, text):
        with pytest.raises(DataError) as caught:
            call(np.random.default_rng(0))
        assert str(caught.value) == text


class TestJointRules:
    def test_epsilon_decays_with_what_was_learned(self):
        agent = started("epsilon-greedy", task("select"), rounds=99, epsilon=0.5, decay=0.5)
        assert agent.epsilon == pytest.approx(0.05)
        assert agent.diagnostics()["epsilon"] == agent.epsilon

    def test_epsilon_greedy_shares_ties(self):
        spec = task("select", items=4)
        agent = started("epsilon-greedy", spec, epsilon=0.2)  # nothing learned: all items are equal
        observation = nth_observation(observations(spec, 1), 0)
        assert agent.probabilities(observation) == pytest.approx(np.full(4, 0.25))
        twins = np.vstack([spec.pool[:2], spec.pool[:2]])
        agent.reset(TaskSpec("Fake-v0", "select", 10, 5, 4, 3, 4, pool=twins), np.random.default_rng(0))
        agent.update(observation, 0, 1.0)
        chances = agent.probabilities(observation)
        best = int(chances.argmax()) % 2
        assert chances[[best, best + 2]] == pytest.approx(0.45)
        assert chances[[1 - best, 3 - best]] == pytest.approx(0.05)

    @pytest.mark.parametrize("d", [2, 3, 6])
    def test_optimistic_synthesis_finds_the_global_maximum(self, d):
        rng = np.random.default_rng(d)
        sphere = rng.standard_normal((20_000, d))
        sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
        for _ in range(30):
            M = rng.standard_normal((1 + d, 1 + d)) * 10.0 ** rng.uniform(-1.5, 0.5, (1 + d, 1))
            belief = Belief(rng.standard_normal(1 + d) * 10.0 ** rng.uniform(-2, 0), M.T @ M / 10.0)

            def bound(Y, belief=belief):
                return belief.mean(with_one(Y)) + belief.width(with_one(Y))

            few = sphere[:64]
            y = most_optimistic(belief, 1.0, few[np.argsort(-bound(few))[:8]])
            assert np.linalg.norm(y) == pytest.approx(1.0)
            assert bound(y[None])[0] >= bound(sphere).max() - 1e-4

    def test_thompson_draws_have_the_posterior_covariance(self):
        rng = np.random.default_rng(0)
        M = rng.standard_normal((3, 3))
        belief = Belief(np.array([1.0, -2.0, 0.5]), M @ M.T)
        draws = draw(Belief(np.tile(belief.m, (40_000, 1)), np.tile(belief.V, (40_000, 1, 1))), 0.5, rng).m
        assert np.allclose(draws.mean(axis=0), belief.m, atol=0.05)
        assert np.allclose(np.cov(draws.T), 0.25 * belief.V, atol=0.05 * np.linalg.norm(belief.V))

    def test_thompson_draws_from_a_singular_posterior(self):
        V = np.array([[1.0, 1.0], [1.0, 1.0 - 1e-12]])  # not positive definite by a rounding error
        draws = np.stack([draw(Belief(np.zeros(2), V), 1.0, np.random.default_rng(i)).m for i in range(200)])
        assert np.allclose(draws[:, 0], draws[:, 1], atol=1e-4)
        assert 0.5 < draws[:, 0].std() < 1.5

    def test_a_slate_is_learned_as_the_mean_of_its_items(self):
        spec = task("slate")
        agent, reference = started("linucb", spec), started("linucb", task("synthesize"))
        observation = nth_observation(observations(spec, 1), 0)
        agent.update(observation, np.array([1, 4, 7]), 0.8)
        reference.update(observation, spec.pool[[1, 4, 7]].mean(axis=0), 0.8)
        assert np.array_equal(agent.state()["shared_theta"], reference.state()["shared_theta"])

    def test_uncertainty_falls(self):
        first, later = (started("linucb", task("select"), rounds=n).diagnostics() for n in (5, 500))
        assert later["mean_width"] < 0.5 * first["mean_width"]
        assert later["user_trace"] < first["user_trace"]

    @pytest.mark.parametrize("name", ["linucb", "lints", "epsilon-greedy", "linucb-hybrid"])
    def test_bad_hyperparameters_are_refused(self, name):
        with pytest.raises(UnknownNameError, match=f"Unknown knob of agent '{name}' 'rigde'. Did you mean 'ridge'?"):
            make_agent(name, rigde=2.0)
        with pytest.raises(ConfigError, match=f"agent '{name}': ridge must be greater than 0, not 0.0."):
            make_agent(name, ridge=0)

    @pytest.mark.parametrize("name", ["linucb", "lints", "epsilon-greedy", "linucb-hybrid"])
    def test_bad_rewards_are_refused(self, name):
        spec = task("select")
        agent = started(name, spec, rounds=3)
        with pytest.raises(DataError, match=r"^The reward is nan: rewards must be finite numbers\.$"):
            agent.update(nth_observation(observations(spec, 1), 0), 0, float("nan"))


class PaperHybrid:
    """Algorithm 2 of Li et al. 2010, line by line."""

    def __init__(self, alpha, k, d):
        self.alpha, self.d = alpha, d
        self.A0, self.b0 = np.eye(k), np.zeros(k)
        self.A, self.B, self.b = {}, {}, {}

    def scores(self, arms, z, x):
        A0_inv = np.linalg.inv(self.A0)
        beta = A0_inv @ self.b0
        p = []
        for a in arms:
            if a not in self.A:
                self.A[a], self.B[a] = np.eye(self.d), np.zeros((self.d, len(self.b0)))
                self.b[a] = np.zeros(self.d)
            A_inv, B = np.linalg.inv(self.A[a]), self.B[a]
            theta = A_inv @ (self.b[a] - B @ beta)
            s = (
                z[a] @ A0_inv @ z[a]
                - 2 * z[a] @ A0_inv @ B.T @ A_inv @ x
                + x @ A_inv @ x
                + x @ A_inv @ B @ A0_inv @ B.T @ A_inv @ x
            )
            p.append(z[a] @ beta + x @ theta + self.alpha * np.sqrt(s))
        return np.array(p)

    def learn(self, a, z, x, r):
        B = self.B[a]
        self.A0 += B.T @ np.linalg.inv(self.A[a]) @ B
        self.b0 += B.T @ np.linalg.inv(self.A[a]) @ self.b[a]
        self.A[a] += np.outer(x, x)
        self.B[a] += np.outer(x, z)
        self.b[a] += r * x
        self.A0 += np.outer(z, z) - self.B[a].T @ np.linalg.inv(self.A[a]) @ self.B[a]
        self.b0 += r * z - self.B[a].T @ np.linalg.inv(self.A[a]) @ self.b[a]


def test_hybrid_linucb_is_algorithm_2_of_the_paper():
    spec = task("select", items=6)
    agent, paper = started("linucb-hybrid", spec, alpha=0.7), PaperHybrid(0.7, k=12, d=4)
    batch, rng = observations(spec, 400), np.random.default_rng(4)
    seen = set()
    for i in range(400):
        observation = nth_observation(batch, i)
        x = observation["query"]
        z = [np.kron(x, y) for y in spec.pool]
        expected = paper.scores(range(6), z, x)
        assert np.allclose(agent.scores(observation), expected, rtol=1e-8, atol=0)
        action = agent.act(observation)
        assert expected[action] == pytest.approx(expected.max(), rel=1e-8)
        reward = rng.random()
        agent.update(observation, action, reward)
        paper.learn(action, z[action], x, reward)
        seen.add(action)
    assert len(seen) == 6


class TestRandom:
    def test_writes_a_text_of_the_pool_or_nothing(self):
        spec = task("write", items=3, pool_texts=("a", "b", "c"))
        agent = started("random", spec)
        batch = observations(spec, 60)
        assert {agent.act(nth_observation(batch, i)) for i in range(60)} == {"a", "b", "c"}
        assert started("random", task("write")).act(nth_observation(batch, 0)) == ""


class TestOracle:
    def test_plays_what_the_environment_says_and_one_environment_only(self):
        agent = make_agent("oracle")
        with pytest.raises(ContractError, match="object has no optimal_action"):
            agent.attach(object())
        with pytest.raises(ContractError, match="one environment at a time, not a batch of users"):
            agent.act_batch(observations(task("select"), 2))


def regrets(name, mode, seed, horizon):
    """The regret of each round on HareLinear-v0."""
    env = make_environment("HareLinear-v0", horizon=horizon, action_mode=mode)
    observation, _ = env.reset(seed=seed)
    agent = make_agent(name)
    agent.reset(env.unwrapped.task, np.random.default_rng(seed))
    if agent.privileged:
        agent.attach(env.unwrapped)
    suffered, truncated = [], False
    while not truncated:
        action = agent.act(observation)
        following, reward, _, truncated, info = env.step(action)
        agent.update(observation, action, reward)
        observation = following
        suffered.append(info["regret"])
    return np.array(suffered)


@pytest.mark.parametrize("mode", ["select", "synthesize"])
@pytest.mark.parametrize(("name", "share", "late_share"), [("linucb", 0.4, 0.25), ("lints", 0.75, 0.6)])
def test_learners_lose_far_less_than_random(mode, name, share, late_share):
    floor, learner = regrets("random", mode, 0, 2000), regrets(name, mode, 0, 2000)
    assert learner.sum() < share * floor.sum()
    assert learner[-500:].sum() < late_share * floor[-500:].sum()


def test_the_oracle_loses_nothing():
    assert np.abs(regrets("oracle", "select", 0, 2000)).max() <= 1e-9
    # a synthesized action is float32, so the ideal itself is rounded
    assert np.abs(regrets("oracle", "synthesize", 0, 2000)).max() <= 1e-7


def test_oracle_is_the_agent_of_that_name():
    assert isinstance(make_agent("oracle"), Oracle)
