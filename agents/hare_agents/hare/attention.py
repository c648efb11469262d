"""Attention over items: softmax, its tempering by a posterior, its entropy."""

from __future__ import annotations

import math

import numpy as np

from hare_agents.linear import Array


def attention(logits: Array, variance: float = 0.0) -> Array:
    """A = softmax(logits / √(1 + π/8 variance)): the plug-in softmax where the variance is zero.

    The factor is MacKay's (1992) for a logistic function under a Gaussian posterior: attention is as sharp as what
    is known about the user allows. One variance for all items keeps their order, and the result does not change when
    a constant is added to the logits.

    Args:
        logits: ``(N,)``; minus infinity for an item that cannot be used.
        variance: Of a logit, by the posterior.

    Returns:
        The weights, ``(N,)``, sum one.
    """
    A: Array = np.exp((logits - logits.max()) / math.sqrt(1.0 + math.pi / 8.0 * variance))
    A /= A.sum()
    return A


def entropy(A: Array) -> float:
    """−Σ A log A, in nats; an item without weight adds nothing."""
    kept = A[A > 0.0]
    return float(-(kept @ np.log(kept)))
