"""``HareMoods-v0``: what a user wants depends on the mood that a query evokes. A world kept for final runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec
from hare_gym.environment import Environment, content_vector, item_index
from hare_gym.envs.noise import beta, stream
from hare_gym.errors import ConfigError

Array = NDArray[np.float64]

# Rounds of randomness drawn at once; part of what a seed means, so it never changes.
_BLOCK = 128
# Distances computed at once when the best items are sought.
_CHUNK_VALUES = 2**17


@dataclass(frozen=True)
class MoodsConfig:
    """The knobs of `HareMoods`. The defaults are frozen: they are what the id ``-v0`` means.

    Attributes:
        horizon: Rounds in a session, T.
        query_dim: Length of queries, q.
        content_dim: Length of items, d.
        relevant_dim: Dimensions of an item that anyone's taste looks at, r; less than ``content_dim``.
        num_users: Users.
        num_items: Items in the pool, N.
        num_moods: Moods, K.
        sharpness: How sharply the mood changes with the query, tau; at 0 every query evokes all moods alike.
        individuality: iota. At 1 each user has tastes of their own; at 0 all share one in each mood.
        radius: Length of the tastes.
        width: Distance from the ideal at which half of the reward is lost, sigma.
        lowest_ceiling: The best mean reward of a mood is drawn between this and 1.
        concentration: kappa of the Beta reward; its variance is mu(1 - mu)/(kappa + 1).
    """

    horizon: int = field(default=10_000, metadata={"low": 1})
    query_dim: int = field(default=12, metadata={"low": 1})
    content_dim: int = field(default=10, metadata={"low": 3})
    relevant_dim: int = field(default=5, metadata={"low": 2})
    num_users: int = field(default=30, metadata={"low": 1})
    num_items: int = field(default=100, metadata={"low": 2})
    num_moods: int = field(default=4, metadata={"low": 1})
    sharpness: float = field(default=8.0, metadata={"low": 0, "high": 30})
    individuality: float = field(default=0.6, metadata={"low": 0, "high": 1})
    radius: float = field(default=0.8, metadata={"above": 0, "high": 1})
    width: float = field(default=0.6, metadata={"low": 0.1})
    lowest_ceiling: float = field(default=0.6, metadata={"low": 0, "high": 1})
    concentration: float = field(default=10.0, metadata={"above": 0})

    def __post_init__(self) -> None:
        if self.relevant_dim >= self.content_dim:
            raise ConfigError(
                f"relevant_dim must be less than content_dim ({self.content_dim}), not {self.relevant_dim}."
            )


class HareMoods(Environment):
    """A population with moods: the query decides which of a user's tastes counts, and half of an item means nothing.

    It is kept for final runs. It was built after `HareBilinear` so that agents can be judged in a world of another
    kind, so do not design or tune an agent on it: its figures would then say nothing about an unseen world.

    A query x evokes K moods to some degree each, and user i has an ideal content in every mood. What the user wants
    now is their mixture. The reward of content y depends on its distance from there, but only in the r dimensions
    that P, a hidden rotation, picks out of d::

        p     = softmax(tau W x)                               one weight a mood; W has unit rows
        c_ik  = radius normalise((1 - iota) m_k + iota e_ik)   unit vectors: m_k shared, e_ik the user's own
        a     = sum_k p_k c_ik                                 the ideal, in r dimensions
        s     = sum_k p_k s_k                                  the ceiling, s_k ~ U(lowest_ceiling, 1)
        mu(y) = s / (1 + (|P y - a| / sigma)^4)                P is r x d with orthonormal rows
        reward ~ Beta(kappa mu, kappa (1 - mu)), whose mean is exactly mu

    The reward is nearly flat close to the ideal, half of its best at distance sigma, and nearly flat again far away.
    The d - r directions that P leaves out are distractors, but no coordinate is: P mixes all of them.

    P, W, the tastes, the ceilings s_k and the pool (N uniformly drawn unit vectors) are drawn by ``reset(seed=...)``;
    a reset without a seed starts another session in the same world. The noise of round t depends on the seed and t
    alone, so agents that are compared on a seed meet the same queries, users and luck.

    **Action space.** ``select``: ``Discrete(num_items)``. ``synthesize``: ``Box(-1, 1, (content_dim,), float32)``; a
    vector longer than 1 is pulled back to the unit ball.

    **Observation space.** ``query``: ``Box(query_dim)``, float64, a unit vector. ``user``: ``Discrete(num_users)``.
    The pool is in ``env.unwrapped.task.pool``. The observation after the last round repeats the last round's.

    **Reward.** In [0, 1], Beta-distributed with mean mu(y); ``info`` holds the factors ``ceiling`` (s) and ``fit``.
    Computed from additions, products, quotients and square roots in a fixed order, so that recorded actions replay to
    the same bits on any machine.

    **Oracle.** Exact. mu falls with ``|P y - a|``, which is at least 0. As the rows of P are orthonormal,
    ``y = P^T a`` has ``P y = a``, and its length is ``|a| <= sum_k p_k |c_ik| = radius <= 1``, so it lies in the unit
    ball: the best content earns s. (It is not the only one: any y with P y = a does.) The best item is a maximum over
    the N items. In ``select`` regret is counted against the best item, in ``synthesize`` against the best content.

    **Knobs.** `MoodsConfig` lists them all. ``sharpness`` and ``num_moods`` set how far the world is from one taste a
    user (at 0, or with one mood, the query says nothing), ``individuality`` how much there is to learn about each
    user, ``relevant_dim`` how much of an item means anything.

    **Version history.** v0: first version.
    """

    modes: ClassVar[tuple[ActionMode, ...]] = ("select", "synthesize")

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config = configure(MoodsConfig, knobs, "HareMoods")
        self._knobs = knobs
        self._set_task(self._task(np.zeros((self.config.num_items, self.config.content_dim))))

    def _task(self, pool: Array) -> TaskSpec:
        c = self.config
        return TaskSpec(
            id="HareMoods-v0",
            action_mode=self.action_mode,
            horizon=c.horizon,
            num_users=c.num_users,
            query_dim=c.query_dim,
            content_dim=c.content_dim,
            num_items=c.num_items,
            pool=pool,
            kwargs=dict(self._knobs),
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws a world (with a seed, or the first time) and starts a session in it."""
        super().reset(seed=seed)
        if seed is not None or not hasattr(self, "_P"):
            self._draw_world(self.np_random)
        self._rounds = stream(int(self.np_random.integers(2**63)))
        self._t = 0
        self._prepare()
        self._start_rendering()
        return self._observation(), {}

    def _draw_world(self, rng: np.random.Generator) -> None:
        c = self.config
        self._P = portable.orthonormal_columns(rng.standard_normal((c.content_dim, c.relevant_dim))).T  # (r, d)
        self._W = portable.normalise(rng.standard_normal((c.query_dim, c.num_moods)))  # (q, K)
        shared = portable.normalise(rng.standard_normal((c.relevant_dim, c.num_moods)))[:, :, None]
        own = portable.normalise(rng.standard_normal((c.relevant_dim, c.num_moods, c.num_users)))
        tastes = portable.normalise((1.0 - c.individuality) * shared + c.individuality * own)
        self._tastes = c.radius * tastes  # (r, K, users)
        self._ceilings = c.lowest_ceiling + (1.0 - c.lowest_ceiling) * rng.random(c.num_moods)  # (K,)
        pool = portable.normalise(rng.standard_normal((c.content_dim, c.num_items)))  # (d, N)
        self._relevant = portable.matvec(self._P[:, :, None], pool)  # (r, N)
        # a single round is quicker in Python floats than in arrays
        self._P_rows = self._P.tolist()
        self._relevant_rows = self._relevant.T.tolist()
        self.task = self._task(pool.T)

    def _prepare(self) -> None:
        self._i = self._t % _BLOCK
        if self._i == 0:
            self._draw_block()

    def _draw_block(self) -> None:
        """Everything about the next rounds that does not depend on the action."""
        c = self.config
        normals = self._rounds.standard_normal((c.query_dim + 4, _BLOCK))
        uniforms = self._rounds.random((7, _BLOCK))
        x = portable.normalise(normals[: c.query_dim])  # (q, L)
        user = (uniforms[0] * c.num_users).astype(np.int64)  # (L,)
        weights = portable.exp(c.sharpness * portable.dot(self._W[:, :, None], x[:, None]))  # (K, L)
        p = weights / portable.dot(weights, np.ones(c.num_moods))
        ceiling = portable.dot(p, self._ceilings)  # (L,)
        ideal = portable.dot(np.moveaxis(self._tastes[:, :, user], 1, 0), p[:, None])  # (r, L)
        best, distance2 = self._nearest_items(ideal)
        self._queries = np.ascontiguousarray(x.T)
        self._users = user.tolist()
        self._ideals = ideal.T.tolist()
        self._oracles = ceiling.tolist()
        self._best_items = best.tolist()
        self._catalogue_oracles = (ceiling * self._fit(distance2)).tolist()
        self._z = normals[c.query_dim :].T.tolist()
        self._u = uniforms[1:].T.tolist()

    def _nearest_items(self, ideal: Array) -> tuple[NDArray[np.int64], Array]:
        """For each ideal ``(r, L)`` the item nearest to it and its squared distance, both ``(L,)``."""
        L = ideal.shape[1]
        best, distance2 = np.empty(L, dtype=np.int64), np.empty(L)
        length = max(1, _CHUNK_VALUES // self.config.num_items)
        for first in range(0, L, length):
            rounds = slice(first, first + length)
            gap = self._relevant[:, :, None] - ideal[:, None, rounds]  # (r, N, rounds)
            distances2 = portable.dot(gap, gap)
            best[rounds], distance2[rounds] = distances2.argmin(axis=0), distances2.min(axis=0)
        return best, distance2

    def _fit(self, distance2: Any) -> Any:
        """``1 / (1 + (distance / sigma)^4)``, of a float or an array."""
        ratio2 = distance2 * (1.0 / (self.config.width * self.config.width))
        return 1.0 / (1.0 + ratio2 * ratio2)

    def _observation(self) -> dict[str, Any]:
        return {"query": self._queries[self._i].copy(), "user": np.int64(self._users[self._i])}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            ActionError: An action of the wrong type, shape, dtype or range; the round is not spent.
        """
        i = self._i
        if self.action_mode == "select":
            z = self._relevant_rows[item_index(action, self.config.num_items)]
        else:
            y = content_vector(action, self.config.content_dim)
            z = [portable.dot(row, y) for row in self._P_rows]
        gap = [have - want for have, want in zip(z, self._ideals[i], strict=True)]
        fit = self._fit(portable.dot(gap, gap))
        oracle, catalogue = self._oracles[i], self._catalogue_oracles[i]
        expected = oracle * fit
        reward = beta(expected, self.config.concentration, self._z[i], self._u[i])
        info = self._info(expected, oracle, catalogue, ceiling=oracle, fit=fit)
        return self._end_round(self._users[i], action, reward, info)

    def optimal_action(self) -> Any:
        """The best item's index, or the shortest of the best contents, P^T a."""
        if self.action_mode == "select":
            return self._best_items[self._i]
        columns = zip(*self._P_rows, strict=True)
        return np.array([portable.dot(column, self._ideals[self._i]) for column in columns], dtype=np.float32)
