"""The privileged writer: it knows the hidden user and the reward, and writes the best text it can find.

It assembles a skill from the lines of a corpus by coordinate exchange: beginning with the best item, each line in
turn is exchanged for whichever of the candidates raises the reward most, until nothing does. Its reward is a lower
bound on what can be written; `RewardModel.optimum` is an upper one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import DataError
from hare_gym.text.corpus import Corpus
from hare_gym.text.measure import SECTION_WEIGHTS, SEMANTIC, THEME, Measurer, coherence, measures, query_topics
from hare_gym.text.reward import RewardModel
from hare_gym.text.skills import Skill, make_skill, slug
from hare_gym.text.units import Line, read_line, surface_of
from hare_gym.text.users import Users

Array = NDArray[np.float64]

# Items whose lines are candidates: at most so many, and with fewer than these of the user's own, the best items join.
_ITEMS, _FEW = 24, 6
_SWEEPS = 4
_STEPS = (5, 9)
# Share of the instructions that one item may give: what is written should be no copy.
_MOST_OF_ONE = 0.5
_NUMBER = re.compile(r"^\s*\d+[.)]\s+")
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True, eq=False)
class _Piece:
    """Something that can stand in a slot: its text, where it came from, and what it adds to the measures."""

    text: str
    item: int
    units: tuple[str, ...]
    coordinates: Array
    square: float
    counts: Array


class Writer:
    """Writes for users whose hidden attributes it is told.

    Args:
        measurer: Measures; the same that the environment uses.
        model: The reward.
        corpus: Whose lines it assembles.
        anywhere: Whether it may take lines from skills of any domain and topic. It then finds more reward and less
            sense: lines that cancel out in the measures. The better of both is the sharper lower bound.

    Raises:
        DataError: The corpus has no skill with instructions of several lines.
    """

    def __init__(self, measurer: Measurer, model: RewardModel, corpus: Corpus, anywhere: bool = False) -> None:
        self.measurer, self.model, self.corpus, self.anywhere = measurer, model, corpus, anywhere
        self.items = measurer.items(corpus)
        self._phi = np.stack([item.phi for item in self.items])
        self._pieces = [self._taken_apart(i, skill) for i, skill in enumerate(corpus.skills)]
        if not any(len(pieces["instructions"]) >= 3 and pieces["examples"] for pieces in self._pieces):
            raise DataError(f"The corpus {corpus.name} has no skill with three lines of instructions and an example.")

    def write(self, user: Users, query: Array, query_text: str = "") -> str:
        """A valid SKILL.md for one user and one query.

        Args:
            user: One user.
            query: The query's vector, ``(17,)``.
            query_text: Its words, for the guard against echoing them.
        """
        return self.best(user, query, query_text)[0]

    def best(self, user: Users, query: Array, query_text: str = "") -> tuple[str, float]:
        """The text and its expected reward; arguments as for `write`."""
        worth = np.array([item.validity * item.guard for item in self.items])
        mu = worth * self.model.mean_of_content(user, query, self._phi)
        chosen, slots, candidates = self._start(user, query, mu)
        value = -1.0
        for _ in range(_SWEEPS):
            before = value
            for slot, name in enumerate(slots):
                options = candidates[name]
                values = self._values(user, query, chosen, slots, slot, options)
                best = int(np.argmax(values))
                if values[best] > value + 1e-9:
                    chosen[slot], value = options[best], float(values[best])
            if value <= before + 1e-4:
                break
        text = self._rendered(chosen, slots)
        return text, self.model.mean(user, query, self.measurer.text(text), query_text)

    def _start(self, user: Users, query: Array, mu: Array) -> tuple[list[_Piece], list[str], dict[str, list[_Piece]]]:
        # lines of the user's own domains, on what was asked; of the best items where these are few
        measured = measures(self._phi)
        mine = np.argsort(-user.domains, kind="stable")[:2]
        asked = int(np.argmax(query_topics(query)))
        fits = (measured.domain[:, mine].sum(axis=-1) > 0.5) & (measured.topic[:, asked] > 0.4)
        ranked = np.argsort(-mu, kind="stable")
        near = [int(i) for i in ranked if fits[i]]
        if len(near) < _FEW or self.anywhere:
            near = [int(i) for i in dict.fromkeys([*near, *ranked[:_ITEMS].tolist()])]
        near = near[:_ITEMS]
        candidates = {name: [p for i in near for p in self._pieces[i][name]] for name in self._pieces[0]}
        order = [i for i in near if len(self._pieces[i]["instructions"]) >= 3 and self._pieces[i]["examples"]]
        first = self._pieces[order[0] if order else near[0]]
        lengths = {
            "title": 1,
            "does": 1,
            "when": 1,
            "triggers": 3,
            "instructions": min(max(len(first["instructions"]), _STEPS[0]), _STEPS[1]),
            "examples": 1,
        }
        slots, chosen = [], []
        for name, length in lengths.items():
            own = first[name] + [p for p in candidates[name] if p not in first[name]]
            slots += [name] * min(length, len(own))
            chosen += own[:length]
        return chosen, slots, candidates

    def _values(
        self,
        user: Users,
        query: Array,
        chosen: Sequence[_Piece],
        slots: Sequence[str],
        slot: int,
        options: Sequence[_Piece],
    ) -> Array:
        """The expected reward with each of the options in a slot, ``(n,)``; -1 where it is not allowed there."""
        name = _section(slots[slot])
        others = [(piece, _section(s)) for k, (piece, s) in enumerate(zip(chosen, slots, strict=True)) if k != slot]
        sums, sizes, squares = {}, {}, {}
        for section in SECTION_WEIGHTS:
            kept = [piece for piece, s in others if s == section]
            shape = np.zeros((len(options), THEME.stop))
            sums[section] = shape + sum((piece.coordinates for piece in kept), np.zeros(THEME.stop))
            sizes[section] = np.full(len(options), float(sum(len(piece.units) for piece in kept)))
            squares[section] = np.full(len(options), float(sum(piece.square for piece in kept)))
        sums[name] += np.array([option.coordinates for option in options])
        sizes[name] += np.array([len(option.units) for option in options])
        squares[name] += np.array([option.square for option in options])
        present = {section: weight for section, weight in SECTION_WEIGHTS.items() if sizes[section].all()}
        means = {section: sums[section] / sizes[section][:, None] for section in present}
        semantic = sum(weight * means[section][:, SEMANTIC] for section, weight in present.items())
        size = sizes["instructions"] + sizes["examples"]
        guard = coherence(
            np.array([mean[:, THEME] for mean in means.values()]),
            (sums["instructions"] + sums["examples"])[:, SEMANTIC] / size[:, None],
            (squares["instructions"] + squares["examples"]) / size,
        )
        body = [piece.counts for piece, s in others if s in ("instructions", "examples")]
        counted = np.broadcast_to(sum(body, np.zeros_like(options[0].counts)), (len(options), len(options[0].counts)))
        if name in ("instructions", "examples"):
            counted = counted + np.array([option.counts for option in options])
        phi = self.measurer.content_from(np.asarray(semantic) / sum(present.values()), surface_of(counted))
        values = guard * self.model.mean_of_content(user, query, phi)
        taken = {unit for piece, _ in others for unit in piece.units}
        items = [piece.item for piece, s in others if s == "instructions"]
        most = _MOST_OF_ONE * (len(items) + 1)
        for k, option in enumerate(options):
            copied = name == "instructions" and items.count(option.item) + 1 > most
            if copied or taken.intersection(option.units):
                values[k] = -1.0
        return values

    # -- pieces -------------------------------------------------------------------------------------------------

    def _taken_apart(self, i: int, skill: Skill) -> dict[str, list[_Piece]]:
        sentences = _SENTENCES.split(skill.description)
        when = [s for s in sentences if re.match(r"Use\b", s)]
        does = [s for s in sentences if s not in when]
        lines = [
            line for line in skill.instructions.split("\n") if line.strip() and not line.lstrip().startswith("#")
        ]
        fenced = "```" in skill.instructions
        return {
            "title": self._made(i, [f"{skill.title}."]),
            "does": self._made(i, does),
            "when": self._made(i, when),
            "triggers": self._made(i, [f"- {trigger}" for trigger in skill.triggers]),
            "instructions": [] if fenced else self._made(i, lines),
            "examples": self._made(i, [example for example in skill.examples if "```" not in example], whole=True),
        }

    def _made(self, i: int, texts: Sequence[str], whole: bool = False) -> list[_Piece]:
        found = []
        for text in texts:
            lines = [read_line(line) for line in text.split("\n") if line.strip()]
            units = tuple(dict.fromkeys(unit for line in lines for unit in line.units))
            if units:
                found.append(_Piece(text, i, units, *self._summed(units), _counts(lines, whole)))
        return found

    def _summed(self, units: tuple[str, ...]) -> tuple[Array, float]:
        coordinates = self.measurer.coordinates(units)
        return coordinates.sum(axis=0), float(np.sum(coordinates[:, SEMANTIC] ** 2))

    def _rendered(self, chosen: Sequence[_Piece], slots: Sequence[str]) -> str:
        by_name: dict[str, list[str]] = {}
        for piece, name in zip(chosen, slots, strict=True):
            by_name.setdefault(name, []).append(piece.text)
        title = by_name["title"][0].rstrip(".")
        skill = make_skill(
            slug(title),
            " ".join([*by_name.get("does", ()), *by_name.get("when", ())]) or f"Use when you need: {title}.",
            title=title,
            triggers=[line[2:] for line in by_name.get("triggers", ())],
            instructions=_listed(by_name["instructions"]),
            examples=by_name.get("examples", ()),
        )
        return replace(skill, license="MIT" if self.corpus.name == "built-in" else "").text


def _section(slot: str) -> str:
    return "head" if slot in ("title", "does", "when") else slot


def _counts(lines: Sequence[Line], whole: bool) -> Array:
    total = np.sum([line.counts for line in lines], axis=0)
    if whole:
        total[:3] = 0.0  # lines of examples are not counted as lines of the instructions
    return np.asarray(total)


def _listed(lines: Sequence[str]) -> str:
    """Instructions with plain paragraphs first and numbers in order."""
    bullets = [line for line in lines if re.match(r"\s*(?:[-*+]|\d+[.)])\s", line)]
    plain = [line for line in lines if line not in bullets]
    numbered = [line for line in bullets if _NUMBER.match(line)]
    other = [line for line in bullets if line not in numbered]
    steps = [f"{k}. {_NUMBER.sub('', line)}" for k, line in enumerate(numbered, 1)]
    parts = ["\n\n".join(plain), "\n".join(steps), "\n".join(line.strip() for line in other)]
    return "\n\n".join(part for part in parts if part)
