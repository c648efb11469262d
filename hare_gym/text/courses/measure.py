"""What a plan of study is, in numbers: its content vector, made of blocks of length one.

::

    phi = [subject 6 | level 2 | hours 2 | gaps 4 | formats 5 | pace 2 | depth 2]

Shares (subjects, formats) enter as square roots, numbers in a range as points of a half circle (`arc`), areas that
are covered or not as +1/2 and -1/2. Block k is scaled by sqrt(w_k / sum w), w being the weights of the reward, and
what a learner wishes for a need, phi*, is a vector of the same kind: phi . phi* is the weighted mean of the cosines
of their blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.text.courses import AREAS, FORMATS, SUBJECTS, Entry, by_week, subject_hours, unit_hours

Array = NDArray[np.float64]

# Weights of the reward's parts, and so the squared lengths of phi's blocks. Part of what -v0 means.
WEIGHTS = {
    "subject": 1.0,
    "level": 0.3,
    "hours": 0.3,
    "gaps": 1.2,
    "formats": 0.6,
    "pace": 0.5,
    "depth": 0.4,
}
TOTAL = sum(WEIGHTS.values())
# Where each block of phi stands.
BLOCKS = {
    "subject": slice(0, 6),
    "level": slice(6, 8),
    "hours": slice(8, 10),
    "gaps": slice(10, 14),
    "formats": slice(14, 19),
    "pace": slice(19, 21),
    "depth": slice(21, 23),
}
CONTENT_DIM = 23
SCALES = {name: math.sqrt(weight / TOTAL) for name, weight in WEIGHTS.items()}

# What 0 and 1 stand for on the half circles.
LEVEL_RANGE, HOURS_RANGE, PACE_RANGE, DEPTH_RANGE = (1.0, 3.0), (6.0, 24.0), (1.5, 8.0), (1.0, 3.0)
LEVEL_WISH = (0.1, 0.45, 0.8)
"""Where on its range each level of a need wants the mean of the units' levels."""
COVERED = 2.0
"""Hours of an area that cover it."""


def arc(value: Any, bounds: tuple[float, float]) -> Array:
    """A number in a range as a point of a half circle, ``(..., 2)``: its inner product with another falls smoothly
    from 1 for the same number to -1 for the other end, and is linear in either point.
    """
    s = (np.asarray(value, dtype=np.float64) - bounds[0]) * (1.0 / (bounds[1] - bounds[0]))
    angle = (np.minimum(np.maximum(s, 0.0), 1.0) - 0.5) * np.pi
    return np.stack([portable.sin(angle), portable.sin(angle + 0.5 * np.pi)], axis=-1)


def content(blocks: Mapping[str, Array]) -> Array:
    """Phi from its blocks, each of length one ``(..., length)``; a block that is not given is zero."""
    shape = np.broadcast_shapes(*(block.shape[:-1] for block in blocks.values()))
    phi = np.zeros((*shape, CONTENT_DIM))
    for name, block in blocks.items():
        phi[..., BLOCKS[name]] = SCALES[name] * block
    return phi


def gaps_block(covered: Any) -> Array:
    """Which areas are covered, 0 to 1 each, as a block."""
    return np.asarray((2.0 * np.asarray(covered, dtype=np.float64) - 1.0) * 0.5)


def measured_blocks(entries: Sequence[Entry]) -> dict[str, Array]:
    """What a plan is, block by block."""
    total = sum(entry.hours for entry in entries)
    areas, formats = dict.fromkeys(AREAS, 0.0), dict.fromkeys(FORMATS, 0.0)
    for entry in entries:
        formats[entry.format] += entry.hours
        if entry.unit.area:
            areas[entry.unit.area] += entry.hours
    per_week = [sum(entry.hours for entry in week) for week in by_week(entries)]
    blocks = {
        "hours": arc(total, HOURS_RANGE),
        "gaps": gaps_block([min(hours / COVERED, 1.0) for hours in areas.values()]),
        "formats": np.sqrt([hours / total for hours in formats.values()]),
        "pace": arc(sum(hours * hours for hours in per_week) / total, PACE_RANGE),
    }
    subjects = subject_hours(entries)
    own = sum(subjects.values())
    if own > 0.0:
        levels = sum(entry.hours * entry.unit.level for entry in entries if not entry.unit.area)
        least = sum(unit.hours for unit, _ in unit_hours(entries).values() if not unit.area)
        blocks |= {
            "subject": np.sqrt([subjects.get(name, 0.0) / own for name in SUBJECTS]),
            "level": arc(levels / own, LEVEL_RANGE),
            "depth": arc(own / least, DEPTH_RANGE),
        }
    return blocks
