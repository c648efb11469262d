"""What a person says of a skill, as rewards that HARE can learn from.

Stars are a reward. A complaint has a direction: "too basic" says that the same text, deeper, would have been better.
It is taught as two virtual rounds beside the real one, a step along that direction and a step against it::

    (y, r),   (y + delta v, r + g),   (y - delta v, r - g)        rewards clipped to [0, 1]

with v of length one in content space: the level's coordinate for "too basic" and "too deep", and for "wrong topic"
away from the domains and topics that the text was about. No coordinate of content tells how long a text is, so "too
long" lowers the composer's limit of words and teaches nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import HareError
from hare_gym.text.space import LEVEL, SEMANTIC

Array = NDArray[np.float64]

COMPLAINTS = ("too basic", "too deep", "too long", "wrong topic")
STEP, GAIN = 0.15, 0.2
"""delta, in units of content (a text's level goes from 0 to 1 within 0.63 of them), and g, in reward."""
STARS_OF_A_COMPLAINT = 2
"""What a complaint without stars counts as."""


class RatingError(HareError, ValueError):
    """A rating that says nothing, or that cannot be meant."""


@dataclass(frozen=True)
class Rating:
    """What somebody says of one skill.

    Attributes:
        stars: 1 to 5; 0 for none.
        complaints: Any of `COMPLAINTS`.

    Raises:
        RatingError: Neither stars nor complaints, stars out of range, an unknown complaint, or both "too basic" and
            "too deep".
    """

    stars: int = 0
    complaints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stars, bool) or not isinstance(self.stars, int) or not 0 <= self.stars <= 5:
            raise RatingError(f"Stars are 1 to 5, not {str(self.stars)[:40]!r}.")
        unknown = [str(each)[:40] for each in self.complaints if each not in COMPLAINTS]
        if unknown:
            raise RatingError(f"There is no complaint {unknown[0]!r}. The complaints are: {', '.join(COMPLAINTS)}.")
        if {"too basic", "too deep"} <= set(self.complaints):
            raise RatingError("A skill cannot be too basic and too deep at once: take one of them back.")
        if not self.stars and not self.complaints:
            raise RatingError("Give one to five stars, or say what is wrong, before you send the rating.")

    @property
    def reward(self) -> float:
        """(stars - 1) / 4, in [0, 1]."""
        return ((self.stars or STARS_OF_A_COMPLAINT) - 1) / 4.0


def taught(rating: Rating, y: Array) -> list[tuple[Array, float]]:
    """The rounds that a rating teaches about content y, ``(17,)``: contents and rewards, the real round first."""
    r = rating.reward
    rounds = [(y, r)]
    for complaint in rating.complaints:
        v = direction(complaint, y)
        if v is not None:
            rounds += [(y + STEP * v, min(1.0, r + GAIN)), (y - STEP * v, max(0.0, r - GAIN))]
    return rounds


def direction(complaint: str, y: Array) -> Array | None:
    """Where a complaint wants content y to go, ``(17,)`` of length one; None where content cannot tell."""
    v = np.zeros(len(y))
    if complaint in ("too basic", "too deep"):
        v[LEVEL] = 1.0 if complaint == "too basic" else -1.0
    elif complaint == "wrong topic":
        v[SEMANTIC] = -y[SEMANTIC]
    length = float(np.linalg.norm(v))
    return v / length if length > 0.0 else None
