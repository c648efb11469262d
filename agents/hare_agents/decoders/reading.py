"""Reads texts back as contents, so that a decoder can choose among its own candidates: `closest`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError
from hare_gym.text.measure import Measurer

Array = NDArray[np.float64]

Reader = Callable[[Sequence[str]], Array]
"""From n texts to their contents, ``(n, content_dim)``."""


@lru_cache(maxsize=1)
def _measurer() -> Measurer:
    return Measurer()


def read_contents(texts: Sequence[str]) -> Array:
    """Contents of texts as `hare_gym.text.measure` measures them with its default encoder, ``(n, 17)``.

    Raises:
        ConfigError: The encoder cannot be had.
    """
    return np.stack([_measurer().text(text).phi for text in texts])


def closest(texts: Sequence[str], z: Array, reader: Reader = read_contents) -> list[int]:
    """Of n candidates for each content the one whose own content is nearest to it.

    Args:
        texts: n candidates for the first content, then n for the second, ...
        z: Contents, ``(B, content_dim)``; for a row of NaN the first candidate is kept.
        reader: Reads the candidates.

    Returns:
        B places among the texts.

    Raises:
        ConfigError: The reader's contents are not of z's length.
    """
    read = np.asarray(reader(texts), dtype=np.float64)
    if read.shape != (len(texts), z.shape[1]):
        raise ConfigError(
            f"The reader gave contents of the shape {read.shape} for {len(texts)} candidates, and those asked for "
            f"have the length {z.shape[1]}: set decoder.reader to a function that reads such ones, or "
            "candidates and drafts to 1."
        )
    n = len(texts) // len(z)
    distances = np.linalg.norm(read.reshape(len(z), n, -1) - z[:, None], axis=-1)
    best = np.argmin(np.where(np.isnan(distances), np.inf, distances), axis=1)
    return [row * n + place for row, place in enumerate(best.tolist())]
