"""What is learned of users over rounds: reward by visit, the user state against the hidden user, entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hare_evaluation.results import Record
from hare_gym.errors import DataError

Array = NDArray[np.float64]

RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Strengths that `recovery` may choose from, for standardised states."""


def learning_curve(users: ArrayLike, rewards: ArrayLike) -> Array:
    """The mean over users of the reward at their v-th visit, ``(V,)``, V the visits that every user made.

    Args:
        users: Who was served in each round, ``(T,)``.
        rewards: What it earned, ``(T,)``.
    """
    by_user = _by_user(users, rewards)
    V = min(len(each) for each in by_user)
    return np.asarray(np.mean([each[:V] for each in by_user], axis=0))


def learning_slope(users: ArrayLike, rewards: ArrayLike) -> float:
    """The mean over users of the least-squares slope of reward on ln(visit); NaN without a user with three visits.

    In units of reward per factor e of visits: positive where an agent serves a user better the longer it knows them.
    """
    slopes = []
    for each in _by_user(users, rewards):
        if len(each) >= 3:
            x = np.log(np.arange(1, len(each) + 1))
            x -= x.mean()
            slopes.append(float(x @ each / (x @ x)))
    return float(np.mean(slopes)) if slopes else math.nan


def recovery(states: Sequence[ArrayLike], attributes: Sequence[ArrayLike]) -> Array:
    """How much of a hidden attribute a linear reader finds in the user states, by cross-validation over sessions.

    A ridge regression is fitted on the users of all other sessions and read on those of one: R² = 1 − Σ(a − â)² /
    Σ(a − ā)², ā the mean over the other sessions, summed over an attribute's components. The ridge is chosen from
    `RIDGES` within the other sessions, by the same leaving-out of one (with two of them, 1).

    Args:
        states: Of each session, u_t of its users, ``(U_s, d)``.
        attributes: Of each session, the attribute, ``(U_s,)`` or ``(U_s, k)``.

    Returns:
        R² of each session, ``(S,)``, at most 1 and negative where the mean would have been the better guess. NaN for
        a single session.

    Raises:
        DataError: States and attributes do not belong together.
    """
    X = [np.asarray(x, dtype=np.float64) for x in states]
    Y = [np.asarray(y, dtype=np.float64).reshape(len(y), -1) for y in map(np.asarray, attributes)]
    if [len(x) for x in X] != [len(y) for y in Y]:
        raise DataError("Every session needs a state and an attribute for each of its users.")
    if len(X) < 2:
        return np.full(len(X), math.nan)
    return np.array([_r_squared(X, Y, held_out, _chosen_ridge(X, Y, held_out)) for held_out in range(len(X))])


def _chosen_ridge(X: list[Array], Y: list[Array], held_out: int) -> float:
    rest = [i for i in range(len(X)) if i != held_out]
    if len(rest) < 2:
        return 1.0
    inner_X, inner_Y = [X[i] for i in rest], [Y[i] for i in rest]
    scores = [np.mean([_r_squared(inner_X, inner_Y, i, ridge) for i in range(len(rest))]) for ridge in RIDGES]
    return RIDGES[int(np.argmax(scores))]


def _r_squared(X: list[Array], Y: list[Array], held_out: int, ridge: float) -> float:
    x, y = (np.concatenate([part for i, part in enumerate(parts) if i != held_out]) for parts in (X, Y))
    centre, scale, mean = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9), y.mean(axis=0)
    standard = (x - centre) / scale
    W = np.linalg.solve(standard.T @ standard + ridge * np.eye(x.shape[1]), standard.T @ (y - mean))
    guess = mean + (X[held_out] - centre) / scale @ W
    return float(1.0 - np.sum((Y[held_out] - guess) ** 2) / np.sum((Y[held_out] - mean) ** 2))


def entropy_trajectory(record: Record, diagnostic: str = "attention_entropy") -> tuple[Array, Array]:
    """Rounds and the agent's entropy of attention (nats) at the checkpoints that have it; empty where none does."""
    values = np.array(record["diagnostics"].get(diagnostic, [None] * len(record["rounds"])), dtype=np.float64)
    told = np.isfinite(values)
    return np.array(record["rounds"], dtype=np.float64)[told], values[told]


def _by_user(users: ArrayLike, rewards: ArrayLike) -> list[Array]:
    u, r = np.asarray(users), np.asarray(rewards, dtype=np.float64)
    if u.shape != r.shape or not u.size:
        raise DataError(f"A learning curve needs a user and a reward for each round, not {u.size} and {r.size}.")
    return [r[u == one] for one in np.unique(u)]
