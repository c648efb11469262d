"""The network and its agents: gradients against autograd, widths and posteriors against the papers, regret."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from hare_agents._content import best_of, climb
from hare_agents._gradients import Diagonal, Full
from hare_agents._mlp import Learner, MlpConfig, Network, Replay, with_one32
from hare_agents.core_mlp import CoreMLP
from hare_agents.epsilon_greedy_mlp import EpsilonGreedyMLP
from hare_agents.linear import with_one
from hare_agents.linucb import JointLinUCB
from hare_agents.neural_linear import NeuralLinear
from hare_agents.neural_ts import NeuralTS
from hare_agents.neural_ucb import NeuralUCB
from hare_agents.random import Random
from hare_gym import make_environment
from hare_gym.checks import check_agent
from hare_gym.contract import TaskSpec, action_space, nth_observation
from hare_gym.errors import ConfigError, DataError, UnknownNameError

ZOO = [NeuralUCB, NeuralTS, NeuralLinear, EpsilonGreedyMLP, CoreMLP]
SMALL = {"width": 12, "train_every": 7, "train_steps": 3, "batch_size": 8}
q, d, users, m = 3, 2, 4, 6


def task(mode="select", pool=True, items=12):
    vectors = np.random.default_rng(0).standard_normal((items, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    slate_size = 3 if mode == "slate" else 1
    return TaskSpec("Fake-v0", mode, 1000, users, q, d, items, slate_size, pool=vectors if pool else None)


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


def play(agent, spec, rounds, seed=8):
    batch, rng = observations(spec, rounds, seed=9), np.random.default_rng(seed)
    played = []
    for i in range(rounds):
        observation = nth_observation(batch, i)
        action = agent.act(observation)
        agent.update(observation, action, rng.random())
        played.append((observation, action))
    return played


def started(cls, spec, rounds=0, seed=0, **hyperparameters):
    agent = cls(**{**SMALL, **hyperparameters})
    agent.reset(spec, np.random.default_rng(seed))
    play(agent, spec, rounds)
    return agent


def disturbed(network, seed=5):
    """A network away from its start, so that no term of a gradient is zero by symmetry."""
    rng = np.random.default_rng(seed)
    network.theta += 0.3 * rng.standard_normal(network.theta.shape).astype(np.float32)
    network.U += 0.3 * rng.standard_normal(network.U.shape).astype(np.float32)
    return network


def network(seed=0):
    return disturbed(Network(q, d, users, m, np.random.default_rng(seed)))


def torch_parameters(net):
    parameters = (net.W, net.w, net.U)
    return [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in parameters]


def torch_f(parameters, x, user, y):
    """f written out from its features, without any of the shortcuts of `Network`."""
    W, w, U = parameters
    one = torch.ones(1, dtype=torch.float64)
    y1 = torch.cat([one, y])
    shared = torch.outer(torch.cat([one, x]), y1).reshape(-1)
    own = torch.outer(torch.nn.functional.one_hot(torch.tensor(user), len(U)).double(), y1).reshape(-1)
    first = torch.cat([W.reshape(-1, W.shape[-1]), U.reshape(-1, W.shape[-1])])
    return math.sqrt(W.shape[-1]) * (w @ torch.relu(torch.cat([shared, own]) @ first))


def tensor(array):
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def dense_gradient(net, x, user, y):
    """∇f/√m over all parameters (W, w, then every user's U), by autograd."""
    parameters = torch_parameters(net)
    torch_f(parameters, tensor(x), user, tensor(y)).backward()
    return np.concatenate([p.grad.numpy().ravel() for p in parameters]) / math.sqrt(net.shape[-1])


class TestNetwork:
    rng = np.random.default_rng(2)
    x, Y, user = rng.standard_normal(q), rng.standard_normal((7, d)), 2

    def test_it_starts_at_zero(self):
        net = Network(q, d, users, m, np.random.default_rng(0))
        run = net.forward(self.x, self.user, with_one32(self.Y))
        assert np.abs(run.h).max() > 0.1
        assert np.allclose(net.mean(run), 0.0, atol=1e-6)

    def test_values_and_gradients_are_those_of_autograd(self):
        net = network()
        run = net.forward(self.x, self.user, with_one32(self.Y))
        shared, own = net.gradients(run)
        for i, y in enumerate(self.Y):
            parameters = torch_parameters(net)
            content = tensor(y).requires_grad_()
            f = torch_f(parameters, tensor(self.x), self.user, content)
            f.backward()
            W, w, U = (p.grad.numpy() / math.sqrt(m) for p in parameters)
            assert net.mean(run)[i] == pytest.approx(f.item(), abs=1e-5)
            assert np.allclose(net.slope(run)[i], content.grad.numpy(), atol=1e-5)
            assert np.allclose(shared[i], np.concatenate([W.ravel(), w]), atol=1e-5)
            assert np.allclose(own[i], U[self.user].ravel(), atol=1e-5)
            assert not np.delete(U, self.user, axis=0).any()

    def test_loss_gradient_is_that_of_autograd(self):
        net, rng = network(), np.random.default_rng(4)
        X, who, Y, r = (
            rng.standard_normal((9, q)),
            rng.integers(3, size=9),
            rng.standard_normal((9, d)),
            rng.random(9),
        )
        batch = (X.astype(np.float32), who, with_one32(Y), r.astype(np.float32))
        loss, gradient, present, own = net.loss_gradient(batch)
        parameters = torch_parameters(net)
        f = torch.stack([torch_f(parameters, tensor(X[i]), int(who[i]), tensor(Y[i])) for i in range(9)])
        expected = 0.5 * ((f - tensor(r)) ** 2).mean()
        expected.backward()
        W, w, U = (p.grad.numpy() for p in parameters)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        assert np.allclose(gradient, np.concatenate([W.ravel(), w]), atol=1e-5)
        assert present.tolist() == sorted(set(who.tolist()))
        assert np.allclose(own, U[present], atol=1e-5)

    def test_pullback_is_the_derivative_of_the_product(self):
        net = network()
        rng = np.random.default_rng(6)
        run = net.forward(self.x, self.user, with_one32(self.Y))
        shared, own = rng.standard_normal((7, len(net.theta))), rng.standard_normal((7, 3 * m))
        p = net.pullback(run, shared, own)
        a, b = net.gradients(run)
        assert np.allclose(np.vecdot(p, run.Y1), np.vecdot(a, shared) + np.vecdot(b, own), atol=1e-4)
        step = 1e-3
        for axis in range(d):
            moved = with_one32(self.Y)
            moved[:, 1 + axis] += step
            after = net.forward(self.x, self.user, moved)
            smooth = ((after.h > 0.0) == (run.h > 0.0)).all(axis=1)
            a2, b2 = net.gradients(after)
            change = (np.vecdot(a2 - a, shared) + np.vecdot(b2 - b, own)) / step
            assert smooth.sum() > 3 and np.allclose(change[smooth], p[smooth, 1 + axis], atol=2e-2)
        assert np.allclose(net.pullback(run, shared[0], own[0])[0], p[0])

    def test_adam_is_torchs(self):
        config = MlpConfig(width=m, batch_size=1, regularization=1e-12, learning_rate=0.05)
        learner = Learner(task(), config, np.random.default_rng(0))
        net = disturbed(learner.network)
        learner._theta_0[:] = net.theta
        parameters = torch_parameters(net)
        optimiser = torch.optim.Adam(parameters, lr=0.05 / math.sqrt(m))
        rng = np.random.default_rng(3)
        for _ in range(20):
            # every user is in every batch, so that the steps of the users' own parameters agree as well
            X, Y, r = rng.standard_normal((8, q)), rng.standard_normal((8, d)), rng.random(8)
            who = np.arange(8) % users
            learner.replay.add(X[0], 0, Y[0], r[0])
            learner._step((X.astype(np.float32), who, with_one32(Y), r.astype(np.float32)))
            f = torch.stack([torch_f(parameters, tensor(X[i]), int(who[i]), tensor(Y[i])) for i in range(8)])
            optimiser.zero_grad()
            (0.5 * ((f - tensor(r)) ** 2).mean()).backward()
            optimiser.step()
        W, w, U = (p.detach().numpy() for p in parameters)
        assert (
            np.allclose(net.W, W, atol=2e-3) and np.allclose(net.w, w, atol=2e-3) and np.allclose(net.U, U, atol=2e-3)
        )

    def test_a_strong_regularization_holds_the_network_at_its_start(self):
        moved = []
        for regularization in (1e-3, 1e3):
            agent = started(EpsilonGreedyMLP, task(), 200, regularization=regularization, train_steps=20)
            moved.append(np.abs(agent.network.theta - agent.learner._theta_0).mean())
        assert moved[1] < 0.3 * moved[0]

    def test_it_learns_an_interaction_of_user_and_content(self):
        spec = task()
        learner = Learner(spec, MlpConfig(width=32), np.random.default_rng(0))
        rng = np.random.default_rng(1)
        signs = np.array([1.0, -1.0, 1.0, -1.0])
        for _ in range(1500):
            observation = {"query": rng.standard_normal(q), "user": rng.integers(users)}
            y = spec.pool[rng.integers(12)]
            learner.keep(observation, y, 0.5 + 0.4 * signs[observation["user"]] * y[0])
            learner.train_when_due(rng)
        assert learner.loss < 0.1 * 0.5 * 0.4**2 * np.mean(spec.pool[:, 0] ** 2)


class TestReplay:
    def test_it_grows_wraps_and_goes_round(self):
        replay = Replay(1, 1, 600)
        for i in range(1000):
            replay.add(np.array([i]), i, np.array([i]), i)
        assert len(replay) == 600 and replay.count == 1000
        assert sorted(replay.user[:600].tolist()) == list(range(400, 1000))
        other = Replay(1, 1, 600)
        other.load_state(replay.state())
        for r in (replay, other):
            r.add(np.array([7.0]), 7, np.array([7.0]), 7.0)
        assert all(np.array_equal(value, other.state()[name]) for name, value in replay.state().items())

    def test_bad_features_are_refused_and_not_kept(self):
        replay = Replay(1, 1, 10)
        with pytest.raises(DataError, match="NaN or infinity"):
            replay.add(np.array([np.nan]), 0, np.array([1.0]), 0.5)
        assert len(replay) == 0


class TestCovariance:
    def both(self, rounds=25):
        """A full and a diagonal Z, and the same by autograd, over a history in which the network moves."""
        rng = np.random.default_rng(3)
        net = network()
        ridge = 0.7
        full, diagonal = Full(net, ridge), Diagonal(net, ridge)
        size = len(net.theta) + net.U.size
        Z = ridge * np.eye(size)
        for t in range(rounds):
            x, y, user = rng.standard_normal(q), rng.standard_normal(d), int(rng.integers(3))
            if t % 5 == 0:
                disturbed(net, seed=t)
            run = net.forward(x, user, with_one32(y[None]))
            full.add(run)
            diagonal.add(run)
            g = dense_gradient(net, x, user, y)
            Z += np.outer(g, g)
        return net, full, diagonal, Z

    @pytest.mark.parametrize("user", [0, 1, 3])
    def test_variances_are_those_of_the_papers_matrix(self, user):
        net, full, diagonal, Z = self.both()
        rng = np.random.default_rng(8)
        x, Y = rng.standard_normal(q), rng.standard_normal((6, d))
        run = net.forward(x, user, with_one32(Y))
        G = np.stack([dense_gradient(net, x, user, y) for y in Y])
        assert np.allclose(full.variance(run), np.vecdot(G @ np.linalg.inv(Z), G), rtol=1e-4)
        assert np.allclose(diagonal.variance(run), (G**2 / np.diag(Z)).sum(axis=1), rtol=1e-4)

    def test_the_diagonal_form_is_the_diagonal_of_the_full_one(self):
        _, full, diagonal, Z = self.both()
        P = full.posterior.shared_dim
        posterior = full.posterior
        shared = np.diag(posterior.shared.A).copy()
        for group in posterior.groups:
            slot = posterior.slot(group)
            H = posterior.H[slot, :, :-1]
            shared += np.diag(H.T @ posterior._A_u[slot] @ H)
            assert np.allclose(np.diag(posterior._A_u[slot]), 0.7 + diagonal.own[group].ravel(), rtol=1e-6)
        assert np.allclose(shared, diagonal.shared, rtol=1e-6)
        assert np.allclose(diagonal.shared, np.diag(Z)[:P], rtol=1e-5)
        assert np.allclose(0.7 + diagonal.own.ravel(), np.diag(Z)[P:], rtol=1e-5)

    @pytest.mark.parametrize("which", [1, 2])
    def test_slope_is_half_the_gradient_of_the_variance(self, which):
        found = self.both()
        net, Z = found[0], found[which]
        rng = np.random.default_rng(8)
        x, Y, step = rng.standard_normal(q), rng.standard_normal((6, d)), 1e-3
        run = net.forward(x, 1, with_one32(Y))
        p = Z.slope(run)
        assert np.allclose(np.vecdot(p, run.Y1), Z.variance(run), rtol=1e-4)
        for axis in range(d):
            up, down = with_one32(Y), with_one32(Y)
            up[:, 1 + axis] += step
            down[:, 1 + axis] -= step
            ahead, behind = net.forward(x, 1, up), net.forward(x, 1, down)
            smooth = ((ahead.h > 0.0) == (behind.h > 0.0)).all(axis=1)
            change = (Z.variance(ahead) - Z.variance(behind)) / (2 * step)
            assert smooth.sum() > 3 and np.allclose(change[smooth], 2.0 * p[smooth, 1 + axis], atol=2e-2)

    @pytest.mark.parametrize("which", [1, 2])
    def test_draws_have_the_inverse_as_covariance(self, which):
        found = self.both()
        net, Z = found[0], found[which]
        rng = np.random.default_rng(8)
        run = net.forward(rng.standard_normal(q), 1, with_one32(rng.standard_normal((4, d))))
        shared, own = net.gradients(run)
        draws = []
        for _ in range(3000):
            a, b = Z.draw(1, rng)
            draws.append(shared @ a + own @ b)
        # a sample variance of 3,000 normal draws has a relative standard deviation of 2.6%
        assert np.allclose(np.var(draws, axis=0), Z.variance(run), rtol=0.13)
        assert np.allclose(np.mean(draws, axis=0), 0.0, atol=0.1 * np.sqrt(Z.variance(run)).max())

    def test_a_full_covariance_that_is_too_large_is_refused(self):
        agent = NeuralUCB(covariance="full", width=2000)
        with pytest.raises(ConfigError, match=r"covariance='full' of 26000 parameters is too large: use width=314"):
            agent.reset(task(), np.random.default_rng(0))
        NeuralUCB(covariance="full", width=314).reset(task(), np.random.default_rng(0))


class TestNeuralUCB:
    @pytest.mark.parametrize("kind", ["full", "diagonal"])
    def test_it_is_the_papers_algorithm(self, kind):
        spec = task()
        agent = started(NeuralUCB, spec, covariance=kind, gamma=0.3, regularization=0.5, width=m)
        Z = 0.5 * np.eye(len(agent.network.theta) + agent.network.U.size)
        batch, rng = observations(spec, 40), np.random.default_rng(1)
        for i in range(40):
            observation = nth_observation(batch, i)
            x, user = observation["query"], int(observation["user"])
            G = np.stack([dense_gradient(agent.network, x, user, y) for y in spec.pool])
            parameters = torch_parameters(agent.network)
            f = np.array([torch_f(parameters, tensor(x), user, tensor(y)).item() for y in spec.pool])
            inverse = np.linalg.inv(Z) if kind == "full" else np.diag(1.0 / np.diag(Z))
            bounds = f + 0.3 * np.sqrt(np.vecdot(G @ inverse, G))
            action = agent.act(observation)
            assert bounds[action] == pytest.approx(bounds.max(), abs=1e-4)
            Z += np.outer(G[action], G[action])
            agent.update(observation, action, rng.random())

    @pytest.mark.parametrize("kind", ["full", "diagonal"])
    def test_synthesis_is_at_least_as_optimistic_as_every_item(self, kind):
        agent = started(NeuralUCB, task("synthesize"), 60, covariance=kind, gamma=0.5)
        batch = observations(agent.spec, 20)
        gains, missed = [], []
        for i in range(20):
            observation = nth_observation(batch, i)
            y = agent.act(observation)
            assert np.linalg.norm(y) <= 1.0 + 1e-6
            scores = agent._slope(observation, np.vstack([y, agent.spec.pool]))[0]
            assert scores[0] >= scores[1:].max() - 1e-4
            gains.append(scores[0] - scores[1:].max())
            grid = np.random.default_rng(0).standard_normal((500, d))
            grid /= np.linalg.norm(grid, axis=1, keepdims=True)
            missed.append(agent._slope(observation, grid)[0].max() - scores[0])
        # a climb is local, and the score has a kink at each hidden unit: most of what can be gained, not all
        assert np.mean(gains) > 1e-3 and np.mean(missed) < 0.5 * np.mean(gains)


class TestNeuralTS:
    @pytest.mark.parametrize("kind", ["full", "diagonal"])
    def test_items_are_drawn_with_the_papers_variance(self, kind):
        spec = task(items=2)
        agent = started(NeuralTS, spec, 40, covariance=kind, nu=0.5, regularization=0.5)
        batch = observations(spec, 3)
        for i in range(3):
            observation = nth_observation(batch, i)
            run = agent.network.forward(observation["query"], int(observation["user"]), with_one32(spec.pool))
            sigma = 0.5 * np.sqrt(0.5 * agent.U.variance(run))
            gap = np.diff(agent.network.mean(run))[0]
            chance = 0.5 * (1.0 + math.erf(gap / math.hypot(*sigma) / math.sqrt(2.0)))
            draws = np.array([agent.act(observation) for _ in range(3000)])
            # five standard deviations of a count
            assert abs(draws.mean() - chance) <= 5.0 * math.sqrt(chance * (1.0 - chance) / 3000) + 1e-9

    @pytest.mark.parametrize("kind", ["full", "diagonal"])
    def test_the_drawn_function_has_the_papers_variance_at_each_content(self, kind):
        agent = started(NeuralTS, task("synthesize"), 40, covariance=kind, nu=0.5, regularization=0.5)
        observation = nth_observation(observations(agent.spec, 1), 0)
        run = agent._forward(observation, with_one32(agent.spec.pool))
        rng = np.random.default_rng(2)
        draws = [agent._drawn(run, agent.U.draw(run.user, rng))[0] for _ in range(2000)]
        assert np.allclose(np.var(draws, axis=0), 0.5**2 * 0.5 * agent.U.variance(run), rtol=0.16)
        assert np.allclose(np.mean(draws, axis=0), agent.network.mean(run), atol=0.15 * np.std(draws, axis=0).max())


class TestNeuralLinear:
    @pytest.mark.parametrize("rounds", [5, 14, 33])
    def test_the_posterior_is_that_of_bayesian_linear_regression(self, rounds):
        agent = started(NeuralLinear, task(), rounds, ridge=0.4, a_0=3.0, b_0=0.2)
        replay, net = agent.learner.replay, agent.network
        Z = np.ones((rounds, 1 + 12))
        for i in range(rounds):
            phi = np.outer(np.append(1.0, replay.x[i]), replay.Y1[i]).ravel() @ net.W.reshape(-1, 12).astype(float)
            Z[i, 1:] = np.maximum(phi + replay.Y1[i] @ net.U[replay.user[i]], 0.0)
        r = replay.r[:rounds].astype(float)
        precision = 0.4 * np.eye(13) + Z.T @ Z
        mu = np.linalg.solve(precision, Z.T @ r)
        a, b = agent.noise
        assert np.allclose(agent.posterior.theta, mu, atol=1e-5)
        assert np.allclose(agent.posterior.A_inv, np.linalg.inv(precision), atol=1e-5)
        assert a == 3.0 + rounds / 2
        assert b == pytest.approx(0.2 + 0.5 * (r @ r - mu @ precision @ mu), rel=1e-4)

    def test_draws_have_the_posteriors_moments(self):
        agent = started(NeuralLinear, task(), 60)
        a, b = agent.noise
        draws = np.array([agent.draw() for _ in range(6000)])
        covariance = b / (a - 1.0) * agent.posterior.A_inv
        assert np.allclose(draws.mean(axis=0), agent.posterior.theta, atol=5.0 * np.sqrt(np.diag(covariance) / 6000))
        assert np.allclose(draws.var(axis=0), np.diag(covariance), rtol=0.15)
        assert np.allclose(np.cov(draws.T), covariance, atol=0.1 * np.diag(covariance).max())


class TestEpsilonGreedyMLP:
    def test_probabilities_are_those_of_the_actions(self):
        spec = task()
        agent = started(EpsilonGreedyMLP, spec, 40, epsilon=0.4)
        observation = nth_observation(observations(spec, 1), 0)
        chances = agent.probabilities(observation)
        observed = np.bincount([agent.act(observation) for _ in range(3000)], minlength=12) / 3000
        assert chances.sum() == pytest.approx(1.0)
        assert np.sort(chances)[-1] == pytest.approx(0.6 + 0.4 / 12)
        assert np.all(np.abs(observed - chances) <= 5.0 * np.sqrt(chances * (1.0 - chances) / 3000))

    def test_epsilon_decays(self):
        agent = started(EpsilonGreedyMLP, task(), 99, epsilon=0.5, decay=0.5)
        assert agent.epsilon == pytest.approx(0.05)


class TestCoreMLP:
    @pytest.mark.parametrize("mode", ["select", "slate", "synthesize"])
    @pytest.mark.parametrize("pool", [True, False])
    def test_with_the_gate_shut_it_is_the_core(self, mode, pool):
        spec = task(mode, pool)
        agent, core = started(CoreMLP, spec, gate="shut", alpha=0.7), JointLinUCB(alpha=0.7)
        core.reset(spec, np.random.default_rng(0))
        batch, rng = observations(spec, 120), np.random.default_rng(1)
        for i in range(120):
            observation = nth_observation(batch, i)
            if i:  # the first round is a tie, drawn at random
                assert np.array_equal(agent.act(observation), core.act(observation))
            action, reward = core.act(observation), rng.random()
            agent.update(observation, action, reward)
            core.update(observation, action, reward)
        assert np.abs(agent.network.theta - agent.learner._theta_0).max() > 1e-3  # the network learned all the same

    def test_with_the_gate_open_the_score_is_the_sum(self):
        agent = started(CoreMLP, task(), 60, gate="open", alpha=0.7)
        observation = nth_observation(observations(agent.spec, 1), 0)
        x, user = observation["query"], int(observation["user"])
        belief = agent.core.belief(x, user)
        u = agent.core.posterior.mean(user) * agent._user_scale
        W, w = agent.network.W.astype(float), agent.network.w.astype(float)
        for y, score in zip(agent.spec.pool, agent._scores(observation, *self.items(agent))[0], strict=True):
            phi = np.outer(np.concatenate([[1.0], x, u]), np.append(1.0, y)).ravel()
            residual = math.sqrt(12) * w @ np.maximum(phi @ W.reshape(len(phi), -1), 0.0)
            core = belief.mean(with_one(y[None]))[0] + 0.7 * belief.width(with_one(y[None]))[0]
            assert score == pytest.approx(core + residual, abs=1e-4)

    def items(self, agent):
        return with_one(agent.spec.pool), with_one32(agent.spec.pool)

    def test_the_network_is_taught_what_the_core_leaves_over(self):
        agent = started(CoreMLP, task(), 60)
        contexts, _, _, left = agent._batch(np.array([3, 50, 3, 17]))
        replay = agent.learner.replay
        for row, i in enumerate([3, 50, 3, 17]):
            user = int(replay.user[i])
            belief = agent.core.belief(replay.x[i].astype(float), user)
            mean = belief.mean(replay.Y1[i][None].astype(float))[0]
            assert left[row] == pytest.approx(replay.r[i] - mean, abs=1e-5)
            assert np.allclose(contexts[row, q:], agent.core.posterior.mean(user) * agent._user_scale, atol=1e-5)

    def test_the_gate_opens_where_the_network_predicts_better(self):
        agent = started(CoreMLP, task(), gate_memory=100.0, width=32, regularization=0.1)
        rng = np.random.default_rng(1)
        gates = []
        for _ in range(1500):
            observation = {"query": rng.standard_normal(q), "user": rng.integers(users)}
            action = int(rng.integers(12))
            agent.update(observation, action, 0.9 * float(abs(agent.spec.pool[action, 0]) > 0.6))
            gates.append(agent.gate)
        assert gates[0] == 0.0 and np.mean(gates[-200:]) > 0.9

    def test_the_gate_stays_shut_in_a_linear_world(self):
        agent = started(CoreMLP, task())
        rng = np.random.default_rng(1)
        gates = []
        for _ in range(1000):
            observation = {"query": rng.standard_normal(q), "user": rng.integers(users)}
            action = int(rng.integers(12))
            mean = 0.5 + 0.2 * agent.spec.pool[action, 0]
            agent.update(observation, action, float(np.clip(mean + 0.15 * rng.standard_normal(), 0.0, 1.0)))
            gates.append(agent.gate)
        assert np.mean(gates[-400:]) < 0.1


CASES = [(cls, mode, pool) for cls in ZOO for mode in ("select", "slate", "synthesize") for pool in (True, False)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("cls", "mode", "pool"), CASES)
class TestEveryAgent:
    def test_actions_are_valid_and_acting_changes_nothing(self, cls, mode, pool):
        spec = task(mode, pool)
        agent = started(cls, spec, 40)
        before = agent.state()
        batch = observations(spec, 15)
        for i in range(15):
            observation = nth_observation(batch, i)
            action = agent.act(observation)
            assert action_space(spec).contains(action)
            if "pool_mask" in observation and mode != "synthesize":
                assert observation["pool_mask"][action].all()
            chances = agent.probabilities(observation)
            if chances is not None:
                assert mode == "select" and chances[action] > 0.0 and chances.sum() == pytest.approx(1.0)
                assert not chances[observation.get("pool_mask", np.ones(12)) == 0].any()
        assert all(np.array_equal(value, before[key]) for key, value in agent.state().items())
        assert all(np.isfinite(value) for value in agent.diagnostics().values())

    def test_state_goes_round_bit_for_bit(self, cls, mode, pool):
        spec = task(mode, pool)
        agent, other = started(cls, spec, 45), started(cls, spec, seed=1)
        other.load_state(agent.state())
        agent.rng, other.rng = np.random.default_rng(3), np.random.default_rng(3)
        batch = observations(spec, 40)
        for i in range(40):
            observation = nth_observation(batch, i)
            actions = agent.act(observation), other.act(observation)
            assert np.array_equal(*actions)
            agent.update(observation, actions[0], 0.3)
            other.update(observation, actions[1], 0.3)
        assert agent.state().keys() == other.state().keys()
        assert all(np.array_equal(value, other.state()[key]) for key, value in agent.state().items())


@pytest.mark.parametrize("cls", ZOO)
class TestEachAgent:
    def test_it_keeps_the_contract(self, cls):
        check_agent(cls())

    def test_it_beats_random(self, cls):
        assert regret(cls()) < 0.9 * regret(Random())

    def test_bad_rewards_and_queries_are_refused_and_nothing_is_learned(self, cls):
        spec = task()
        agent = started(cls, spec, 20)
        before = agent.state()
        good = nth_observation(observations(spec, 1), 0)
        bad = {**good, "query": np.array([0.0, np.nan, 0.0])}
        with pytest.raises(DataError, match="reward must be a finite number"):
            agent.update(good, 0, math.nan)
        with pytest.raises(DataError, match="NaN or infinity"):
            agent.update(bad, 0, 0.5)
        with pytest.raises(DataError, match="NaN or infinity"):
            agent.act(bad)
        assert all(np.array_equal(value, before[key]) for key, value in agent.state().items())
        other = started(cls, task("synthesize"), 20)
        with pytest.raises(DataError, match="NaN or infinity"):
            other.act(bad)

    def test_bad_hyperparameters_are_refused(self, cls):
        with pytest.raises(ConfigError, match="width must be even, not 5"):
            cls(width=5)
        with pytest.raises(UnknownNameError, match="Did you mean 'learning_rate'"):
            cls(learning_rte=0.1)

    def test_states_of_another_width_are_refused(self, cls):
        state = started(cls, task(), 10, width=14).state()
        with pytest.raises(DataError, match="of other dimensions"):
            started(cls, task()).load_state(state)
        state = started(cls, task(), 10).state()
        name = next(name for name in state if name.endswith("theta_0"))
        del state[name]
        with pytest.raises(DataError, match="no array 'theta_0'"):
            started(cls, task()).load_state(state)

    def test_the_search_space_names_knobs_and_admitted_values(self, cls):
        names = {field.name for field in dataclasses.fields(cls().config)}
        for name, knob in cls.search_space.items():
            assert name in names
            values = knob["values"] if knob["type"] == "choice" else [knob["low"], knob["high"]]
            for value in values:
                assert getattr(cls(**{name: value}).config, name) == value
        json.dumps(cls.search_space)

    def test_seeds_decide_everything(self, cls):
        spec = task()
        runs = [[action for _, action in play(started(cls, spec, seed=s), spec, 60)] for s in (0, 0, 1)]
        assert runs[0] == runs[1] != runs[2]


def regret(agent, rounds=1500, env_id="HareBilinear-v0"):
    env = make_environment(env_id, horizon=rounds)
    observation, _ = env.reset(seed=11)
    agent.reset(env.unwrapped.task, np.random.default_rng(12))
    total = 0.0
    for _ in range(rounds):
        action = agent.act(observation)
        following, reward, _, _, info = env.step(action)
        agent.update(observation, action, reward)
        total, observation = total + info["regret"], following
    return total


class TestClimb:
    def test_it_finds_the_optimum_inside_and_on_the_ball(self):
        for centre in (np.array([0.3, -0.2]), np.array([3.0, 4.0])):

            def score(Y, centre=centre):
                return -np.square(Y - centre).sum(axis=1), -2.0 * (Y - centre)

            y = climb(score, np.array([[-1.0, 0.0], [0.0, 5.0]]), 60)
            assert np.allclose(y, centre / max(1.0, np.linalg.norm(centre)), atol=0.02)

    def test_it_never_ends_below_a_start(self):
        starts = np.array([[0.6, 0.8], [-1.0, 0.0]])
        y = climb(lambda Y: (np.sin(40.0 * Y[:, 0]), np.ones_like(Y)), starts, 5)
        assert math.sin(40.0 * y[0]) >= np.sin(40.0 * starts[:, 0]).max()

    def test_best_of_takes_usable_items_in_order(self):
        items, scores = np.arange(5.0)[:, None], np.array([1.0, np.nan, 3.0, 2.0, 9.0])
        usable = np.array([True, False, True, True, False])
        assert best_of(items, scores, usable, 2).ravel().tolist() == [2.0, 3.0]
        with pytest.raises(DataError, match="No item can be used"):
            best_of(items, scores, np.zeros(5, dtype=bool), 2)


def test_the_agents_do_not_import_torch():
    modules = ["neural_ucb", "neural_ts", "neural_linear", "epsilon_greedy_mlp", "core_mlp", "rag"]
    code = f"import sys\nfor name in {modules}: __import__('hare_agents.' + name)\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
