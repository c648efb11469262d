"""What a language model's vectors tell it: perplexity with the right ones, with shuffled ones, and without any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import DataError

Array = NDArray[np.float64]


class Likelihood(Protocol):
    """How well texts are predicted; `hare_agents.decoders.language_model.Likelihood` is one."""

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss a token."""
        ...

    @property
    def bits_per_byte(self) -> float:
        """Mean bits a byte of UTF-8."""
        ...

    @property
    def nats(self) -> Array:
        """Negative log-likelihood of each text, ``(n,)``."""
        ...


class Predicts(Protocol):
    """A decoder that can say how likely a text is to it."""

    def perplexity(self, texts: Sequence[str], z: Array | None = None, u: Array | None = None) -> Likelihood:
        """Likelihood of texts for their vectors, ``(n, d)`` each, or for none."""
        ...


@dataclass(frozen=True)
class Conditioning:
    """What the vectors are worth to a language model, on texts it should have been held out from.

    Attributes:
        conditioned: Perplexity with each text's own vectors, from 1; lower is better.
        shuffled: With another text's vectors. A model that ignores z has the same as ``conditioned``.
        unconditioned: Without vectors, by the other model where one was given.
        bits_per_byte: Of ``conditioned``; the only one of these that models with different tokens can share.
        bits_per_byte_shuffled: Of ``shuffled``.
        bits_per_byte_unconditioned: Of ``unconditioned``.
        information: Mean bits a text that its vectors save against none. For texts of K equally frequent labels
            that z tells, log2 K is all that there is to gain.
    """

    conditioned: float
    shuffled: float
    unconditioned: float
    bits_per_byte: float
    bits_per_byte_shuffled: float
    bits_per_byte_unconditioned: float
    information: float


def conditioning(
    decoder: Predicts,
    texts: Sequence[str],
    z: Array,
    u: Array | None,
    rng: np.random.Generator,
    unconditional: Predicts | None = None,
) -> Conditioning:
    """Measures a decoder three times on the same texts.

    Args:
        decoder: The language model.
        texts: n texts, at least two.
        z: Their contents, ``(n, d)``.
        u: Their users' states, ``(n, d)``, or None.
        rng: Shuffles so that no text keeps its own vectors.
        unconditional: A model that was trained as long without vectors; without one, ``decoder`` is asked without.

    Raises:
        DataError: Fewer than two texts, or another number of vectors.
    """
    if len(texts) < 2 or len(z) != len(texts):
        raise DataError(f"Conditioning needs at least two texts with a z each, not {len(texts)} and {len(z)}.")
    order = rng.permutation(len(texts))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)  # one cycle: nothing stays in its place
    right = decoder.perplexity(texts, z, u)
    wrong = decoder.perplexity(texts, z[other], None if u is None else u[other])
    none = (unconditional or decoder).perplexity(texts)
    gained = float(np.mean(none.nats - right.nats)) / math.log(2)
    return Conditioning(
        right.perplexity,
        wrong.perplexity,
        none.perplexity,
        right.bits_per_byte,
        wrong.bits_per_byte,
        none.bits_per_byte,
        gained,
    )
