"""The catalogue of courses: units of six subjects, what people ask for, and plans of study as texts.

The units are in a YAML file for each subject, those of the four areas that all subjects assume in
``foundations.yaml``, the needs in ``needs.yaml``. A plan is Markdown in the fixed layout that `render` writes and
`read_plan` reads line by line.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import yaml

from hare_gym.text.characters import character_name, invisible
from hare_gym.text.domain import TEXT_LENGTH

FOLDER = Path(__file__).parent
SUBJECTS = ("programming", "statistics", "finance", "electronics", "photography", "gardening")
AREAS = ("numbers", "digital", "notes", "habits")
"""What every subject assumes; the units that teach it are the catalogue's foundations."""
FORMATS = ("reading", "video", "exercises", "project", "discussion")
LEVELS = ("first steps", "working knowledge", "advanced")
HOURS = (12.0, 15.0, 18.0)
"""Every need is asked with each of these hours."""
LONGEST = 3.0
"""How many times its least hours a unit may be given."""
ALL_WEEK = 168.0
"""Hours of a week: what a week may take that cannot be read."""

# A word that people use of one subject says as much as so many words of its units that no other subject's have.
_SPOKEN = 3.0
_MOST_PROBLEMS = 12


@dataclass(frozen=True)
class Unit:
    """A unit of the catalogue.

    Attributes:
        index: Its place; prerequisites stand before what needs them.
        id: ``"photo-exposure"``.
        title: ``"Exposure"``; no other unit has it.
        subject: One of `SUBJECTS`, or ``"foundations"``.
        area: For a foundation, the one of `AREAS` that it teaches; else empty.
        level: 1 to 3.
        hours: The least that it takes; it may be given three times as long.
        formats: The ways it is offered, the usual one first.
        prerequisites: Ids.
        teaches: What it teaches, in words that follow "about".
        outcome: What one can do afterwards.
        description: What happens in it.
    """

    index: int
    id: str
    title: str
    subject: str
    area: str
    level: int
    hours: float
    formats: tuple[str, ...]
    prerequisites: tuple[str, ...]
    teaches: str
    outcome: str
    description: str


@dataclass(frozen=True)
class Need:
    """What is asked for: `text` in its asker's words, and the hours, which they state as well.

    Attributes:
        text: The goal in words.
        subject: Place in `SUBJECTS`.
        level: 0 to 2, by `LEVELS`.
        hours: Hours in all.
        knows: Whether the asker states that they know the basics, the subject's units of level 1.
    """

    text: str
    subject: int
    level: int
    hours: float
    knows: bool


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What there is to learn, and what is asked for.

    Attributes:
        units: The units, prerequisites before what needs them.
        titles: Titles of the subjects and of the foundations.
        spoken: By subject, words that people use when they speak of it.
        needs: The needs.
        digest: SHA-256 of the files.
    """

    units: tuple[Unit, ...]
    titles: Mapping[str, str]
    spoken: Mapping[str, str]
    needs: tuple[Need, ...]
    digest: str

    @cached_property
    def by_id(self) -> dict[str, Unit]:
        """Units by id."""
        return {unit.id: unit for unit in self.units}

    @cached_property
    def by_name(self) -> dict[str, Unit]:
        """Units by title and by id, in lower case."""
        return {name.lower(): unit for unit in self.units for name in (unit.title, unit.id)}

    def subject_of(self, words: str) -> str:
        """The subject that words speak of; empty where they do not tell."""
        speaks = dict.fromkeys(SUBJECTS, 0.0)
        for stem in sorted(stems(words)):
            for subject, weight in self._subject_words.get(stem, {}).items():
                speaks[subject] += weight
        first, second = sorted(speaks, key=lambda name: -speaks[name])[:2]
        return first if speaks[first] > speaks[second] else ""

    def goal_of(self, words: str, subject: str) -> Unit | None:
        """The subject's unit that words speak of most, each counting the more the fewer units have it; or None."""
        said, used = stems(words), self._unit_words.get(subject, {})
        rarity = {stem: 1.0 / max(1, sum(stem in found for found in used.values())) for stem in said}
        scores = {id: sum(rarity[stem] for stem in sorted(found & said)) for id, found in used.items()}
        best = max(scores, key=lambda id: scores[id], default="")
        return self.by_id[best] if best and scores[best] > 0.0 else None

    @cached_property
    def _unit_words(self) -> dict[str, dict[str, set[str]]]:
        found: dict[str, dict[str, set[str]]] = {}
        for unit in self.units:
            words = " ".join((unit.title, unit.teaches, unit.outcome, unit.description))
            found.setdefault(unit.subject, {})[unit.id] = stems(words)
        return found

    @cached_property
    def _subject_words(self) -> dict[str, dict[str, float]]:
        used: dict[str, set[str]] = {}
        for subject in SUBJECTS:
            for stem in set().union(*self._unit_words[subject].values()):
                used.setdefault(stem, set()).add(subject)
        found = {stem: dict.fromkeys(subjects, 1.0 / len(subjects) ** 2) for stem, subjects in used.items()}
        for subject, words in self.spoken.items():
            found |= {stem: {subject: _SPOKEN} for stem in stems(words)}
        return found


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """The built-in catalogue."""
    files = {name: (FOLDER / f"{name}.yaml").read_bytes() for name in ("foundations", *SUBJECTS, "needs")}
    units: list[Unit] = []
    titles: dict[str, str] = {}
    spoken: dict[str, str] = {}
    for name in ("foundations", *SUBJECTS):
        subject = yaml.safe_load(files[name])
        titles[name] = subject["title"]
        if name in SUBJECTS:
            spoken[name] = subject["words"]
        for entry in subject["units"]:
            listed = {key: tuple(entry.pop(key)) for key in ("formats", "prerequisites")}
            units.append(Unit(index=len(units), subject=name, **{"area": ""} | entry | listed))
    needs = tuple(
        Need(need["text"], SUBJECTS.index(need["subject"]), need["level"] - 1, hours, _knows(need["level"], k))
        for k, need in enumerate(yaml.safe_load(files["needs"]))
        for hours in HOURS
    )
    digest = hashlib.sha256(b"\0".join(files.values())).hexdigest()
    return Catalogue(tuple(units), titles, spoken, needs, digest)


def _knows(level: int, place: int) -> bool:
    # who wants the advanced things knows the basics, and of those in the middle every other one
    return level == 3 or (level == 2 and place % 2 == 0)


def stems(text: str) -> set[str]:
    """The first seven letters of the words that say something."""
    return {word[:7] for word in re.findall(r"[a-z]{3,}", text.lower())} - _COMMON


_COMMON = frozenset(
    re.findall(
        r"\w{1,7}",
        "and the for with that what from into how who why one two all you your out not are was when where which "
        "their them they have has had will would like want make take know learn say tell use using used about "
        "without more than other others then there this these those first own every any",
    )
)


# -- plans --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A line of a plan: some hours of a unit in a week.

    Attributes:
        week: From 0.
        unit: The unit.
        hours: In this week.
        format: One of `FORMATS`.
    """

    week: int
    unit: Unit
    hours: float
    format: str


_DO = {
    "reading": "Read about {}, and note what is new to you.",
    "video": "Watch the lessons about {}, and stop where you would have done otherwise.",
    "exercises": "Solve the exercises about {}, and check each before the next.",
    "project": "Make something small that needs {}, and keep it.",
    "discussion": "Talk with others about {}, and write down what you still doubt.",
}
# No free words hold digits: hours stand in their places, where they count.
_TITLE = re.compile(r"# ([^\s0-9][^0-9]{2,119})")
_GOAL = re.compile(r"\*\*Goal:\*\* ([^\s0-9][^0-9]{2,199})")
_SUM = re.compile(
    r"\*\*Hours:\*\* ([0-9]{1,3}(?:\.[0-9])?) in ([0-9]{1,2}) weeks?, at most ([0-9]{1,3}(?:\.[0-9])?) a week"
)
_WEEK_LINE = re.compile(r"## Week ([0-9]{1,2}): ([0-9]{1,3}(?:\.[0-9])?) h")
_LINE = re.compile(
    r"- \*\*(.{1,80}?)\*\*(, continued)? \(([0-9]{1,3}(?:\.[0-9])?) h, ([a-z]{1,20})\): ([^\s0-9][^0-9]{4,239})"
)


def render(entries: Sequence[Entry], catalogue: Catalogue) -> str:
    """The text of a plan: title, goal, hours, and by week each unit with hours, format and what to do."""
    subjects = subject_hours(entries)
    main = max(subjects, key=lambda name: subjects[name]) if subjects else "foundations"
    highest = max(
        (entry.unit for entry in entries if entry.unit.subject == main), key=lambda unit: (unit.level, unit.index)
    )
    weeks = by_week(entries)
    per_week = [sum(entry.hours for entry in week) for week in weeks]
    length = f"{len(weeks)} week{'s' * (len(weeks) > 1)}"
    rows = [
        f"# {catalogue.titles[main]}: {highest.title}",
        "",
        f"**Goal:** {catalogue.titles[main]}. {highest.outcome}",
        f"**Hours:** {sum(per_week):g} in {length}, at most {max(per_week):g} a week",
    ]
    seen: set[str] = set()
    for k, week in enumerate(weeks):
        rows += ["", f"## Week {k + 1}: {per_week[k]:g} h", ""]
        for entry in week:
            again = ", continued" if entry.unit.id in seen else ""
            seen.add(entry.unit.id)
            do = _DO[entry.format].format(entry.unit.teaches)
            rows.append(f"- **{entry.unit.title}**{again} ({entry.hours:g} h, {entry.format}): {do}")
    return "\n".join(rows) + "\n"


@dataclass
class Sheet:
    """A plan as it is read.

    Attributes:
        title: Its title; empty for none.
        goal: Its goal; empty for none.
        stated: Hours in all, weeks, and hours a week at most, as the plan states them; None where it does not.
        weeks: Hours of each week, as stated.
        entries: Its units, in order.
        problems: What is wrong with it, in words.
        whole: Whether every line of it could be read.
    """

    title: str = ""
    goal: str = ""
    stated: tuple[float, int, float] | None = None
    weeks: list[float] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    whole: bool = True

    def fullest(self) -> float:
        """Hours of the fullest week, whether stated or added up; all hours of a week if not all could be read."""
        if not self.whole or self.stated is None:
            return ALL_WEEK
        return max(
            self.stated[2], *self.weeks, *(sum(entry.hours for entry in week) for week in by_week(self.entries))
        )


def read_plan(text: str, catalogue: Catalogue) -> Sheet:
    """Reads a plan.

    What is wrong with it: lines that are no part of a plan, units that the catalogue does not have, sums that do not
    add up, hours under a unit's least, units that are there twice or before their prerequisites. Prerequisites that
    are not there at all are no problem of the text, as the learner may know them.

    Args:
        text: Anything.
        catalogue: Where its units are from.
    """
    if len(text) > TEXT_LENGTH:
        return Sheet(problems=[f"The text has {len(text):,} characters; a plan has {TEXT_LENGTH:,} at most."])
    hidden = invisible(text)
    if hidden:
        position, char = hidden[0]
        return Sheet(problems=[f"Character {position} is {character_name(char)}, which nobody sees. Take it out."])
    sheet = Sheet()
    for number, line in enumerate(text.split("\n"), 1):
        if len(sheet.problems) >= _MOST_PROBLEMS:
            sheet.whole = False
            break
        if line.rstrip():
            sheet.problems += [f"line {number}: {problem}" for problem in _read_line(sheet, line.rstrip(), catalogue)]
    named = {"title": sheet.title, "goal": sheet.goal, "hours": sheet.stated, "unit of the catalogue": sheet.entries}
    missing = [name for name, value in named.items() if not value]
    if missing:
        return Sheet(problems=[*sheet.problems, f"There is no {' and no '.join(missing)}."])
    sheet.problems += _sums(sheet) + _least(sheet.entries)
    subjects = subject_hours(sheet.entries)
    main = max(subjects, key=lambda name: subjects[name]) if subjects else "foundations"
    if catalogue.titles[main].lower() not in sheet.goal.lower():
        sheet.problems.append(f"The goal does not name {catalogue.titles[main]}, which most of the hours are for.")
    return sheet


def _read_line(sheet: Sheet, line: str, catalogue: Catalogue) -> list[str]:
    """Adds a line to what was read; what is wrong with it, in words."""
    if not sheet.title and (found := _TITLE.fullmatch(line)):
        sheet.title = found[1]
    elif sheet.title and not sheet.goal and (found := _GOAL.fullmatch(line)):
        sheet.goal = found[1]
    elif sheet.goal and sheet.stated is None and (found := _SUM.fullmatch(line)):
        sheet.stated = float(found[1]), int(found[2]), float(found[3])
    elif sheet.stated is not None and (found := _WEEK_LINE.fullmatch(line)):
        sheet.weeks.append(float(found[2]))
        if int(found[1]) != len(sheet.weeks):
            return [f"Week {found[1]} stands where week {len(sheet.weeks)} should."]
    elif sheet.weeks and (found := _LINE.fullmatch(line)):
        return _read_unit(sheet, found, catalogue)
    else:
        sheet.whole = False
        return ["This line is no part of a plan, or not where it belongs."]
    return []


def _read_unit(sheet: Sheet, found: re.Match[str], catalogue: Catalogue) -> list[str]:
    name, continued, hours, form, do = found.groups()
    unit = catalogue.by_name.get(name.lower())
    if unit is None:
        sheet.whole = False
        return [_unknown(name, catalogue, len(sheet.problems) < 2)]
    if form not in unit.formats:
        sheet.whole = False
        return [f"{unit.title} is offered as {', '.join(unit.formats)}, not as {form}."]
    sheet.entries.append(Entry(len(sheet.weeks) - 1, unit, float(hours), form))
    problems = _out_of_place(sheet.entries, bool(continued))
    if not stems(do) & stems(f"{unit.title} {unit.teaches} {unit.outcome}"):
        problems.append(f"What to do has nothing to do with {unit.title}.")
    return problems


def _unknown(name: str, catalogue: Catalogue, look: bool) -> str:
    near = difflib.get_close_matches(name.lower(), catalogue.by_name, n=1) if look else []
    hint = f" Did you mean {catalogue.by_name[near[0]].title!r}?" if near else ""
    return f"There is no unit {name!r} in the catalogue.{hint}"


def _out_of_place(entries: Sequence[Entry], continued: bool) -> list[str]:
    """What is wrong with the place of the last entry."""
    last, before = entries[-1], entries[:-1]
    if any(entry.unit is last.unit for entry in before):
        previous = before[-1]
        follows = previous.unit is last.unit and previous.week == last.week - 1 and previous.format == last.format
        return [] if continued and follows else [f"{last.unit.title} is in the plan twice."]
    if continued:
        return [f"{last.unit.title} is continued but never begun."]
    needed = {id for entry in before for id in entry.unit.prerequisites}
    return [f"{last.unit.title} must come before what needs it."] if last.unit.id in needed else []


def _sums(sheet: Sheet) -> list[str]:
    assert sheet.stated is not None
    per_week = [0.0] * len(sheet.weeks)
    for entry in sheet.entries:
        per_week[entry.week] += entry.hours
    problems = [
        f"Week {k + 1} says {said:g} h and has {have:g} h."
        for k, (said, have) in enumerate(zip(sheet.weeks, per_week, strict=True))
        if abs(said - have) > 0.01 or have <= 0.0
    ]
    for what, said, have in zip(
        ("hours", "weeks", "hours in a week at most"),
        sheet.stated,
        (sum(per_week), len(per_week), max(per_week)),
        strict=True,
    ):
        if abs(said - have) > 0.01:
            problems.append(f"The plan says {said:g} {what} and has {have:g}.")
    return problems


def _least(entries: Iterable[Entry]) -> list[str]:
    problems = []
    for unit, hours in unit_hours(entries).values():
        if hours < unit.hours - 0.01:
            problems.append(f"{unit.title} takes at least {unit.hours:g} h, and gets {hours:g} h.")
        elif hours > LONGEST * unit.hours + 0.01:
            problems.append(f"{unit.title} fills at most {LONGEST * unit.hours:g} h, and gets {hours:g} h.")
    return problems


def unit_hours(entries: Iterable[Entry]) -> dict[str, tuple[Unit, float]]:
    """Units and their hours in all weeks together, by id."""
    total: dict[str, tuple[Unit, float]] = {}
    for entry in entries:
        total[entry.unit.id] = entry.unit, total.get(entry.unit.id, (entry.unit, 0.0))[1] + entry.hours
    return total


def subject_hours(entries: Iterable[Entry]) -> dict[str, float]:
    """Hours by subject, without the foundations."""
    total: dict[str, float] = {}
    for entry in entries:
        if not entry.unit.area:
            total[entry.unit.subject] = total.get(entry.unit.subject, 0.0) + entry.hours
    return total


def by_week(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The entries of each week."""
    weeks: list[list[Entry]] = []
    for entry in entries:
        while len(weeks) <= entry.week:
            weeks.append([])
        weeks[entry.week].append(entry)
    return weeks
