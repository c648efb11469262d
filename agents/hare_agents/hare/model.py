"""HARE itself, without the gym: Bayesian user states, attention heads, a gate, and a knowledge pool."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.hare.attention import attention, entropy
from hare_agents.hare.bayesian_head import BayesianHead
from hare_agents.hare.changes import Changes
from hare_agents.hare.config import HAREConfig
from hare_agents.hare.gate import Gate
from hare_agents.hare.ideals import Ideals
from hare_agents.hare.knowledge import Indices, KnowledgePool
from hare_agents.hare.learned_heads import LearnedHeads
from hare_agents.hare.replay import Replay
from hare_agents.hare.synthesis import Decoder, explore, unit
from hare_agents.hare.user_state import CoreModel
from hare_agents.items import Mask, best_item, greedy_probabilities, top_items
from hare_agents.linear import Array, Belief, take_array, with_one
from hare_agents.thompson import draw
from hare_gym.config import configure
from hare_gym.errors import ActionError, ConfigError, DataError

OWNER = "agent 'hare'"
FORMAT = 2

# Gradient steps before a learned head may be believed.
_FIRST_STEPS = 20
# Step of the meta-gradient of alpha, and the share of the baseline that a round renews.
_META_STEP = 0.02
_SYNTHESIS_HALF = 500.0
_CLIMB = 6
# Contents that are compared between the heads' optimum and that for an ideal point, ends included.
_BETWEEN = 5
_NO_USER = 0
# Users of a batch whose beliefs are computed at once, and scores: more would not stay in the processor's caches.
_TOGETHER = 64
_SCORES = 16_384


@dataclass(slots=True)
class Round:
    """What the heads make of one query of one user.

    Attributes:
        key: User, query and the number of rounds learned when it was made.
        x: The query, ``(q,)``.
        user: Whose it is.
        belief: The core's.
        q_0: The Bayesian head's query, ``(d,)``.
        parts: What q_0 is made of, ``(1 + r, d)``.
        F: What the heads expect, as functions of content, ``(2 + M, 1 + d)``: F [1; y] holds the expected rewards of
            the core and the Bayesian head, and the exponents of the learned heads' links.
    """

    key: tuple[int, bytes, int]
    x: Array
    user: int
    belief: Belief
    q_0: Array
    parts: Array
    F: Array


@dataclass(slots=True)
class Rounds:
    """B rounds that begin together: `Round`, each field with a leading axis B. ``rounds[b]`` is one of them."""

    key: tuple[bytes, bytes, int]
    x: Array
    user: NDArray[np.int64]
    belief: Belief
    q_0: Array
    parts: Array
    F: Array

    def __getitem__(self, b: int) -> Round:
        user, x, (m, V) = int(self.user[b]), self.x[b], self.belief
        return Round(
            (user, x.tobytes(), self.key[2]), x, user, Belief(m[b], V[b]), self.q_0[b], self.parts[b], self.F[b]
        )


class HARE:
    """Hybrid Attention-Reinforced Exploration over a pool of items, for any number of users.

    ::

        hare = HARE(pool)                       # (N, d) item vectors, any query of the same length
        item = hare.act(query, user)
        hare.update(query, user, item, reward)  # a reward in [0, 1], at once or later
        hare.save("hare.npz")
        hare = HARE.load("hare.npz")

    A round, for query x and user u, with the heads' queries q_h and the gate's weights w_h::

        core      r_0(y) = N([1; y]ᵀm - kappa |y|², sigma² [1; y]ᵀV[1; y])  exact Bayesian; u_t = theta_u, Sigma_u
        Bayesian  r_1(y) = c + q_1·y - kappa |y|²,     q_1 = W_Q ([1, x] ⊗ [1, e_u]) + likeness x
        learned   r_h(y) = link(q_h·W_K y / |q_h|),   q_h = gamma q_1 + residual(x, e_u)
        v_j       = mean of the cluster's r - sum_h w_h r_h(y), of late and shrunk
        U_j       = √(q̂ᵀ Sigma_j⁻¹ q̂) for the item's cluster j
        ideal     r_i(y) = exp(min(a + lambda x·y - |y - h|²_w / 2, 0)),  h drawn anew; only with `ideals`
        score(y)  = sum_h w_h (r_h(y) + alpha_h U_j) + v_j + beta s √([1; y]ᵀV[1; y])
        A         = softmax(score / tau / √(1 + π/8 variance / tau²)), the variance being the items' mean

    and it shows argmax score, or draws from A, or synthesizes. All calls take a lock, so that threads may share one.

    A user whose rewards keep falling short of what was expected has changed, and begins anew as a new user: see
    `restart` and `hare_agents.hare.changes`.

    Memory per user: 8 (2d(d + k + 1) + d² + r² + r + 1 + ideals) bytes with k = 1 + (q + 1)d, see `bytes_per_user`;
    none for users never seen. A user's past life takes as much while its rounds are remembered.

    Args:
        pool: Item vectors, ``(N, d)``; item k has the id k.
        query_dim: Length of queries; d by default.
        seed: Of its randomness: an int or a Generator.
        knobs: See `HAREConfig`.

    Raises:
        UnknownNameError: A knob that does not exist.
        ConfigError: A knob out of range.
        DataError: A pool that is not a finite matrix.
    """

    def __init__(
        self, pool: Array, query_dim: int | None = None, seed: int | np.random.Generator = 0, **knobs: Any
    ) -> None:
        self.config: HAREConfig = configure(HAREConfig, knobs, OWNER)
        c = self.config
        if c.freeze_at != int(c.freeze_at):
            raise ConfigError(
                f"{OWNER}: freeze_at is {c.freeze_at}, a share of a session, and only the gym knows how long one is. "
                "Give the number of a round, or call freeze()."
            )
        self.rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
        self.pool = KnowledgePool(pool, c.clusters, c.candidates, self.rng)
        d = self.content_dim = self.pool.dim
        q = self.query_dim = d if query_dim is None else query_dim
        self._query_shape, self._content_shape = (q,), (d,)
        self._y1: Array = np.ones(1 + d)
        for knob in ("likeness", "ideals"):
            if getattr(c, knob) and q != d:
                raise ConfigError(
                    f"{OWNER}: {knob} compares queries with contents, which must then have one length, not {q} and "
                    f"{d}. Use {knob}=0."
                )
        self.core = CoreModel(q, d, c.ridge, c.user_ridge, c.likeness, c.curvature)
        self.bayesian = BayesianHead(q, d, c.rank, c.ridge, c.warmup, c.likeness, c.curvature)
        self.learned = LearnedHeads(q, d, c.rank, c.hidden, c.heads if c.attention else 0, self.rng)
        self.replay = Replay(q, d, c.memory)
        self.ideals = Ideals(self.pool.items, c.ideals, c.ideal_width, self.rng) if c.ideals else None
        heads = 2 + self.learned.count
        self.gate = Gate(heads) if self.ideals is None else Gate(heads + 1, first=heads)
        self.changes = Changes(c.change_threshold)
        self.decoder = Decoder(d)
        self.alpha: Array = np.full(len(self.gate.w), c.alpha)
        self._explores = c.alpha > 0.0 or c.schedule == "learned"
        self._admit()
        self.frozen = False
        self.t = self.restarts = 0
        self._next_prior = 64
        self._round: Round | None = None
        self._rounds: Rounds | None = None
        self._shown: tuple[Array, Array, Belief] | None = None
        self._meta: Array | None = None
        self._pair: tuple[Array, Array] | None = None
        self._last_user: int | None = None
        self._lock = RLock()

    # -- a round ---------------------------------------------------------------------------------------------

    def act(self, query: Array, user: int) -> int:
        """The id of the item to show.

        Args:
            query: ``(query_dim,)``.
            user: Any integer; a new one starts from the population's prior.

        Raises:
            DataError: The query is not finite or not of its length.
        """
        with self._lock:
            return int(self.choose(self.prepare(query, user)))

    def act_slate(self, query: Array, user: int, size: int) -> NDArray[np.int64]:
        """The ids of the ``size`` items to show, best first; raises as `act` does."""
        with self._lock:
            return np.asarray(self.choose(self.prepare(query, user), size), dtype=np.int64)

    def act_many(self, queries: Array, users: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The items to show to B users: those that `act` would choose one after the other.

        All beliefs come from a few matrix products. Small pools are scored for many users at once too; a pool that is
        searched has other candidates for everyone.

        Args:
            queries: ``(B, query_dim)``.
            users: ``(B,)``.

        Returns:
            Ids, ``(B,)``.

        Raises:
            DataError: Queries that are not finite or not of their length, or not as many as users.
        """
        with self._lock:
            return self.choose_many(self.prepare_many(queries, users))

    def choose_many(self, rounds: Rounds) -> NDArray[np.int64]:
        """Chooses among the pool for B rounds."""
        c, size = self.config, len(rounds.user)
        chosen = np.empty(size, dtype=np.int64)
        if c.choice != "argmax" or self._explores or self.pool.searched or self.ideals is not None:
            for b in range(size):
                chosen[b] = self.choose(rounds[b])
            return chosen
        Y, usable = self.pool.all_items()
        step = max(1, _SCORES // len(Y))
        for start in range(0, size, step):
            part = slice(start, start + step)
            scores = self._expected(rounds.F[part], Y)
            if c.posterior_bonus:
                scores += _width(rounds.belief.V[part], Y, c.posterior_bonus * self.gate.s)
            if c.cluster_values and self.pool.clusters.gain > 0.0:
                scores += self.pool.clusters.values[self.pool.cluster]
            if usable is not None:
                scores[:, ~usable] = -np.inf
            best = scores.argmax(axis=1)
            top = np.take_along_axis(scores, best[:, None], axis=1)
            for b in np.flatnonzero(((scores == top).sum(axis=1) != 1) | ~np.isfinite(top[:, 0])).tolist():
                best[b] = best_item(scores[b], usable, self.rng)
            chosen[part] = best
        kept = slice(None) if usable is None else usable
        self._shown = scores[-1, kept], Y[kept], rounds[size - 1].belief
        return chosen

    def choose(
        self, round: Round, slate: int | None = None, items: Array | None = None, usable: Mask | None = None
    ) -> Any:
        """Chooses among the pool, or among ``items`` of which ``usable`` can be used."""
        drawn, wish = self._drawn(round), self._wish(round)
        ids, Y, clusters, usable = self._look(round, items, usable, drawn, wish)
        scores = self._scores(round, Y, clusters, drawn, wish)
        if self.config.choice == "sample" and slate is None:
            A = self._attention(round, scores, Y, usable)
            chosen: Any = int(self.rng.choice(len(A), p=A))
        elif slate is None:
            chosen = _best(scores, usable, self.rng)
        else:
            chosen = top_items(scores, slate, usable, self.rng)
        if self.config.schedule == "learned" and slate is None:
            self._meta = self._meta_gradient(round, scores, Y, clusters, usable, chosen)
        self._shown = (scores, Y, round.belief) if usable is None else (scores[usable], Y[usable], round.belief)
        return chosen if ids is None else ids[chosen]

    def synthesize(self, query: Array, user: int) -> Array:
        """New content for this user and query, ``(d,)``, of length at most one; raises as `act` does."""
        with self._lock:
            return self.compose(self.prepare(query, user))

    def compose(self, round: Round, items: Array | None = None, usable: Mask | None = None) -> Array:
        """As `synthesize`, over the pool or over ``items`` of which ``usable`` can be used."""
        drawn, wish = self._drawn(round), self._wish(round)
        _, Y, clusters, usable = self._look(round, items, usable, drawn, wish)
        if usable is not None:
            Y, clusters = Y[usable], clusters[usable]
        scores = self._scores(round, Y, clusters, drawn, wish)
        self._shown = scores, Y, round.belief
        kind = self.config.synthesis
        z = None if kind == "optimum" else self._attention(round, scores, Y, None) @ Y[:, 1:]
        if kind == "blend":
            return np.asarray(z)
        if kind == "normalised":
            y = unit(z - Y[:, 1:].mean(axis=0))
        else:
            y = self._optimum(round, Y[int(scores.argmax()), 1:])
            if wish is not None:
                y = self._between(round, y, drawn, wish)
        if kind == "decoded":
            assert z is not None
            self._pair, y = (z, y), self.decoder(z)
        step = self.config.synthesis_noise / (1.0 + self.t / _SYNTHESIS_HALF) ** 0.5
        return explore(y, step, self.rng) if step else np.asarray(y)

    def _optimum(self, round: Round, y: Array) -> Array:
        """The best content in the unit ball by the items' own score, U_j aside.

        The score is the mixture plus the core's bonus. Each step takes the best content under -(w_0 + w_1) kappa |y|²
        plus what is left, linearised at y: with kappa = 0 the direction of its gradient. Where what is left is convex
        (linear heads, the bonus), no step lowers the score, see `hare_agents.linucb.most_optimistic`; the link is
        not, so this is a climb of a few steps.
        """
        w, bonus = self.gate.w[: len(round.F)], self._bonus
        twice = 2.0 * float(w[:2].sum()) * self.config.curvature
        V = round.belief.V
        fixed, Q = w[:2] @ round.F[:2, 1:], self._learned_queries(round)
        for _ in range(_CLIMB):
            gradient = fixed
            if len(Q):
                gradient = gradient + (w[2:] * self.learned.slope((Q @ y)[:, None])[:, 0]) @ Q
            if bonus:
                Vy = V[1:, 1:] @ y + V[0, 1:]
                width = float(np.sqrt(max(y @ Vy + V[0, 1:] @ y + V[0, 0], 1e-300)))
                gradient = gradient + (bonus / width) * Vy
            length = float(np.sqrt(gradient @ gradient)) if twice else 0.0
            y = gradient / twice if length < twice else unit(gradient)
        return y

    def _between(self, round: Round, y: Array, drawn: Array | None, wish: Array) -> Array:
        """The best content by the score on the way from the heads' optimum ``y`` to that for the ideal point."""
        assert self.ideals is not None
        share = np.linspace(0.0, 1.0, _BETWEEN)[:, None]
        Y = (1.0 - share) * y + share * self.ideals.best(round.x, wish)
        scores = self._scores(round, with_one(Y), self.pool.clusters.assign(Y), drawn, wish)
        return np.asarray(Y[int(scores.argmax())])

    @property
    def _bonus(self) -> float:
        """Deviations of the core's posterior that a score gains, times that of the noise; none for ideal points."""
        bonus = self.config.posterior_bonus * self.gate.s
        return bonus if self.ideals is None else bonus * (1.0 - float(self.gate.w[-1]))

    def update(self, query: Array, user: int, action: Any, reward: float) -> None:
        """Learns the reward of what was shown.

        Args:
            query: As given to `act`.
            user: As given to `act`.
            action: The item's id; or the content itself, ``(d,)``, where it was synthesized.
            reward: In [0, 1].

        Raises:
            ActionError: There never was such an item, or content of another length.
            DataError: Not finite; nothing has been learned then.
        """
        with self._lock:
            if isinstance(action, np.ndarray) and action.ndim == 1 and np.issubdtype(action.dtype, np.floating):
                y, cluster = np.asarray(action, dtype=np.float64), None
            else:
                y, cluster = self.pool[int(action)], int(self.pool.cluster[int(action)])
            self.learn(self.prepare(query, user), y, cluster, reward)

    def update_many(
        self,
        queries: Array,
        users: NDArray[np.integer[Any]],
        actions: NDArray[np.integer[Any]],
        rewards: Array,
    ) -> None:
        """Learns B rewards, in order, of items that were chosen before any of them was known.

        The posteriors are those of B calls of `update`. The gate and the clusters learn from errors of what was
        believed when the batch began; attention is fitted after it, as often as B rounds would have had it.

        Args:
            queries: As given to `act_many`.
            users: As given to `act_many`.
            actions: The items' ids, ``(B,)``.
            rewards: In [0, 1], ``(B,)``.

        Raises:
            ActionError: There never was such an item.
            DataError: Not finite, or not of one length; nothing has been learned then.
        """
        with self._lock:
            ids = np.asarray(actions)
            rewards = np.asarray(rewards, dtype=np.float64)
            if not len(users) == len(ids) == len(rewards):
                raise DataError(
                    f"A batch of {len(users)} users must have as many actions and rewards, not {len(ids)} and "
                    f"{len(rewards)}."
                )
            for id in ids.tolist():
                self.pool[id]
            bad = np.flatnonzero(~np.isfinite(rewards))
            if len(bad):
                raise DataError(
                    f"The reward is {rewards[bad[0]]} (of round {bad[0]}): rewards must be finite numbers."
                )
            rounds = self.prepare_many(queries, users)
            Y, clusters = self.pool.items[ids], self.pool.cluster[ids]
            left = self.config.freeze_at - self.t
            if self.config.schedule == "learned" or self.ideals is not None or 0 < left < len(ids):
                for b, reward in enumerate(rewards.tolist()):
                    self.learn(self.prepare(rounds.x[b], int(rounds.user[b])), Y[b], int(clusters[b]), reward)
            else:
                self._learn_many(rounds, Y, clusters.tolist(), rewards)

    def _learn_many(self, rounds: Rounds, Y: Array, clusters: list[int], rewards: Array) -> None:
        c, size = self.config, len(rewards)
        expected = np.matvec(rounds.F, with_one(Y))
        if c.curvature:
            expected[:, :2] -= self.core.bend(Y)[:, None]
        if self.learned.count:
            self.learned.rewards(expected[:, 2:, None])
        errors = rewards[:, None] - expected
        surprises = (errors @ self.gate.w).tolist()
        deviations = (rewards - self.core.prior_mean(rounds.x, Y)).tolist()
        self.core.update_batch(rounds.x, rounds.user, Y, rewards)
        self.t += size
        slots = [self._slot(user) for user in rounds.user.tolist()]
        for b, (slot, reward) in enumerate(zip(slots, rewards.tolist(), strict=True)):
            if c.attention and slot:
                self.bayesian.update(slot, rounds.parts[b], Y[b], deviations[b])
            if self.frozen:
                continue
            self.gate.update(errors[b], self._ready, self._allowed)
            if c.attention:
                self.replay.add(rounds.x[b], Y[b], reward, slot)
            if c.cluster_values:
                self.pool.clusters.earned(clusters[b], surprises[b])
            if self._explores and (self.t - size + b + 1) % c.covariance_every == 0:
                self.pool.clusters.shown(clusters[b], self._direction(rounds[b]))
        if not self.frozen:
            self._learn_shared(size)
            for user, surprise in zip(rounds.user.tolist(), surprises, strict=True):
                self._watch(user, surprise)

    def learn(self, round: Round, y: Array, cluster: int | None, reward: float) -> None:
        """Learns one round: ``y`` of ``cluster`` (None: the nearest) earned ``reward``."""
        if y.shape != self._content_shape:
            raise ActionError(f"Content must have shape ({self.content_dim},), not {y.shape}.")
        errors = reward - self._expected_of(round, y)
        surprise = float(self.gate.w @ errors)
        deviation = reward - float(self.core.prior_mean(round.x, y))
        # this raises for what is not finite; nothing has been learned before
        self.core.update(round.x, round.user, y, reward)
        self.t += 1
        if self.ideals is not None:
            self.ideals.update(self._slot(round.user), round.x, y, reward)
        if self.frozen:
            self._meta = self._pair = None
            slot = self.core.posterior.slot(round.user)
            if self.config.attention and self.config.user_state:
                self.bayesian.update(slot, round.parts, y, deviation)
            return
        if self._meta is not None:
            self.alpha = np.maximum(self.alpha + _META_STEP * surprise * self._meta, 0.0)
        if self._pair is not None:
            self.decoder.update(*self._pair)
        self._meta = self._pair = None
        self.gate.update(errors, self._ready, self._allowed)
        if self.config.attention or self.ideals is not None:
            slot = self._slot(round.user)
            self.replay.add(round.x, y, reward, slot)
            if self.config.attention and slot:
                self.bayesian.update(slot, round.parts, y, deviation)
        if cluster is None:
            cluster = int(self.pool.clusters.assign(y[None])[0])
        if self.config.cluster_values:
            self.pool.clusters.earned(cluster, surprise)
        if self._explores and self.t % self.config.covariance_every == 0:
            self.pool.clusters.shown(cluster, self._direction(round))
        self._learn_shared(1)
        self._watch(round.user, surprise)

    def _learn_shared(self, rounds: int) -> None:
        """What is learned now and then, after so many more rounds: attention and the population's prior."""
        if self.config.attention:
            self._learn_attention(rounds)
        if self.ideals is not None:
            self.ideals.learn(self.replay, self.rng)
        if self.config.population and self.t >= self._next_prior:
            self.core.posterior.learn_prior(float(self.gate.C[0, 0]))
            self._next_prior = self.t + max(64, self.t // 4)
        if self.t == self.config.freeze_at:
            self.freeze()

    def _watch(self, user: int, surprise: float) -> None:
        """Lets a user who has changed begin anew."""
        watched = self.config.change_threshold and self.config.user_state
        if watched and self.changes.update(self.core.posterior.slot(user), surprise):
            self.restart(user)

    def restart(self, user: int) -> None:
        """Takes a user as new from now on: their state begins at the population's prior, and so does their factor.

        What their rounds taught about everybody stays. The remembered ones go on with the factor they had, so that
        they mislead neither the heads nor the user's new life.
        """
        with self._lock:
            if self.core.posterior.slot(user):
                slot = self.core.restart(user, np.unique(self.replay.slot[: len(self.replay)]))
                self.bayesian.restart(slot)
                if self.ideals is not None:
                    self.ideals.restart(slot)
                self.changes.restart(slot)
                self.restarts += 1

    def freeze(self) -> None:
        """Ends all learning but that of the users' own states: u_t, Sigma_u, e_u and P_u. There is no way back.

        The shared coefficients, W_Q, the learned heads, the gate, the clusters' values and Sigma_j, alpha, the
        decoder and the population's prior stay as they are. The shared coefficients count as known from here on: u_t
        and Sigma_u are the posterior given them, and an item's width is that of the user's block alone.
        """
        with self._lock:
            self._hold(True)

    def _hold(self, frozen: bool) -> None:
        self.frozen, self._round, self._rounds = frozen, None, None
        self.core.hold(frozen)

    def _learn_attention(self, rounds: int) -> None:
        c, head, heads, replay = self.config, self.bayesian, self.learned, self.replay
        if head.learn(replay, self._states):
            self._admit()
            last = replay.since(replay.total - 256)
            q, _ = head.queries(replay.x[last], head.factors(replay.slot[last]))
            heads.scale = 1.0 / max(float(np.sqrt(np.vecdot(q, q).mean())), 1e-9)
        trainings = self.t // c.train_every - (self.t - rounds) // c.train_every
        if head.ready and heads.count and trainings:
            for _ in range(trainings):
                # several steps in a row find their code and data in the processor's caches
                i = self.rng.integers(0, len(replay), (c.steps, heads.count, c.batch))
                X, E = replay.x.take(i, axis=0), head.E.take(replay.slot.take(i), axis=0)
                Q_0, Y, R = head.queries(X, E)[0], replay.y.take(i, axis=0), replay.r.take(i)
                for batch in zip(X, E, Q_0, Y, R, strict=True):
                    heads.train(batch, c.learning_rate, c.weight_decay, self.t)
            self._admit()

    def _states(self) -> Array:
        """u_t of every user by slot, ``(slots, d)``; slot 0 is zero, and so are past lives."""
        posterior = self.core.posterior
        states = np.zeros((len(posterior.H), self.content_dim))
        for user in posterior.groups:
            states[posterior.slot(user)] = posterior.mean(user)
        return states

    def _meta_gradient(
        self, round: Round, scores: Array, Y: Array, clusters: Indices, usable: Mask | None, chosen: int
    ) -> Array:
        """∂ ln A(chosen) / ∂ alpha_h, ``(2 + M,)``: alpha grows while the uncertain surprise more than A's mean."""
        U = self.pool.clusters.uncertainty(self._direction(round))[clusters]
        A = self._attention(round, scores, Y, usable)
        return self.gate.w * float(U[chosen] - A @ U)

    # -- what a round is made of -----------------------------------------------------------------------------

    def prepare(self, query: Array, user: int) -> Round:
        """What the heads make of a query; kept until something is learned. Raises as `act` does."""
        x = np.asarray(query, dtype=np.float64)
        if x.shape != self._query_shape:
            raise DataError(f"The query must have shape ({self.query_dim},), not {x.shape}.")
        user = int(user) if self.config.user_state else _NO_USER
        key = (user, x.tobytes(), self.t)
        self._last_user = user
        if self._round is not None and self._round.key == key:
            return self._round
        belief = self.core.belief(x, user)
        slot = self.core.posterior.slot(user)
        head = self.bayesian
        q_0, parts = head.query(x, slot)
        F = np.empty((2 + self.learned.count, 1 + self.content_dim))
        F[0] = belief.m
        F[1, 0], F[1, 1:] = head.c, q_0
        if self.learned.count:
            self.learned.exponents(x, head._e1[1:], q_0, F[2:])
        self._round = Round(key, x.copy(), user, belief, q_0, parts, F)
        return self._round

    def prepare_many(self, queries: Array, users: NDArray[np.integer[Any]]) -> Rounds:
        """`prepare` for B queries and users at once; raises as `act_many` does."""
        X, group = np.array(queries, dtype=np.float64), np.array(users, dtype=np.int64)
        if X.ndim != 2 or X.shape != (len(group), self.query_dim) or group.ndim != 1 or not len(group):
            raise DataError(
                f"Queries must have shape (B, {self.query_dim}) and users (B,), not {X.shape} and {group.shape}."
            )
        if not self.config.user_state:
            group[:] = _NO_USER
        key = (X.tobytes(), group.tobytes(), self.t)
        self._last_user = int(group[-1])
        if self._rounds is not None and self._rounds.key == key:
            return self._rounds
        made = [
            self._made_of(X[start : start + _TOGETHER], group[start : start + _TOGETHER])
            for start in range(0, len(X), _TOGETHER)
        ]
        m, V, q_0, parts, F = (np.concatenate(arrays) for arrays in zip(*made, strict=True))
        self._rounds = Rounds(key, X, group, Belief(m, V), q_0, parts, F)
        return self._rounds

    def _made_of(self, X: Array, group: NDArray[np.int64]) -> tuple[Array, ...]:
        """m, V, q_0, parts and F of some rounds."""
        belief, head = self.core.beliefs(X, group), self.bayesian
        E = head.factors(np.array([self.core.posterior.slot(user) for user in group.tolist()]))
        q_0, parts = head.queries(X, E)
        F = np.empty((len(X), 2 + self.learned.count, 1 + self.content_dim))
        F[:, 0] = belief.m
        F[:, 1, 0], F[:, 1, 1:] = head.c, q_0
        if self.learned.count:
            F[:, 2:] = self.learned.exponents_of(X, E, q_0)
        return belief.m, belief.V, q_0, parts, F

    def _look(
        self, round: Round, items: Array | None, usable: Mask | None, drawn: Array | None, wish: Array | None = None
    ) -> tuple[Indices | None, Array, Indices, Mask | None]:
        """The items to attend to: ids (None: their places), [1; y], clusters, and which can be used."""
        if items is not None:
            return None, with_one(items), self.pool.clusters.assign(items), usable
        if self.pool.searched and usable is None:
            pool = self.pool
            ids, Y = pool.candidates(self._scores(round, pool.cells, pool.cell_clusters, drawn, wish))
            return ids, Y, self.pool.cluster[ids], None
        Y, present = self.pool.all_items()
        if usable is not None and present is not None:
            present = present & usable
        return None, Y, self.pool.cluster, present if usable is None or present is not None else usable

    def _slot(self, user: int) -> int:
        """Where a user's factor and ideal points lie; where users are not told apart 0, whose factor stays zero."""
        return self.core.posterior.slot(user) if self.config.user_state else 0

    def _learned_queries(self, round: Round) -> Array:
        return self.learned.queries(round.F[2:]) if self.learned.count else round.F[:0, 1:]

    def _direction(self, round: Round) -> Array:
        """q̂: the mixture's query, of length one."""
        w = self.gate.w
        q = w[0] * unit(round.belief.m[1:]) + w[1] * unit(round.q_0)
        for w_h, q_h in zip(w[2 : len(round.F)].tolist(), self._learned_queries(round), strict=True):
            q += w_h * unit(q_h)
        return unit(q)

    def _admit(self) -> None:
        """Notes which heads have learned something, and so may have weight."""
        self._ready: Mask = np.ones(len(self.gate.w), dtype=np.bool_)
        self._ready[1] = self.bayesian.ready
        self._ready[2 : 2 + self.learned.count] = self.learned.steps >= _FIRST_STEPS
        self._allowed = self._ready.copy()
        self._allowed[0] = self.config.core or not self._ready[1]

    def _expected_of(self, round: Round, y: Array) -> Array:
        """Every head's expected reward of one content, ``(2 + M,)``, and after them that by the ideal points."""
        self._y1[1:] = y
        expected: Array = round.F @ self._y1
        if self.config.curvature:
            expected[:2] -= self.core.bend(y)
        if self.learned.count:
            self.learned.rewards(expected[2:, None])
        if self.ideals is not None:
            return np.append(expected, self.ideals.expected(self._slot(round.user), round.x, y))
        return expected

    def _expected(self, F: Array, Y: Array) -> Array:
        """The gate's mixture of the heads' expected rewards, ``(..., N)``, for a round's F or for a batch of them."""
        w = self.gate.w[: F.shape[-2]]
        expected = F @ Y.T
        if any(w.tolist()[2:]):
            self.learned.rewards(expected[..., 2:, :])
        if self.config.curvature:
            expected[..., :2, :] -= self.core.bend(Y[:, 1:])
        return np.asarray(w @ expected)

    def _drawn(self, round: Round) -> Array | None:
        """What a draw from the core's posterior adds to its mean, as a function of [1; y]; for ``thompson`` only."""
        if self.config.choice != "thompson":
            return None
        return draw(round.belief, self.config.posterior_scale, self.rng).m - round.belief.m

    def _wish(self, round: Round) -> Array | None:
        """An ideal point drawn for the round; None without them."""
        if self.ideals is None:
            return None
        return self.ideals.draw(self._slot(round.user), self.config.ideal_power, self.rng)

    def _scores(
        self, round: Round, Y: Array, clusters: Indices, drawn: Array | None, wish: Array | None = None
    ) -> Array:
        c, belief = self.config, round.belief
        scores = self._expected(round.F, Y)
        if self.ideals is not None:
            h = self.ideals.mean(self._slot(round.user)) if wish is None else wish
            scores += self.gate.w[-1] * self.ideals.rewards(round.x, Y[:, 1:], h)
        if drawn is not None:
            scores += Y @ drawn
        elif c.posterior_bonus and c.choice != "thompson":
            scores += _width(belief.V, Y, self._bonus)
        if c.cluster_values and self.pool.clusters.gain > 0.0:
            scores += self.pool.clusters.values[clusters]
        alpha = self._alpha() @ self.gate.w if self._explores else 0.0
        if alpha:
            scores += alpha * self.pool.clusters.uncertainty(self._direction(round))[clusters]
        return scores

    def _alpha(self) -> Array:
        """alpha_h, ``(2 + M,)``."""
        return self.alpha / (1.0 + self.t) ** 0.5 if self.config.schedule == "sqrt" else self.alpha

    def _attention(
        self, round: Round, scores: Array, Y: Array, usable: Mask | None, tempered: bool | None = None
    ) -> Array:
        c = self.config
        logits = scores / c.temperature
        if usable is not None:
            logits = np.where(usable, logits, -np.inf)
        return attention(
            logits, self._logit_variance(round.belief, Y) if (c.tempered if tempered is None else tempered) else 0.0
        )

    def _logit_variance(self, belief: Belief, Y: Array) -> float:
        """The core's posterior variance of a logit, its mean over the items."""
        return float(np.vecdot(Y @ belief.V, Y).mean()) * (self.config.posterior_scale / self.config.temperature) ** 2

    # -- what it can tell ------------------------------------------------------------------------------------

    def attention(
        self, query: Array, user: int, by_cluster: bool = False, tempered: bool | None = None
    ) -> tuple[Indices, Array]:
        """The attention of one user's query, by the scores that `act` would use. Nothing is changed by asking.

        Args:
            query: ``(query_dim,)``.
            user: Any integer.
            by_cluster: Whether to sum the weights over the items of each knowledge cluster.
            tempered: Whether the posterior's variance flattens it; as configured by default.

        Returns:
            The ids of the items attended to (all of a pool that is not searched), or the K clusters, ``(n,)``; and
            their weights, ``(n,)``, sum one.

        Raises:
            DataError: As for `act`.
        """
        with self._lock:
            before = self._round, self._last_user
            try:
                round = self.prepare(query, user)
                ids, Y, clusters, usable = self._look(round, None, None, None)
                scores = self._scores(round, Y, clusters, None)
                A = self._attention(round, scores, Y, usable, tempered)
            finally:
                self._round, self._last_user = before
            if by_cluster:
                K = len(self.pool.clusters.centres)
                return np.arange(K), np.bincount(clusters, A, K).astype(np.float64)
            return (np.arange(len(A)) if ids is None else ids), A

    def probabilities(self, query: Array, user: int, usable: Mask | None = None) -> Array | None:
        """The chance of each row of the pool under `act`; None where it draws first, and for searched pools."""
        with self._lock:
            if self.config.choice == "thompson" or self.ideals is not None or self.pool.searched:
                return None
            round = self.prepare(query, user)
            _, Y, clusters, usable = self._look(round, None, usable, None)
            scores = self._scores(round, Y, clusters, None)
            if self.config.choice == "argmax":
                return greedy_probabilities(scores, usable)
            return self._attention(round, scores, Y, usable)

    def user_state(self, user: int) -> tuple[Array, Array]:
        """u_t and Sigma_u (for unit noise) of a user, ``(d,)`` and ``(d, d)``.

        With ideal points these are the mean and the covariance of what the user may want.
        """
        with self._lock:
            if self.ideals is not None:
                return self.user_mean(user), self.ideals.covariance(self._slot(user))
            return self.user_mean(user), self.core.posterior.covariance(user)

    def user_mean(self, user: int) -> Array:
        """u_t alone, ``(d,)``: what `user_state` begins with."""
        with self._lock:
            if self.ideals is not None:
                return self.ideals.mean(self._slot(user))
            return self.core.posterior.mean(user)

    @property
    def bytes_per_user(self) -> int:
        """Memory that a user takes once seen."""
        d, k, r = self.content_dim, self.core.posterior.shared_dim, self.config.rank
        numbers: int = 2 * d * (d + k + 1) + d * d + r * r + r + 1 + self.config.ideals
        return 8 * numbers

    def diagnostics(self) -> dict[str, float]:
        """Of the last round: attention entropy, plug-in and tempered (nats); tr and ln det of the user's Sigma_u; the
        gate's weights (``gate_core``, ``gate_bayesian``, ``gate_learned``); the mean alpha.
        """
        with self._lock:
            w = self.gate.w
            told = {
                "gate_core": float(w[0]),
                "gate_bayesian": float(w[1]),
                "gate_learned": float(w[2 : 2 + self.learned.count].sum()),
                "alpha": float(self._alpha() @ w),
            }
            if self.ideals is not None:
                told["gate_ideals"] = float(w[-1])
            if self._last_user is not None:
                Sigma = self.core.posterior.covariance(self._last_user)
                told["user_trace"] = float(np.trace(Sigma))
                told["user_logdet"] = float(np.linalg.slogdet(Sigma)[1])
            if self._shown is not None:
                scores, Y, belief = self._shown
                logits = scores / self.config.temperature
                told["attention_entropy"] = entropy(attention(logits))
                told["attention_entropy_tempered"] = entropy(attention(logits, self._logit_variance(belief, Y)))
            return told

    # -- items come and go, the state is kept ------------------------------------------------------------------

    def add_items(self, items: Array) -> Indices:
        """Takes new items into the pool, ``(n, d)``; returns their ids, ``(n,)``."""
        with self._lock:
            return self.pool.add(items)

    def remove_items(self, ids: Indices | list[int]) -> None:
        """Lets items leave the pool; their ids are not given again. Rewards that come late are still learned."""
        with self._lock:
            self.pool.remove(np.asarray(ids))

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "core": self.core,
            "bayesian": self.bayesian,
            "learned": self.learned,
            "replay": self.replay,
            "gate": self.gate,
            "changes": self.changes,
            "decoder": self.decoder,
            "pool": self.pool,
        }
        return parts if self.ideals is None else parts | {"ideals": self.ideals}

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, and the pool, as arrays by name."""
        with self._lock:
            arrays = {
                f"{part}.{name}": value
                for part, owner in self._parts().items()
                for name, value in owner.state().items()
            }
            arrays["alpha"] = self.alpha.copy()
            arrays["frozen"] = np.array(self.frozen, dtype=np.int64)
            arrays["counts"] = np.array([self.t, self._next_prior, self.restarts], dtype=np.int64)
            return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave.

        Raises:
            DataError: An array is missing, or is of another task or configuration.
        """
        with self._lock:
            self._hold(bool(take_array(state, "frozen", (), np.int64)))
            for part, owner in self._parts().items():
                own = {name[len(part) + 1 :]: state[name] for name in state if name.startswith(part + ".")}
                try:
                    owner.load_state(own)
                except KeyError as error:
                    raise DataError(
                        f"The state has no array '{part}.{error.args[0]}': it was saved by another agent or version."
                    ) from error
            self.alpha = take_array(state, "alpha", self.alpha.shape)
            self.t, self._next_prior, self.restarts = take_array(state, "counts", (3,), np.int64).tolist()
            self._round = self._rounds = self._shown = self._meta = self._pair = None
            self._admit()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to one npz file, all or nothing; no pickle is in it."""
        with self._lock:
            arrays = self.state()
            about = {
                "format": FORMAT,
                "config": asdict(self.config),
                "query_dim": self.query_dim,
                "rng": self.rng.bit_generator.state,
            }
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HARE:
        """Reads what `save` wrote, and goes on exactly as the saved one would have.

        Raises:
            DataError: The file was not written by `save`.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(arrays.pop("about").tobytes())
            pool = arrays["pool.items"]
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{os.fspath(path)!r} is no file that HARE.save wrote: {error}.") from error
        if about["format"] != FORMAT:
            raise DataError(f"{os.fspath(path)!r} has format {about['format']}; this version reads {FORMAT}.")
        rng = np.random.Generator(np.random.PCG64())
        # clusters come from the file; one item is enough to begin with
        hare = cls(pool[:1], about["query_dim"], rng, **about["config"])
        hare.load_state(arrays)
        rng.bit_generator.state = about["rng"]
        return hare


def _width(V: Array, Y: Array, scale: float) -> Array:
    """The widths √([1; y]ᵀV[1; y]) of the contents times ``scale``, ``(..., N)``; ``V`` may be a batch."""
    width = np.vecdot(Y @ V, Y)
    np.maximum(width, 0.0, out=width)
    np.sqrt(width, out=width)
    width *= scale
    return np.asarray(width)


def _best(scores: Array, usable: Mask | None, rng: np.random.Generator) -> int:
    """`best_item`, at a third of the cost where one item is best: argmax finds what is NaN or infinite too."""
    if usable is None:
        best = int(scores.argmax())
        top = scores.item(best)
        if math.isfinite(top) and np.count_nonzero(scores == top) == 1:
            return best
    return best_item(scores, usable, rng)
