"""Texts near a content vector, for any domain that can say how a text may be changed: a walk from the pool's texts.

A domain with a quicker or a better way writes its own `Domain.compose`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError

Array = NDArray[np.float64]

# Texts that walks begin at, and how many of the most attended ones are looked at for them.
_STARTS, _ATTENDED = 4, 32
_STEPS = 32
# What a step must gain, in squared units of phi.
_WORTHWHILE = 1e-9


class Changeable(Protocol):
    """What a walk needs of a `hare_gym.text.domain.Domain`."""

    id: ClassVar[str]

    def shown(self, text: str) -> Any:
        """A text, measured."""
        ...

    def variants(self, text: str, query_text: str) -> Iterable[str]:
        """Texts that differ from one in a step."""
        ...

    def obeys(self, read: Any, query_text: str) -> bool:
        """Whether a text keeps to what is said."""
        ...


def composed(domain: Changeable, z: Array, query_text: str, pool_texts: Sequence[str], weights: Array) -> str:
    """The nearest valid text that obeys what is said, of those that a few walks come to.

    A walk begins at one of the pool's texts, the attended and near ones first, and takes of its variants
    (`Domain.variants`) the nearest, until none is nearer. Nothing is drawn.

    Args:
        domain: Whose texts they are.
        z: The content asked for, ``(content_dim,)``; not finite for what the pool has on the whole.
        query_text: What was said.
        pool_texts: Texts to begin at.
        weights: Attention over them, sum one.

    Raises:
        ConfigError: No walk comes to a text that is valid and obeys.
    """
    reads = [domain.shown(text) for text in pool_texts]
    phi = np.stack([read.phi for read in reads])
    if not np.isfinite(z).all():
        z = np.asarray(np.asarray(weights) @ phi)

    def away(text: str) -> float:
        """Squared distance from z; infinite for what is not valid or does not obey."""
        read = domain.shown(text)
        if read.validity < 1.0 or not domain.obeys(read, query_text):
            return np.inf
        return float(np.sum((read.phi - z) ** 2))

    nearness = np.sum((phi - z) ** 2, axis=1)
    attended = np.argsort(-np.asarray(weights), kind="stable")[:_ATTENDED]
    others = np.setdiff1d(np.arange(len(phi)), attended)
    found: list[tuple[float, str]] = []
    for few in (attended, others):  # the others only if nothing came of those that are attended to
        for k in few[np.argsort(nearness[few], kind="stable")].tolist():
            distance, text = _walked(domain, pool_texts[k], query_text, away)
            if np.isfinite(distance):
                found.append((distance, text))
            if len(found) == _STARTS:
                break
        if found:
            return min(found)[1]
    raise ConfigError(
        f"{domain.id}: no text of the pool can be changed into one that is valid and obeys what is said. Give a pool "
        "with one that does, or more variants."
    )


def _walked(domain: Changeable, text: str, query_text: str, away: Callable[[str], float]) -> tuple[float, str]:
    """The end of a walk, and how far it is away."""
    distance = away(text)
    for _ in range(_STEPS):
        steps = [(away(other), k, other) for k, other in enumerate(domain.variants(text, query_text))]
        best = min(steps, default=(np.inf, 0, text))
        if best[0] >= distance - _WORTHWHILE:
            break
        distance, _, text = best
    return distance, text
