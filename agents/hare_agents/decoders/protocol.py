"""What turns attended content into words."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import TaskSpec

Array = NDArray[np.float64]


class Decoder(Protocol):
    """Writes a text for a blend of knowledge, a user and a query.

    Attributes:
        name: What tables call it.
    """

    name: str

    def prepare(self, spec: TaskSpec) -> None:
        """Makes itself ready for a task's pool; called once a session, cheap when the pool is the last one's.

        Raises:
            ConfigError: The task's pool has no texts.
        """
        ...

    def decode(
        self,
        z: Array,
        user_state: Array,
        query: str,
        pool: tuple[str, ...],
        weights: Array,
        rng: np.random.Generator,
    ) -> str:
        """A text.

        Args:
            z: The content that is asked for, ``(content_dim,)``, as the pool's vectors are.
            user_state: What is known of the user, u_t, ``(content_dim,)``.
            query: The need in words.
            pool: The items' texts, N of them.
            weights: Attention over the items, ``(N,)``, sum one.
            rng: For what is drawn; greedy decoders leave it alone.
        """
        ...
