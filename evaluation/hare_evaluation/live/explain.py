"""What a session tells of itself: HARE's beliefs of a user in words, and how it went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hare_agents.hare import HARE
from hare_gym.text.corpus import DOMAINS, STYLES
from hare_gym.text.space import DOMAIN_PART, LEVEL, RADIUS, SPECIFICITY, STYLE_PART, contrasts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Leaning:
    """One named direction of a user's state: what content of that kind earns with them beyond what it earns with all.

    Attributes:
        group: ``domain``, ``depth`` or ``style``.
        name: What it is called.
        mean: In units of reward, for going from the middle of content space all the way there.
        width: Half of a 95% interval.
    """

    group: str
    name: str
    mean: float
    width: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the page draws.

    Attributes:
        leanings: u_t by named directions.
        uncertainty: tr Sigma_u as a share of a new user's.
        need: The need whose attention is shown.
        clusters: Names of the knowledge clusters.
        attention: Tempered attention over them, now, ``(K,)``.
        attention_before: What it was before the last rating, for that need, ``(K,)``.
        entropies: Mean entropy of attention over the example needs, from before the first rating on, nats.
        rewards: By name, one value a rated round (NaN where there is none): expected rewards for a persona, the stars
            as rewards for a person.
    """

    leanings: list[Leaning]
    uncertainty: float
    need: str
    clusters: list[str]
    attention: Array
    attention_before: Array
    entropies: list[float]
    rewards: dict[str, list[float]]


def leanings(hare: HARE, user: int) -> list[Leaning]:
    """A user's state u_t in words, see `Leaning`; the intervals are the posterior's."""
    u, Sigma = hare.user_state(user)
    found = []
    for group, name, v in _directions(len(u)):
        width = 1.96 * hare.gate.s * float(np.sqrt(max(float(v @ Sigma @ v), 0.0)))
        found.append(Leaning(group, name, float(u @ v), width))
    return found


def _directions(dim: int) -> list[tuple[str, str, Array]]:
    """Group, name and direction in content space: from an even mix to a pure one, from the middle of a scale to 1."""

    def along(place: slice | int, value: Array | float) -> Array:
        v = np.zeros(dim)
        v[place] = np.asarray(value) / RADIUS
        return v

    domains = [
        ("domain", name, along(DOMAIN_PART, row)) for name, row in zip(DOMAINS, contrasts(len(DOMAINS)), strict=True)
    ]
    depth = [("depth", "deep", along(LEVEL, 1.0)), ("depth", "concrete", along(SPECIFICITY, 1.0))]
    styles = [
        ("style", name, along(STYLE_PART, row)) for name, row in zip(STYLES, contrasts(len(STYLES)), strict=True)
    ]
    return [*domains, *depth, *styles]
