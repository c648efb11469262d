"""The rounds that attention is fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.linear import Array


class Replay:
    """The last ``capacity`` rounds, in arrays that grow by doubling: x, y, r and the user's slot.

    Attributes:
        total: Rounds ever added.
    """

    def __init__(self, query_dim: int, content_dim: int, capacity: int) -> None:
        self.capacity, self.total = capacity, 0
        self._widths = (query_dim, content_dim)
        self._allocate(min(1024, capacity))

    def _allocate(self, size: int) -> None:
        self.x: Array = np.empty((size, self._widths[0]))
        self.y: Array = np.empty((size, self._widths[1]))
        self.r: Array = np.empty(size)
        self.slot: NDArray[np.intp] = np.empty(size, dtype=np.intp)

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def add(self, x: Array, y: Array, r: float, slot: int) -> None:
        """Remembers a round, in place of the oldest where the memory is full."""
        i = self.total % self.capacity
        if i == len(self.r) < self.capacity:
            old = self.x, self.y, self.r, self.slot
            self._allocate(min(2 * i, self.capacity))
            for new, values in zip((self.x, self.y, self.r, self.slot), old, strict=True):
                new[:i] = values
        self.x[i], self.y[i], self.r[i], self.slot[i] = x, y, r, slot
        self.total += 1

    def since(self, total: int) -> NDArray[np.intp]:
        """Places of the rounds added after the first ``total``."""
        return np.arange(max(total, self.total - self.capacity, 0), self.total) % self.capacity

    def state(self) -> dict[str, NDArray[Any]]:
        """The rounds as arrays."""
        n = len(self)
        return {
            "x": self.x[:n].copy(),
            "y": self.y[:n].copy(),
            "r": self.r[:n].copy(),
            "slot": self.slot[:n].astype(np.int64),
            "total": np.array(self.total, dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave."""
        n = len(state["r"])
        size = min(1024, self.capacity)
        while size < n:
            size = min(2 * size, self.capacity)
        self._allocate(size)
        self.total = int(state["total"])
        self.x[:n], self.y[:n], self.r[:n], self.slot[:n] = (state[key] for key in ("x", "y", "r", "slot"))
