"""Whether users get different texts, whether the difference is theirs, and whether one user gets a variety."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hare_evaluation.metrics.overlap import unit_rows
from hare_gym.errors import DataError

if TYPE_CHECKING:
    from hare_gym.text.users import Users

Array = NDArray[np.float64]


def cosine_distances(vectors: ArrayLike) -> Array:
    """1 − cosine of every pair, ``(n, n)``, in [0, 2]; exactly 0 for two vectors that are the same."""
    v = unit_rows(vectors)
    return np.asarray(0.5 * np.sum((v[:, None] - v[None]) ** 2, axis=-1))


def divergence(embeddings: ArrayLike) -> float:
    """Personalisation divergence: the mean cosine distance between the texts of two users for one query.

    Args:
        embeddings: Of the texts, by query and user, ``(Q, U, d)``.

    Returns:
        The mean over queries and pairs of users, in [0, 2]; 0 where everybody gets the same.

    Raises:
        DataError: Fewer than two users.
    """
    return float(np.mean([mean_of_pairs(cosine_distances(of_query)) for of_query in np.asarray(embeddings)]))


def resampled_divergence(embeddings: ArrayLike, again: ArrayLike) -> float:
    """What divergence has to be compared with: the mean distance between two texts for one user and one query.

    Args:
        embeddings: As `divergence` has them, ``(Q, U, d)``.
        again: Of texts for the same users and queries with other random draws, ``(Q, U, d)``.
    """
    a, b = np.asarray(embeddings, dtype=np.float64), np.asarray(again, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError(f"Both samples must be of the same users and queries, not {a.shape} and {b.shape}.")
    d = a.shape[-1]
    return float(np.mean(0.5 * np.sum((unit_rows(a.reshape(-1, d)) - unit_rows(b.reshape(-1, d))) ** 2, axis=1)))


def user_distances(users: Users) -> Array:
    """How far apart hidden users are, ``(U, U)``, in [0, 1]: the mean of four distances in [0, 1].

    They are the total variation between the mixes of domains and between the preferences of styles, and the absolute
    differences of expertise and specificity.
    """
    parts = [
        0.5 * np.abs(users.domains[:, None] - users.domains[None]).sum(axis=-1),
        0.5 * np.abs(users.styles[:, None] - users.styles[None]).sum(axis=-1),
        np.abs(users.expertise[:, None] - users.expertise[None]),
        np.abs(users.specificity[:, None] - users.specificity[None]),
    ]
    return np.asarray(np.mean(parts, axis=0))


def distance_correlation(embeddings: ArrayLike, distances: ArrayLike) -> float:
    """Spearman's rank correlation over pairs of users: distance of their texts against distance of the users.

    Args:
        embeddings: ``(Q, U, d)``; distances of texts are averaged over the queries.
        distances: Between users, ``(U, U)``.

    Returns:
        In [−1, 1]; NaN where everybody gets the same, for a constant has no rank.
    """
    from scipy.stats import rankdata

    of_texts = np.mean([cosine_distances(of_query) for of_query in np.asarray(embeddings)], axis=0)
    upper = np.triu_indices(len(of_texts), 1)
    a, b = (rankdata(matrix[upper]) for matrix in (of_texts, np.asarray(distances, dtype=np.float64)))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0.0 else math.nan


def intra_list_diversity(embeddings: ArrayLike) -> float:
    """The mean cosine distance between what one user gets for two different queries, averaged over users.

    Source: Ziegler et al. 2005, "Improving Recommendation Lists Through Topic Diversification", with a mean
    for the sum.

    Args:
        embeddings: ``(Q, U, d)``.
    """
    return divergence(np.swapaxes(np.asarray(embeddings), 0, 1))


def mean_of_pairs(distances: Array) -> float:
    """The mean over the pairs of a symmetric matrix, without its diagonal.

    Raises:
        DataError: There is no pair.
    """
    if len(distances) < 2:
        raise DataError("A distance between texts needs at least two of them.")
    return float(distances[np.triu_indices(len(distances), 1)].mean())
