"""From scores to actions and back: what the neural and retrieval agents share with no model in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.items import Array, Mask, best_item, round_pool, top_items
from hare_gym.contract import Action, Observation, TaskSpec
from hare_gym.errors import DataError

_FIRST_STEP, _LAST_STEP = 0.5, 0.02


def choose(spec: TaskSpec, scores: Array, usable: Mask | None, rng: np.random.Generator) -> Action:
    """The item of the highest score, or in ``slate`` the k highest; raises as `best_item` and `top_items` do."""
    if spec.action_mode == "slate":
        return top_items(scores, spec.slate_size, usable, rng)
    return best_item(scores, usable, rng)


def content_of(spec: TaskSpec, observation: Observation, action: Action) -> Array:
    """The content vector that an action stands for, ``(content_dim,)``; of a slate, the mean of its items."""
    if spec.action_mode == "synthesize":
        return np.asarray(action, dtype=np.float64)
    pool, _ = round_pool(spec, observation)
    y: Array = pool[action]
    return y.mean(axis=0) if spec.action_mode == "slate" else y


def best_of(items: Array, scores: Array, usable: Mask | None, count: int) -> Array:
    """The ``count`` usable items of the highest scores, best first, ``(<= count, ...)``.

    Raises:
        DataError: No item can be used, or a usable one's score is NaN or infinite.
    """
    if usable is not None:
        items, scores = items[usable], scores[usable]
    if not len(scores):
        raise DataError("No item can be used this round: pool_mask is zero everywhere.")
    if not np.isfinite(scores).all():
        raise DataError("An item's score is not finite: the query or the item's vector holds NaN or infinity.")
    chosen: Array = items[np.argsort(-scores, kind="stable")[:count]]
    return chosen


def climb(score: Callable[[Array], tuple[Array, Array]], starts: Array, steps: int) -> Array:
    """The best content met by projected gradient ascent over the unit ball.

    Steps have the gradient's direction and lengths that fall geometrically, since a network's score is only
    piecewise smooth. It finds a local maximum from each start, no more.

    Args:
        score: Takes contents ``(n, d)``; gives their scores ``(n,)`` and gradients ``(n, d)``.
        starts: Where to climb from, ``(n, d)``; those outside the ball are pulled back to it.
        steps: Gradient steps.

    Returns:
        float64 ``(d,)``, of length at most 1.
    """
    Y = into_ball(starts)
    best: Array = Y[0]
    best_score = -np.inf
    for length in np.geomspace(_FIRST_STEP, _LAST_STEP, steps + 1):
        scores, gradient = score(Y)
        top = scores.argmax()
        if scores[top] > best_score:
            best, best_score = Y[top], scores[top]
        norm = np.sqrt(np.vecdot(gradient, gradient))[:, None]
        Y = into_ball(Y + gradient * (length / np.maximum(norm, 1e-12)))
    return best


def into_ball(Y: Array) -> Array:
    """``Y`` with each row longer than 1 shortened to 1; float64."""
    Y = np.asarray(Y, dtype=np.float64)
    return np.asarray(Y / np.maximum(np.sqrt(np.vecdot(Y, Y)), 1.0)[..., None])


def take(state: Mapping[str, NDArray[Any]], name: str, like: NDArray[Any]) -> NDArray[Any]:
    """A copy of one array of a saved state, which must have the shape and dtype of ``like``.

    Raises:
        DataError: It is missing, differs in shape or dtype, or is not finite.
    """
    if name not in state:
        raise DataError(f"The state has no array {name!r}: it was saved by another agent or version.")
    array = np.asarray(state[name])
    if array.shape != like.shape or array.dtype != like.dtype:
        raise DataError(
            f"State array {name!r} is {array.dtype} of shape {array.shape}, not {like.dtype} of shape {like.shape}: "
            "it belongs to a task or to hyperparameters of other dimensions, or was converted on the way."
        )
    if not np.isfinite(array).all():
        raise DataError(f"State array {name!r} holds NaN or infinity.")
    return array.copy()


def prefixed(prefix: str, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of ``state`` with ``prefix`` before their names."""
    return {prefix + name: array for name, array in state.items()}


def without_prefix(prefix: str, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
