"""``HareBilinear-v0`` and ``HareLinear-v0``: the controlled world, with exact oracles.

`HareBilinear` plays one world, `HareBilinearVector` many in lockstep; `_Worlds` is the mathematics of both, with
the worlds along the last axis of every array, so that one world and a thousand take the same arithmetic steps and
give the same bits.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec, action_space, observation_space
from hare_gym.environment import Environment, check_mode, content_vector, item_index, lane_count, lane_generators
from hare_gym.envs.noise import beta, beta_batch, stream
from hare_gym.errors import ActionError, ConfigError

Array = NDArray[np.float64]

MODES: tuple[ActionMode, ...] = ("select", "synthesize")

# Rounds of randomness drawn at once; part of what a seed means, so it never changes.
_BLOCK = 128
# Values in one array of the geometry, so that its working set stays in the second-level cache.
_CHUNK_VALUES = 16384
# Worlds whose items are compared at once, for the same reason.
_BLAS_WORLDS = 64


@dataclass(frozen=True)
class BilinearConfig:
    """The knobs of `HareBilinear`. The defaults are frozen: they are what the id ``-v0`` means.

    Attributes:
        horizon: Rounds in a session, T.
        dim: Length of queries and of items, d.
        user_dim: Length of the hidden user vectors u*, p; at most ``dim``.
        features: Interaction features, m: the rows of C and D.
        num_users: Users.
        num_items: Items in the pool, N.
        num_clusters: Clusters in the pool, K.
        cluster_spread: Standard deviation of an item around its cluster's centre, before normalising.
        nonlinearity: Weight of the interaction, lambda; 0 makes the reward exactly linear.
        frequency: How often the interaction turns as the query moves, rho.
        bandwidth: Width of the reward's peak around the ideal, sigma.
        concentration: kappa of the Beta reward; its variance is mu(1 - mu)/(kappa + 1).
        catalogue_gap: g. At 1 the ideal lies where it lies; towards 0 it moves to the nearest item.
        drift: Standard deviation of the step that u* takes (per coordinate, on the sphere) at each visit.
        change_every: Rounds between abrupt changes, at which every user gets a new u*; 0 for never.
        late_users: Share of the users who only arrive later.
        late_from: When they arrive, as a share of the horizon.
        efficacy: Weight of the hidden efficacy, epsilon: a smooth offset per cluster that no feature shows.
        efficacy_sharpness: How sharply efficacy changes between clusters, tau.
    """

    horizon: int = field(default=10_000, metadata={"low": 1})
    dim: int = field(default=8, metadata={"low": 1})
    user_dim: int = field(default=4, metadata={"low": 1})
    features: int = field(default=8, metadata={"low": 1})
    num_users: int = field(default=20, metadata={"low": 1})
    num_items: int = field(default=64, metadata={"low": 2})
    num_clusters: int = field(default=16, metadata={"low": 1})
    cluster_spread: float = field(default=0.3, metadata={"low": 0})
    nonlinearity: float = field(default=1.0, metadata={"low": 0, "high": 1})
    frequency: float = field(default=1.0, metadata={"low": 0})
    bandwidth: float = field(default=0.7, metadata={"low": 0.2})
    concentration: float = field(default=10.0, metadata={"above": 0})
    catalogue_gap: float = field(default=1.0, metadata={"low": 0, "high": 1})
    drift: float = field(default=0.0, metadata={"low": 0})
    change_every: int = field(default=0, metadata={"low": 0})
    late_users: float = field(default=0.0, metadata={"low": 0, "below": 1})
    late_from: float = field(default=0.5, metadata={"low": 0, "high": 1})
    efficacy: float = field(default=0.0, metadata={"low": 0, "high": 1})
    efficacy_sharpness: float = field(default=8.0, metadata={"low": 0, "high": 30})

    def __post_init__(self) -> None:
        if self.user_dim > self.dim:
            raise ConfigError(f"user_dim must be at most dim ({self.dim}), not {self.user_dim}.")
        if self.num_clusters > self.num_items:
            raise ConfigError(f"num_clusters must be at most num_items ({self.num_items}), not {self.num_clusters}.")


class _Worlds:
    """W worlds: their hidden parameters, the rounds to come, and the reward. Worlds lie along the last axis."""

    def __init__(self, config: BilinearConfig) -> None:
        self.config = config
        early = config.num_users - int(config.late_users * config.num_users)
        self.early_users = max(1, early)
        self.late_round = int(config.late_from * config.horizon)
        self._normals = self._uniforms = self._moves = np.empty((0, 0))

    # -- the worlds -------------------------------------------------------------------------------------------

    def draw_worlds(self, rngs: list[np.random.Generator], shared: bool = False) -> None:
        """Draws A, B, C, D, G, b, the pool, its efficacies and the users, world by world."""
        drawn = [self._draw_world(rng) for rng in (rngs[:1] if shared else rngs)] * (len(rngs) if shared else 1)
        raw = {name: np.stack([world[name] for world in drawn], axis=-1) for name in drawn[0]}
        # the constants of v stand inside the matrices: v = A x + B u* + lambda/(1 + lambda) n
        half = 0.5 / (1.0 + self.config.nonlinearity)
        self.A = portable.align(half * portable.orthonormal_columns(raw["A"]))  # (d, d, W)
        self.B = portable.align(half * portable.orthonormal_columns(raw["B"]))  # (d, p, W)
        self.C = portable.align(self.config.frequency * raw["C"])  # (m, d, W)
        self.D, self.G = portable.align(raw["D"]), portable.align(raw["G"])  # (m, p, W), (d, m, W)
        self.b = raw["b"]  # (m, W)
        self.original_users = portable.normalise(raw["users"])  # (p, U, W)
        self.centres = portable.normalise(raw["centres"])  # (d, K, W)
        cluster = np.arange(self.config.num_items) % self.config.num_clusters
        spread = self.config.cluster_spread
        self.pool = portable.normalise(self.centres[:, cluster] + spread * raw["items"])  # (d, N, W)
        self.pool_length2 = portable.dot(self.pool, self.pool)  # (N, W)
        self.efficacies = raw["efficacies"]  # (K, W)
        self._pool_rows = _rows(self.pool)
        self._pool_columns = np.ascontiguousarray(self.pool.transpose(2, 0, 1))  # (W, d, N)
        if self.config.efficacy:
            self.pool_efficacy = self._efficacy(self.pool, self.centres[:, :, None], self.efficacies[:, None])

    def _draw_world(self, rng: np.random.Generator) -> dict[str, Array]:
        c = self.config
        return {
            "A": rng.standard_normal((c.dim, c.dim)),
            "B": rng.standard_normal((c.dim, c.user_dim)),
            "C": rng.standard_normal((c.features, c.dim)),
            "D": rng.standard_normal((c.features, c.user_dim)),
            "G": rng.standard_normal((c.dim, c.features)),
            "b": rng.uniform(0.0, 2.0 * math.pi, c.features),
            "users": rng.standard_normal((c.user_dim, c.num_users)),
            "centres": rng.standard_normal((c.dim, c.num_clusters)),
            "items": rng.standard_normal((c.dim, c.num_items)),
            "efficacies": rng.random(c.num_clusters),
        }

    # -- a session --------------------------------------------------------------------------------------------

    def start_session(self, rngs: list[np.random.Generator]) -> None:
        """Forgets the rounds drawn so far and puts every user back to their original u*."""
        c = self.config
        # the users' moves have streams of their own, so that no knob shifts the queries or the noise
        self.rngs, self.move_rngs = ([stream(int(rng.integers(2**63))) for rng in rngs] for _ in range(2))
        epochs = -(-c.horizon // c.change_every) if c.change_every else 1
        users = self.original_users[:, None]  # (p, epochs, U, W)
        if epochs > 1:
            later = [rng.standard_normal((c.user_dim, epochs - 1, c.num_users)) for rng in self.move_rngs]
            users = np.concatenate([users, portable.normalise(np.stack(later, axis=-1))], axis=1)
        self.users = users.copy() if c.drift else users
        self._user_rows = _rows(users)
        self._block_start = -_BLOCK
        self._chunk_end = 0

    def prepare(self, t: int) -> int:
        """Makes round t's quantities available; returns its place in the chunk arrays."""
        if t == self._chunk_end:
            if t == self._block_start + _BLOCK:
                self._draw_block(t)
            length = max(1, _CHUNK_VALUES // len(self.rngs))
            self._compute_chunk(t, min(t + length, self._block_start + _BLOCK, self.config.horizon))
        return t - self._chunk_start

    def _draw_block(self, t: int) -> None:
        c, W = self.config, len(self.rngs)
        if len(self._normals) != W:
            # the padding keeps the rows of many worlds from falling on the same cache lines when transposed
            self._normals = np.empty((W, _BLOCK * (c.dim + 4) + 8))
            self._uniforms = np.empty((W, _BLOCK * 7 + 8))
            self._moves = np.empty((W, _BLOCK * c.user_dim + 8 if c.drift else 8))
        for w in range(W):
            self.rngs[w].standard_normal(out=self._normals[w, :-8])
            self.rngs[w].random(out=self._uniforms[w, :-8])
            self.move_rngs[w].standard_normal(out=self._moves[w, :-8])
        self._block_start = t

    def _rounds_of(self, draws: Array, start: int, end: int) -> Array:
        """A part of the block, ``(numbers a round, L, W)``."""
        width = draws.shape[1] // _BLOCK
        part = draws[:, (start - self._block_start) * width : (end - self._block_start) * width]
        return portable.align(part.T).reshape(end - start, width, len(draws)).transpose(1, 0, 2)

    def _compute_chunk(self, start: int, end: int) -> None:
        """Everything about rounds ``start`` to ``end`` that does not depend on the action."""
        c = self.config
        normals = self._rounds_of(self._normals, start, end)  # (d + 4, L, W)
        uniforms = self._rounds_of(self._uniforms, start, end)  # (7, L, W)
        x = portable.normalise(normals[: c.dim])
        rounds = np.arange(start, end)
        arrived = np.where(rounds < self.late_round, self.early_users, c.num_users)[:, None]
        user = (uniforms[0] * arrived).astype(np.int64)  # (L, W)
        u = self._visited_users(rounds, user)  # (p, L, W)

        v = portable.matvec(self.B[:, :, None], u, start=portable.matvec(self.A[:, :, None], x))
        lam = c.nonlinearity
        if lam:
            angle = portable.matvec(self.C[:, :, None], x)
            angle += self.b[:, None]
            interaction = portable.matvec(self.D[:, :, None], u)
            for row, turn in zip(interaction, angle, strict=True):
                row *= portable.sin(turn)
            n = portable.matvec(self.G[:, :, None], interaction)
            n *= (lam / (1.0 + lam)) / np.sqrt(portable.dot(n, n))
            v += n
        length = np.sqrt(portable.dot(v, v))
        ideal = v * (1.0 / length)
        if c.catalogue_gap < 1.0:
            nearest = self.items_at(self._best_items(ideal))
            ideal = portable.normalise(c.catalogue_gap * ideal + (1.0 - c.catalogue_gap) * nearest)
        self._chunk_start, self._chunk_end = start, end
        self.query, self.user, self.hidden_user = x, user, u
        self.ideal, self.length = ideal, length
        self.gamma_normals, self.gamma_uniforms = normals[c.dim :], uniforms[1:]
        self.best_item = self._best_items(ideal, length if c.efficacy else None)  # (L, W)
        self._compute_oracles()

    def _best_items(self, ideal: Array, length: Array | None = None) -> NDArray[np.int64]:
        """The item nearest to each ideal, ``(L, W)``; with ``length``, the item of the best mean, efficacy included.

        By BLAS: it only chooses an item, whose reward is portable.
        """
        ideals = np.ascontiguousarray(ideal.transpose(2, 1, 0))  # (W, L, d)
        best = np.empty(ideals.shape[:2], dtype=np.int64)
        for first in range(0, len(ideals), _BLAS_WORLDS):
            lanes = slice(first, first + _BLAS_WORLDS)
            scores = ideals[lanes] @ self._pool_columns[lanes]  # (W, L, N)
            if length is not None:
                efficacy = self.pool_efficacy.T[lanes, None]
                scores = self.mean_reward(scores, 1.0, length.T[lanes, :, None], efficacy)
            scores.argmax(axis=-1, out=best[lanes])
        return best.T

    def _visited_users(self, rounds: NDArray[np.int64], user: NDArray[np.int64]) -> Array:
        """u* of each round's visitor, ``(p, L, W)``; under drift each visit moves it first."""
        worlds = np.arange(user.shape[1])
        epoch = rounds // self.config.change_every if self.config.change_every else np.zeros_like(rounds)
        if not self.config.drift:
            return _at(self._user_rows, epoch[:, None] * self.config.num_users + user)
        visited = self._rounds_of(self._moves, rounds[0], rounds[-1] + 1)
        for i in range(len(rounds)):
            u = self.users[:, epoch[i], user[i], worlds]
            u = portable.normalise(u + self.config.drift * visited[:, i])
            self.users[:, epoch[i], user[i], worlds] = u
            visited[:, i] = u
        return visited

    def items_at(self, index: NDArray[np.int64]) -> Array:
        """Item vectors at ``index`` ``(..., W)``, as ``(d, ..., W)``."""
        return _at(self._pool_rows, index)

    # -- the reward -------------------------------------------------------------------------------------------

    def mean_reward(self, nearness: Any, length2: Any, v_length: Any, efficacy: Any) -> Any:
        """mu(y) from ``y . v_hat``, ``|y|^2``, ``|v|`` and e(y); floats and arrays alike."""
        c = self.config
        lam = c.nonlinearity
        mu = 0.0 if lam == 1.0 else (1.0 - lam) * 0.5 * (1.0 + nearness * v_length)
        if lam:
            distance2 = length2 - 2.0 * nearness + 1.0
            distance2 = 0.5 * (distance2 + abs(distance2))  # at the ideal, rounding may leave it below 0
            mu = mu + lam * portable.exp(distance2 * (-0.5 / (c.bandwidth * c.bandwidth)))
        if c.efficacy:
            mu = (1.0 - c.efficacy) * mu + c.efficacy * efficacy
        return mu

    def _efficacy(self, y: Array, centres: Array, efficacies: Array) -> Array:
        """e(y) = sum_k softmax(tau c_k . y)_k e_k, over ``y`` ``(d, L, W)``, as ``(L, W)``."""
        sharpness = self.config.efficacy_sharpness
        weights = [portable.exp(sharpness * portable.dot(centre, y)) for centre in np.moveaxis(centres, 1, 0)]
        total = portable.dot(weights, np.ones(len(weights)))
        return np.asarray(portable.dot(weights, efficacies) / total)

    def efficacy_of(self, y: Array) -> Array:
        """e(y) of one content vector a world, ``(d, W)`` to ``(W,)``."""
        return self._efficacy(y, self.centres, self.efficacies)

    def _compute_oracles(self) -> None:
        c = self.config
        best = self.items_at(self.best_item)
        worlds = np.arange(self.best_item.shape[1])
        efficacy = self.pool_efficacy[self.best_item, worlds] if c.efficacy else 0.0
        self.catalogue_oracle = self.mean_reward(
            portable.dot(best, self.ideal), self.pool_length2[self.best_item, worlds], self.length, efficacy
        )
        if not c.efficacy:
            self.oracle = np.broadcast_to(self.mean_reward(1.0, 1.0, self.length, 0.0), self.length.shape)
            return
        at_ideal = self._efficacy(self.ideal, self.centres[:, :, None], self.efficacies[:, None])
        reached = self.mean_reward(1.0, 1.0, self.length, at_ideal)
        highest = self.efficacies.max(axis=0)
        slope = 0.5 * c.efficacy_sharpness
        edges = np.linspace(0.0, 2.0, 65)
        bound = reached
        for near, far in itertools.pairwise(edges):
            # on the shell near <= |y - v_hat| <= far of the unit ball: y.v_hat <= 1 - near^2/2
            gain = np.minimum(highest, at_ideal + slope * far)
            bound = np.maximum(bound, self.mean_reward(1.0 - 0.5 * near * near, 1.0, self.length, gain))
        self.oracle = bound
        self.oracle_width = bound - np.maximum(reached, self.catalogue_oracle)
        self.item_is_better = self.catalogue_oracle > reached


def _rows(table: Array) -> Array:
    """A ``(d, ..., W)`` table as ``(W, R, d)``, so that one look-up reads one cache line."""
    return np.ascontiguousarray(np.moveaxis(table, (0, -1), (-1, 0))).reshape(table.shape[-1], -1, len(table))


def _at(rows: Array, index: NDArray[np.int64]) -> Array:
    """``rows[w, index[..., w]]`` of a ``(W, R, d)`` table, as ``(d, ..., W)``."""
    W, R, d = rows.shape
    found = rows.reshape(-1, d).take(index + np.arange(0, W * R, R), axis=0)
    return np.ascontiguousarray(np.moveaxis(found, -1, 0))


class HareBilinear(Environment):
    """A synthetic population whose reward joins a linear part and an interaction that no linear model has.

    A query x and a hidden user vector u* (unit vectors) make a hidden ideal content; the reward of content y falls
    with its distance from it::

        lin  = A x / 2 + B u* / 2                      A orthogonal, B with orthonormal columns
        n    = normalise(G [sin(rho C x + b) * D u*])  * is elementwise
        v    = (lin + lambda n) / (1 + lambda),  v_hat = v / |v|
        mu(y) = (1 - lambda) (1 + y . v)/2 + lambda exp(-|y - v_hat|^2 / (2 sigma^2))
        reward ~ Beta(kappa mu, kappa (1 - mu)), whose mean is exactly mu

    The matrices, the pool (N unit vectors in K clusters) and the users are drawn by ``reset(seed=...)``; a reset
    without a seed starts another session in the same world. The noise of round t depends on the seed and t alone,
    so agents that are compared on a seed meet the same queries, users and luck.

    **Action space.** ``select``: ``Discrete(num_items)``. ``synthesize``: ``Box(-1, 1, (dim,), float32)``; a vector
    longer than 1 is pulled back to the unit ball.

    **Observation space.** ``query``: ``Box(dim)``, float64, a unit vector. ``user``: ``Discrete(num_users)``. The
    pool is in ``env.unwrapped.task.pool``. The observation after the last round repeats the last round's.

    **Reward.** In [0, 1], Beta-distributed with mean mu(y). Computed from additions, products, quotients and square
    roots in a fixed order, so that recorded actions replay to the same bits on any machine.

    **Oracle.** Exact. Both terms of mu have the one maximiser v_hat over the unit ball, so the best content earns
    ``(1 - lambda)(1 + |v|)/2 + lambda``; the best item is a maximum over the N items. In ``select`` the regret is
    counted against the best item, in ``synthesize`` against the best content. With ``efficacy`` above 0,
    ``oracle_reward`` is a proven upper bound instead: with r = |y - v_hat|, the first term is at most its value at
    ``y . v_hat = 1 - r^2/2`` and efficacy at most ``min(max_k e_k, e(v_hat) + tau r / 2)`` (the softmax mean of
    offsets in [0, 1] has a gradient of at most tau/2); the bound is the largest sum over 64 shells of r.
    ``info["oracle_width"]`` is the bound minus the best content known (v_hat or the best item), at most
    ``efficacy * max_k e_k``. ``catalogue_oracle_reward`` stays exact.

    **Knobs.** `BilinearConfig` lists them all. The three that make a different world: ``drift`` (or
    ``change_every``) moves the users; ``late_users`` arrive after ``late_from`` of the session; ``efficacy`` mixes in
    ``e(y) = sum_k softmax(tau c_k . y)_k e_k`` over the cluster centres c_k, with hidden offsets e_k ~ U(0, 1):
    ``mu = (1 - epsilon) mu + epsilon e(y)``. ``catalogue_gap`` g below 1 moves the ideal towards the catalogue:
    ``normalise(g v_hat + (1 - g) nearest item)``.

    **Version history.** v0: first version.
    """

    modes = MODES

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config = configure(BilinearConfig, knobs, "HareBilinear")
        self._knobs = knobs
        self._worlds = _Worlds(self.config)
        self._set_task(_task(self.config, knobs, self.action_mode, None))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws a world (with a seed, or the first time) and starts a session in it."""
        super().reset(seed=seed)
        if seed is not None or not hasattr(self._worlds, "A"):
            self._worlds.draw_worlds([self.np_random])
            self._pool = self._worlds.pool[:, :, 0].T.tolist()
            self._pool_length2 = self._worlds.pool_length2[:, 0].tolist()
            pool = self._worlds.pool[:, :, 0].T
            self.task = _task(self.config, self._knobs, self.action_mode, pool)
        self._worlds.start_session([self.np_random])
        self._t = 0
        self._lists_of = -1
        self._start_rendering()
        self._prepare()
        return self._observation(), {}

    def _prepare(self) -> None:
        worlds = self._worlds
        self._i = worlds.prepare(self._t)
        if self._lists_of != worlds._chunk_start:
            # one world at a time is quicker in Python floats than in arrays of length one
            self._lists_of = worlds._chunk_start
            self._ideals = worlds.ideal[:, :, 0].T.tolist()
            self._lengths = worlds.length[:, 0].tolist()
            self._oracles = worlds.oracle[:, 0].tolist()
            self._catalogue_oracles = worlds.catalogue_oracle[:, 0].tolist()
            self._users = worlds.user[:, 0].tolist()
            self._queries = np.ascontiguousarray(worlds.query[:, :, 0].T)
            self._z = worlds.gamma_normals[:, :, 0].T.tolist()
            self._u = worlds.gamma_uniforms[:, :, 0].T.tolist()

    def _observation(self) -> dict[str, Any]:
        return {"query": self._queries[self._i].copy(), "user": np.int64(self._users[self._i])}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            ActionError: An action of the wrong type, shape, dtype or range; the round is not spent.
        """
        worlds, i = self._worlds, self._i
        efficacy = 0.0
        if self.action_mode == "select":
            index = item_index(action, self.config.num_items)
            y, length2 = self._pool[index], self._pool_length2[index]
            if self.config.efficacy:
                efficacy = float(worlds.pool_efficacy[index, 0])
        else:
            y = content_vector(action, self.config.dim)
            length2 = portable.dot(y, y)
            if self.config.efficacy:
                efficacy = float(worlds.efficacy_of(np.array(y)[:, None])[0])
        nearness = portable.dot(y, self._ideals[i])
        expected = worlds.mean_reward(nearness, length2, self._lengths[i], efficacy)
        reward = beta(expected, self.config.concentration, self._z[i], self._u[i])
        info = self._info(expected, self._oracles[i], self._catalogue_oracles[i], nearness=nearness)
        if self.config.efficacy:
            info["efficacy"] = efficacy
            info["oracle_width"] = float(worlds.oracle_width[i, 0])
        return self._end_round(self._users[i], action, reward, info)

    def optimal_action(self) -> Any:
        """The best item's index, or the ideal v_hat (with efficacy: the better of v_hat and the best item)."""
        item = int(self._worlds.best_item[self._i, 0])
        if self.action_mode == "select":
            return item
        if self.config.efficacy and self._worlds.item_is_better[self._i, 0]:
            return np.array(self._pool[item], dtype=np.float32)
        return np.array(self._ideals[self._i], dtype=np.float32)


class HareBilinearVector(gym.vector.VectorEnv[dict[str, Any], Any, Any]):
    """Many `HareBilinear` in lockstep, in NumPy: world i with ``seed + i`` gives the single environment's bits.

    ``gymnasium.make_vec("HareBilinear-v0", num_envs=1024)`` makes it. All sessions have one horizon and end together;
    the step after that starts the next session (``AutoresetMode.NEXT_STEP``).

    With ``shared_world=True`` every lane plays the world of lane 0 with its own queries and users: one agent serving
    many users at once. Drift is refused then, since the lanes would move the same user apart.
    """

    metadata = {"render_modes": [], "autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}

    def __init__(
        self, num_envs: int = 1, action_mode: str | None = None, shared_world: bool = False, **knobs: Any
    ) -> None:
        knobs.pop("render_mode", None)
        self.num_envs = lane_count(num_envs)
        self.config = configure(BilinearConfig, knobs, "HareBilinear")
        if shared_world and self.config.drift:
            raise ConfigError("shared_world needs drift=0: the lanes would move the same user apart.")
        self.action_mode: ActionMode = check_mode("HareBilinear", MODES, action_mode)
        self.shared_world = shared_world
        self._knobs = knobs
        self._worlds = _Worlds(self.config)
        self._lanes = np.arange(self.num_envs)
        self.task = _task(self.config, knobs, self.action_mode, None)
        self.single_observation_space = observation_space(self.task)
        self.single_action_space = action_space(self.task)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rngs: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the worlds (with a seed, or the first time) and starts a session in each."""
        if seed is not None or not self._rngs:
            self._rngs = lane_generators(seed, self.num_envs)
            self._worlds.draw_worlds(self._rngs, self.shared_world)
            if self.shared_world:
                self.task = _task(self.config, self._knobs, self.action_mode, self._worlds.pool[:, :, 0].T)
        self._worlds.start_session(self._rngs)
        self._t = 0
        self._i = self._worlds.prepare(0)
        return self._observation(), {}

    def pool_of(self, lane: int) -> Array:
        """The pool of one lane's world, ``(num_items, dim)``."""
        return self._worlds.pool[:, :, lane].T.copy()

    def _observation(self) -> dict[str, Any]:
        worlds, i = self._worlds, self._i
        return {"query": np.ascontiguousarray(worlds.query[:, i].T), "user": worlds.user[i].copy()}

    def step(
        self, actions: Any
    ) -> tuple[dict[str, Any], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays one round in every lane.

        Raises:
            ActionError: Actions of the wrong shape, dtype or range; the round is not spent.
        """
        none = np.zeros(self.num_envs, dtype=np.bool_)
        if self._t >= self.config.horizon:
            observation, info = self.reset()
            return observation, np.zeros(self.num_envs), none, none.copy(), info
        worlds, i = self._worlds, self._i
        y, length2, efficacy = self._judge(actions)
        nearness = portable.dot(y, worlds.ideal[:, i])
        expected = worlds.mean_reward(nearness, length2, worlds.length[i], efficacy)
        reward = beta_batch(
            expected, self.config.concentration, worlds.gamma_normals[:, i], worlds.gamma_uniforms[:, i]
        )
        oracle, catalogue = worlds.oracle[i].copy(), worlds.catalogue_oracle[i].copy()
        info = {
            "expected_reward": expected,
            "oracle_reward": oracle,
            "catalogue_oracle_reward": catalogue,
            "regret": (catalogue if self.action_mode == "select" else oracle) - expected,
            "nearness": nearness,
        }
        if self.config.efficacy:
            info |= {"efficacy": efficacy, "oracle_width": worlds.oracle_width[i].copy()}
        info |= {f"_{key}": np.ones(self.num_envs, dtype=np.bool_) for key in list(info)}
        self._t += 1
        truncated = np.full(self.num_envs, self._t >= self.config.horizon)
        if self._t < self.config.horizon:
            self._i = worlds.prepare(self._t)
        return self._observation(), reward, none, truncated, info

    def _judge(self, actions: Any) -> tuple[Array, Array, Any]:
        """The contents ``(d, W)`` that the actions mean, their squared lengths and efficacies."""
        worlds, W = self._worlds, self.num_envs
        actions = np.asarray(actions)
        if self.action_mode == "select":
            if actions.shape != (W,) or not np.issubdtype(actions.dtype, np.integer):
                raise ActionError(
                    f"Select actions must be {W} integers, not an array of shape {actions.shape} "
                    f"and dtype {actions.dtype}."
                )
            if actions.min() < 0 or actions.max() >= self.config.num_items:
                bad = int(actions[(actions < 0) | (actions >= self.config.num_items)][0])
                raise ActionError(
                    f"Item {bad} is not in the pool of {self.config.num_items}: use 0 to {self.config.num_items - 1}."
                )
            efficacy = worlds.pool_efficacy[actions, self._lanes] if self.config.efficacy else 0.0
            return worlds.items_at(actions), worlds.pool_length2[actions, self._lanes], efficacy
        if actions.shape != (W, self.config.dim) or actions.dtype not in (np.float32, np.float64):
            raise ActionError(
                f"Synthesize actions must be float32 of shape ({W}, {self.config.dim}), not {actions.dtype} "
                f"of shape {actions.shape}."
            )
        y = actions.T.astype(np.float64)
        length = np.sqrt(portable.dot(y, y))
        if not np.isfinite(length).all():
            raise ActionError("A synthesize action must be finite; this one holds NaN or infinity.")
        y = np.where(length > 1.0, y / np.maximum(length, 1.0), y)
        efficacy = worlds.efficacy_of(y) if self.config.efficacy else 0.0
        return y, np.asarray(portable.dot(y, y)), efficacy


def _task(config: BilinearConfig, knobs: dict[str, Any], mode: ActionMode, pool: Array | None) -> TaskSpec:
    """The task of a world; before the first reset its pool is of the right shape and zero."""
    linear = config.nonlinearity == 0.0
    return TaskSpec(
        id="HareLinear-v0" if linear else "HareBilinear-v0",
        action_mode=mode,
        horizon=config.horizon,
        num_users=config.num_users,
        query_dim=config.dim,
        content_dim=config.dim,
        num_items=config.num_items,
        pool=np.zeros((config.num_items, config.dim)) if pool is None else pool,
        kwargs=dict(knobs),
    )
