"""Ideal points: what a user may want as a finite set of hypotheses, and a reward that falls with distance to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.hare.replay import Replay
from hare_agents.linear import Array, take_array

# Items' squared deviations that queries reach when twice as long are the queries', all but this share.
_LEAST_SHARE = 0.05
# Prior standard deviations: of the intercept; of ln likeness; of each ln w_j by itself, and of all together.
_INTERCEPT, _LIKENESS, _OWN, _COMMON = 0.1, 1.0, 0.4, 0.5
# The reward's variance is phi (mu (1 - mu) + 0.1): that of a reward in [0, 1], and of what the model does not know.
_FIRST_PHI, _MISFIT = 0.06, 0.1
# What is fitted: so many draws for each of the latest rounds, by so many steps.
_DRAWS, _FITTED, _STEPS = 8, 2048, 2
# Rounds before the first fit, and the most between two; in between their number grows by a quarter.
_FIRST_FIT, _MOST = 8, 2048


class Ideals:
    """A posterior over ideal points (Coombs 1964) for every user, and the reward model that all users share.

    ::

        mu(x, y, h) = exp(min(a + likeness x·y - sum_j w_j (y_j - h_j)² / 2, 0))

    Hypotheses h are blends of two items, drawn once: items are examples of what somebody wants. The posterior over
    them is exact, by the quasi-likelihood of a reward of variance phi (mu (1 - mu) + 0.1). The population learns a,
    likeness and w by Monte Carlo expectation maximisation (Wei and Tanner 1990): draws from the users' posteriors,
    then Gauss-Newton steps on all remembered rounds, with priors on the logarithms so that no weight falls to zero
    before anybody is known. In a coordinate in which queries vary as items do, w begins small: there a user wants
    what they ask for. Once the memory has forgotten a round the population's part stays, so that every user's
    posterior remains that of all their rounds.

    Args:
        items: ``(N, d)``.
        count: Hypotheses, M.
        width: Distance to the ideal point at which a reward is expected to have fallen by exp(-1/2), before any data.
        rng: For the hypotheses.

    Attributes:
        points: The hypotheses, ``(M, d)``.
        w: The metric, ``(d,)``.
    """

    def __init__(self, items: Array, count: int, width: float, rng: np.random.Generator) -> None:
        first, second = rng.integers(0, len(items), (2, count))
        share = rng.uniform(0.0, 0.5, (count, 1))
        self.points: Array = (1.0 - share) * items[first] + share * items[second]
        self._spread: Array = np.maximum(items.var(axis=0), 1e-12)
        self._width = width
        self._log_likelihood: Array = np.zeros((8, count))
        self.phi = _FIRST_PHI
        self._next_fit, self._settled = _FIRST_FIT, False
        self._known: tuple[int, Array] | None = None
        self._read(self._prior_mean(np.zeros(items.shape[1])))

    def _prior_mean(self, energy: Array) -> Array:
        """a, ln likeness and ln w before any data, for queries of mean squares ``(d,)``: ``(2 + d,)``."""
        asked = np.minimum(4.0 * energy / self._spread, 1.0 - _LEAST_SHARE)
        w = self._width**-2.0
        return np.concatenate([[0.0, np.log(w / 3.0)], np.log(w * (1.0 - asked))])

    def _read(self, theta: Array) -> None:
        self._theta = theta
        self.intercept, self.likeness, self.w = float(theta[0]), float(np.exp(theta[1])), np.exp(theta[2:])
        self._pull = self.points * self.w
        self._fixed = 0.5 * np.vecdot(self.points, self._pull)

    # -- rewards ------------------------------------------------------------------------------------------------

    def _offset(self, X: Array, Y: Array) -> Array:
        """The part of the exponent that no hypothesis changes, ``(...)``."""
        linear = self.intercept + self.likeness * np.vecdot(X, Y)
        return np.asarray(linear - 0.5 * np.vecdot(Y * self.w, Y))

    def rewards(self, x: Array, Y: Array, h: Array) -> Array:
        """Expected rewards of contents ``(n, d)`` for who wants ``h``, ``(n,)``."""
        pull = self.w * h
        return np.asarray(np.exp(np.minimum(self._offset(x, Y) + Y @ pull - 0.5 * (h @ pull), 0.0)))

    def _means(self, X: Array, Y: Array) -> Array:
        """Expected rewards of n rounds' contents under every hypothesis, ``(n, M)``."""
        exponents = Y @ self._pull.T
        exponents -= self._fixed
        exponents += self._offset(X, Y)[:, None]
        np.minimum(exponents, 0.0, out=exponents)
        return np.asarray(np.exp(exponents, out=exponents))

    def _log_likelihoods(self, X: Array, Y: Array, R: Array) -> Array:
        mu = self._means(X, Y)
        variance = self.phi * (mu * (1.0 - mu) + _MISFIT)
        mu -= R[:, None]
        return np.asarray(-0.5 * (mu * mu / variance + np.log(variance)))

    def best(self, x: Array, h: Array) -> Array:
        """The best content in the unit ball for who wants ``h``, ``(d,)``: (w + m) y = w h + likeness x, m >= 0."""
        target, m = self.w * h + self.likeness * x, 0.0
        y: Array = target / self.w
        length = float(np.sqrt(y @ y))
        # Newton's method on 1 / |y(m)|, which is concave and nearly linear (Moré and Sorensen 1983)
        while length > 1.0 + 1e-9:
            m += (length - 1.0) * length * length / float(np.vecdot(y, y / (self.w + m)))
            y = target / (self.w + m)
            length = float(np.sqrt(y @ y))
        return y

    # -- users --------------------------------------------------------------------------------------------------

    def weights(self, slot: int, power: float = 1.0) -> Array:
        """The posterior of a slot's user over the hypotheses, raised to ``power``, ``(M,)``, sum one."""
        if slot >= len(self._log_likelihood):
            slot = 0
        if power == 1.0 and self._known is not None and self._known[0] == slot:
            return self._known[1]
        known = self._log_likelihood[slot]
        weights: Array = np.exp(power * (known - known.max()))
        weights /= weights.sum()
        if power == 1.0:  # a round asks for it several times
            weights.setflags(write=False)
            self._known = slot, weights
        return weights

    def draw(self, slot: int, power: float, rng: np.random.Generator) -> Array:
        """A hypothesis drawn from `weights`, ``(d,)``: Thompson sampling with ``power`` 1."""
        summed = np.cumsum(self.weights(slot, power))
        place = int(np.searchsorted(summed, rng.random() * summed[-1], side="right"))
        return np.asarray(self.points[min(place, len(summed) - 1)])

    def mean(self, slot: int) -> Array:
        """What a user wants on average, ``(d,)``."""
        return self.weights(slot) @ self.points

    def covariance(self, slot: int) -> Array:
        """How uncertain that is, ``(d, d)``."""
        weights = self.weights(slot)
        deviations = self.points - weights @ self.points
        return (deviations.T * weights) @ deviations

    def expected(self, slot: int, x: Array, y: Array) -> float:
        """The expected reward of one content."""
        return float(self._means(x[None], y[None])[0] @ self.weights(slot))

    def update(self, slot: int, x: Array, y: Array, r: float) -> None:
        """Learns what one round tells about the slot's user."""
        self._grow(slot)
        self._known = None
        self._log_likelihood[slot] += self._log_likelihoods(x[None], y[None], np.array([r]))[0]

    def restart(self, slot: int) -> None:
        """Begins anew for a slot: its user is another now."""
        self._grow(slot)
        self._known = None
        self._log_likelihood[slot] = 0.0

    def _grow(self, slot: int) -> None:
        have, count = self._log_likelihood.shape
        if slot >= have:
            more = np.zeros((max(have, slot + 1 - have), count))
            self._log_likelihood = np.concatenate([self._log_likelihood, more])

    # -- the population -----------------------------------------------------------------------------------------

    def learn(self, replay: Replay, rng: np.random.Generator) -> None:
        """Fits the population's part to the remembered rounds when it is time, and weighs the hypotheses anew."""
        if self._settled or replay.total < self._next_fit:
            return
        if replay.total > replay.capacity:
            self._settled = True
            return
        self._next_fit = replay.total + min(max(replay.total // 4, _FIRST_FIT), _MOST)
        n = len(replay)
        self._fit(replay, replay.since(n - _FITTED), rng)
        X, Y, R, slots = replay.x[:n], replay.y[:n], replay.r[:n], replay.slot[:n]
        self._known = None
        for slot in np.unique(slots).tolist():
            rounds = np.flatnonzero(slots == slot)
            self._log_likelihood[slot] = self._log_likelihoods(X[rounds], Y[rounds], R[rounds]).sum(axis=0)

    def _fit(self, replay: Replay, rounds: NDArray[np.intp], rng: np.random.Generator) -> None:
        X, Y, R, slots = (array[rounds] for array in (replay.x, replay.y, replay.r, replay.slot))
        d = Y.shape[1]
        H = np.empty((len(R), _DRAWS, d))
        for slot in np.unique(slots).tolist():
            H[slots == slot] = self.points[rng.choice(len(self.points), _DRAWS, p=self.weights(slot))]
        squares, alike = 0.5 * (Y[:, None] - H) ** 2, np.vecdot(X, Y)
        prior, precision = self._prior_mean((X * X).mean(axis=0)), np.zeros((2 + d, 2 + d))
        precision[0, 0], precision[1, 1] = _INTERCEPT**-2, _LIKENESS**-2
        precision[2:, 2:] = np.linalg.inv(_OWN**2 * np.eye(d) + _COMMON**2)
        theta = self._theta.copy()
        for _ in range(_STEPS):
            likeness, w = np.exp(theta[1]), np.exp(theta[2:])
            exponents = (theta[0] + likeness * alike)[:, None] - squares @ w
            mu = np.exp(np.minimum(exponents, 0.0))
            variance = self.phi * (mu * (1.0 - mu) + _MISFIT)
            J = np.empty((len(R), _DRAWS, 2 + d))
            J[..., 0], J[..., 1] = 1.0, likeness * alike[:, None]
            np.multiply(squares, -w, out=J[..., 2:])
            J *= mu[..., None]
            J = J.reshape(-1, 2 + d)
            weighted = J.T / (_DRAWS * variance.ravel())
            gradient = weighted @ (R[:, None] - mu).ravel() - precision @ (theta - prior)
            step = np.linalg.solve(weighted @ J + precision, gradient)
            theta += step * min(1.0, 1.5 / max(float(np.abs(step).max()), 1e-12))
        self.phi *= float(np.clip(((R[:, None] - mu) ** 2).mean() / variance.mean(), 0.5, 2.0))
        self._read(theta)

    def state(self) -> dict[str, NDArray[Any]]:
        """The hypotheses, the population's part, and every slot's log-likelihoods."""
        return {
            "points": self.points.copy(),
            "spread": self._spread.copy(),
            "theta": self._theta.copy(),
            "log_likelihood": self._log_likelihood.copy(),
            "phi": np.array(self.phi),
            "counts": np.array([self._next_fit, self._settled], dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task or configuration."""
        points = take_array(state, "points", self.points.shape)
        spread = take_array(state, "spread", self._spread.shape)
        theta = take_array(state, "theta", self._theta.shape)
        slots = len(state["log_likelihood"]) if "log_likelihood" in state else 0
        log_likelihood = take_array(state, "log_likelihood", (slots, len(points)))
        phi, counts = take_array(state, "phi", ()), take_array(state, "counts", (2,), np.int64)
        self.points, self._spread, self._log_likelihood, self.phi = points, spread, log_likelihood, float(phi)
        self._next_fit, self._settled, self._known = int(counts[0]), bool(counts[1]), None
        self._read(theta)
