"""Where texts are measured: how the content vector phi is laid out, and what was fitted to place a text in it.

`hare_gym.text.calibrate` makes a `Space`, `hare_gym.text.measure` reads texts by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hare_gym.text.corpus import DOMAINS, STYLES, TOPICS

Array = NDArray[np.float64]

SPACE_FILE = Path(__file__).parent / "measured" / "minilm.npz"
# Parts of phi, by slice: contrasts of domains and of topics, then level, specificity and contrasts of styles.
DOMAIN_PART = slice(0, len(DOMAINS) - 1)
TOPIC_PART = slice(DOMAIN_PART.stop, DOMAIN_PART.stop + len(TOPICS) - 1)
SEMANTIC = slice(0, TOPIC_PART.stop)
LEVEL, SPECIFICITY = SEMANTIC.stop, SEMANTIC.stop + 1
STYLE_PART = slice(SPECIFICITY + 1, SPECIFICITY + len(STYLES))
CONTENT_DIM = STYLE_PART.stop
# Coordinates of a unit: the semantic ones, then principal components, which tell whether units speak of one thing.
THEME = slice(SEMANTIC.stop, SEMANTIC.stop + 24)
SECTION_WEIGHTS = {"head": 0.35, "triggers": 0.15, "instructions": 0.4, "examples": 0.1}
# Real texts and ideal ones lie inside the unit ball at this scale; what lies outside is drawn back to the sphere.
RADIUS = 3.2
_CLIP = 2.5


def contrasts(k: int) -> Array:
    """An orthonormal basis of the vectors of k numbers that sum to zero, ``(k, k - 1)`` (Helmert)."""
    basis = np.zeros((k, k - 1))
    for j in range(1, k):
        basis[:j, j - 1], basis[j, j - 1] = 1.0, -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
    return basis


def standardised(surface: Array, scale: Array) -> Array:
    """What is counted in texts as deviations from the corpus' mean, at most 2.5 standard deviations, ``(n, 17)``.

    Args:
        surface: ``(n, 17)``, by `hare_gym.text.units.SURFACE`.
        scale: Mean and standard deviation, ``(2, 17)``.
    """
    mean, deviation = scale
    return np.asarray(np.clip((surface - mean) / deviation, -_CLIP, _CLIP))


@dataclass(frozen=True, eq=False)
class Space:
    """The fitted part of the measuring, for one encoder.

    Attributes:
        encoder: The encoder's name.
        text_map: Embedding to the 12 semantic and 24 thematic coordinates, ``(dim + 1, 36)``, the last row being the
            offset.
        query_map: Embedding of queries to the 12 semantic coordinates, ``(dim + 1, 12)``.
        surface_scale: Mean and standard deviation on the built-in corpus of `hare_gym.text.units.SURFACE`,
            ``(2, 17)``.
        surface_map: Standardised surface to level, specificity and style coordinates, ``(18, 5)``.
        units: Coordinates of the corpus' units, ``(36,)`` each, by `unit_key`.
        queries: Semantic coordinates of its queries, ``(12,)`` each, by `unit_key`.
    """

    encoder: str
    text_map: Array
    query_map: Array
    surface_scale: Array
    surface_map: Array
    units: Mapping[int, Array] = field(default_factory=dict)
    queries: Mapping[int, Array] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes an npz that `load_space` reads: maps in single precision, coordinates in half."""
        np.savez_compressed(
            path,
            allow_pickle=False,
            encoder=np.array(self.encoder),
            text_map=self.text_map.astype(np.float32),
            query_map=self.query_map.astype(np.float32),
            surface_scale=self.surface_scale.astype(np.float32),
            surface_map=self.surface_map.astype(np.float32),
            units_keys=np.array(list(self.units), dtype=np.uint64),
            queries_keys=np.array(list(self.queries), dtype=np.uint64),
            units_values=np.array(list(self.units.values()), dtype=np.float16),
            queries_values=np.array(list(self.queries.values()), dtype=np.float16),
        )


def load_space(path: Path) -> Space:
    """Reads what `Space.save` has written."""
    with np.load(path, allow_pickle=False) as stored:
        maps = {
            name: stored[name].astype(np.float64)
            for name in ("text_map", "query_map", "surface_scale", "surface_map")
        }
        units, queries = (
            dict(zip(stored[f"{kind}_keys"].tolist(), stored[f"{kind}_values"].astype(np.float64), strict=True))
            for kind in ("units", "queries")
        )
        return Space(str(stored["encoder"]), **maps, units=units, queries=queries)


@lru_cache(maxsize=1)
def shipped_space() -> Space:
    """The space of all-MiniLM-L6-v2, with the coordinates of the built-in corpus, so that no model need be loaded."""
    return load_space(SPACE_FILE)


def unit_key(text: str) -> int:
    """64 bits of a hash of a unit's text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
