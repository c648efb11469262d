"""A text as a reader meets it: its units, and what can be counted in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hare_gym.text.skills import Skill

Array = NDArray[np.float64]

# Words that name an attribute instead of having it: they are taken out before anything is measured, so that a text
# cannot claim to be for experts, or a checklist.
_LABELS = re.compile(
    r"\b(?:beginners?|novices?|newcomers?|intermediate|advanced|experts?|checklists?|tutorials?|coach(?:es|ing|ed)?"
    r"|formal(?:ly)?|normative|general|balanced|specific(?:ally)?|level|style)\b",
    re.IGNORECASE,
)
_MARKERS = re.compile(r"^\s*(?:[-*+]\s+)?(?:\[[ xX]\]\s+)?(?:\d+[.)]\s+)?|\*\*|__|^#+\s+|^>\s+")
_CHECKBOX = re.compile(r"\s*[-*+]\s+\[[ xX]\]\s")
_NUMBERED = re.compile(r"\s*\d+[.)]\s")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9`])")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_NUMBER = re.compile(r"\d")
_AMOUNT = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|dozen|half|third|quarter|percent|twice|seconds?|minutes?"
    r"|hours?|days?|weeks?|months?|years?)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"`[^`]+`|\b[\w-]+\.(?:[a-z]{2,5})\b|\b\w+[_/]\w+\b|\b\w+\(\)")
_CAPITAL = re.compile(r"(?<=[a-z,;] )[A-Z][A-Za-z]*[a-z]\b|\b[A-Z]{2}[A-Z0-9]*s?\b|\b[A-Za-z]+[A-Z]\w*\b")
_NORM = re.compile(r"\b(?:MUST|SHALL|SHOULD|MAY)\b(?: NOT)?")
_DEFINING = re.compile(
    r"\b(?:that is|which means|meaning|means|called|in other words|simply|short for|known as|think of|such as)\b"
    r"|\([a-z]"
)
_REASON = re.compile(r"\b(?:because|so that|since|therefore|which is why|otherwise|the reason)\b", re.IGNORECASE)
_YOU = re.compile(r"\b(?:you|your|yours|yourself)\b", re.IGNORECASE)
_EASE = re.compile(
    r"\b(?:fine|okay|easy|small|simple|one thing|do not worry|good|nice|well done|help)\b", re.IGNORECASE
)
# An article before a word that no article stands before: in words thrown together there are many.
_ARTICLE = re.compile(r"\b(?:[Tt]he|an?)\b(?= [a-z])")
_LOST_ARTICLE = re.compile(
    r"\b(?:[Tt]he|an?) (?=(?:the|an?|of|to|and|or|is|are|was|in|on|by|for|with|from|at|that|which|it|its|you|your"
    r"|be|has|have|if|so|then|not|as|can|do|does|but|when|what|who|they|this|these)\b)"
)
_GRAMMAR = (
    "a about after all also am an and any are as at be because been before but by can could did do does each for "
    "from had has have he her his how i if in into is it its just may me more most must my no nor not of off on one "
    "only or other our out over own same she should so some such than that the their them then there these they this "
    "those through to too under until up us was we were what when where which while who whom whose why will with "
    "without would yet you your"
)
_FUNCTION_WORDS = frozenset(_GRAMMAR.split())

SURFACE = (
    "sentence_length",
    "word_length",
    "long_words",
    "numbers",
    "code",
    "capitals",
    "norms",
    "definitions",
    "reasons",
    "questions",
    "checkboxes",
    "numbered",
    "you",
    "ease",
    "semicolons",
    "amounts",
    "quotations",
)
"""What is counted, in the order of `surface`."""

# The columns of `Line.counts`.
_COLUMNS = (
    "lines checkboxes numbered units words letters long_words tokens numbers code capitals norms definitions "
    "reasons questions you ease semicolons amounts quotations function_words articles lost_articles"
)
_COUNTED = _COLUMNS.split()
_PER_UNIT, _PER_WORD, _PER_TOKEN, _PER_LINE = (_COUNTED.index(name) for name in ("units", "words", "tokens", "lines"))
# What each number of `surface` is the ratio of, by column.
NUMERATORS = [
    _COUNTED.index({"sentence_length": "words", "word_length": "letters"}.get(name, name)) for name in SURFACE
]
DENOMINATORS = [
    _PER_UNIT, _PER_WORD, _PER_WORD, _PER_TOKEN, _PER_TOKEN, _PER_TOKEN, _PER_UNIT, _PER_UNIT, _PER_UNIT, _PER_UNIT,
    _PER_LINE, _PER_LINE, _PER_WORD, _PER_WORD, _PER_UNIT, _PER_TOKEN, _PER_UNIT,
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Line:
    """One line of Markdown.

    Attributes:
        units: Its sentences, without Markdown's marks and without label words.
        counts: What was counted in it, ``(24,)``.
    """

    units: tuple[str, ...]
    counts: Array


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a skill: sentences, bullets and headings, without Markdown's marks and without label words.

    Attributes:
        head: Title and description.
        triggers: When to use it.
        instructions: What to do.
        examples: Requests and responses.
        surface: What can be counted in the instructions and examples, by `SURFACE`, ``(17,)``: mean words a sentence
            and letters a word; shares of words of ten letters and more, of tokens with a digit, with code or a file's
            name, with capitals inside a sentence (names, acronyms); MUST, SHOULD and MAY, defining phrases, reasons,
            questions by sentence; checkbox and numbered lines as shares of the instructions' lines; "you" and words
            that reassure, by word; semicolons and colons by sentence; number words and units of time by token;
            quotations by sentence.
        words: Words in the instructions and examples.
        function_words: Share of words such as "the" and "when" among them.
        lost_articles: Share of articles that stand before a word which no article stands before.
    """

    head: tuple[str, ...]
    triggers: tuple[str, ...]
    instructions: tuple[str, ...]
    examples: tuple[str, ...]
    surface: Array
    words: int
    function_words: float
    lost_articles: float

    @property
    def all(self) -> tuple[str, ...]:
        """Every unit, in reading order."""
        return self.head + self.triggers + self.instructions + self.examples


def units_of(skill: Skill) -> Units:
    """Takes a skill apart."""
    head = _lines(f"{skill.title}.\n{skill.description}")
    triggers = [line for trigger in skill.triggers for line in _lines(trigger)]
    instructions = _lines(skill.instructions)
    examples = [line for example in skill.examples for line in _lines(example)]
    body = sum((line.counts for line in instructions), np.zeros(len(_COUNTED)))
    more = sum((line.counts for line in examples), np.zeros(len(_COUNTED)))
    more[:3] = 0.0  # checkbox and numbered lines are looked for in the instructions alone
    counts = body + more
    return Units(
        head=_joined(head),
        triggers=_joined(triggers),
        instructions=_joined(instructions),
        examples=_joined(examples),
        surface=surface_of(counts),
        words=int(counts[_PER_WORD]),
        function_words=float(counts[_COUNTED.index("function_words")] / max(counts[_PER_WORD], 1.0)),
        lost_articles=float(counts[-1] / max(counts[-2], 8.0)),  # of few articles one says little
    )


def _joined(lines: Sequence[Line]) -> tuple[str, ...]:
    return tuple(unit for line in lines for unit in line.units)


def surface_of(counts: Array) -> Array:
    """`SURFACE` of sums of `Line.counts`, ``(..., 17)``.

    Args:
        counts: ``(..., 24)``; the first three columns (lines, checkboxes, numbered) of lines of instructions only.
    """
    return np.asarray(counts[..., NUMERATORS] / np.maximum(counts[..., DENOMINATORS], 1.0))


def _lines(text: str) -> list[Line]:
    """The lines of a text that have something in them; inside fenced code there is no sentence, only code."""
    found, fenced = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif fenced:
            found.append(_CODE_LINE)
        elif line and not line.isspace():
            found.append(read_line(line))
    return found


def unmarked(line: str) -> str:
    """A line without Markdown's marks: the same text in a list, numbered or not."""
    return _MARKERS.sub("", line).strip()


@lru_cache(maxsize=100_000)
def read_line(line: str) -> Line:
    """The units of a line, and what is counted in it; lines come back in composed texts, so they are remembered."""
    units = []
    for sentence in _SENTENCE.split(unmarked(line)):
        unit = " ".join(_LABELS.sub("", sentence).split())
        if _WORD.search(unit):
            units.append(unit)
    counts = np.zeros(len(_COUNTED))
    counts[:3] = 1.0, bool(_CHECKBOX.match(line)), bool(_NUMBERED.match(line))
    for unit in units:
        words, tokens = _WORD.findall(unit), unit.split()
        counts[3:] += (
            1,
            len(words),
            sum(map(len, words)),
            sum(len(word) >= 10 for word in words),
            len(tokens),
            sum(bool(_NUMBER.search(token)) for token in tokens),
            *(len(pattern.findall(unit)) for pattern in (_CODE, _CAPITAL, _NORM, _DEFINING, _REASON)),
            unit.endswith("?"),
            len(_YOU.findall(unit)),
            len(_EASE.findall(unit)),
            unit.count(";") + unit.count(":"),
            len(_AMOUNT.findall(unit)),
            unit.count('"') / 2,
            sum(word.lower() in _FUNCTION_WORDS for word in words),
            len(_ARTICLE.findall(unit)),
            len(_LOST_ARTICLE.findall(unit)),
        )
    counts.setflags(write=False)
    return Line(tuple(units), counts)


# A line of code counts as eight tokens of code, which is about what one has, and as nothing else.
_CODE_LINE = Line((), np.array([8.0 if name in ("tokens", "code") else 0.0 for name in _COUNTED]))
