"""From attention to new content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.linear import Array, take_array

# Squared length below which content counts as inside the unit ball.
_INSIDE = 1.0 - 1e-9


def unit(y: Array) -> Array:
    """``y`` over its length; a vector of zeros stays."""
    length = float(np.sqrt(y @ y))
    return y / length if length > 0.0 else y


def explore(y: Array, step: float, rng: np.random.Generator) -> Array:
    """``y`` after a random step of about the given length: back on the sphere if it was there, else in the ball."""
    moved = y + (step / len(y) ** 0.5) * rng.standard_normal(len(y))
    return unit(moved) if y @ y > _INSIDE or moved @ moved > 1.0 else moved


class Decoder:
    """W_V: from the attended blend z = A V to content.

    A blend of items is shorter than any of them and pulled to the pool's mean. W_V = I + D undoes what is linear in
    that: D is the ridge regression, over the rounds so far, of the heads' own optimum minus z on z.
    """

    def __init__(self, dim: int) -> None:
        self._A: Array = np.eye(dim)
        self._B: Array = np.zeros((dim, dim))

    @property
    def W_V(self) -> Array:
        """The map, ``(d, d)``."""
        return np.asarray(np.eye(len(self._A)) + np.linalg.solve(self._A, self._B).T)

    def update(self, z: Array, y: Array) -> None:
        """Learns one pair of blend and optimum, ``(d,)`` both."""
        self._A += z[:, None] * z
        self._B += z[:, None] * (y - z)

    def __call__(self, z: Array) -> Array:
        """The content for a blend, of length one."""
        return unit(self.W_V @ z)

    def state(self) -> dict[str, NDArray[Any]]:
        """The regression's sums."""
        return {"A": self._A.copy(), "B": self._B.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave."""
        self._A, self._B = take_array(state, "A", self._A.shape), take_array(state, "B", self._B.shape)
