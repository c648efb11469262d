"""HARE: exact user states, gradients, the gate, search, saving, and that attention earns its place."""

import copy
import threading

import gymnasium as gym
import numpy as np
import pytest

import hare_gym  # noqa: F401
from hare_agents.hare import HARE, HAREAgent
from hare_agents.hare.attention import attention, entropy
from hare_agents.hare.bayesian_head import BayesianHead
from hare_agents.hare.changes import Changes
from hare_agents.hare.gate import Gate
from hare_agents.hare.ideals import Ideals
from hare_agents.hare.knowledge import Clusters, KnowledgePool
from hare_agents.hare.learned_heads import LearnedHeads
from hare_agents.hare.replay import Replay
from hare_agents.hare.synthesis import Decoder, explore, unit
from hare_agents.hare.user_state import CoreModel, PopulationRidge
from hare_agents.linear import with_one
from hare_gym.checks import check_agent
from hare_gym.errors import ActionError, ConfigError, DataError, UnknownNameError

QUICK = {"warmup": 40, "train_every": 8, "steps": 2}


def sphere(rng, *shape):
    y = rng.standard_normal(shape)
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def small_pool(n=12, d=4, seed=0):
    return sphere(np.random.default_rng(seed), n, d)


def taught(rounds=120, pool=None, seed=0, **knobs):
    """A HARE after some rounds in which the reward falls with the distance to the query."""
    hare = HARE(small_pool() if pool is None else pool, seed=seed, **{**QUICK, **knobs})
    rng = np.random.default_rng(seed + 1)
    for t in range(rounds):
        x = sphere(rng, hare.content_dim)
        item = hare.act(x, t % 5)
        hare.update(x, t % 5, item, float(0.5 + 0.4 * hare.pool[item] @ x))
    return hare


def play(agent, env_id="HareBilinear-v0", seed=0, action_mode="select", **knobs):
    env = gym.make(env_id, action_mode=action_mode, disable_env_checker=True, **knobs).unwrapped
    observation, _ = env.reset(seed=seed)
    agent.reset(env.task, np.random.default_rng(seed))
    regrets = []
    done = False
    while not done:
        action = agent.act(observation)
        following, reward, _, done, info = env.step(action)
        agent.update(observation, action, reward)
        observation = following
        regrets.append(info["regret"])
    return np.array(regrets)


class TestUserState:
    def test_states_are_batch_ridge_after_10_000_updates(self):
        q, d, users = 3, 4, 7
        rng = np.random.default_rng(0)
        model = CoreModel(q, d, ridge=0.7, user_ridge=1.3)
        k = 1 + (q + 1) * d
        # a life of a user is a block of the batch; block b belongs to user b until a user begins anew
        blocks = list(range(users))
        priors, size = {}, users
        A, b = np.zeros((k + (users + 4) * d,) * 2), np.zeros(k + (users + 4) * d)
        A[:k, :k] = 0.7 * np.eye(k)
        for t in range(10_000):
            x, y, r = sphere(rng, q), sphere(rng, d), float(rng.random())
            # users come one after the other, so that they meet different priors
            user = int(rng.integers(min(users, 1 + t // 500)))
            model.update(x, user, y, r)
            priors[blocks[user]] = model.posterior.prior_of(user)
            if t % 400 == 0:
                model.posterior.learn_prior(0.1)
            row = np.zeros(len(b))
            row[:k] = np.concatenate([[1.0], np.outer(np.append(1.0, x), y).ravel()])
            row[k + blocks[user] * d : k + (blocks[user] + 1) * d] = y
            A += np.outer(row, row)
            b += row * r
            if t in (3000, 5000, 5500, 8000):
                # the first past life is remembered, the others' places are used again
                model.restart(user := t // 2000, np.array([2]))
                blocks[user], size = size, size + 1
        assert len(model.posterior._counts) < 1 + size
        assert not np.allclose(priors[0], priors[size - 1])
        for block in range(size):
            place = slice(k + block * d, k + (block + 1) * d)
            A[place, place] += priors[block]
        theta, Sigma = np.linalg.solve(A, b), np.linalg.inv(A)
        np.testing.assert_allclose(model.posterior.shared.theta, theta[:k], rtol=0, atol=1e-8)
        for user in range(users):
            place = slice(k + blocks[user] * d, k + (blocks[user] + 1) * d)
            np.testing.assert_allclose(model.posterior.mean(user), theta[place], rtol=0, atol=1e-8)
            np.testing.assert_allclose(model.posterior.covariance(user), Sigma[place, place], rtol=0, atol=1e-8)

    def test_the_prior_mean_is_an_ideal_point_and_ridge_learns_what_it_misses(self):
        d, likeness, curvature = 3, 1.5, 0.4
        rng = np.random.default_rng(0)
        model, plain = CoreModel(d, d, 0.7, 1.3, likeness, curvature), CoreModel(d, d, 0.7, 1.3)
        X, Y, rewards = sphere(rng, 60, d), 0.8 * sphere(rng, 60, d), rng.random(60)
        ideal = likeness / (2 * curvature) * X
        prior = curvature * (np.sum(ideal**2, axis=1) - np.sum((Y - ideal) ** 2, axis=1))
        for t in range(40):
            model.update(X[t], t % 4, Y[t], rewards[t])
            plain.update(X[t], t % 4, Y[t], rewards[t] - prior[t])
        model.update_batch(X[40:50], np.arange(40, 50) % 4, Y[40:50], rewards[40:50])
        plain.update_batch(X[40:50], np.arange(40, 50) % 4, Y[40:50], rewards[40:50] - prior[40:50])
        for t in range(50, 60):
            for user in (t % 4, 9):
                told = model.belief(X[t], user).mean(with_one(Y[t : t + 1])) - model.bend(Y[t])
                assert told == pytest.approx(plain.belief(X[t], user).mean(with_one(Y[t : t + 1])) + prior[t])
        users = np.arange(50, 60) % 4
        many = model.beliefs(X[50:], users)
        for b in range(10):
            np.testing.assert_allclose(many.m[b], model.belief(X[50 + b], int(users[b])).m, atol=1e-12)

    def test_a_user_begins_anew_as_a_new_user(self):
        model = CoreModel(2, 2, 1.0, 1.0)
        rng = np.random.default_rng(0)
        for t in range(60):
            model.update(sphere(rng, 2), t % 3, sphere(rng, 2), float(rng.random()))
        model.posterior.learn_prior(0.1)
        x = sphere(rng, 2)
        before = model.belief(x, 1)
        model.restart(1, np.arange(4))
        after = model.belief(x, 1)
        assert not np.allclose(after.m, before.m)
        np.testing.assert_array_equal(after.m, model.belief(x, 99).m)
        np.testing.assert_array_equal(model.posterior.covariance(1), model.posterior.covariance(99))
        assert sorted(model.posterior.groups) == [0, 1, 2]

    def test_the_prior_learns_the_populations_covariance(self):
        rng = np.random.default_rng(1)
        model = PopulationRidge(1, 2, 1.0, 1.0)
        spread = np.array([3.0, 0.1])
        for user in range(300):
            theta = spread * rng.standard_normal(2)
            for _ in range(40):
                w = rng.standard_normal(2)
                model.update(user, np.zeros(1), w, float(w @ theta + rng.standard_normal()))
        for _ in range(5):
            model.learn_prior(1.0)
        C = model.covariance(10_000)
        assert C[0, 0] == pytest.approx(9.0, rel=0.25)
        assert C[1, 1] < 0.15
        assert abs(C[0, 1]) < 0.15

    def test_a_new_user_keeps_the_prior_they_came_with(self):
        model = PopulationRidge(1, 2, 1.0, 1.0)
        model.update(0, np.ones(1), np.ones(2), 1.0)
        model.learn_prior(0.1)
        unseen = model.prior_of(1)
        assert not np.allclose(unseen, np.eye(2))
        for user in range(1, 20):  # past a doubling of the arrays
            model.update(user, np.ones(1), np.ones(2), 1.0)
        np.testing.assert_array_equal(model.prior_of(0), np.eye(2))
        np.testing.assert_array_equal(model.prior_of(19), unseen)

    def test_a_state_without_its_priors_is_refused(self):
        model = PopulationRidge(1, 2, 1.0, 1.0)
        state = model.state()
        del state["prior"]
        with pytest.raises(DataError, match="'prior' must be finite float64"):
            model.load_state(state)


class TestChanges:
    def test_the_sum_is_pages(self):
        changes = Changes(100.0)
        rng = np.random.default_rng(0)
        g, variance = 0.0, 0.03
        for t, surprise in enumerate(0.3 * rng.standard_normal(50)):
            s = np.sqrt(variance)
            g = max(0.0, g + min(-surprise / s, 3.0) - 0.5)
            variance += max(0.001, 1 / (t + 30)) * (min(surprise**2, 9.0 * variance) - variance)
            assert not changes.update(20, surprise)
        assert changes.g[20] == pytest.approx(g)
        assert not changes.g[:20].any()

    def test_alarms_are_rare_without_a_change_and_quick_after_one(self):
        rng = np.random.default_rng(1)
        changes = Changes(8.0)
        alarms = [changes.update(1 + t % 5, 0.2 * rng.standard_normal()) for t in range(5000)]
        assert sum(alarms) <= 3
        # one of five users falls short by one and a half standard deviations
        for t in range(100):
            changed = changes.update(1 + t % 5, 0.2 * rng.standard_normal() - 0.3 * (t % 5 == 2))
            if changed:
                break
        assert t % 5 == 2
        assert t < 100 - 1
        assert changes.g[3] > 8.0
        changes.restart(3)
        assert changes.g[3] == 0.0


class TestBayesianHead:
    def filled(self, rounds=600, q=3, d=4, r=2, users=8):
        """Rounds of the head's own model, with the factors and the map that made them."""
        rng = np.random.default_rng(2)
        replay = Replay(q, d, 4096)
        W, E = rng.standard_normal((1 + q, 1 + r, d)), rng.standard_normal((users + 1, r))
        for _ in range(rounds):
            x, y, slot = sphere(rng, q), sphere(rng, d), int(rng.integers(1, users + 1))
            query = np.append(1.0, E[slot]) @ np.tensordot(np.append(1.0, x), W, 1)
            replay.add(x, y, float(query @ y + 0.05 * rng.standard_normal()), slot)
        return replay, E

    def test_W_Q_is_ridge_regression_given_the_factors(self):
        replay, E = self.filled()
        head = BayesianHead(3, 4, 2, ridge=0.5, warmup=600)
        assert head.learn(replay, lambda: np.pad(E, ((0, 0), (0, 2))))
        n = len(replay)
        x1 = np.c_[np.ones(n), replay.x[:n]]
        e1 = np.c_[np.ones(n), head.E[replay.slot[:n]]]
        rows = np.einsum("ni,nk,nj->nikj", x1, e1, replay.y[:n]).reshape(n, -1)
        rows = np.c_[np.ones(n), rows]
        penalty = np.diag(np.r_[1e-3, np.full(rows.shape[1] - 1, 0.5)])
        expected = np.linalg.solve(rows.T @ rows + penalty, rows.T @ replay.r[:n])
        np.testing.assert_allclose(np.r_[head.c, head.W_Q.ravel()], expected, atol=1e-9)

    def test_with_a_prior_mean_it_is_the_same_head_on_what_the_mean_misses(self):
        q = d = 4
        replay, E = self.filled(q=q)
        rest = Replay(q, d, 4096)
        n, (likeness, curvature) = len(replay), (1.5, 0.4)
        prior = likeness * np.sum(replay.x[:n] * replay.y[:n], axis=1) - curvature * np.sum(replay.y[:n] ** 2, axis=1)
        for x, y, r, slot in zip(replay.x[:n], replay.y[:n], replay.r[:n] - prior, replay.slot[:n], strict=True):
            rest.add(x, y, r, int(slot))
        heads = (
            BayesianHead(q, d, 2, ridge=0.5, warmup=600, likeness=likeness, curvature=curvature),
            BayesianHead(q, d, 2, ridge=0.5, warmup=600),
        )
        for head, memory in zip(heads, (replay, rest), strict=True):
            for _ in range(2):
                head._next_fit = 0
                head.learn(memory, lambda: np.pad(E, ((0, 0), (0, 2))))
        np.testing.assert_allclose(heads[0].W_Q, heads[1].W_Q, atol=1e-10)
        np.testing.assert_allclose(heads[0].E, heads[1].E, atol=1e-10)
        x = sphere(np.random.default_rng(1), q)
        np.testing.assert_allclose(heads[0].query(x, 3)[0], heads[1].query(x, 3)[0] + likeness * x, atol=1e-10)
        many = heads[0].queries(x[None], heads[0].factors(np.array([3])))[0][0]
        np.testing.assert_allclose(many, heads[0].query(x, 3)[0], atol=1e-12)

    def test_alternation_finds_the_factors_from_a_poor_start(self):
        replay, E = self.filled(rounds=2000)
        head = BayesianHead(3, 4, 2, ridge=0.1, warmup=1000)
        start = E + 0.5 * np.random.default_rng(0).standard_normal(E.shape)

        def error():
            n = len(replay)
            return np.mean(
                (
                    replay.r[:n]
                    - head.c
                    - np.vecdot(head.queries(replay.x[:n], head.E[replay.slot[:n]])[0], replay.y[:n])
                )
                ** 2
            )

        head.learn(replay, lambda: np.pad(start, ((0, 0), (0, 2))))
        before = error()
        for _ in range(5):
            head._next_fit = 0
            head.learn(replay, lambda: E)
        assert error() < 0.5 * before
        assert error() < 2.0 * 0.05**2

    def test_the_factor_follows_kalmans_filter(self):
        replay, E = self.filled()
        head = BayesianHead(3, 4, 2, ridge=0.5, warmup=600)
        head.learn(replay, lambda: np.pad(E, ((0, 0), (0, 2))))
        rng = np.random.default_rng(3)
        slot, G, residuals = 20, [], []  # a user that was never seen
        for _ in range(6):
            x, y, r = sphere(rng, 3), sphere(rng, 4), float(rng.random())
            _, parts = head.query(x, slot)
            G.append((parts @ y)[1:])
            residuals.append(r - head.c - (parts @ y)[0])
            head.update(slot, parts, y, r)
        G = np.array(G)
        precision = G.T @ G / head.noise + np.eye(2)
        np.testing.assert_allclose(head.P[slot], np.linalg.inv(precision), atol=1e-12)
        np.testing.assert_allclose(head.E[slot], np.linalg.solve(precision, G.T @ residuals / head.noise), atol=1e-12)

    def test_long_queries_are_reduced_to_their_principal_components(self):
        rng = np.random.default_rng(4)
        head = BayesianHead(100, 10, 4, 1.0, warmup=64)
        assert head.K <= 800
        replay = Replay(100, 10, 256)
        axes = np.linalg.qr(rng.standard_normal((100, 2)))[0]
        for t in range(64):
            replay.add(axes @ rng.standard_normal(2), sphere(rng, 10), 0.5, 1 + t % 4)
        head.learn(replay, lambda: rng.standard_normal((5, 10)))
        # the queries' plane is among the directions kept
        kept = head.directions @ head.directions.T @ axes
        np.testing.assert_allclose(kept, axes, atol=1e-9)


class TestLearnedHeads:
    def test_the_gradient_is_autograds(self):
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(0)
        heads = LearnedHeads(query_dim=5, content_dim=4, rank=3, hidden=6, heads=2, rng=rng)
        heads.scale = 1.7
        heads._flat += 0.1 * rng.standard_normal(heads._flat.shape)
        heads._read_link()
        x, e, q_0, y = (rng.standard_normal((2, 16, n)) for n in (5, 3, 4, 4))
        y *= 0.15
        r = rng.random((2, 16))
        gradient = heads.gradient(x, e, q_0, y, r)
        p = {name: torch.tensor(value, requires_grad=True) for name, value in heads.p.items()}
        X, E, Q_0, Y, R = (torch.tensor(v) for v in (x, e, q_0, y, r))
        h = torch.tanh(torch.cat([X, E, torch.ones(2, 16, 1)], -1).double() @ p["W_1"])
        hf1 = torch.cat([h, h * (E @ p["W_2"]), torch.ones(2, 16, 1)], -1).double()
        q = p["gamma"] * 1.7 * Q_0 + hf1 @ p["W_Q"]
        q = q / q.norm(dim=-1, keepdim=True)
        s = (q * (Y @ p["W_K"].transpose(1, 2))).sum(-1)
        c_0, c_1, a = p["link"].unbind(1)
        mean = a.exp() * torch.sigmoid(c_0 + c_1.exp() * s)
        assert float(mean.detach().min()) > 0.02  # nothing is clipped
        assert float(mean.detach().max()) < 0.98
        loss = -(R * mean.log() + (1 - R) * (1 - mean).log()).mean(1).sum()
        loss.backward()
        for name in p:
            np.testing.assert_allclose(gradient[name], p[name].grad.numpy(), atol=1e-10, err_msg=name)

    def test_the_link_is_monotone_and_its_slope_its_derivative(self):
        heads = LearnedHeads(5, 4, 3, 6, 2, np.random.default_rng(0))
        s = np.tile(np.linspace(-1, 1, 21), (2, 1))
        r = heads.link(s)
        assert (np.diff(r) > 0).all()
        difference = (heads.link(s + 1e-6) - heads.link(s - 1e-6)) / 2e-6
        np.testing.assert_allclose(heads.slope(s), difference, rtol=1e-6)

    def test_one_query_is_scored_as_a_batch_is(self):
        rng = np.random.default_rng(0)
        heads = LearnedHeads(5, 4, 3, 6, 2, rng)
        x, e, q_0, y = rng.standard_normal(5), rng.standard_normal(3), rng.standard_normal(4), rng.standard_normal(4)
        *_, q, length = heads._forward(x[None, None], e[None, None], q_0[None, None])
        k = heads.p["W_K"] @ y
        expected = np.vecdot((q / length)[:, 0], k)
        rows = np.empty((2, 5))
        heads.exponents(x, e, q_0, rows)
        np.testing.assert_allclose(heads.queries(rows) @ y, expected)
        np.testing.assert_allclose(heads.exponents_of(x[None], e[None], q_0[None])[0], rows)
        rewards = heads.rewards(rows @ np.append(1.0, y)[:, None])
        np.testing.assert_allclose(rewards, heads.link(expected[:, None]))


class TestGate:
    def errors(self, covariance, rounds=4000):
        rng = np.random.default_rng(0)
        return rng.multivariate_normal(np.zeros(len(covariance)), covariance, rounds)

    @pytest.mark.parametrize(
        ("covariance", "weights"),
        [
            ([[0.02, 0.0], [0.0, 0.06]], [0.75, 0.25]),  # independent: by inverse variances
            ([[0.02, 0.02], [0.02, 0.05]], [1.0, 0.0]),  # the second is the first plus noise
            ([[0.05, 0.02], [0.02, 0.02]], [0.0, 1.0]),
        ],
    )
    def test_weights_are_those_of_bates_and_granger(self, covariance, weights):
        gate = Gate(2)
        ready = np.ones(2, dtype=bool)
        for e in self.errors(np.array(covariance)):
            gate.update(e, ready, ready)
        np.testing.assert_allclose(gate.w, weights, atol=0.12)

    def test_no_other_combination_errs_less(self):
        rng = np.random.default_rng(1)
        gate = Gate(6)
        for _ in range(20):
            root = rng.standard_normal((6, 6)) + 2.0 * rng.standard_normal((6, 1))
            gate.C = root.T @ root
            w = gate._best(np.ones(6, dtype=bool))
            others = rng.dirichlet(np.full(6, 0.3), 2000)
            assert w.min() >= 0.0
            assert w.sum() == pytest.approx(1.0)
            assert w @ gate.C @ w <= np.vecdot(others @ gate.C, others).min() + 0.01

    def test_a_head_that_is_not_ready_gets_nothing(self):
        gate = Gate(2)
        for _ in range(200):
            gate.update(np.array([0.3, 0.0]), np.array([True, False]), np.array([True, False]))
        assert gate.w.tolist() == [1.0, 0.0]

    def test_the_second_moment_is_the_running_mean(self):
        gate, C = Gate(2), None
        C = gate.C.copy()
        ready = np.ones(2, dtype=bool)
        for e in self.errors(np.eye(2), 60):
            gate.update(e, ready, ready)
            C += 0.005 * (np.outer(e, e) - C)
        np.testing.assert_allclose(gate.C, C)
        assert gate.s == pytest.approx(np.sqrt(gate.w @ gate.C @ gate.w))


class TestAttention:
    def test_tempering_flattens_by_the_variance(self):
        logits = np.array([2.0, 0.0, -1.0])
        plain = attention(logits)
        np.testing.assert_allclose(plain, np.exp(logits) / np.exp(logits).sum())
        tempered = attention(logits, 5.0)
        np.testing.assert_allclose(tempered, attention(logits / np.sqrt(1 + np.pi / 8 * 5.0)))
        assert entropy(tempered) > entropy(plain)

    def test_entropy_of_known_weights(self):
        assert entropy(np.full(8, 1 / 8)) == pytest.approx(np.log(8))
        assert entropy(np.array([1.0, 0.0])) == 0.0

    def test_an_item_that_cannot_be_used_gets_none(self):
        assert attention(np.array([0.0, -np.inf]), 1.0).tolist() == [1.0, 0.0]


def wishing(users=6, d=4, seed=3, items=20):
    """A pool, and users who each want a blend of two of its items, but for the last coordinate: there, the query."""
    rng = np.random.default_rng(seed)
    pool = 0.6 * sphere(rng, items, d)
    wishes = 0.7 * pool[:users] + 0.3 * pool[users : 2 * users]
    wishes[:, -1] = 0.0

    def reward(x, user, y):
        off = np.sum((y[:-1] - wishes[user, :-1]) ** 2) + (y[-1] - 2.0 * x[-1]) ** 2
        return float(np.exp(-3.0 * off))

    def query():
        x = np.zeros(d)
        x[-1] = 0.25 * rng.standard_normal()
        return x

    return pool, reward, query


def served(hare, reward, query, rounds, users=6, seed=0):
    """Expected rewards of content that is synthesized round after round."""
    rng, earned = np.random.default_rng(seed), []
    for t in range(rounds):
        x, user = query(), t % users
        y = hare.synthesize(x, user)
        earned.append(reward(x, user, y))
        hare.update(x, user, y, float(np.clip(earned[-1] + 0.05 * rng.standard_normal(), 0.0, 1.0)))
    return np.array(earned)


class TestIdeals:
    def some(self, rounds=60, count=40, d=3, slots=4, seed=0):
        rng = np.random.default_rng(seed)
        ideals, replay = Ideals(0.7 * sphere(rng, 15, d), count, 0.5, rng), Replay(d, d, 256)
        for t in range(rounds):
            x, y, slot = 0.3 * sphere(rng, d), 0.8 * sphere(rng, d), 1 + t % slots
            r = float(np.exp(-2.0 * np.sum((y - ideals.points[slot % count]) ** 2)))
            ideals.update(slot, x, y, r)
            replay.add(x, y, r, slot)
        return ideals, replay, rng

    def posterior(self, ideals, replay, slot):
        """The posterior over the points, one number after the other."""
        logs = []
        for h in ideals.points:
            log = 0.0
            for x, y, r, s in zip(replay.x, replay.y, replay.r, replay.slot[: len(replay)], strict=False):
                if s != slot:
                    continue
                eta = ideals.intercept + ideals.likeness * sum(x * y)
                eta -= sum(w * (a - b) ** 2 for w, a, b in zip(ideals.w, y, h, strict=True)) / 2
                mu = np.exp(min(eta, 0.0))
                variance = ideals.phi * (mu * (1 - mu) + 0.1)
                log -= (r - mu) ** 2 / (2 * variance) + np.log(variance) / 2
            logs.append(log)
        likely = np.exp(np.array(logs) - max(logs))
        return likely / likely.sum()

    def test_the_posterior_is_bayes_rule_before_and_after_the_population_is_fitted(self):
        ideals, replay, rng = self.some()
        np.testing.assert_allclose(ideals.weights(2), self.posterior(ideals, replay, 2), atol=1e-12)
        np.testing.assert_allclose(ideals.weights(9), np.full(40, 1 / 40))  # nobody's
        first = ideals.w.copy()
        ideals.learn(replay, rng)
        assert np.abs(ideals.w - first).max() > 0.1
        for slot in (1, 4):
            expected = self.posterior(ideals, replay, slot)
            np.testing.assert_allclose(ideals.weights(slot), expected, atol=1e-12)
            sharp = expected**3 / np.sum(expected**3)
            np.testing.assert_allclose(ideals.weights(slot, 3.0), sharp, atol=1e-12)
        mean = expected @ ideals.points
        np.testing.assert_allclose(ideals.mean(4), mean, atol=1e-12)
        np.testing.assert_allclose(
            ideals.covariance(4), np.cov(ideals.points.T, aweights=expected, ddof=0), atol=1e-12
        )
        x, y = replay.x[0], replay.y[0]
        each = [float(ideals.rewards(x, y[None], h)[0]) for h in ideals.points]
        assert ideals.expected(4, x, y) == pytest.approx(expected @ each)

    def test_draws_follow_the_posterior(self):
        ideals, _, rng = self.some(rounds=8)
        weights = ideals.weights(1)
        drawn = [int(np.flatnonzero((ideals.points == ideals.draw(1, 1.0, rng)).all(axis=1))[0]) for _ in range(4000)]
        np.testing.assert_allclose(np.bincount(drawn, minlength=40) / 4000, weights, atol=0.03)

    def test_the_fit_solves_the_quasi_score_equations(self):
        ideals, _, rng = self.some(count=1, rounds=0)
        replay, h = Replay(3, 3, 256), ideals.points[0]
        while len(replay) < 200:
            x, y = 0.3 * sphere(rng, 3), 0.8 * sphere(rng, 3)
            # so far from the ideal point that no expected reward is cut to 1, where the fit goes on as if it were not
            if np.sum((y - h) ** 2) > 0.5:
                off = np.array([0.5, 1.5, 3.0]) @ (y - h) ** 2
                replay.add(x, y, float(np.exp(0.5 * x @ y - off) + 0.05 * rng.standard_normal()), 1)
        for _ in range(30):
            ideals._fit(replay, np.arange(200), rng)
        X, Y, R = replay.x[:200], replay.y[:200], replay.r[:200]

        def means(theta):
            eta = theta[0] + np.exp(theta[1]) * (X * Y).sum(axis=1) - ((Y - h) ** 2 @ np.exp(theta[2:])) / 2
            return np.exp(np.minimum(eta, 0.0))

        theta = np.concatenate([[ideals.intercept, np.log(ideals.likeness)], np.log(ideals.w)])
        asked = np.minimum(4 * (X * X).mean(axis=0) / ideals._spread, 0.95)
        prior = np.concatenate([[0.0, np.log(4 / 3)], np.log(4 * (1 - asked))])
        covariance = np.diag([0.1**2, 1.0, *[0.4**2] * 3])
        covariance[2:, 2:] += 0.5**2
        mu = means(theta)
        fitted = ideals.phi * (mu * (1 - mu) + 0.1)
        score = -np.linalg.solve(covariance, theta - prior)
        for k, step in enumerate(1e-5 * np.eye(5)):
            score[k] += np.sum((R - mu) / fitted * (means(theta + step) - means(theta - step)) / 2e-5)
        assert np.abs(score).max() < 0.01
        assert (np.diff(ideals.w) > 0.5).all()
        assert ((R - mu) ** 2).mean() == pytest.approx(fitted.mean(), rel=1e-3)

    def test_the_best_content_is_best_in_the_ball(self):
        ideals, _, rng = self.some()
        ideals.w = np.array([0.2, 3.0, 6.0])
        for length, inside in ((0.02, True), (0.9, False)):
            x, h = length * sphere(rng, 3), 0.5 * sphere(rng, 3)
            y = ideals.best(x, h)
            assert (y @ y < 1 - 1e-6) == inside
            assert y @ y <= 1 + 1e-8
            Y = sphere(rng, 20_000, 3) * rng.random((20_000, 1)) ** (1 / 3)

            def exponent(Y, x=x, h=h):
                return ideals.likeness * Y @ x - 0.5 * (Y - h) ** 2 @ ideals.w

            assert exponent(y[None])[0] >= exponent(Y).max()

    def test_once_rounds_are_forgotten_the_population_stays_and_users_go_on(self):
        ideals, replay, rng = self.some(rounds=200)
        ideals.learn(replay, rng)
        for _ in range(100):
            replay.add(*replay.x[:1], *replay.y[:1], 0.5, 1)
        ideals._next_fit = 0
        w, known = ideals.w.copy(), ideals.weights(2)
        ideals.learn(replay, rng)
        np.testing.assert_array_equal(ideals.w, w)
        np.testing.assert_array_equal(ideals.weights(2), known)
        ideals.update(2, replay.x[0], replay.y[0], 0.1)
        assert np.abs(ideals.weights(2) - known).max() > 0.0

    def test_hare_with_them_serves_users_better_and_learns_what_is_the_querys(self):
        pool, reward, query = wishing()
        knobs = {"likeness": 1.0, "curvature": 0.5, "synthesis_noise": 0.0, **QUICK}
        without = served(HARE(pool, seed=1, **knobs), reward, query, 240)
        hare = HARE(pool, seed=1, ideals=512, **knobs)
        earned = served(hare, reward, query, 240)
        assert earned[120:].mean() > without[120:].mean() + 0.03
        assert earned[120:].mean() > earned[:60].mean() + 0.04
        assert hare.ideals.w[-1] < 0.5 * hare.ideals.w[:-1].min()
        told = hare.diagnostics()
        assert told["gate_ideals"] == hare.gate.w[-1] > 0.3
        assert told["gate_core"] + told["gate_bayesian"] + told["gate_learned"] + told[
            "gate_ideals"
        ] == pytest.approx(1)
        u, Sigma = hare.user_state(2)
        np.testing.assert_allclose(u, hare.ideals.mean(hare.core.posterior.slot(2)))
        assert np.trace(Sigma) < 0.5 * np.trace(hare.user_state(99)[1])

    def test_a_saved_one_goes_on_alike_and_a_restarted_user_is_a_new_one(self, tmp_path):
        pool, reward, query = wishing()
        hare = HARE(pool, seed=1, ideals=64, **QUICK)
        served(hare, reward, query, 100)
        hare.save(tmp_path / "hare.npz")
        loaded = HARE.load(tmp_path / "hare.npz")
        rng = np.random.default_rng(5)
        for t in range(60):
            x = 0.3 * sphere(rng, 4)
            y = hare.synthesize(x, t % 7)
            np.testing.assert_array_equal(loaded.synthesize(x, t % 7), y)
            for each in (hare, loaded):
                each.update(x, t % 7, y, reward(x, t % 6, y))
        others = hare.user_state(2)[0]
        hare.restart(3)
        np.testing.assert_array_equal(hare.user_state(3)[0], hare.user_state(99)[0])
        np.testing.assert_array_equal(hare.user_state(2)[0], others)
        hare.freeze()
        w = hare.ideals.w.copy()
        served(hare, reward, query, 60)
        np.testing.assert_array_equal(hare.ideals.w, w)
        assert np.abs(hare.user_state(2)[0] - others).max() > 0.0
        broken = {name: array for name, array in hare.state().items() if name != "ideals.theta"}
        with pytest.raises(DataError, match="no array 'theta'"):
            loaded.load_state(broken)

    def test_batches_draw_in_order_and_users_who_are_not_told_apart_share_one(self):
        pool, reward, query = wishing()
        one, many = (HARE(pool, seed=1, ideals=64, **QUICK) for _ in range(2))
        X, users = np.stack([query() for _ in range(5)]), np.array([0, 1, 2, 1, 9])
        chosen = [one.act(x, int(user)) for x, user in zip(X, users, strict=True)]
        assert many.act_many(X, users).tolist() == chosen
        assert one.probabilities(X[0], 0) is None
        rewards = np.linspace(0.1, 0.9, 5)
        for x, user, item, r in zip(X, users, chosen, rewards, strict=True):
            one.update(x, int(user), item, float(r))
        many.update_many(X, users, np.array(chosen), rewards)
        np.testing.assert_array_equal(many.user_state(1)[0], one.user_state(1)[0])
        alike = HARE(pool, seed=1, ideals=64, user_state=False, **QUICK)
        served(alike, reward, query, 40)
        np.testing.assert_array_equal(alike.user_state(1)[0], alike.user_state(5)[0])
        assert np.ptp(alike.ideals.weights(0)) > 0.0

    @pytest.mark.parametrize("knobs", [{"ideals": 64}, {"ideals": 64, "attention": False, "choice": "sample"}])
    def test_the_contract_holds(self, knobs):
        check_agent(HAREAgent(**QUICK, **knobs))

    def test_without_them_nothing_is_kept_and_other_spaces_are_refused(self):
        assert not [name for name in taught(10).state() if name.startswith("ideals")]
        with pytest.raises(ConfigError, match=r"ideals compares .* not 3 and 4\. Use ideals=0\."):
            HARE(small_pool(), 3, ideals=8)


class TestKnowledge:
    def test_uncertainty_is_that_of_the_queries_shown(self):
        rng = np.random.default_rng(0)
        clusters = Clusters(rng.standard_normal((3, 4)))
        Q = sphere(rng, 5, 4)
        for q in Q:
            clusters.shown(1, q)
        probe = sphere(rng, 4)
        expected = np.sqrt(probe @ np.linalg.inv(np.eye(4) + Q.T @ Q) @ probe)
        np.testing.assert_allclose(clusters.uncertainty(probe), [1.0, expected, 1.0])

    def test_a_clusters_value_is_its_shrunken_late_mean(self):
        clusters = Clusters(np.eye(2))
        surprises = np.random.default_rng(0).standard_normal(300)
        for surprise in surprises:
            clusters.earned(1, surprise)
        weights = 0.995 ** np.arange(299, -1, -1)
        expected = (weights @ surprises) / (weights.sum() + 20.0)
        np.testing.assert_allclose(clusters.values, [0.0, expected])

    def test_values_are_trusted_while_they_foretell_surprises(self):
        rng = np.random.default_rng(0)
        steady, noise = Clusters(np.eye(2)), Clusters(np.eye(2))
        for _ in range(400):
            steady.earned(0, 0.2 + 0.1 * rng.standard_normal())
            noise.earned(0, rng.standard_normal())
        assert steady.gain > 0.01
        assert noise.gain < 0.0

    def test_clusters_find_the_groups_of_items(self):
        rng = np.random.default_rng(0)
        centres = np.eye(3)
        group = np.arange(60) % 3
        clusters = Clusters.of(centres[group] + 0.05 * rng.standard_normal((60, 3)), 3, rng)
        found = clusters.assign(centres)
        assert sorted(found.tolist()) == [0, 1, 2]
        assert (clusters.assign(centres[group]) == found[group]).all()

    def test_search_finds_nearly_the_best_of_many(self):
        rng = np.random.default_rng(0)
        items = sphere(rng, 20_000, 8)
        pool = KnowledgePool(items, 16, 1000, rng)
        assert pool.searched
        loss = []
        for q in sphere(rng, 100, 8):
            ids, found = pool.candidates(pool.cells[:, 1:] @ q)
            np.testing.assert_array_equal(found, with_one(items[ids]))
            assert len(np.unique(ids)) == len(ids)
            assert 1000 <= len(ids) < 3000
            loss.append((items @ q).max() - (found[:, 1:] @ q).max())
        assert np.mean(np.array(loss) == 0.0) > 0.9
        assert max(loss) < 0.1

    def test_items_come_and_go_in_a_searched_pool(self):
        rng = np.random.default_rng(0)
        items = sphere(rng, 3000, 4)
        pool = KnowledgePool(items, 4, 500, rng)

        def near(q):
            return pool.candidates(pool.cells[:, 1:] @ q)

        q = sphere(rng, 4)
        new = pool.add(q[None])
        assert new.tolist() == [3000]
        ids, found = near(q)
        assert ids[(found[:, 1:] @ q).argmax()] == 3000
        pool.remove(new)
        assert 3000 not in near(q)[0]
        best = int((items @ q).argmax())
        pool.remove([best])
        assert best not in near(q)[0]
        pool.remove(np.setdiff1d(np.arange(3000), [best, 1, 2, 3]))
        assert not pool.searched
        assert pool.ids.tolist() == [i for i in (1, 2, 3) if i != best]
        many = pool.add(sphere(rng, 900, 4))
        assert pool.searched
        assert set(near(pool[int(many[5])])[0]) <= {1, 2, 3, *many.tolist()}

    @pytest.mark.parametrize(
        ("call", "text"),
        [
            (lambda p: p.remove([99]), "Item 99 cannot leave: it is not in the pool"),
            (lambda p: p.remove(np.arange(12)), "The last items cannot leave"),
            (lambda p: p[12], "Item 12 is not in the pool: its ids go from 0 to 11"),
        ],
    )
    def test_mistakes_about_items_are_named(self, call, text):
        with pytest.raises(ActionError, match=text):
            call(KnowledgePool(small_pool(), 4, 100, np.random.default_rng(0)))

    @pytest.mark.parametrize(
        ("items", "text"),
        [(np.zeros(3), r"shape \(N, d\)"), (np.array([[0.0], [np.nan]]), "Item 1 holds NaN")],
    )
    def test_bad_pools_are_refused(self, items, text):
        with pytest.raises(DataError, match=text):
            HARE(items)


class TestSynthesis:
    def test_the_decoder_learns_what_a_blend_loses(self):
        rng = np.random.default_rng(0)
        decoder = Decoder(4)
        np.testing.assert_array_equal(decoder.W_V, np.eye(4))
        shrink = np.diag([0.2, 0.5, 0.8, 0.4])
        for y in sphere(rng, 3000, 4):
            decoder.update(shrink @ y, y)
        np.testing.assert_allclose(decoder.W_V @ shrink, np.eye(4), atol=0.05)
        y = sphere(rng, 4)
        np.testing.assert_allclose(decoder(shrink @ y), y, atol=0.05)

    def test_exploring_takes_a_step_of_the_given_length(self):
        rng = np.random.default_rng(0)
        y = sphere(rng, 50)
        steps = [np.linalg.norm(explore(y, 0.1, rng) - y) for _ in range(200)]
        assert np.mean(steps) == pytest.approx(0.1, rel=0.1)

    def test_the_optimum_beats_every_item_in_the_heads_own_eyes(self):
        hare = taught(300, posterior_bonus=0.0)
        x = sphere(np.random.default_rng(9), 4)
        round = hare.prepare(x, 0)
        y = hare._optimum(round, hare.pool[0])
        assert np.linalg.norm(y) == pytest.approx(1.0)
        own = hare._expected(round.F, with_one(y[None]))[0]
        assert own >= hare._expected(round.F, with_one(hare.pool.items)).max()
        others = sphere(np.random.default_rng(1), 2000, 4)
        assert own >= hare._expected(round.F, with_one(others)).max() - 1e-3

    @pytest.mark.parametrize("curvature", [0.2, 0.6, 3.0])
    def test_with_curvature_the_optimum_may_lie_inside_the_ball(self, curvature):
        hare = taught(200, curvature=curvature, likeness=0.5, posterior_bonus=1.0)
        x = sphere(np.random.default_rng(9), 4)
        round = hare.prepare(x, 0)
        y = hare._optimum(round, hare.pool[0])
        assert np.linalg.norm(y) <= 1.0 + 1e-12
        assert curvature < 3.0 or np.linalg.norm(y) < 0.9
        rng = np.random.default_rng(1)
        others = sphere(rng, 20_000, 4) * rng.random((20_000, 1)) ** 0.25
        clusters = np.zeros(20_000, dtype=np.intp)
        hare.pool.clusters.gain = 0.0
        own = hare._scores(round, with_one(y[None]), clusters[:1], None)[0]
        assert own >= hare._scores(round, with_one(others), clusters, None).max() - 1e-3
        moved = hare.synthesize(x, 0)
        assert curvature < 3.0 or 0.0 < np.linalg.norm(moved - y) < 0.6

    @pytest.mark.parametrize("kind", ["optimum", "blend", "normalised", "decoded"])
    def test_every_synthesis_stays_in_the_ball(self, kind):
        hare = taught(200, synthesis=kind)
        x = sphere(np.random.default_rng(9), 4)
        y = hare.synthesize(x, 1)
        hare.update(x, 1, y, 0.5)
        assert np.linalg.norm(y) <= 1.0 + 1e-12
        if kind != "blend":
            assert np.linalg.norm(y) == pytest.approx(1.0)

    def test_unit_leaves_zero(self):
        assert unit(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


class TestHARE:
    def test_with_likeness_it_begins_as_retrieval(self):
        hare = HARE(small_pool(), likeness=1.0, posterior_bonus=0.0, curvature=0.5)
        for x in sphere(np.random.default_rng(3), 20, 4):
            assert hare.act(x, 0) == int(np.argmax(hare.pool.items @ x))

    def test_likeness_needs_queries_and_contents_of_one_length(self):
        with pytest.raises(ConfigError) as caught:
            HARE(small_pool(), query_dim=3, likeness=1.0)
        assert str(caught.value) == (
            "agent 'hare': likeness compares queries with contents, which must then have one length, not 3 and 4. "
            "Use likeness=0."
        )

    def test_batches_know_the_prior_mean_too(self):
        one, many = (taught(120, likeness=1.0, curvature=0.5) for _ in range(2))
        X, users = sphere(np.random.default_rng(4), 8, 4), np.arange(8) % 5
        chosen = [one.act(x, user) for x, user in zip(X, users.tolist(), strict=True)]
        assert many.act_many(X, users).tolist() == chosen
        expected = many._expected(many.prepare_many(X, users).F, with_one(many.pool.items))
        for b in range(8):
            round = one.prepare(X[b], int(users[b]))
            np.testing.assert_allclose(expected[b], one._expected(round.F, with_one(one.pool.items)), atol=1e-12)
            heads = one._expected_of(round, one.pool[chosen[b]])
            assert one.gate.w @ heads == pytest.approx(expected[b, chosen[b]])
        rewards = np.linspace(0.2, 0.9, 8)
        many.update_many(X, users, np.array(chosen), rewards)
        for x, user, item, reward in zip(X, users.tolist(), chosen, rewards.tolist(), strict=True):
            one.update(x, user, item, reward)
        for user in range(5):
            np.testing.assert_allclose(many.user_state(user)[0], one.user_state(user)[0], atol=1e-10)

    @pytest.mark.parametrize(
        "knobs",
        [
            {},
            {"likeness": 1.0, "curvature": 0.5},
            {"choice": "sample", "alpha": 0.2, "heads": 2},
            {"choice": "thompson", "schedule": "sqrt", "alpha": 0.1},
            {"schedule": "learned", "alpha": 0.1, "synthesis": "decoded"},
            {"user_state": False, "core": False},
            {"attention": False, "population": False},
            {"candidates": 6},
        ],
    )
    def test_the_contract_holds(self, knobs):
        check_agent(HAREAgent(**QUICK, **knobs))

    def test_it_goes_on_from_a_file_exactly_as_before(self, tmp_path):
        hare = taught(150, choice="sample", alpha=0.1)
        hare.add_items(small_pool(3, seed=5))
        hare.remove_items([2])
        hare.save(tmp_path / "hare.npz")
        heir = HARE.load(tmp_path / "hare.npz")
        rng = np.random.default_rng(7)
        for t in range(150):
            x, reward = sphere(rng, 4), float(rng.random())
            item = hare.act(x, t % 7)
            assert heir.act(x, t % 7) == item != 2
            hare.update(x, t % 7, item, reward)
            heir.update(x, t % 7, item, reward)
        for name, value in hare.state().items():
            np.testing.assert_array_equal(heir.state()[name], value, err_msg=name)
        assert [p.name for p in tmp_path.iterdir()] == ["hare.npz"]

    def test_other_files_are_refused(self, tmp_path):
        np.savez(tmp_path / "other.npz", x=np.zeros(3))
        with pytest.raises(DataError, match=r"is no file that HARE\.save wrote"):
            HARE.load(tmp_path / "other.npz")
        (tmp_path / "text.npz").write_text("nothing")
        with pytest.raises(DataError, match=r"is no file that HARE\.save wrote"):
            HARE.load(tmp_path / "text.npz")

    def test_a_state_of_another_configuration_is_refused(self):
        with pytest.raises(DataError, match="of other dimensions"):
            HARE(small_pool(), hidden=5).load_state(taught(60).state())
        state = taught(60).state()
        del state["gate.w"]
        with pytest.raises(DataError, match="no array 'w'"):
            HARE(small_pool(), **QUICK).load_state(state)

    def test_what_is_not_finite_teaches_nothing(self):
        hare = taught(100)
        x = sphere(np.random.default_rng(3), 4)
        before = hare.state()
        for query, reward, text in ((x, np.nan, "The reward is nan"), (x * np.nan, 0.5, "query holds NaN")):
            with pytest.raises(DataError, match=text):
                hare.update(query, 0, 1, reward)
        with pytest.raises(DataError, match=r"query must have shape \(4,\), not \(3,\)"):
            hare.act(x[:3], 0)
        with pytest.raises(ActionError, match="Item 12 is not in the pool"):
            hare.update(x, 0, 12, 0.5)
        with pytest.raises(ActionError, match=r"Content must have shape \(4,\), not \(2,\)"):
            hare.update(x, 0, np.zeros(2), 0.5)
        for name, value in hare.state().items():
            np.testing.assert_array_equal(before[name], value, err_msg=name)

    def test_freezing_at_a_share_of_the_session(self):
        agent = HAREAgent(**QUICK, freeze_at=0.5)
        play(agent, horizon=100)
        assert agent.hare.frozen
        assert agent.hare.config.freeze_at == 50

    def test_knobs_are_checked(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'clusters'"):
            HARE(small_pool(), cluster=3)
        with pytest.raises(ConfigError, match="agent 'hare': rank must be at least 1"):
            HAREAgent(rank=0)
        with pytest.raises(UnknownNameError, match="Did you mean 'argmax'"):
            HAREAgent(choice="argmin")

    def test_late_rewards_of_departed_items_are_learned(self):
        hare = taught(60)
        x = sphere(np.random.default_rng(3), 4)
        item = hare.act(x, 0)
        hare.remove_items([item])
        t = hare.t
        hare.update(x, 0, item, 0.9)
        assert hare.t == t + 1
        assert all(hare.act(x, 0) != item for _ in range(20))

    def test_threads_may_share_one(self):
        # rewards without reason may, in some order of the threads, look like a user who has changed
        hare = HARE(small_pool(), change_threshold=0.0, **QUICK)
        failures = []

        def serve(user):
            rng = np.random.default_rng(user)
            try:
                for _ in range(100):
                    x = sphere(rng, 4)
                    hare.update(x, user, hare.act(x, user), float(rng.random()))
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=serve, args=(user,)) for user in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert hare.t == 400
        assert sorted(hare.core.posterior._counts) == [0, 100, 100, 100, 100]
        assert all(np.isfinite(value).all() for value in hare.state().values())

    def test_a_user_may_begin_anew(self, tmp_path):
        hare = taught(150)
        x = sphere(np.random.default_rng(0), 4)
        hare.restart(99)  # never seen: nothing to forget
        hare.restart(2)
        assert hare.restarts == 1
        np.testing.assert_array_equal(hare.user_state(2)[0], hare.user_state(99)[0])
        np.testing.assert_array_equal(hare.prepare(x, 2).q_0, hare.prepare(x, 99).q_0)
        before = hare.prepare(x, 3).q_0
        np.testing.assert_array_equal(before, hare.prepare(x, 3).q_0)
        # the rounds of the past life keep its factor
        old = 3
        assert (hare.replay.slot[:150] == old).sum() == 30
        assert hare.core.posterior.slot(2) == 6
        assert hare.bayesian.E[old].any()
        hare.update(x, 2, 0, 0.7)
        hare.save(tmp_path / "hare.npz")
        heir = HARE.load(tmp_path / "hare.npz")
        for t in range(60):
            assert heir.act(x, t % 6) == hare.act(x, t % 6)
            hare.update(x, t % 6, 1, 0.1 * (t % 7))
            heir.update(x, t % 6, 1, 0.1 * (t % 7))
        for name, value in hare.state().items():
            np.testing.assert_array_equal(heir.state()[name], value, err_msg=name)

    def test_memory_per_user_is_what_it_says(self):
        hare = HARE(small_pool(40, 8))
        posterior, head = hare.core.posterior, hare.bayesian
        per_slot = sum(a[0].nbytes for a in (posterior._A_u, posterior.A_u_inv, posterior._B_u, posterior.H))
        per_slot += posterior._prior[0].nbytes + head.E[0].nbytes + head.P[0].nbytes + hare.changes.g[0].nbytes
        assert hare.bytes_per_user == per_slot
        hare = HARE(small_pool(40, 8), ideals=50)
        assert hare.bytes_per_user == per_slot + hare.ideals._log_likelihood[0].nbytes

    def test_attention_is_a_distribution_over_the_pool(self):
        hare = taught(100)
        hare.remove_items([4])
        ids, A = hare.attention(sphere(np.random.default_rng(0), 4), 1)
        assert ids.tolist() == list(range(12))
        assert A.sum() == pytest.approx(1.0)
        assert A[4] == 0.0

    def test_attention_over_clusters_sums_their_items(self):
        hare = taught(200, clusters=3)
        x = sphere(np.random.default_rng(0), 4)
        _, A = hare.attention(x, 1, tempered=False)
        clusters, by_cluster = hare.attention(x, 1, by_cluster=True, tempered=False)
        assert clusters.tolist() == [0, 1, 2]
        np.testing.assert_allclose(by_cluster, [A[hare.pool.cluster == j].sum() for j in range(3)])
        _, tempered = hare.attention(x, 1)
        assert entropy(tempered) > entropy(A)
        assert hare.act(x, 1) == A.argmax()

    @pytest.mark.parametrize("choice", ["argmax", "thompson", "sample"])
    def test_asking_for_attention_changes_nothing(self, choice):
        asked, other = taught(150, choice=choice), taught(150, choice=choice)
        rng = np.random.default_rng(3)
        for t in range(40):
            x, reward = sphere(rng, 4), float(rng.random())
            item = asked.act(x, t % 5)
            assert item == other.act(x, t % 5)
            asked.attention(sphere(rng, 4), 9)
            assert asked.diagnostics() == other.diagnostics()
            asked.update(x, t % 5, item, reward)
            other.update(x, t % 5, item, reward)
        for name, value in asked.state().items():
            np.testing.assert_array_equal(other.state()[name], value, err_msg=name)

    def test_frozen_only_the_users_states_move(self):
        hare = taught(400, freeze_at=400, alpha=0.1, choice="sample")
        assert hare.frozen
        assert not taught(399, freeze_at=400).frozen
        with pytest.raises(ConfigError, match=r"freeze_at is 0\.5, a share of a session, .* or call freeze\(\)\."):
            taught(0, freeze_at=0.5)
        before, theta = hare.state(), hare.core.posterior.shared.theta.copy()
        rng, told = np.random.default_rng(4), []
        prior = hare.core.posterior.prior_of(50)
        A, b = prior.copy(), np.zeros(4)
        x_new = sphere(rng, 4)
        _, first = hare.attention(x_new, 50)
        for t in range(500):
            x, user = sphere(rng, 4), (50, 0, 3)[t % 3]
            item = hare.act(x, user)
            y, reward = hare.pool[item], float(np.clip(0.5 + 0.4 * hare.pool[item] @ x_new, 0, 1))
            hare.update(x, user, item, reward)
            if user == 50:
                told.append(hare.diagnostics()["attention_entropy_tempered"])
                z = np.concatenate([[1.0], np.outer(np.append(1.0, x), y).ravel()])
                A += np.outer(y, y)
                b += y * (reward - z @ theta)
        u, Sigma = hare.user_state(50)
        np.testing.assert_allclose(u, np.linalg.solve(A, b), rtol=0, atol=1e-8)
        np.testing.assert_allclose(Sigma, np.linalg.inv(A), rtol=0, atol=1e-8)
        after = hare.state()
        users = {"groups", "counts", "slots", "A_u", "A_u_inv", "B_u", "H", "E", "P", "prior"}
        moved = {n for n in after if after[n].shape != before[n].shape or not np.array_equal(after[n], before[n])}
        assert moved <= {f"core.{n}" for n in users} | {"bayesian.E", "bayesian.P", "counts"}
        assert {"core.H", "bayesian.E", "bayesian.P"} <= moved
        np.testing.assert_array_equal(after["core.prior"][: len(before["core.prior"])], before["core.prior"])
        _, last = hare.attention(x_new, 50)
        assert entropy(last) < entropy(first)
        assert np.mean(told[-40:]) < np.mean(told[:10])

    def test_a_frozen_one_goes_on_from_a_file(self, tmp_path):
        hare = taught(200)
        hare.freeze()
        hare.save(tmp_path / "hare.npz")
        heir = HARE.load(tmp_path / "hare.npz")
        x = sphere(np.random.default_rng(0), 4)
        for one in (hare, heir):
            one.update(x, 77, 3, 0.9)
        assert heir.frozen
        for name, value in hare.state().items():
            np.testing.assert_array_equal(heir.state()[name], value, err_msg=name)
        heir.load_state(taught(200).state())
        assert not heir.frozen
        assert heir.core.posterior.shared.A_inv.any()

    @pytest.mark.parametrize(
        "knobs",
        [{}, {"candidates": 6}, {"choice": "sample", "alpha": 0.1}, {"choice": "thompson"}, {"user_state": False}],
    )
    def test_a_batch_chooses_as_the_loop_does(self, knobs):
        hare, other = taught(300, **knobs), taught(300, **knobs)
        for one in (hare, other):
            one.remove_items([7])
        rng = np.random.default_rng(5)
        X, users = sphere(rng, 40, 4), rng.integers(0, 9, 40)
        chosen = hare.act_many(X, users)
        assert chosen.tolist() == [other.act(x, user) for x, user in zip(X, users.tolist(), strict=True)]
        assert 7 not in chosen
        assert len(set(chosen.tolist())) > 2
        assert hare.diagnostics() == pytest.approx(other.diagnostics())

    def test_a_batch_of_updates_has_the_loops_posteriors(self):
        hare, other = taught(300, change_threshold=0.0), taught(300, change_threshold=0.0)
        rng = np.random.default_rng(6)
        X, users, rewards = sphere(rng, 50, 4), rng.integers(0, 9, 50), rng.random(50)
        chosen = hare.act_many(X, users)
        hare.update_many(X, users, chosen, rewards)
        for x, user, item, reward in zip(X, users.tolist(), chosen.tolist(), rewards.tolist(), strict=True):
            other.update(x, user, item, reward)
        assert hare.t == other.t == 350
        mine, loops = hare.state(), other.state()
        for name in ("core.shared_theta", "core.shared_A_inv", "core.H", "core.A_u_inv", "replay.r", "replay.x"):
            np.testing.assert_allclose(mine[name], loops[name], rtol=0, atol=1e-10, err_msg=name)
        assert mine["learned.steps"] == loops["learned.steps"]
        assert mine["gate.count"] == loops["gate.count"]

    def test_bad_batches_teach_nothing(self):
        hare = taught(100)
        X, users, items, rewards = sphere(np.random.default_rng(0), 3, 4), np.arange(3), np.arange(3), np.full(3, 0.5)
        before = hare.state()
        bad = np.array([0.5, np.nan, 0.5])
        for error, text, batch in (
            (DataError, r"The reward is nan \(of round 1\)", (X, users, items, bad)),
            (DataError, "A query holds NaN", (X * np.nan, users, items, rewards)),
            (DataError, r"shape \(B, 4\) and users \(B,\), not \(2, 4\) and \(3,\)", (X[:2], users, items, rewards)),
            (DataError, "as many actions and rewards, not 2 and 3", (X, users, items[:2], rewards)),
            (ActionError, "Item 12 is not in the pool", (X, users, items + 10, rewards)),
        ):
            with pytest.raises(error, match=text):
                hare.update_many(*batch)
        for name, value in hare.state().items():
            np.testing.assert_array_equal(before[name], value, err_msg=name)

    def test_a_population_is_played_in_batches(self):
        agent = HAREAgent(**QUICK)
        env = gym.make_vec("HareBilinear-v0", num_envs=16, shared_world=True, horizon=200)
        observations, _ = env.reset(seed=0)
        agent.reset(env.unwrapped.task, np.random.default_rng(0))
        regrets = []
        for _ in range(150):
            actions = agent.act_batch(observations)
            following, rewards, _, _, info = env.step(actions)
            agent.update_batch(observations, actions, rewards)
            observations = following
            regrets.append(np.mean(info["regret"]))
        assert agent.hare.t == 16 * 150
        assert np.mean(regrets[-30:]) < 0.5 * np.mean(regrets[:5])

    def test_sampling_follows_the_probabilities(self):
        hare = taught(100, choice="sample", temperature=0.3)
        x = sphere(np.random.default_rng(0), 4)
        p = hare.probabilities(x, 1)
        drawn = np.bincount([hare.act(x, 1) for _ in range(4000)], minlength=12) / 4000
        np.testing.assert_allclose(drawn, p, atol=0.035)

    def test_alpha_raises_items_of_clusters_never_shown(self):
        hare = taught(0, alpha=5.0, clusters=4)
        x = sphere(np.random.default_rng(0), 4)
        shown = set()
        for _ in range(6):
            item = hare.act(x, 0)
            shown.add(int(hare.pool.cluster[item]))
            hare.update(x, 0, item, 0.5)
        assert shown == {0, 1, 2, 3}

    def test_the_bonus_is_the_posteriors_width_under_the_errors_of_late(self):
        hare = taught(200, posterior_bonus=0.0, cluster_values=False)
        bold = taught(0, posterior_bonus=3.0, cluster_values=False)
        bold.load_state(hare.state())
        x, Y = sphere(np.random.default_rng(0), 4), hare.pool.items
        plain, raised = (h._scores(h.prepare(x, 1), with_one(Y), h.pool.cluster, None) for h in (hare, bold))
        F = np.c_[np.ones(12), Y]
        V = hare.core.belief(x, 1).V
        width = np.sqrt(np.diag(F @ V @ F.T))
        np.testing.assert_allclose(raised - plain, 3.0 * hare.gate.s * width)

    def test_alpha_schedules(self):
        assert taught(99, alpha=0.5, schedule="sqrt").diagnostics()["alpha"] == pytest.approx(0.05)
        assert taught(99, alpha=0.5).diagnostics()["alpha"] == pytest.approx(0.5)
        learned = taught(99, alpha=0.5, schedule="learned").diagnostics()["alpha"]
        assert learned >= 0.0
        assert learned != pytest.approx(0.5)

    def test_diagnostics_tell_what_they_say(self):
        hare = taught(200)
        told = hare.diagnostics()
        _, Sigma = hare.user_state(199 % 5)
        assert told["user_trace"] == pytest.approx(np.trace(Sigma))
        assert told["user_logdet"] == pytest.approx(np.log(np.linalg.det(Sigma)))
        assert told["gate_core"] + told["gate_bayesian"] + told["gate_learned"] == pytest.approx(1.0)
        assert 0.0 < told["attention_entropy"] <= told["attention_entropy_tempered"] <= np.log(12)

    def test_a_copy_of_the_agent_is_its_own(self):
        agent = HAREAgent(**QUICK)
        other = copy.deepcopy(agent)
        play(agent, horizon=60)
        assert not hasattr(other, "spec")


class TestLearning:
    def test_attention_beats_the_core_where_interaction_matters(self):
        regret = {
            name: sum(play(HAREAgent(**knobs), seed=seed, horizon=3000).sum() for seed in (0, 1))
            for name, knobs in {"hare": {}, "core": {"attention": False}}.items()
        }
        assert regret["hare"] < 0.95 * regret["core"]

    def test_the_core_stays_where_the_world_is_linear(self):
        agent = HAREAgent()
        hare = play(agent, "HareLinear-v0", horizon=1500).sum()
        core = play(HAREAgent(attention=False), "HareLinear-v0", horizon=1500).sum()
        assert hare < 1.25 * core

    def test_cluster_values_find_what_no_feature_shows(self):
        # good clusters lie opposite each other, and so do bad ones: nothing linear in y tells them apart
        rng = np.random.default_rng(0)
        pool = np.repeat([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], 5, axis=0)
        pool += 0.01 * rng.standard_normal(pool.shape)
        good = {}
        for known in (True, False):
            hare = HARE(pool, clusters=4, attention=False, cluster_values=known)
            for _ in range(400):
                item = int(rng.integers(20))
                hare.update(sphere(rng, 2), 0, item, 0.7 if item < 10 else 0.2)
            good[known] = np.mean([hare.act(sphere(rng, 2), 0) < 10 for _ in range(100)])
        assert good[True] == 1.0
        assert good[False] < 0.8

    def test_users_who_change_are_learned_anew(self):
        change = {"horizon": 3600, "change_every": 1800}
        agents = {threshold: HAREAgent(change_threshold=threshold) for threshold in (0.0, 8.0)}
        regret = {threshold: play(agent, **change) for threshold, agent in agents.items()}
        assert agents[0.0].hare.restarts == 0
        assert 10 <= agents[8.0].hare.restarts <= 40
        assert regret[8.0][1800:].sum() < 0.75 * regret[0.0][1800:].sum()
        assert regret[8.0][:1800].sum() < 1.1 * regret[0.0][:1800].sum()

    def test_users_matter(self):
        with_state = play(HAREAgent(), horizon=2000)
        without = play(HAREAgent(user_state=False), horizon=2000)
        assert with_state[1000:].sum() < 0.8 * without[1000:].sum()

    def test_synthesis_beats_the_catalogue(self):
        regret = play(HAREAgent(), action_mode="synthesize", horizon=3000)
        assert regret[-300:].mean() < 0.75 * regret[:300].mean()
