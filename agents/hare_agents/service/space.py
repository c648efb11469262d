"""Texts as vectors of a few numbers: an encoder's embedding, reduced to principal components of the first pool."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TextSpace:
    """An encoder and the components that its embeddings are reduced to.

    Attributes:
        encoder: See `hare_gym.text.encoders`.
        mean: Of the first pool's embeddings, ``(e,)``.
        components: The first principal axes, scaled so that the first pool lies in the unit ball, ``(e, d)``.
    """

    encoder: Any
    mean: Array
    components: Array

    @classmethod
    def fitted(cls, encoder: Any, texts: Sequence[str], dim: int) -> TextSpace:
        """Fits the components to some texts.

        Raises:
            ConfigError: Fewer distinct texts than components need.
        """
        E = np.unique(np.asarray(encoder.encode(texts), dtype=np.float64), axis=0)
        if len(E) <= dim:
            raise ConfigError(
                f"{len(E)} different texts cannot tell {dim} components. Begin with a pool of more than {dim} texts, "
                f"or with a dim below {len(E)}."
            )
        mean = E.mean(axis=0)
        axes = np.linalg.svd(E - mean, full_matrices=False)[2][:dim].T
        length = float(np.linalg.norm((E - mean) @ axes, axis=1).max())
        return cls(encoder, mean, axes / length)

    def vectors(self, texts: Sequence[str]) -> Array:
        """Texts in the space, ``(n, d)``; what lies outside the unit ball is drawn back to it."""
        V = (np.asarray(self.encoder.encode(texts), dtype=np.float64) - self.mean) @ self.components
        return np.asarray(V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1.0))

    def to_bytes(self) -> bytes:
        """Everything but the encoder."""
        file = io.BytesIO()
        np.savez(file, mean=self.mean, components=self.components)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, encoder: Any, data: bytes) -> TextSpace:
        """Reads what `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return cls(encoder, stored["mean"], stored["components"])
