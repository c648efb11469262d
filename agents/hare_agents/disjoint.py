"""What disjoint linear bandits share: K independent ridge posteriors, their context, learning and saving.

`RidgeBank` gives exact posteriors in float64. A decision reads about half of what K d x d matrices hold, and less
while items have been shown less than d/2 times.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from hare_agents.items import Array, best_item, round_pool, top_items
from hare_agents.linear import REFACTOR_EVERY, take_array, unusable
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec
from hare_gym.environment import item_index
from hare_gym.errors import ConfigError, DataError

_MAX_BYTES = 8 * 2**30

# A Sherman-Morrison step that shrinks a variance by more than this would forget as many digits.
_MAX_SHRINK = 1e6


class RidgeBank:
    """K independent ridge regressions: arm k has A_k = lambda I + sum x x^T and theta_k = A_k^-1 sum r x.

    An arm's inverse is kept in one of two exact forms, whichever is quicker to read:

    - *low-rank*, up to (d + 1)/2 updates: ``A_k^-1 = I/lambda - sum_i w_i w_i^T``, where ``w_i = v/sqrt(1 + x^T v)``
      with ``v = A_k^-1 x`` is what Sherman-Morrison subtracts at the i-th update. The w of all arms are the rows of
      one matrix, so all ``x^T A_k^-1 x = x^T x/lambda - sum_i (w_i^T x)^2`` are one matrix-vector product and one
      sum by owner.
    - *dense*: the upper triangle of A_k^-1, packed by columns as in LAPACK. All ``x^T A_k^-1 x`` are one
      matrix-vector product of the (arms, d(d+1)/2) triangles with that of ``x x^T``, off-diagonals doubled.

    Sherman-Morrison forgets digits when features are nearly collinear, so A_k is kept too. Inverse and theta come
    from it by Cholesky when an arm becomes dense, at each ``refactor_every``-th update of a dense arm, and wherever
    one update tells so much that the formula would lose six digits at once.

    Attributes:
        theta: The posterior means, ``(K, d)``.
        counts: Updates of each arm, int64 ``(K,)``.
    """

    def __init__(self, num_arms: int, dim: int, ridge: float, refactor_every: int = REFACTOR_EVERY) -> None:
        K, d, packed = num_arms, dim, dim * (dim + 1) // 2
        if 3 * 8 * K * packed > _MAX_BYTES:
            raise ConfigError(
                f"{K} disjoint models of width {d} can need {3 * 8 * K * packed / 2**30:.1f} GiB, and the limit is "
                f"{_MAX_BYTES / 2**30:.0f}. Use user_features=False, fewer items, or a joint model."
            )
        self.num_arms, self.dim, self.ridge, self.refactor_every = K, d, ridge, refactor_every
        self.rank_limit = (d + 1) // 2
        self.theta = np.zeros((K, d))
        self.counts = np.zeros(K, dtype=np.int64)
        self._b = np.zeros((K, d))
        # the operating system backs the large arrays with memory only where they have been written
        self._gram = np.zeros((K, packed))  # A_k - lambda I

        self._W = np.empty((K * self.rank_limit, d))
        self._owner = np.empty(K * self.rank_limit, dtype=np.int64)
        self._rank = np.empty(K * self.rank_limit, dtype=np.int64)  # row j is the _rank[j]-th of its owner
        self._rows_of = np.empty((K, self.rank_limit), dtype=np.int64)
        self._num_rows = 0

        self._P = np.empty((K, packed))
        self._dense_arms = np.empty(K, dtype=np.int64)
        self._dense_slot = np.full(K, -1, dtype=np.int64)
        self._num_dense = 0

        columns = np.arange(d)
        self._diagonal = columns * (columns + 3) // 2
        self._twice = np.full(packed, 2.0)
        self._twice[self._diagonal] = 1.0
        self._xx = np.empty(packed)
        self._means = np.empty(K)
        self._dense_variances = np.empty(K)
        self._projections = np.empty(K * self.rank_limit)

    def posterior(self, x: Array) -> tuple[Array, Array]:
        """Mean ``x . theta_k`` and variance ``x^T A_k^-1 x`` of every arm's score, each ``(K,)``.

        The means are a buffer that the next call overwrites; the variances are the caller's.
        """
        rows, dense = self._num_rows, self._num_dense
        means = np.dot(self.theta, x, out=self._means)
        if dense < self.num_arms:
            prior = x.dot(x) / self.ridge
            if rows:
                projections = np.dot(self._W[:rows], x, out=self._projections[:rows])
                np.multiply(projections, projections, out=projections)
                variances = prior - np.bincount(self._owner[:rows], projections, self.num_arms)
            else:
                variances = np.full(self.num_arms, prior)
        else:
            variances = np.empty(self.num_arms)
        if dense:
            xx = self._xx
            xx.fill(0.0)
            blas.dspr(self.dim, 1.0, x, xx, overwrite_ap=1)
            np.multiply(xx, self._twice, out=xx)
            found = np.dot(self._P[:dense], xx, out=self._dense_variances[:dense])
            variances[self._dense_arms[:dense]] = found
        # rounding can leave a variance of zero slightly below it
        return means, np.maximum(variances, 0.0, out=variances)

    def update(self, k: int, x: Array, reward: float) -> None:
        """Adds the observation ``(x, reward)`` to arm k; x is finite.

        Raises:
            DataError: The reward is NaN or infinite, or A_k would no longer be positive definite in float64;
                nothing has been learned then.
        """
        if not math.isfinite(reward):
            raise unusable(x, reward)
        count, slot = int(self.counts[k]), int(self._dense_slot[k])
        if slot >= 0:
            v = blas.dspmv(self.dim, 1.0, self._P[slot], x)
            s = 1.0 + v.dot(x)
            by_cholesky = (count + 1) % self.refactor_every == 0 or not 1.0 <= s <= _MAX_SHRINK
        else:
            by_cholesky = count == self.rank_limit or x.dot(x) > _MAX_SHRINK * self.ridge
        if by_cholesky:
            self._update_by_cholesky(k, x, reward)
            return
        if slot >= 0:
            blas.dspr(self.dim, -1.0 / s, v, self._P[slot], overwrite_ap=1)
        else:
            v = x / self.ridge
            if count:
                W_k = self._W[self._rows_of[k, :count]]
                v -= W_k.dot(x).dot(W_k)
            s = 1.0 + v.dot(x)
            row = self._num_rows
            np.multiply(v, 1.0 / math.sqrt(s), out=self._W[row])
            self._owner[row], self._rank[row], self._rows_of[k, count] = k, count, row
            self._num_rows = row + 1
        theta, b = self.theta[k], self._b[k]
        v *= (reward - theta.dot(x)) / s
        theta += v
        b += reward * x
        blas.dspr(self.dim, 1.0, x, self._gram[k], overwrite_ap=1)
        self.counts[k] = count + 1

    def _update_by_cholesky(self, k: int, x: Array, reward: float) -> None:
        gram, b = blas.dspr(self.dim, 1.0, x, self._gram[k]), self._b[k] + reward * x
        A = gram.copy()
        A[self._diagonal] += self.ridge
        factor, failed = lapack.dpptrf(self.dim, A, overwrite_ap=1)
        if failed:
            raise DataError(
                f"Item {k}'s precision matrix is no longer positive definite: the contexts are too large or too "
                f"collinear for the ridge {self.ridge}. Scale them to a length near 1 or use a larger ridge."
            )
        if self._dense_slot[k] < 0:
            self._leave_low_rank(k)
        self.theta[k] = lapack.dpptrs(self.dim, factor, b[:, None])[0][:, 0]
        self._P[self._dense_slot[k]] = lapack.dpptri(self.dim, factor, overwrite_ap=1)[0]
        self._gram[k], self._b[k] = gram, b
        self.counts[k] += 1

    def _leave_low_rank(self, k: int) -> None:
        slot, count = self._num_dense, int(self.counts[k])
        self._dense_arms[slot], self._dense_slot[k] = k, slot
        self._num_dense = slot + 1
        # rows from the end fill the places that arm k leaves
        freed = self._rows_of[k, :count]
        end = self._num_rows - count
        holes = freed[freed < end]
        tail = np.arange(end, self._num_rows)
        movers = tail[self._owner[tail] != k]
        self._W[holes] = self._W[movers]
        self._owner[holes] = self._owner[movers]
        self._rank[holes] = self._rank[movers]
        self._rows_of[self._owner[holes], self._rank[holes]] = holes
        self._num_rows = end

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of everything learned; the reals are float64, the indices int64."""
        rows, dense = self._num_rows, self._num_dense
        parts = {
            "theta": self.theta,
            "b": self._b,
            "gram": self._gram,
            "counts": self.counts,
            "low_rank": self._W[:rows],
            "low_rank_owner": self._owner[:rows],
            "low_rank_rank": self._rank[:rows],
            "inverse": self._P[:dense],
            "inverse_owner": self._dense_arms[:dense],
        }
        return {name: part.copy() for name, part in parts.items()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what :meth:`state` gave, bit for bit.

        Raises:
            DataError: An array is missing, has another dtype or shape, is not finite, or contradicts another;
                nothing is changed then.
        """
        K, d, packed = self.num_arms, self.dim, self._gram.shape[1]
        theta, b = take_array(state, "theta", (K, d)), take_array(state, "b", (K, d))
        gram, counts = take_array(state, "gram", (K, packed)), take_array(state, "counts", (K,), np.int64)
        owner = take_array(state, "low_rank_owner", None, np.int64)
        rows = len(owner)
        W, rank = take_array(state, "low_rank", (rows, d)), take_array(state, "low_rank_rank", (rows,), np.int64)
        dense_arms = take_array(state, "inverse_owner", None, np.int64)
        dense = len(dense_arms)
        P = take_array(state, "inverse", (dense, packed))
        low_rank_counts = np.where(np.isin(np.arange(K), dense_arms), 0, counts)
        expected = [(k, i) for k, count in enumerate(low_rank_counts.tolist()) for i in range(count)]
        if (
            sorted(zip(owner.tolist(), rank.tolist(), strict=True)) != expected
            or low_rank_counts.max() > self.rank_limit
            or len(np.unique(dense_arms)) < dense
            or (dense and not 0 <= dense_arms.min() <= dense_arms.max() < K)
            or counts.min() < 0
        ):
            raise DataError(
                "The state's counts, owners and ranks contradict each other: it was altered after saving."
            )
        self.theta, self._b, self._gram, self.counts = theta, b, gram, counts
        self._W[:rows], self._owner[:rows], self._rank[:rows] = W, owner, rank
        self._rows_of[owner, rank] = np.arange(rows)
        self._P[:dense], self._dense_arms[:dense] = P, dense_arms
        self._dense_slot.fill(-1)
        self._dense_slot[dense_arms] = np.arange(dense)
        self._num_rows, self._num_dense = rows, dense


class Context:
    """Makes ``x = [query, 1, one-hot of the user]`` of an observation, in a buffer of its own.

    Args:
        spec: The task; the one-hot is left out where it has one user.
        intercept: Whether x has the 1.
        user_features: Whether x has the one-hot of the user.
    """

    def __init__(self, spec: TaskSpec, intercept: bool, user_features: bool) -> None:
        self.query_dim = spec.query_dim
        self.num_users = spec.num_users if user_features and spec.num_users > 1 else 0
        self.dim = spec.query_dim + intercept + self.num_users
        self._x = np.zeros(self.dim)
        self._query = self._x[: spec.query_dim]
        self._user_start = spec.query_dim + intercept
        if intercept:
            self._x[spec.query_dim] = 1.0
        self._hot = self._user_start

    def __call__(self, observation: Observation) -> Array:
        """The context of one round, ``(dim,)``; the next call overwrites it.

        Raises:
            DataError: A query of another shape, or NaN, infinite or too large to square; a user not of this task.
        """
        query = observation["query"]
        if query.shape != (self.query_dim,):
            raise DataError(f"The query must have shape ({self.query_dim},), not {query.shape}.")
        self._query[:] = query
        if not math.isfinite(self._query.dot(self._query)):
            raise unusable(self._query, 0.0)
        if self.num_users:
            user = int(observation["user"])
            if not 0 <= user < self.num_users:
                raise DataError(
                    f"User {user} is not among the task's {self.num_users}: use 0 to {self.num_users - 1}."
                )
            self._x[self._hot] = 0.0
            self._hot = self._user_start + user
            self._x[self._hot] = 1.0
        return self._x


class DisjointConfig(Protocol):
    """The hyperparameters that every disjoint agent has."""

    @property
    def ridge(self) -> float:
        """Prior precision of an item's coefficients, lambda."""

    @property
    def intercept(self) -> bool:
        """Whether the context has a constant 1."""

    @property
    def user_features(self) -> bool:
        """Whether the context has a one-hot of the user, where the task has more than one."""


class DisjointAgent(Agent):
    """An agent with one ridge model of the context for each item. A subclass gives `_scores`.

    Each item of a slate is credited with the slate's reward.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate"})
    config: DisjointConfig

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior.

        Raises:
            ConfigError: The models of this task would not fit in memory.
        """
        super().reset(spec, rng)
        self._context = Context(spec, self.config.intercept, self.config.user_features)
        self.bank = RidgeBank(spec.num_items, self._context.dim, self.config.ridge)
        self._last_widths: Array | None = None

    @abstractmethod
    def _scores(self, means: Array, widths: Array) -> Array:
        """The items' scores from their expected rewards and standard deviations, all ``(num_items,)``."""

    def scores(self, observation: Observation) -> Array:
        """The score of every item under the agent's rule, ``(num_items,)``."""
        means, variances = self.bank.posterior(self._context(observation))
        self._last_widths = np.sqrt(variances, out=variances)
        return self._scores(means, self._last_widths)

    def act(self, observation: Observation) -> Action:
        """The item, or the slate of items, with the highest scores."""
        scores, usable = self.scores(observation), round_pool(self.spec, observation)[1]
        if self.spec.action_mode == "slate":
            return top_items(scores, self.spec.slate_size, usable, self.rng)
        return best_item(scores, usable, self.rng)

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns the reward of the item, or of each item of the slate.

        Raises:
            ActionError: An item that is not in the pool.
            DataError: A context or reward that is not finite; nothing has been learned then.
        """
        x = self._context(observation)
        items = action.tolist() if self.spec.action_mode == "slate" else (action,)
        for item in items:
            self.bank.update(item_index(item, self.spec.num_items), x, reward)

    def state(self) -> dict[str, NDArray[Any]]:
        """The posteriors."""
        return self.bank.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another type or task."""
        self.bank.load_state(state)

    def diagnostics(self) -> dict[str, float]:
        """The last round's mean width over items, and the share of items ever learned about."""
        shown = {"items_learned": float(np.count_nonzero(self.bank.counts)) / self.spec.num_items}
        if self._last_widths is not None:
            shown["mean_width"] = float(self._last_widths.mean())
        return shown
