"""The gate: how much each head is believed, by its errors one step ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hare_agents.linear import Array, take_array

# Share of a round in the running covariance of the errors: about the last 200 rounds count.
_RATE = 0.005
# Rounds between two computations of the weights.
_EVERY = 20
_KEPT = (1.0 - _RATE) ** np.arange(_EVERY - 1, -1, -1)
# A head that has learned nothing yet counts as erring this much more than the core.
_UNREADY = 1.5
# Keeps heads that nearly agree from getting large weights of opposite sign, in units of squared reward.
_JITTER = 1e-4


class Gate:
    """The convex combination of the heads whose errors had the smallest variance (Bates and Granger 1969).

    C is the running second moment of the heads' errors e, each made before its reward was learned. The weights
    minimise wᵀCw over w >= 0, sum w = 1: C⁻¹1 over its sum where that is positive. Heads that
    err in different places are worth more together than the best of them; a head that only repeats another's errors,
    or adds to them, gets nothing, so that on a linear task the core remains.

    Attributes:
        w: The weights, ``(M,)``; the first head's is one until another is `open`.
        C: The errors' second moment, ``(M, M)``.
        s: Standard deviation of the combination's errors, the root of wᵀCw.
    """

    def __init__(self, heads: int, first: int = 0) -> None:
        self.C: Array = 0.03 * np.eye(heads) + 0.03
        self.w: Array = np.eye(heads)[first]
        self.count = 0
        self._read_deviation()
        self._waiting: Array = np.zeros((_EVERY, heads))

    def update(self, errors: Array, ready: NDArray[np.bool_], allowed: NDArray[np.bool_]) -> None:
        """Learns one round's errors. They wait until there are 20, then C and w follow.

        Args:
            errors: Reward minus each head's prediction, ``(M,)``.
            ready: Which heads predict at all; the others count as erring more than the first, ``(M,)``.
            allowed: Which heads may have weight, ``(M,)``.
        """
        place = self.count % _EVERY
        self._waiting[place] = errors
        self.count += 1
        if place == _EVERY - 1:
            self._waiting[:, ~ready] = _UNREADY * self._waiting[:, :1]
            self.C = _KEPT[0] * (1.0 - _RATE) * self.C + (self._waiting.T * _KEPT) @ self._waiting * _RATE
            self.w = self._best(allowed)
            self._read_deviation()

    def _read_deviation(self) -> None:
        self.s = math.sqrt(float(self.w @ self.C @ self.w))

    def _best(self, allowed: NDArray[np.bool_]) -> Array:
        """The minimiser of wᵀCw on the simplex: min vᵀCv/2 - 1ᵀv over v >= 0 by NNLS (Lawson and Hanson), scaled."""
        places = np.flatnonzero(allowed)
        L = np.linalg.cholesky(self.C[np.ix_(places, places)] + _JITTER * np.eye(len(places)))
        v, _ = nnls(L.T, np.linalg.solve(L, np.ones(len(places))))
        w = np.zeros(len(self.C))
        w[places] = v / v.sum()
        return w

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights and second moment."""
        return {
            "w": self.w.copy(),
            "C": self.C.copy(),
            "waiting": self._waiting.copy(),
            "count": np.array(self.count, dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave."""
        self.w, self.C = take_array(state, "w", self.w.shape), take_array(state, "C", self.C.shape)
        self._read_deviation()
        self._waiting = take_array(state, "waiting", self._waiting.shape)
        self.count = int(take_array(state, "count", (), np.int64))
