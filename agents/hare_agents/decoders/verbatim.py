"""The decoder that writes nothing of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.pool import texts_of
from hare_gym.contract import TaskSpec

Array = NDArray[np.float64]


class Verbatim:
    """Shows the item that has the most attention, word for word: what a recommender does."""

    name = "verbatim"

    def prepare(self, spec: TaskSpec) -> None:
        """Raises ConfigError where the task's items have no texts."""
        texts_of(self.name, spec)

    def decode(
        self,
        z: Array,
        user_state: Array,
        query: str,
        pool: tuple[str, ...],
        weights: Array,
        rng: np.random.Generator,
    ) -> str:
        """The text of the item with the largest weight."""
        return pool[int(np.argmax(weights))]
