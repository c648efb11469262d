"""The Bayesian attention head: W_Q by ridge regression, user factors e_u by Kalman's filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dposv

from hare_agents.hare.replay import Replay
from hare_agents.linear import Array, add_outer, take_array, with_one
from hare_gym.errors import DataError

# Coefficients of W_Q at most: where queries are long, their leading principal components stand for them.
_MOST_FEATURES = 800
# Rounds between two solutions of the normal equations: at least so many, and this share of the rounds so far.
_SOLVE_AFTER, _SOLVE_SHARE = 64, 1 / 8
# Growth of the data between two complete fits, so that all of them together cost a few times the last.
_GROWTH = 2.0
_ROWS = 2048


class BayesianHead:
    """r = c + q·y with the query q = W_Q ([1, x] ⊗ [1, e_u]): attention that the user's state multiplies.

    The core adds the user to the query; here the user factor e_u (r numbers) turns the query's whole map. For fixed
    factors the model is linear in W_Q, for fixed W_Q linear in each factor, and both have Gaussian posteriors:

    - W_Q is the ridge regression of r on [1, x] ⊗ [1, e_u] ⊗ y; its normal equations take in each block of rounds.
    - e_u ~ N(0, I) a priori; after each round e_u and its covariance P_u follow by Kalman's filter, given W_Q.
    - Now and then both are fitted anew to all remembered rounds, in turn (a coordinate step each of the joint
      posterior mode). The first factors are the leading principal components of the core's states u_t.

    A user takes r² + r floats. A round costs O((q + 1)(r + 1) d + r²), and its share of the fits.

    Attributes:
        W_Q: ``(1 + p, (1 + r) d)``, p being the length of the (reduced) query.
        E: The factors by the core's slot, ``(slots, r)``; slot 0 is an unknown user's, zero.
        P: Their covariances in units of the noise, ``(slots, r, r)``.
        ready: Whether it has been fitted.
    """

    def __init__(
        self,
        query_dim: int,
        content_dim: int,
        rank: int,
        ridge: float,
        warmup: int,
        likeness: float = 0.0,
        curvature: float = 0.0,
    ) -> None:
        d, r = content_dim, rank
        most = (_MOST_FEATURES - 1) // (d * (1 + r)) - 1
        p = max(0, min(query_dim, most))
        self.rank, self.content_dim, self._ridge = r, d, ridge
        self.directions: Array | None = None if p == query_dim else np.zeros((query_dim, p))
        self.K = 1 + (1 + p) * (1 + r) * d
        self.W_Q: Array = np.zeros((1 + p, (1 + r) * d))
        self.c = 0.0
        self.noise = 0.02
        self.likeness, self.curvature = likeness, curvature
        self.ready = False
        self._next_fit = warmup
        self._taken = 0
        self._A: Array = np.zeros((self.K, self.K))
        self._b: Array = np.zeros(self.K)
        self._rows: Array = np.empty((0, self.K))
        self._x1 = np.ones(1 + p)
        self._e1 = np.ones(1 + r)
        self._allocate(8)

    def _allocate(self, slots: int) -> None:
        self.E: Array = np.zeros((slots, self.rank))
        self.P: Array = np.tile(np.eye(self.rank), (slots, 1, 1))

    def _grow(self, slot: int) -> None:
        if slot >= len(self.E):
            E, P = self.E, self.P
            self._allocate(2 * slot)
            self.E[: len(E)], self.P[: len(P)] = E, P

    def restart(self, slot: int) -> None:
        """Lets the factor of a slot begin anew: its user is another now."""
        self._grow(slot)
        self.E[slot] = 0.0
        self.P[slot] = np.eye(self.rank)

    def query(self, x: Array, slot: int) -> tuple[Array, Array]:
        """The head's query for one round.

        Returns:
            q ``(d,)``, and what it is made of, ``(1 + r, d)``: q = [1, e_u] @ parts.
        """
        self._x1[1:] = x if self.directions is None else x @ self.directions
        parts = (self._x1 @ self.W_Q).reshape(1 + self.rank, -1)
        if slot < len(self.E):
            self._e1[1:] = self.E[slot]
        else:
            self._e1[1:] = 0.0
        q: Array = self._e1 @ parts
        return (q + self.likeness * x if self.likeness else q), parts

    def factors(self, slots: NDArray[np.intp]) -> Array:
        """e_u by the core's slots, ``(n, r)``; zero for one that has none yet."""
        return np.asarray(self.E.take(np.where(slots < len(self.E), slots, 0), axis=0))

    def queries(self, X: Array, E: Array) -> tuple[Array, Array]:
        """As `query` for many rounds: of x ``(..., q)`` and factors ``(..., r)``, ``(..., d)`` and parts."""
        parts = self._parts(X)
        Q = np.vecmat(with_one(E), parts)
        return np.asarray(Q + self.likeness * X if self.likeness else Q), parts

    def _parts(self, X: Array) -> Array:
        x1 = with_one(X if self.directions is None else X @ self.directions)
        parts = x1.reshape(-1, x1.shape[-1]) @ self.W_Q
        return parts.reshape(*X.shape[:-1], 1 + self.rank, -1)

    def update(self, slot: int, parts: Array, y: Array, r: float) -> None:
        """Kalman's step for one user's factor: the reward told g·e_u + noise.

        Args:
            slot: The user's.
            parts: As `query` gave them.
            y: The content shown, ``(d,)``.
            r: The reward, less its prior mean.
        """
        if not self.ready:
            return
        self._grow(slot)
        all_g = parts @ y
        g_0, g = all_g.item(0), all_g[1:]
        P, e = self.P[slot], self.E[slot]
        Pg = P @ g
        gain = Pg * (1.0 / (self.noise + float(Pg @ g)))
        e += gain * (r - self.c - g_0 - float(g @ e))
        add_outer(P, Pg, gain, -1.0)

    def learn(self, replay: Replay, states: Callable[[], Array]) -> bool:
        """Takes in the rounds that wait, if enough do; fits everything anew when the data has doubled.

        Args:
            replay: The remembered rounds.
            states: Tells u_t by slot, ``(slots, d)``, from which the first factors are taken.

        Returns:
            Whether W_Q has changed.
        """
        if replay.total >= self._next_fit:
            self._fit(replay, states)
            self._next_fit = replay.total + min(int(replay.total * (_GROWTH - 1.0)), replay.capacity)
            return True
        if self.ready and replay.total - self._taken >= max(_SOLVE_AFTER, replay.total * _SOLVE_SHARE):
            self._take_in(replay, replay.since(self._taken))
            self._solve()
            return True
        return False

    def _fit(self, replay: Replay, states: Callable[[], Array]) -> None:
        rounds = replay.since(0)
        seen = np.unique(replay.slot[rounds])
        self._grow(int(seen[-1]))
        if self.ready:
            self._fit_factors(replay, rounds, seen)
        else:
            if self.directions is not None:
                X = replay.x[rounds] - replay.x[rounds].mean(axis=0)
                self.directions = np.linalg.eigh(X.T @ X)[1][:, ::-1][:, : self.directions.shape[1]].copy()
            deviations = states()[seen]
            deviations = deviations - deviations.mean(axis=0)
            U, S, _ = np.linalg.svd(deviations, full_matrices=False)
            k = min(self.rank, len(S))
            self.E[seen, :k] = U[:, :k] * S[:k]
        self._standardise(seen)
        self._A[:] = 0.0
        np.fill_diagonal(self._A, self._ridge)
        self._A[0, 0] = 1e-3
        self._b[:] = 0.0
        self._take_in(replay, rounds)
        self._solve()
        self.ready = True
        self._fit_factors(replay, rounds, seen, covariances_only=True)

    def _standardise(self, seen: NDArray[np.intp]) -> None:
        """Mean zero and mean square one over the users: what the prior of e_u says, and W_Q has the rest."""
        known: NDArray[np.bool_] = np.asarray(self.E.any(axis=1))
        known[seen] = True
        known[0] = False
        self.E[known] -= self.E[seen].mean(axis=0)
        scale = float(np.sqrt(np.vecdot(self.E[seen], self.E[seen]).mean()))
        if scale > 1e-9:
            self.E[known] /= scale

    def _fit_factors(
        self, replay: Replay, rounds: NDArray[np.intp], seen: NDArray[np.intp], covariances_only: bool = False
    ) -> None:
        """Every remembered user's factor by its own ridge regression, given W_Q."""
        r = self.rank
        precision = np.zeros((len(self.E), r, r))
        b = np.zeros((len(self.E), r))
        for start in range(0, len(rounds), _ROWS):
            chunk = rounds[start : start + _ROWS]
            G = np.matvec(self._parts(replay.x[chunk]), replay.y[chunk])
            slots, g = replay.slot[chunk], G[:, 1:]
            np.add.at(precision, slots, g[:, :, None] * g[:, None, :])
            if not covariances_only:
                np.add.at(b, slots, g * (self._deviations(replay, chunk) - self.c - G[:, 0])[:, None])
        self.P[seen] = np.linalg.inv(precision[seen] / self.noise + np.eye(r))
        if not covariances_only:
            self.E[seen] = np.matvec(self.P[seen], b[seen]) / self.noise

    def _take_in(self, replay: Replay, rounds: NDArray[np.intp]) -> None:
        for start in range(0, len(rounds), _ROWS):
            chunk = rounds[start : start + _ROWS]
            slots, n = replay.slot[chunk], len(chunk)
            self._grow(int(slots.max()))
            X = replay.x[chunk]
            x1, e1 = with_one(X if self.directions is None else X @ self.directions), with_one(self.E[slots])
            features = (x1[:, :, None] * e1[:, None, :]).reshape(n, -1)
            if len(self._rows) < n:
                # kept, since fresh memory would cost as much as the arithmetic
                self._rows = np.empty((n, self.K))
            rows = self._rows[:n]
            rows[:, 0] = 1.0
            np.multiply(
                features[:, :, None], replay.y[chunk][:, None], out=rows[:, 1:].reshape(n, -1, self.content_dim)
            )
            # the matrix's lower triangle in Fortran's order is the upper one in ours
            dsyrk(1.0, rows.T, beta=1.0, c=self._A.T, lower=1, overwrite_c=1)
            self._b += self._deviations(replay, chunk) @ rows
        self._taken = replay.total

    def _deviations(self, replay: Replay, rounds: NDArray[np.intp]) -> Array:
        """The remembered rewards less their prior mean."""
        r = replay.r[rounds]
        if self.likeness:
            r = r - self.likeness * np.vecdot(replay.x[rounds], replay.y[rounds])
        if self.curvature:
            r = r + self.curvature * np.vecdot(replay.y[rounds], replay.y[rounds])
        return r

    def _solve(self) -> None:
        _, solution, failed = dposv(self._A.T, self._b, lower=1)
        if failed:
            raise DataError("The attention head's normal equations are singular: use a larger ridge.")
        self.c = float(solution[0])
        self.W_Q = solution[1:].reshape(self.W_Q.shape)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as arrays."""
        arrays = {"W_Q": self.W_Q, "E": self.E, "P": self.P, "A": self._A, "b": self._b}
        if self.directions is not None:
            arrays["directions"] = self.directions
        return {name: array.copy() for name, array in arrays.items()} | {
            "c": np.array(self.c),
            "counts": np.array([self.ready, self._next_fit, self._taken], dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task."""
        slots, r = len(state["E"]) if "E" in state else 0, self.rank
        W_Q, A, b = (
            take_array(state, "W_Q", self.W_Q.shape),
            take_array(state, "A", self._A.shape),
            take_array(state, "b", (self.K,)),
        )
        E, P = take_array(state, "E", (slots, r)), take_array(state, "P", (slots, r, r))
        c, counts = take_array(state, "c", ()), take_array(state, "counts", (3,), np.int64)
        if self.directions is not None:
            self.directions = take_array(state, "directions", self.directions.shape)
        self.W_Q, self._A, self._b, self.E, self.P, self.c = W_Q, A, b, E, P, float(c)
        self.ready, self._next_fit, self._taken = bool(counts[0]), int(counts[1]), int(counts[2])
