"""The pool of a round, and choosing from it by scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import Observation, TaskSpec
from hare_gym.errors import DataError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def round_pool(spec: TaskSpec, observation: Observation) -> tuple[Array, Mask | None]:
    """The items of a round: of the task where its pool never changes, of the observation otherwise.

    Args:
        spec: The task.
        observation: One round's, or a batch with a leading axis B.

    Returns:
        The vectors, ``(N, d)``, or ``(B, N, d)`` where they come with a batch; and which items can be used,
        ``(N,)`` or ``(B, N)`` of bool, or None where all can.
    """
    mask = observation.get("pool_mask")
    usable = None if mask is None else np.asarray(mask).astype(bool)
    if spec.pool is not None:
        return spec.pool, usable
    return np.asarray(observation["pool"], dtype=np.float64), usable


def usable_items(spec: TaskSpec, observation: Observation) -> NDArray[np.intp]:
    """The indices of the items that can be used in one round.

    Raises:
        DataError: There is none.
    """
    mask = observation.get("pool_mask")
    if mask is None:
        return np.arange(spec.num_items)
    usable = np.flatnonzero(mask)
    if not len(usable):
        raise DataError("No item can be used this round: pool_mask is zero everywhere.")
    return usable


def best_item(scores: Array, usable: Mask | None, rng: np.random.Generator) -> int:
    """The index of the highest score; equal ones are drawn from, and only then is ``rng`` used.

    Args:
        scores: ``(N,)``.
        usable: ``(N,)``, or None where every item can be used.
        rng: The agent's generator.

    Raises:
        DataError: A usable item's score is NaN or infinite, or no item can be used.
    """
    ties = best_items(scores, usable)
    return int(ties[0] if len(ties) == 1 else rng.choice(ties))


def best_items(scores: Array, usable: Mask | None = None) -> NDArray[np.intp]:
    """The indices of all items that share the highest score; raises as `best_item` does."""
    scores = _checked(scores, usable)
    return np.flatnonzero(scores == scores.max())


def top_items(scores: Array, k: int, usable: Mask | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """The k highest-scored items, best first, ``(k,)``; equal scores in random order.

    Raises:
        DataError: As for `best_item`, or fewer than k items can be used.
    """
    scores = _checked(scores, usable)
    available = len(scores) if usable is None else int(usable.sum())
    if available < k:
        raise DataError(f"A slate of {k} items was asked for, but {available} can be used this round.")
    order = np.argsort(-scores, kind="stable")
    if (np.diff(scores[order[: k + 1]]) == 0.0).any():
        order = np.lexsort((rng.random(len(scores)), -scores))
    return order[:k].astype(np.int64)


def greedy_probabilities(scores: Array, usable: Mask | None = None) -> Array:
    """The chance of each item under `best_item`, ``(N,)``: equal shares for the highest scores."""
    ties = best_items(scores, usable)
    probabilities = np.zeros(len(scores))
    probabilities[ties] = 1.0 / len(ties)
    return probabilities


def _checked(scores: Array, usable: Mask | None) -> Array:
    """The scores with minus infinity for items that cannot be used; argmax alone would pick a NaN."""
    if usable is not None:
        if not usable.any():
            raise DataError("No item can be used this round: pool_mask is zero everywhere.")
        scores = np.where(usable, scores, -np.inf)
    if not np.isfinite(scores if usable is None else scores[usable]).all():
        bad = _first_bad(scores, usable)
        raise DataError(
            f"Item {bad} has the score {scores[bad]}: the query or the item's vector holds NaN or infinity."
        )
    return scores


def _first_bad(scores: Array, usable: Mask | None) -> Any:
    bad = ~np.isfinite(scores)
    return np.flatnonzero(bad if usable is None else bad & usable)[0]
