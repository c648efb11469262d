"""What a text is, in numbers: the content vector phi, and the measures that are read off it.

A text is taken apart into units (sentences, bullets, headings). Each unit is embedded on its own; the means of the
sections, weighted, are projected onto directions that tell domains and topics apart. What can be counted (length of
sentences, numbers, MUST and SHOULD, questions, ...) gives level, specificity and style. Together they are phi, and
domain, topic, level, specificity and style are fixed functions of phi, so that content given as a vector is judged by
the same rules. `hare_gym.text.calibrate` fits them to the built-in corpus; docs/reward_model.md has the figures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError
from hare_gym.text.calibrate import fitted_space
from hare_gym.text.corpus import DOMAINS, STYLES, TOPICS, Corpus, load_corpus
from hare_gym.text.encoders import Encoder, load_encoder
from hare_gym.text.screening import screen
from hare_gym.text.skills import MAX_BYTES, Skill, SkillError, parse
from hare_gym.text.space import (
    CONTENT_DIM,
    DOMAIN_PART,
    LEVEL,
    RADIUS,
    SECTION_WEIGHTS,
    SEMANTIC,
    SPECIFICITY,
    STYLE_PART,
    THEME,
    TOPIC_PART,
    contrasts,
    shipped_space,
    standardised,
    unit_key,
)
from hare_gym.text.units import SURFACE, Units, units_of, unmarked

Array = NDArray[np.float64]


def simplex(x: Array) -> Array:
    """The nearest points of the simplex to the rows of ``x``, over the last axis (Duchi et al. 2008)."""
    if x.ndim == 1:
        return np.array(_simplex(x.tolist()))
    ordered = -np.sort(-x, axis=-1)
    excess = (np.cumsum(ordered, axis=-1) - 1.0) / np.arange(1, x.shape[-1] + 1)
    count = np.sum(ordered > excess, axis=-1, keepdims=True)
    return np.maximum(x - np.take_along_axis(excess, count - 1, axis=-1), 0.0)


def _simplex(x: list[float]) -> list[float]:
    # for one row Python's numbers give the same bits in a tenth of the time
    total, count, excess = 0.0, 0, []
    for k, number in enumerate(sorted(x, reverse=True), 1):
        total += number
        excess.append((total - 1.0) / k)
        count += number > excess[-1]
    above = excess[count - 1]
    return [max(number - above, 0.0) for number in x]


_D, _T, _S = contrasts(len(DOMAINS)), contrasts(len(TOPICS)), contrasts(len(STYLES))


@dataclass(frozen=True, eq=False)
class Measures:
    """What phi says; every array may have leading axes.

    Attributes:
        domain: Mix of `DOMAINS`, ``(..., 8)``, sum one.
        topic: Mix of `TOPICS`, ``(..., 6)``, sum one.
        level: ``(...)``, 0 beginner to 1 expert.
        specificity: ``(...)``, 0 general to 1 specific.
        style: Mix of `STYLES`, ``(..., 4)``, sum one.
    """

    domain: Array
    topic: Array
    level: Array
    specificity: Array
    style: Array


def measures(phi: Array) -> Measures:
    """Reads the measures off content vectors.

    Args:
        phi: ``(..., 17)``.
    """
    x = RADIUS * np.asarray(phi, dtype=np.float64)
    return Measures(
        _mix(x[..., DOMAIN_PART], _D),
        _mix(x[..., TOPIC_PART], _T),
        np.minimum(np.maximum(0.5 + 0.5 * x[..., LEVEL], 0.0), 1.0),
        np.minimum(np.maximum(0.5 + 0.5 * x[..., SPECIFICITY], 0.0), 1.0),
        _mix(x[..., STYLE_PART], _S),
    )


def _mix(x: Array, basis: Array) -> Array:
    """The mix of k names, ``(..., k)``, whose contrasts come nearest to x, ``(..., k - 1)``."""
    # added in order, not by BLAS: the same bits everywhere
    if x.ndim == 1:
        first, *others = x.tolist()
        mix = []
        for b, *rest in basis.tolist():
            number = first * b
            for x_j, b_j in zip(others, rest, strict=True):
                number += x_j * b_j
            mix.append(1.0 / len(basis) + number)
        return np.array(_simplex(mix))
    total = x[..., :1] * basis[:, 0]
    for j in range(1, basis.shape[1]):
        total = total + x[..., j : j + 1] * basis[:, j]
    return simplex(1.0 / len(basis) + total)


def content_of(measured: Measures) -> Array:
    """The content vector that measures exactly so: the inverse of `measures`, ``(..., 17)``."""
    x = np.concatenate(
        [
            measured.domain @ _D,
            measured.topic @ _T,
            2.0 * np.stack([measured.level, measured.specificity], axis=-1) - 1.0,
            measured.style @ _S,
        ],
        axis=-1,
    )
    return np.asarray(x / RADIUS)


def query_topics(query: Array) -> Array:
    """Which topics a query's vector asks for, ``(..., 6)``, sum one."""
    return _mix(RADIUS * np.asarray(query, dtype=np.float64)[..., TOPIC_PART], _T)


@dataclass(frozen=True, eq=False)
class Measured:
    """A text, measured.

    Attributes:
        text: What was measured.
        phi: Content vector, ``(17,)``, inside the unit ball; zero for a text that is no skill at all.
        validity: 1 for a valid and complete skill, less for each violation or missing part, 0 if it does not parse.
        guards: Factors in [0, 1] against gaming, by name; 1 for an honest text.
        skill: The parsed skill; None where the text does not parse.
        problems: What is wrong with the format, in words.
    """

    text: str
    phi: Array
    validity: float
    guards: Mapping[str, float]
    skill: Skill | None = None
    problems: tuple[str, ...] = ()

    @cached_property
    def measures(self) -> Measures:
        """Domain, topic, level, specificity and style."""
        return measures(self.phi)

    @cached_property
    def guard(self) -> float:
        """The product of the guards."""
        return float(np.prod(list(self.guards.values()))) if self.guards else 1.0


class Measurer:
    """Measures texts and queries.

    Args:
        encoder: ``"minilm"`` (the built-in corpus then needs no model), another name for `load_encoder`, or an
            encoder.
        pool: The rendered texts of the items that an author may copy from; a text that is one of them nearly verbatim
            is told by the guard ``verbatim``.

    Raises:
        ConfigError: The encoder cannot be had.
    """

    content_dim = CONTENT_DIM
    query_dim = CONTENT_DIM

    def __init__(self, encoder: str | Encoder = "minilm", pool: Sequence[str] = ()) -> None:
        self._encoder: Encoder | None = None
        if encoder == "minilm":
            self.space = shipped_space()
        else:
            self._encoder = load_encoder(encoder, _corpus_texts()) if isinstance(encoder, str) else encoder
            self.space = fitted_space(self._encoder)
        self._units: dict[str, Array] = {}
        self._screened: dict[str, bool] = {}
        self._known_lines: set[str] = set()
        self._items_of: dict[str, list[int]] = {}
        for i, text in enumerate(pool):
            self._know(i, text)

    @property
    def encoder_name(self) -> str:
        """The encoder's name, with a fingerprint of its weights."""
        return self.space.encoder

    # -- queries ------------------------------------------------------------------------------------------------

    def query(self, text: str) -> Array:
        """A query's vector, ``(17,)``: the coordinates of domain and topic as for a text, zeros for the rest."""
        known = self.space.queries.get(unit_key(text))
        if known is None:
            known = _affine(self._embedded([text]), self.space.query_map)[0]
        return _in_ball(np.concatenate([known, np.zeros(CONTENT_DIM - SEMANTIC.stop)]) / RADIUS)

    # -- texts --------------------------------------------------------------------------------------------------

    def items(self, corpus: Corpus) -> list[Measured]:
        """The items of a catalogue, which are no copies; those of the built-in corpus are not screened."""
        skills = corpus.skills
        self.coordinates([unit for skill in skills for unit in units_of(skill).all])
        trusted = corpus.name == "built-in"
        return [
            self._measured(skill.text, skill, units_of(skill), written=False, trusted=trusted) for skill in skills
        ]

    def text(self, text: str) -> Measured:
        """Measures a text that somebody has written. Never raises on bad text."""
        if len(text) > MAX_BYTES:
            return Measured(text, np.zeros(CONTENT_DIM), 0.0, {}, None, (f"{len(text):,} characters are too many.",))
        skill, units, problems = read_skill(text)
        if skill is None or units is None:
            return Measured(text, np.zeros(CONTENT_DIM), 0.0, {}, None, problems)
        return self._measured(text, skill, units, problems)

    def _measured(
        self,
        text: str,
        skill: Skill,
        units: Units,
        problems: tuple[str, ...] = (),
        written: bool = True,
        trusted: bool = False,
    ) -> Measured:
        sections = [self.coordinates(part) for part in sections_of(units)]
        guards = _guards(units, skill) | {"coherence": self._coherence(units, sections)}
        if written and self._items_of:
            guards["verbatim"] = self._verbatim(units)
        if not trusted:
            guards["screening"] = self._screening(text)
        validity = 0.25 ** len(problems) * _completeness(units)
        return Measured(text, self._content(units, sections), validity, guards, skill, problems)

    def content(self, units: Units) -> Array:
        """The content vector of a text's units, ``(17,)``."""
        return self._content(units, [self.coordinates(part) for part in sections_of(units)])

    def _content(self, units: Units, sections: list[Array]) -> Array:
        """The same, by the coordinates of its sections' units."""
        parts = [(weight, part) for weight, part in zip(SECTION_WEIGHTS.values(), sections, strict=True) if len(part)]
        if not parts:
            return np.zeros(CONTENT_DIM)
        total = sum(weight for weight, _ in parts)
        means = sum(weight / total * part[:, SEMANTIC].mean(axis=0) for weight, part in parts)
        return np.asarray(self.content_from(np.asarray(means)[None], units.surface[None])[0])

    def content_from(self, semantic: Array, surface: Array) -> Array:
        """The content vector of semantic coordinates and surface numbers.

        Args:
            semantic: ``(n, 12)``.
            surface: ``(n, 17)``, by `SURFACE`.

        Returns:
            ``(n, 17)``.
        """
        z = standardised(surface, self.space.surface_scale)
        return _in_ball(np.concatenate([semantic, _affine(z, self.space.surface_map)], axis=1) / RADIUS)

    def coordinates(self, units: Sequence[str]) -> Array:
        """Semantic and thematic coordinates of units, ``(n, 36)``; units that are not the corpus' are embedded."""
        missing = []
        for unit in units:
            if unit not in self._units:
                known = self.space.units.get(unit_key(unit))
                if known is None:
                    missing.append(unit)
                else:
                    self._units[unit] = known
        if missing:
            missing = list(dict.fromkeys(missing))
            self._units.update(zip(missing, _affine(self._embedded(missing), self.space.text_map), strict=True))
        return np.array([self._units[unit] for unit in units]).reshape(len(units), THEME.stop)

    def _embedded(self, texts: Sequence[str]) -> Array:
        if self._encoder is None:
            self._encoder = load_encoder("minilm")
            if self._encoder.name != self.space.encoder:
                raise ConfigError(f"The measures were fitted to {self.space.encoder}, not to {self._encoder.name}.")
        return np.asarray(self._encoder.encode(list(texts)), dtype=np.float64)

    def _coherence(self, units: Units, sections: list[Array]) -> float:
        body = self.coordinates(tuple(dict.fromkeys(_body(units))))
        if not len(body):
            return 1.0
        themes = np.array([part[:, THEME].mean(axis=0) for part in sections if len(part)])
        semantic = body[:, SEMANTIC]
        return float(coherence(themes, semantic.mean(axis=0), np.asarray(np.sum(semantic**2) / len(body))))

    # -- copying and screening ----------------------------------------------------------------------------------

    def _know(self, i: int, text: str) -> None:
        self._known_lines.update(map(unmarked, text.split("\n")))
        for unit in set(_body(units_of(parse(text, lenient=True)))):
            self._items_of.setdefault(unit, []).append(i)

    def _verbatim(self, units: Units) -> float:
        body = set(_body(units))
        counts = Counter(i for unit in body for i in self._items_of.get(unit, ()))
        share = max(counts.values(), default=0) / max(len(body), 1)
        return 1.0 - 0.1 * _ramp(share, 0.6, 0.95)

    def _screening(self, text: str) -> float:
        """0 for a text that the screening blocks; lines of the pool are not screened again."""
        fresh = "\n".join(line for line in text.split("\n") if unmarked(line) not in self._known_lines)
        if fresh not in self._screened:
            if len(self._screened) > 100_000:
                self._screened.clear()
            self._screened[fresh] = screen(fresh).verdict != "block"
        return float(self._screened[fresh])


@lru_cache(maxsize=256)
def read_skill(text: str) -> tuple[Skill | None, Units | None, tuple[str, ...]]:
    """A text taken apart: the skill, mended where it must be, its units, and what is wrong with its format.

    What has just been written is read by the environment, by the agent and by the decoder, so it is remembered. None
    for a text that is no skill at all.
    """
    problems: tuple[str, ...] = ()
    try:
        skill = parse(text)
    except SkillError as error:
        problems = tuple(map(str, error.violations))
        try:
            skill = parse(text, lenient=True)
        except SkillError:
            return None, None, problems
    return skill, units_of(skill), problems


def sections_of(units: Units) -> list[tuple[str, ...]]:
    """The distinct units of head, triggers, instructions and examples."""
    return [tuple(dict.fromkeys(getattr(units, name))) for name in SECTION_WEIGHTS]


def coherence(themes: Array, mean: Array, square: Array) -> Array:
    """The guard against texts put together from pieces that do not belong together, in [0, 1].

    Honest skills of two domains pass: sections that speak of one thing agree in theme, and units that point in one
    direction do not cancel out. docs/reward_model.md has the figures behind the limits.

    Args:
        themes: Mean thematic coordinates of the sections, ``(sections, ..., 24)``.
        mean: Mean semantic coordinates of the instructions' and examples' units, ``(..., 12)``.
        square: Mean of the squared lengths of the same, ``(...)``.
    """
    add = np.add.reduce  # the composer asks often enough for the wrappers around it to count
    others = add(themes, axis=0) - themes
    lengths = np.sqrt(add(themes * themes, axis=-1) * add(others * others, axis=-1))
    agreement = add(add(themes * others, axis=-1) / np.maximum(lengths, 1e-12), axis=0) / len(themes)
    if len(themes) < 2:
        agreement = np.ones_like(agreement)
    focus = add(mean * mean, axis=-1) / np.maximum(square, 1e-12)
    agree = np.minimum(np.maximum(agreement / 0.25, 0.0), 1.0)
    focused = np.minimum(np.maximum((focus - 0.04) / (0.11 - 0.04), 0.0), 1.0)
    return np.asarray((0.3 + 0.7 * agree) * (0.3 + 0.7 * focused))


def _body(units: Units) -> tuple[str, ...]:
    return units.instructions + units.examples


def _affine(x: Array, matrix: Array) -> Array:
    # added in order, so that one row and many give the same bits
    total = np.broadcast_to(matrix[-1], (len(x), matrix.shape[1])).copy()
    for j in range(matrix.shape[0] - 1):
        total += x[:, j : j + 1] * matrix[j]
    return total


def _in_ball(phi: Array) -> Array:
    return np.asarray(phi / np.maximum(np.sqrt(np.sum(phi * phi, axis=-1, keepdims=True)), 1.0))


def _ramp(x: float, low: float, high: float) -> float:
    """0 up to ``low``, 1 from ``high``, straight between."""
    return min(max((x - low) / (high - low), 0.0), 1.0)


def _completeness(units: Units) -> float:
    """A skill has triggers, at least three instructions and an example."""
    return (
        (1.0 if units.triggers else 0.85)
        * (1.0 if units.examples else 0.85)
        * (0.1, 0.4, 0.7, 1.0)[min(len(units.instructions), 3)]
    )


_WORDS = re.compile(r"[a-z0-9']+")
_MANY = "a an and are as at be by do for from if in is it not of on or that the to with you your what"
_COMMON = frozenset(_MANY.split())


@lru_cache(maxsize=100_000)
def _words(unit: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(unit.lower()))


def _guards(units: Units, skill: Skill) -> dict[str, float]:
    words = [word for unit in units.all for word in _words(unit)]
    n = max(len(words), 1)
    runs = len(words) - 4
    repeated = 1.0 - len({*zip(*(words[k:] for k in range(5)), strict=False)}) / runs if runs > 0 else 0.0
    counts = Counter(word for word in words if word not in _COMMON)
    most = counts.most_common(1)[0][1] / n if counts else 1.0
    headings = [line for line in skill.body.split("\n") if line.startswith("#")]
    return {
        "repetition": max(1.0 - 0.95 * _ramp(repeated, 0.1, 0.5), 0.05)
        * (1.0 - 0.7 * _ramp(1.0 - len(set(headings)) / max(len(headings), 1), 0.1, 0.6)),
        "length": 0.1
        + 0.9 * _ramp(units.words, 40, 110) * (1.0 - _ramp(np.log(max(units.words, 1)), np.log(600), np.log(2400))),
        "natural": 0.05
        + 0.95
        * _ramp(units.function_words, 0.05, 0.12)
        * (1.0 - _ramp(most, 0.1, 0.25))
        * (1.0 - 0.8 * _ramp(units.lost_articles, 0.13, 0.35)),
    }


def echo_guard(query: str, text: str) -> float:
    """1 unless a good part of the text is the query over again; falls to 0.05 where half of it is."""
    q, words = _WORDS.findall(query.lower()), _WORDS.findall(text.lower())
    runs = {tuple(q[i : i + 3]) for i in range(len(q) - 2)}
    if not runs or not words:
        return 1.0
    joined = f" {' '.join(words)} "
    if not any(f" {' '.join(run)} " in joined for run in runs):
        return 1.0
    covered = np.zeros(len(words), dtype=bool)
    for i in range(len(words) - 2):
        if tuple(words[i : i + 3]) in runs:
            covered[i : i + 3] = True
    return 1.0 - 0.95 * _ramp(float(covered.mean()), 0.12, 0.5)


def _corpus_texts() -> list[str]:
    return [unit for skill in load_corpus().skills for unit in units_of(skill).all]


__all__ = [
    "CONTENT_DIM",
    "RADIUS",
    "SECTION_WEIGHTS",
    "SEMANTIC",
    "SURFACE",
    "THEME",
    "Measured",
    "Measurer",
    "Measures",
    "coherence",
    "content_of",
    "contrasts",
    "echo_guard",
    "measures",
    "query_topics",
    "read_skill",
    "sections_of",
    "shipped_space",
    "simplex",
]
