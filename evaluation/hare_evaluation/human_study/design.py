"""What is asked, in which order, and what a sheet and an answer look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCALES = {
    "relevance": "It is about what was asked.",
    "fit": "It suits this person's work.",
    "depth": "It is neither too basic nor too deep for this person.",
    "use": "This person could work with it as it stands.",
}
"""Four statements, each answered from 1 (not at all) to 5 (fully), for either text."""

RATINGS = (1, 2, 3, 4, 5)
SIDES = ("a", "b")
CHOICE = "Which one would this person rather have?"


def williams(n: int) -> NDArray[np.int64]:
    """A balanced Latin square of an even size: n orders of n things, ``(n, n)``.

    Each thing stands once in each place and once behind each other thing (Williams 1949).

    Raises:
        ValueError: An odd size, for which there is no such square.
    """
    if n < 2 or n % 2:
        raise ValueError(f"A balanced Latin square has an even size of at least 2, not {n}.")
    first = [0, *((k + 1) // 2 if k % 2 else n - k // 2 for k in range(1, n))]
    return np.asarray((np.array(first)[None] + np.arange(n)[:, None]) % n)


@dataclass(frozen=True)
class Placed:
    """One round of one participant.

    Attributes:
        round: Which of the rounds, by time.
        first_is_a: Whether the first condition is shown as A.
    """

    round: int
    first_is_a: bool


def placements(participants: int, rounds: int, rng: np.random.Generator) -> list[list[Placed]]:
    """In which order each participant meets the rounds, and which condition stands left.

    Orders are the rows of a balanced Latin square in random order. In each row half of the rounds show the first
    condition as A, and of two participants with the same row the second sees every round the other way round.

    Args:
        participants: How many.
        rounds: An even number.
        rng: Draws who gets which row.
    """
    square = williams(rounds)
    rows = rng.permutation(rounds)
    parity = np.arange(rounds) % 2
    made = []
    for p in range(participants):
        row = square[rows[(p // 2) % rounds]]
        shift = p % 2
        # by the place in the row, so that a round is left in one row and right in another
        made.append([Placed(int(t), bool((parity[i] + shift) % 2 == 0)) for i, t in enumerate(row)])
    return made
