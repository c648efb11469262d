"""Users change: a test of every user's surprises, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.linear import Array, take_array

# A surprise counts as at most so many standard deviations, so that no single reward can raise an alarm.
_MOST = 3.0
# The shortfall, in standard deviations, that a user who has not changed may have for long.
_SLACK = 0.5
# Share of a round in the running variance of the surprises, and the rounds that its first value counts as.
_RATE, _FIRST = 0.001, 30.0


class Changes:
    """Page's (1954) CUSUM of how far a user's rewards fall short of what was expected.

    ::

        g_u = max(0, g_u + min(-surprise / s, 3) - 0.5),   a change where g_u > threshold

    with s² the running variance of all users' surprises. A user whose tastes have moved away is shown what they used
    to like, and their rewards fall short round after round; noise falls short now and then. One number a user.

    Attributes:
        g: By the core's slot, ``(slots,)``.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.g: Array = np.zeros(8)
        self._variance, self._count = 0.03, 0

    def update(self, slot: int, surprise: float) -> bool:
        """Learns a surprise, reward minus expectation; tells whether the user has changed."""
        self._grow(slot)
        s = float(np.sqrt(self._variance))
        g = max(0.0, float(self.g[slot]) + min(-surprise / s, _MOST) - _SLACK)
        bounded = min(surprise * surprise, (_MOST * s) ** 2)
        self._variance += max(_RATE, 1.0 / (self._count + _FIRST)) * (bounded - self._variance)
        self._count += 1
        self.g[slot] = g
        return g > self.threshold

    def restart(self, slot: int) -> None:
        """Begins anew for a slot: its user is another now."""
        self._grow(slot)
        self.g[slot] = 0.0

    def _grow(self, slot: int) -> None:
        if slot >= len(self.g):
            self.g = np.concatenate([self.g, np.zeros(max(len(self.g), slot + 1 - len(self.g)))])

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums and the variance."""
        return {
            "g": self.g.copy(),
            "variance": np.array(self._variance),
            "count": np.array(self._count, dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave."""
        self.g = take_array(state, "g", None)
        self._variance = float(take_array(state, "variance", ()))
        self._count = int(take_array(state, "count", (), np.int64))
