"""Putting plans of study together from units, for a content vector and what a query states.

It knows documents, and neither learners nor the reward.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hare_gym.text.courses import (
    AREAS,
    FORMATS,
    HOURS,
    LEVELS,
    LONGEST,
    SUBJECTS,
    Catalogue,
    Entry,
    Unit,
    render,
)
from hare_gym.text.courses.measure import (
    BLOCKS,
    COVERED,
    DEPTH_RANGE,
    HOURS_RANGE,
    LEVEL_RANGE,
    LEVEL_WISH,
    PACE_RANGE,
    SCALES,
    arc,
    content,
    gaps_block,
)

_STEP = 0.5
# The longest plans that are put together: their texts must stay below the length of a text.
_MOST_HOURS, _MOST_WEEKS = 36.0, 24.0
# Points of a half circle that are looked at.
_GRID = 64
# Plans of the pool for each subject and level, and what their traits are drawn from, see `ready_made`.
_EACH = 6
_ROOTS = tuple(math.sqrt(prime) for prime in (2, 3, 5, 7, 11, 13, 17))
_POOL_PACES, _POOL_DEPTHS, _POOL_AREAS = (2.0, 7.0), (1.2, 2.8), 0.45


@dataclass(frozen=True)
class Request:
    """What the words of a query state.

    Attributes:
        subject: The subject that they speak of; empty where they do not tell.
        goal: The unit of the subject that they speak of; None where they name none.
        hours: Hours in all; 0 where they name none.
        limit: Hours a week at most; 0 for none.
        knows: Whether the subject's basics are known.
    """

    subject: str = ""
    goal: Unit | None = None
    hours: float = 0.0
    limit: float = 0.0
    knows: bool = False

    @classmethod
    def read(cls, text: str, catalogue: Catalogue, subject: str = "") -> Request:
        """Reads a query; its subject too, unless that is known."""
        hours = re.search(r"([0-9]{1,3}(?:\.[0-9]+)?) hours(?! a week)", text)
        limit = re.search(r"at most ([0-9]{1,3}(?:\.[0-9]+)?) hours a week", text)
        goal = re.split(r"I have [0-9]", text, maxsplit=1)[0]
        subject = subject or catalogue.subject_of(goal)
        return cls(
            subject=subject,
            goal=catalogue.goal_of(goal, subject),
            hours=float(hours[1]) if hours else 0.0,
            limit=float(limit[1]) if limit else 0.0,
            knows=bool(subject) and "know the basics" in text,
        )


class Assembler:
    """Puts plans together from units: for a content vector and a request, and always valid.

    It covers the areas that z wants covered, begins with the unit that the words speak of, adds units of the subject,
    each with what it needs, as long as that brings level and depth nearer to z, gives them their hours, chooses
    formats, and cuts the whole into weeks. Plain arithmetic in a fixed order: a plan is the same on every machine.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        grid = np.linspace(0.0, 1.0, _GRID + 1)
        self._grid: list[list[float]] = arc(grid, (0.0, 1.0)).tolist()
        self._own = {name: [unit for unit in catalogue.units if unit.subject == name] for name in SUBJECTS}
        self._areas = {name: [unit for unit in catalogue.units if unit.area == name] for name in AREAS}

    def text(self, z: Sequence[float], request: Request, liking: Sequence[float]) -> str:
        """The plan's text.

        Args:
            z: The content asked for, ``(23,)``.
            request: What must be respected.
            liking: By unit, how much it is attended to, 0 to 1.
        """
        return render(self.entries(z, request, liking), self.catalogue)

    def entries(self, z: Sequence[float], request: Request, liking: Sequence[float]) -> list[Entry]:
        """The plan."""
        block = {name: [value / SCALES[name] for value in z[part]] for name, part in BLOCKS.items()}
        subject = request.subject or SUBJECTS[_largest(block["subject"])]
        least = min(unit.hours for unit in self._own[subject] if not unit.prerequisites)
        hours = min(request.hours or self._decoded(block["hours"], HOURS_RANGE), _MOST_HOURS)
        if request.limit:
            hours = min(hours, _MOST_WEEKS * request.limit)
        hours = max(_rounded(hours), least)
        areas = self._chosen_areas(block, hours, least)
        rest = hours - sum(given for _, given in areas)
        level = self._decoded(block["level"], LEVEL_RANGE)
        needed = {unit.id: self._closure(unit, request.knows) for unit in self._own[subject]}
        start = needed[request.goal.id] if request.goal else {}
        if sum(unit.hours for unit in start.values()) > rest:
            start = {}
        units = self._chosen_units(block, level, needed, start, rest, liking)
        given = areas + _given_hours(units, level, rest)
        given.sort(key=lambda one: one[0].index)
        return self._weeks(given, self._formats(given, block["formats"]), block["pace"], request.limit)

    def _point(self, s: float) -> list[float]:
        return self._grid[int(min(max(s, 0.0), 1.0) * _GRID + 0.5)]

    def _decoded(self, point: Sequence[float], bounds: tuple[float, float]) -> float:
        best = _largest([_dot(each, point) for each in self._grid])
        return bounds[0] + best / _GRID * (bounds[1] - bounds[0])

    def _on_arc(self, value: float, bounds: tuple[float, float], point: Sequence[float]) -> float:
        """How well a number fits a point of its half circle."""
        return _dot(self._point((value - bounds[0]) / (bounds[1] - bounds[0])), point)

    def _chosen_areas(self, block: Mapping[str, list[float]], hours: float, least: float) -> list[tuple[Unit, float]]:
        """A unit with its hours for each area to cover, the most wanted first, as far as hours go."""
        wanted = block["gaps"]
        chosen: list[tuple[Unit, float]] = []
        for k in sorted(range(len(AREAS)), key=lambda k: -wanted[k]):
            room = hours - least - sum(given for _, given in chosen)
            free = [unit for unit in self._areas[AREAS[k]] if not unit.prerequisites]
            if wanted[k] > 0.0 and room >= COVERED:
                chosen.append((free[_largest([_best_format(unit, block["formats"]) for unit in free])], COVERED))
        return chosen

    def _chosen_units(
        self,
        block: Mapping[str, list[float]],
        level: float,
        needed: Mapping[str, dict[str, Unit]],
        start: dict[str, Unit],
        hours: float,
        liking: Sequence[float],
    ) -> list[Unit]:
        """Those at the start, and one by one units with what they need, while level and depth come nearer to z."""
        formats = block["formats"]
        tallest = max(1e-9, math.sqrt(_dot(formats, formats)))

        own = {id: self.catalogue.by_id[id] for id in needed}
        appeals = {
            id: 0.5 * _best_format(unit, formats) / tallest + 0.02 * liking[unit.index] for id, unit in own.items()
        }

        def worth(units: Mapping[str, Unit]) -> float:
            least = sum(unit.hours for unit in units.values())
            used = min(hours, LONGEST * least)
            depths = self._on_arc(used / least, DEPTH_RANGE, block["depth"])
            levels = self._on_arc(_reachable_level(units, level, used, least), LEVEL_RANGE, block["level"])
            liked = sum(appeals[id] * unit.hours for id, unit in units.items()) / least
            return SCALES["depth"] * depths + SCALES["level"] * levels + SCALES["formats"] * liked - (hours - used)

        chosen, best = start, worth(start) if start else -math.inf
        while True:
            options = []
            for id, unit in own.items():
                if id not in chosen:
                    grown = chosen | needed[id]
                    if sum(one.hours for one in grown.values()) <= hours:
                        options.append((worth(grown), -unit.index, grown))
            top = max(options, key=lambda option: option[:2], default=None)
            if top is None or top[0] <= best:
                return list(chosen.values())
            best, chosen = top[0], top[2]

    def _closure(self, unit: Unit, knows: bool) -> dict[str, Unit]:
        """A unit and all that it needs, but for the basics where they are known."""
        needed: dict[str, Unit] = {}
        for id in unit.prerequisites:
            before = self.catalogue.by_id[id]
            if not (knows and before.level == 1):
                needed |= self._closure(before, knows)
        return needed | {unit.id: unit}

    def _formats(self, given: Sequence[tuple[Unit, float]], wanted: Sequence[float]) -> dict[str, str]:
        """A format for each unit: one at a time, whichever brings the shares nearest, and once more around."""
        total = sum(hours for _, hours in given)
        shares = [0.0] * len(FORMATS)
        chosen: dict[str, str] = {}
        order = sorted(given, key=lambda one: (len(one[0].formats), -one[1], one[0].index))
        for _ in range(2):
            for unit, hours in order:
                if unit.id in chosen:
                    shares[FORMATS.index(chosen[unit.id])] -= hours
                fits = []
                for name in unit.formats:
                    k = FORMATS.index(name)
                    more = math.sqrt(max(shares[k] + hours, 0.0) / total) - math.sqrt(max(shares[k], 0.0) / total)
                    fits.append(wanted[k] * more)
                chosen[unit.id] = unit.formats[_largest(fits)]
                shares[FORMATS.index(chosen[unit.id])] += hours
        return chosen

    def _weeks(
        self, given: Sequence[tuple[Unit, float]], formats: Mapping[str, str], pace: Sequence[float], limit: float
    ) -> list[Entry]:
        """The units one after the other, cut into weeks of the length that fits best; none is above the limit."""
        total = sum(hours for _, hours in given)
        lengths = [_STEP * k for k in range(3, 17) if not limit or _STEP * k <= limit]
        lengths = lengths or [max(int(10.0 * limit), 1) / 10.0]

        def fit(length: float) -> float:
            full = int(total / length + 1e-9)
            rest = total - full * length
            return self._on_arc((full * length * length + rest * rest) / total, PACE_RANGE, pace)

        length = lengths[_largest([fit(length) for length in lengths])]
        entries: list[Entry] = []
        week, room = 0, length
        for unit, hours in given:
            while hours > 1e-9:
                if room <= 1e-9:
                    week, room = week + 1, length
                now = min(hours, room)
                entries.append(Entry(week, unit, now, formats[unit.id]))
                hours, room = hours - now, room - now
        return entries


def _reachable_level(units: Mapping[str, Unit], wanted: float, used: float, least: float) -> float:
    """The mean level nearest to what is wanted that some way of giving the spare hours reaches."""
    base = sum(unit.hours * unit.level for unit in units.values())
    low, high = (base + _spread(used - least, units, order) for order in ((1, 2, 3), (3, 2, 1)))
    return min(max(wanted, low / used), high / used)


def _spread(spare: float, units: Mapping[str, Unit], order: Sequence[int]) -> float:
    """Level times hours, summed, of spare hours that fill the levels' units in this order."""
    total = 0.0
    for level in order:
        more = min(spare, (LONGEST - 1.0) * sum(unit.hours for unit in units.values() if unit.level == level))
        total += more * level
        spare -= more
    return total


def _given_hours(units: Sequence[Unit], level: float, hours: float) -> list[tuple[Unit, float]]:
    """Hours for each unit: its least, and half hours more where they bring the mean level nearer."""
    given = {unit.id: unit.hours for unit in units}
    total = sum(given.values())
    weighted = sum(unit.hours * unit.level for unit in units)
    while total + _STEP <= hours + 1e-9:
        room = [unit for unit in units if given[unit.id] + _STEP <= LONGEST * unit.hours + 1e-9]
        if not room:
            break
        sign = 1 if weighted < level * total else -1
        # of the same level, the one that has been given least of what it may be given
        unit = min(room, key=lambda one: (-sign * one.level, given[one.id] / one.hours, one.index))
        given[unit.id] += _STEP
        total += _STEP
        weighted += _STEP * unit.level
    return [(unit, given[unit.id]) for unit in units]


def ready_made(assembler: Assembler) -> list[str]:
    """The pool: for each subject and level six plans, which differ in hours, areas, formats, pace and depth.

    Plan i takes ``HOURS[i % 3]`` and its other traits from the i-th point of a Kronecker sequence (fractional parts
    of i times square roots of primes), so that they cover what learners may wish evenly. Those at the advanced level
    take the basics for granted.
    """
    texts: list[str] = []
    for subject in SUBJECTS:
        for level in range(len(LEVELS)):
            for _ in range(_EACH):
                point = [(len(texts) + 1) * root % 1.0 for root in _ROOTS]
                shares = np.array([0.1, 0.1, 0.1, 0.1, 0.1])
                shares[int(point[0] * len(FORMATS))] = 0.6
                z = content(
                    {
                        "subject": np.eye(len(SUBJECTS))[SUBJECTS.index(subject)],
                        "level": arc(LEVEL_WISH[level], (0.0, 1.0)),
                        "gaps": gaps_block([coordinate < _POOL_AREAS for coordinate in point[3:]]),
                        "formats": np.sqrt(shares),
                        "pace": arc(_between(_POOL_PACES, point[1]), PACE_RANGE),
                        "depth": arc(_between(_POOL_DEPTHS, point[2]), DEPTH_RANGE),
                    }
                )
                request = Request(subject, None, HOURS[len(texts) % len(HOURS)], knows=level == 2)
                texts.append(assembler.text(z.tolist(), request, [0.0] * len(assembler.catalogue.units)))
    return texts


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda k: (values[k], -k))


def _best_format(unit: Unit, wanted: Sequence[float]) -> float:
    return max(wanted[FORMATS.index(name)] for name in unit.formats)


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + share * (bounds[1] - bounds[0])


def _rounded(hours: float) -> float:
    return int(hours / _STEP + 1e-9) * _STEP
