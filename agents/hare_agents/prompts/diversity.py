"""Choosing k prompts by score, none too near to another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def diverse_choice(
    scores: Array, k: int, topic_of: NDArray[np.intp], distances: Array, min_distance: float, usable: Mask | None
) -> list[int]:
    """The best prompt, then again and again the best one that lies far enough from all chosen.

    Where none lies far enough any more, the best of the rest fill the slate. Equal scores go to the lower row.

    Args:
        scores: ``(N,)``.
        k: Prompts wanted; fewer are given only where fewer can be used.
        topic_of: The topic of each prompt, ``(N,)``.
        distances: Between topics, ``(topics, topics)``.
        min_distance: Smallest distance between two of the slate; 0 for none.
        usable: Which prompts may be chosen, ``(N,)``, or None for all.

    Returns:
        Rows, best first.
    """
    left = scores.copy()
    if usable is not None:
        left[~usable] = -np.inf
    passed_over = left.copy()
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        best = int(left.argmax())
        if left[best] == -np.inf:  # nothing far enough is left
            left = passed_over
            left[chosen] = -np.inf
            min_distance = 0.0
            best = int(left.argmax())
            if left[best] == -np.inf:
                break
        chosen.append(best)
        left[best] = -np.inf
        if min_distance > 0.0:
            near = distances[topic_of[best]] < min_distance
            left[near[topic_of]] = -np.inf
    return chosen
