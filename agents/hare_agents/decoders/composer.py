"""A decoder without a language model: it puts a text together from attended ones, in milliseconds.

Skills are put together here, line by line; another domain of texts brings its own tools (`Domain.compose`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.pool import measurer_of, skills_of, texts_of
from hare_gym.config import configure
from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError
from hare_gym.text.corpus import STYLES
from hare_gym.text.domain import domain_of
from hare_gym.text.measure import CONTENT_DIM, RADIUS, SECTION_WEIGHTS, SEMANTIC, THEME, coherence, measures
from hare_gym.text.skills import MAX_NAME, Skill, make_skill, slug
from hare_gym.text.units import DENOMINATORS, NUMERATORS, read_line

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

SLOTS = ("head", "triggers", "instructions", "examples")
"""What a skill is made of, in reading order; its head is title and description."""

MARKS = ("- ", "- [ ] ", "1. ")
"""How instructions may be listed: bullets, checkboxes, numbered steps."""

_SECTION = {slot: k for k, slot in enumerate(SECTION_WEIGHTS)}
_WEIGHTS = np.array(list(SECTION_WEIGHTS.values()))
_BODY = (2, 3)
_LISTED = re.compile(r"(?:[-*+][ \t]+(?:\[[ xX]\][ \t]+)?|\d+[.)][ \t]+)(?=\S)")
# Columns of `Line.counts`; a form's place in MARKS is its column, and in `SURFACE` the number that tells of it.
_CHECKBOXES, _NUMBERED = 1, 2
_LISTED_AS = {column: NUMERATORS.index(column) for column in (_CHECKBOXES, _NUMBERED)}
_CLIP = 2.5
# A text out of the window of lengths, or with too much of one item, is this far from any content.
_FAR = 100.0
# How many of a slot's options, nearest to what is asked, are looked at for coherence too.
_LOOKED_AT = 8
_COHERENCE = 1.5
# A domain, or a topic, with less than this share of z was not asked for; a foreign topic disturbs less.
_ASKED_DOMAIN, _ASKED_TOPIC, _FOREIGN_TOPIC = 0.15, 0.25, 0.6
_LEAST_PART, _NEW_SOURCE = 0.15, 0.03
# Texts kept for when the same is asked again: who writes for nobody in particular asks so.
_REMEMBERED = 1024


@dataclass(frozen=True)
class ComposerConfig:
    """Knobs of a `Composer`. In a domain other than skills only ``reach`` counts.

    Attributes:
        items: Skills whose lines are considered for one text: half by attention, the others by their nearness to z.
        steps: Lines of instructions.
        triggers: Lines under "When to use".
        sweeps: How often every line is reconsidered, at most.
        most_of_one: Largest share of the sentences that may come from one skill.
        least_words: Shortest body, in words.
        most_words: Longest body, in words.
        reach: Longest content that is aimed at; a longer z is shortened to it. 0 for the median length of the pool's.
        unity: Weight of what makes a text read as one, against its nearness to z: the share of lines from skills of
            domains and topics that z does not ask for, and a little for each skill that lines come from.
        temperature: Noise (of Gumbel's distribution) on the choice of lines, in squared units of phi; 0 for the best.
    """

    items: int = field(default=16, metadata={"low": 2})
    steps: int = field(default=6, metadata={"low": 3, "high": 12})
    triggers: int = field(default=3, metadata={"low": 1, "high": 8})
    sweeps: int = field(default=2, metadata={"low": 1})
    most_of_one: float = field(default=0.55, metadata={"low": 0.3, "high": 1})
    least_words: int = field(default=140, metadata={"low": 0})
    most_words: int = field(default=320, metadata={"low": 1})
    reach: float = field(default=0.0, metadata={"low": 0, "high": 1})
    unity: float = field(default=0.7, metadata={"low": 0})
    temperature: float = field(default=0.0, metadata={"low": 0})

    def __post_init__(self) -> None:
        if self.least_words >= self.most_words:
            raise ConfigError(f"decoder 'composer': least_words {self.least_words} must be below most_words.")


@dataclass(frozen=True, eq=False)
class _Pieces:
    """All that can stand in one kind of slot, P of them.

    Attributes:
        texts: As they are written, without the marks of a list.
        item: Which item each is from, ``(P,)``.
        size: Its units, ``(P,)``.
        words: Its words as they stand in the body, ``(P,)``; none in a description.
        sums: Coordinates of its units, summed, ``(P, 36)``.
        squares: Squared semantic lengths of its units, summed, ``(P,)``.
        counts: `Line.counts`, ``(P, c)``; zero where nothing is counted.
        of: The pieces of each item, in order.
    """

    texts: list[str]
    item: Indices
    size: Array
    words: Array
    sums: Array
    squares: Array
    counts: Array
    of: list[Indices]


class Composer:
    """Writes texts out of a pool's texts: a decoder, see `hare_agents.decoders.protocol`.

    Of skills it takes lines. It looks for the text whose content vector, as any reader would measure it, is nearest
    to z: beginning with lines of the nearest skills, each in turn is exchanged for whichever brings the text nearest
    (coordinate descent), under limits on length and on how much may come from one skill. Lines of two domains are so
    blended in the proportion that z asks for, and instructions are listed in the form of its style. Everything it
    writes is a valid skill, and one z has one text: at temperature 0 nothing is drawn. It reads z and the attention;
    the user has shaped both. In another domain of `hare_gym.text.domain`, the domain's own tools put the text
    together, which also read what the query states; they know neither users nor rewards.

    Args:
        knobs: See `ComposerConfig`.

    Raises:
        UnknownNameError: A knob that does not exist.
        ConfigError: A knob out of range.
    """

    name = "composer"

    def __init__(self, **knobs: Any) -> None:
        self.config = configure(ComposerConfig, knobs, "decoder 'composer'")
        self._digest = ""
        self._remembered: dict[tuple[bytes, bytes], str] = {}

    def prepare(self, spec: TaskSpec) -> None:
        """Takes the pool's skills apart and measures their lines; cheap when the pool is the last one's.

        Raises:
            ConfigError: The task's pool has no texts. Of skills: not two with each kind of line, or vectors that are
                not those of `hare_gym.text.measure`. Of another domain: another version of it made the task.
        """
        texts = texts_of(self.name, spec)
        self._domain = domain_of(spec)
        digest = hashlib.blake2b("\0".join((str(spec.encoder), *texts)).encode()).hexdigest()
        if digest == self._digest:
            return
        if self._domain is not None:
            self._aim_within(self._domain.phi)
            self._digest = digest
            return
        self.measurer = measurer_of(spec)
        skills = skills_of(texts)
        self._slots = {slot: self._pieces(slot, skills) for slot in SLOTS}
        # of each kind of line, the items that have it: strangers' skills seldom have all of them
        self._able = {
            slot: np.array(
                [i for i, of in enumerate(pieces.of) if len(of) >= (3 if slot == "instructions" else 1)],
                dtype=np.intp,
            )
            for slot, pieces in self._slots.items()
        }
        for slot in SLOTS[1:]:  # mostly all items have all, and are then looked through once
            if np.array_equal(self._able[slot], self._able["head"]):
                self._able[slot] = self._able["head"]
        scarce = min(SLOTS, key=lambda slot: len(self._able[slot]))
        if len(self._able[scarce]) < 2:
            raise ConfigError(
                "The decoder 'composer' needs at least two skills with a title, two with triggers, two with three "
                f"listed instructions and two with an example; with {scarce} the pool of {spec.id} has "
                f"{len(self._able[scarce])} of {len(texts)}. Give another corpus, or use the decoder 'verbatim'."
            )
        used = np.unique(np.concatenate(list(self._able.values())))
        content = np.zeros((len(texts), CONTENT_DIM))
        for i in used:
            content[i] = self.measurer.text(texts[i]).phi if spec.pool is None else spec.pool[i]
        self._aim_within(content[used])
        self._vectors = content
        self._domains, self._topics = measures(content).domain, measures(content).topic
        self._licenses = [skill.license if skill else "" for skill in skills]
        self._remembered.clear()
        self._digest = digest

    def decode(
        self,
        z: Array,
        user_state: Array,
        query: str,
        pool: tuple[str, ...],
        weights: Array,
        rng: np.random.Generator,
    ) -> str:
        """A valid text whose measured content is near z; near the pool's mean for a z of NaN.

        Raises:
            ConfigError: `prepare` has not been called.
        """
        if not self._digest:
            raise ConfigError("The decoder 'composer' has no pool yet: call prepare(spec) first.")
        target = np.asarray(z, dtype=np.float64)
        if np.isnan(target).all():
            target = self._content.mean(axis=0)
        shortened = min(1.0, self._reach / max(float(np.linalg.norm(target)), 1e-12))
        if self._domain is not None:
            return self._domain.compose(target * shortened, query, pool, weights, rng)
        target = RADIUS * target * shortened
        weights = np.asarray(weights)
        if self.config.temperature:
            return self._composed(target, weights, rng)
        key = target.tobytes(), weights.tobytes()
        text = self._remembered.get(key)
        if text is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            text = self._remembered[key] = self._composed(target, weights, rng)
        return text

    def _composed(self, target: Array, weights: Array, rng: np.random.Generator) -> str:
        composition = _Composition(self, target, self._attended(target / RADIUS, weights), rng)
        composition.improve()
        return self._written(composition)

    def _aim_within(self, content: Array) -> None:
        """Keeps contents to choose from, ``(n, d)``, and how long a z may be."""
        self._content = content
        self._reach = self.config.reach or float(np.median(np.linalg.norm(content, axis=1)))

    def _attended(self, z: Array, weights: Array) -> dict[str, Indices]:
        """By slot, items that have lines for it, the nearest to z first; half are those of the largest weights."""
        found: dict[str, Indices] = {}
        half = self.config.items // 2
        for slot, able in self._able.items():
            alike = next((other for other in found if self._able[other] is able), None)
            if alike is not None:
                found[slot] = found[alike]
                continue
            here, distance = weights[able], np.sum((self._vectors[able] - z) ** 2, axis=1)
            near = np.argsort(distance, kind="stable")[: self.config.items].tolist()
            heavy = np.argsort(-here, kind="stable")[:half].tolist() if np.ptp(here) > 0.0 else []
            kept = list(dict.fromkeys([*near[:half], *heavy, *near]))[: self.config.items]
            kept.sort(key=lambda k: (distance[k], k))
            found[slot] = able[kept]
        return found

    # -- taking apart -------------------------------------------------------------------------------------------

    def _pieces(self, slot: str, skills: Sequence[Skill | None]) -> _Pieces:
        texts: list[str] = []
        item: list[int] = []
        lines = []
        seen: set[str] = set()
        of: list[Indices] = []
        for i, skill in enumerate(skills):
            first = len(texts)
            for text in _parts(slot, skill) if skill else ():
                read = [read_line(line) for line in _read_as(slot, text).split("\n") if line.strip()]
                if text in seen or not any(line.units for line in read):
                    continue
                seen.add(text)
                texts.append(text)
                item.append(i)
                lines.append(read)
            of.append(np.arange(first, len(texts)))
        units = [tuple(dict.fromkeys(unit for line in read for unit in line.units)) for read in lines]
        self.measurer.coordinates(list(dict.fromkeys(unit for found in units for unit in found)))
        coordinates = [self.measurer.coordinates(found) for found in units]
        counts = np.array([np.sum([line.counts for line in read], axis=0) for read in lines]).reshape(
            len(lines), len(read_line("").counts)
        )
        words = np.array([float(len(text.split())) for text in texts])
        if slot == "examples":
            counts[:, :3] = 0.0  # lines of examples are not counted as lines of the instructions
        elif slot == "instructions":
            counts[:, _CHECKBOXES] = counts[:, _NUMBERED] = 0.0  # the composition's own form decides
        else:
            counts = np.zeros_like(counts)
        return _Pieces(
            texts,
            np.array(item, dtype=np.intp),
            np.array([float(len(found)) for found in units]),
            words,
            np.array([c.sum(axis=0) for c in coordinates]).reshape(len(texts), THEME.stop),
            np.array([float(np.sum(c[:, SEMANTIC] ** 2)) for c in coordinates]),
            counts,
            of,
        )

    # -- writing ------------------------------------------------------------------------------------------------

    def _written(self, composition: _Composition) -> str:
        chosen = [o.pieces[k].tolist() for o, k in zip(composition.options, composition.chosen, strict=True)]
        pieces = [self._slots[slot] for slot in SLOTS]
        (head,), triggers, steps, examples = (
            [p.texts[k] for k in taken] for p, taken in zip(pieces, chosen, strict=True)
        )
        # lines of one skill stay together and in their order, those of the skill that gives most come first
        items = pieces[2].item[chosen[2]].tolist()
        order = sorted(range(len(items)), key=lambda k: (-items.count(items[k]), items[k], chosen[2][k]))
        steps = [steps[k] for k in order]
        if composition.form == 2:
            listed = [f"{n}. {step}" for n, step in enumerate(steps, 1)]
        else:
            listed = [MARKS[composition.form] + step for step in steps]
        title, _, description = head.partition("\n")
        licenses = {
            self._licenses[i] for p, taken in zip(pieces, chosen, strict=True) for i in p.item[taken].tolist()
        }
        skill = make_skill(
            "unnamed",
            description,
            title=title,
            triggers=triggers,
            instructions="\n".join(listed),
            examples=examples,
            # what several licences allow together is not for a program to say
            license=licenses.pop() if len(licenses) == 1 else "",
        )
        mark = hashlib.blake2b(skill.text.encode(), digest_size=4).hexdigest()
        stem = slug(title)[: MAX_NAME - len(mark) - 1].strip("-")
        return skill.text.replace("name: unnamed\n", f"name: {stem}-{mark}\n", 1)


class _Composition:
    """The lines of one text while it is put together, with the sums that its measures come from."""

    def __init__(
        self, composer: Composer, target: Array, attended: dict[str, Indices], rng: np.random.Generator
    ) -> None:
        self.composer, self.config, self.target, self.rng = composer, composer.config, target, rng
        wanted = measures(target / RADIUS)
        self.form = {"checklist": 1, "tutorial": 2}.get(STYLES[int(np.argmax(wanted.style))], 0)
        # by item, how much of it is of domains and topics that nobody asked for
        foreign = composer._domains @ (1.0 - np.minimum(wanted.domain / _ASKED_DOMAIN, 1.0))
        foreign += _FOREIGN_TOPIC * composer._topics @ (1.0 - np.minimum(wanted.topic / _ASKED_TOPIC, 1.0))
        lengths = {"triggers": self.config.triggers, "instructions": self.config.steps}
        self.options = [_Options(composer._slots[slot], attended[slot], foreign) for slot in SLOTS]
        self.chosen = [o.first(lengths.get(slot, 1), slot) for slot, o in zip(SLOTS, self.options, strict=True)]
        self.sums, self.sizes = np.zeros((4, THEME.stop)), np.zeros(4)
        self.counts = np.zeros(self.options[2].counts.shape[1])
        self.squares = self.words = 0.0
        self.of_item, self.of_item_in_body = np.zeros((2, len(foreign)))
        for s, chosen in enumerate(self.chosen):
            for k in chosen:
                self._add(s, k, 1.0)

    def _add(self, s: int, k: int, sign: float) -> None:
        o, add = self.options[s], np.add if sign > 0.0 else np.subtract
        size, item, sums = sign * o.sizes[k], o.items[k], self.sums[s]
        add(sums, o.sums[k], out=sums)
        self.sizes[s] += size
        self.words += sign * o.lengths[k]
        self.of_item[item] += size
        if s in _BODY:
            add(self.counts, o.counts[k], out=self.counts)
            self.squares += sign * o.squares[k]
            self.of_item_in_body[item] += size

    def improve(self) -> None:
        """Coordinate descent: every line in turn, then the form of the list, until nothing changes."""
        for sweep in range(self.config.sweeps):
            changed = False
            for s, chosen in enumerate(self.chosen):
                for place in range(len(chosen)):
                    changed |= self._exchange(s, place, coherent=sweep > 0)
            form = int(np.argmin(self._form_distances()))
            changed |= form != self.form
            self.form = form
            if not changed and sweep:
                break

    def _exchange(self, s: int, place: int, coherent: bool) -> bool:
        chosen = self.chosen[s]
        before = chosen[place]
        self._add(s, before, -1.0)
        values = self._values(s, len(chosen))
        for k in chosen:
            if k != before:
                values[k] = np.inf
        if self.config.temperature:
            values -= self.config.temperature * self.rng.gumbel(size=len(values))
        if coherent:
            look = np.argsort(values, kind="stable")[:_LOOKED_AT]
            best = int(look[np.argmin(values[look] + _COHERENCE * (1.0 - self._coherence(s, look)))])
        else:
            best = int(np.argmin(values))
        self._add(s, best, 1.0)
        chosen[place] = best
        return best != before

    def _values(self, s: int, places: int) -> Array:
        """How far the text would be from z with each option, ``(n,)``; what is not allowed is farther."""
        o, c = self.options[s], self.config
        rest = _WEIGHTS / np.maximum(self.sizes, 1.0)
        rest[s] = 0.0
        error = self.sums[s, SEMANTIC] + o.semantic
        error *= (_WEIGHTS[s] / (self.sizes[s] + o.size))[:, None]
        error += rest @ self.sums[:, SEMANTIC] - self.target[SEMANTIC]
        values: Array = np.vecdot(error, error)
        taken = self.of_item[o.item]
        share = (taken + o.size) / (np.add.reduce(self.sizes) + o.size)
        if s in _BODY:
            error = self._surface(s, self.form)
            error -= self.target[SEMANTIC.stop :]
            values += np.vecdot(error, error)
            body = self.sizes[2] + self.sizes[3] + o.size
            share = np.maximum(share, (self.of_item_in_body[o.item] + o.size) / body)
        values += self._far(o, share)
        part = max(_WEIGHTS[s] / places, _LEAST_PART)
        values += c.unity * (part * o.foreign + _NEW_SOURCE * (taken < 0.5))
        return values

    def _far(self, o: _Options, share: Array) -> Any:
        """What keeps a text with too many words, or too large a share of one item, from being chosen; mostly 0."""
        c = self.config
        far: Any = 0.0
        if self.words + o.longest > c.most_words or self.words + o.shortest < c.least_words:
            words = self.words + o.words
            outside = np.maximum(words - c.most_words, 0.0) + np.maximum(c.least_words - words, 0.0)
            far = (outside > 0.0) * (1.0 + 0.01 * outside)
        if np.maximum.reduce(share) > c.most_of_one:
            over = np.maximum(share - c.most_of_one, 0.0)
            far = far + (over > 0.0) * (1.0 + over)
        return _FAR * far

    def _coherence(self, s: int, look: Indices) -> Array:
        o, n = self.options[s], len(look)
        themes = np.empty((4, n, THEME.stop - THEME.start))
        themes[...] = (self.sums[:, THEME] / np.maximum(self.sizes, 1.0)[:, None])[:, None]
        themes[s] = (self.sums[s, THEME] + o.sums[look, THEME]) / (self.sizes[s] + o.size[look])[:, None]
        means, size = self.sums[2, SEMANTIC] + self.sums[3, SEMANTIC], self.sizes[2] + self.sizes[3]
        square: Any = self.squares
        if s in _BODY:
            means = means + o.semantic[look]
            size = (size + o.size[look])[:, None]
            square = (square + o.squares[look]) / size[:, 0]
        else:
            square = square / size
        return coherence(themes, means / size, square)

    def _surface(self, s: int, form: int) -> Array:
        """Level, specificity and style coordinates with each option of a part of the body, ``(n, 5)``, in a form."""
        o = self.options[s]
        numerators = self.counts[NUMERATORS] + o.numerators
        if form:
            numerators[:, _LISTED_AS[form]] = self.counts[0] + o.counts[:, 0]
        return self._read(numerators, self.counts[DENOMINATORS] + o.denominators)

    def _read(self, numerators: Array, denominators: Array) -> Array:
        # surface_of, standardised and the map, in place: this is where the time goes
        space = self.composer.measurer.space
        mean, deviation = space.surface_scale
        np.maximum(denominators, 1.0, out=denominators)
        numerators /= denominators
        numerators -= mean
        numerators /= deviation
        np.maximum(numerators, -_CLIP, out=numerators)
        np.minimum(numerators, _CLIP, out=numerators)
        return np.asarray(numerators @ space.surface_map[:-1] + space.surface_map[-1])

    def _form_distances(self) -> Array:
        found = []
        for form in range(len(MARKS)):
            numerators = self.counts[None, NUMERATORS]
            if form:
                numerators[:, _LISTED_AS[form]] = self.counts[0]
            found.append(self._read(numerators, self.counts[None, DENOMINATORS])[0])
        return np.asarray(np.sum((np.array(found) - self.target[SEMANTIC.stop :]) ** 2, axis=1))


class _Options:
    """The pieces of attended items that can stand in one kind of slot, n of them, the nearest item's first."""

    def __init__(self, pieces: _Pieces, attended: Indices, foreign: Array) -> None:
        self.of = [pieces.of[i] for i in attended]
        kept = np.concatenate(self.of)
        self.pieces, self.item, self.size, self.words = kept, pieces.item[kept], pieces.size[kept], pieces.words[kept]
        self.sums, self.squares, self.counts = pieces.sums[kept], pieces.squares[kept], pieces.counts[kept]
        # single ones are taken more often than all of them, which lists are quicker for
        self.items, self.sizes, self.lengths = self.item.tolist(), self.size.tolist(), self.words.tolist()
        self.longest, self.shortest = max(self.lengths), min(self.lengths)
        self.semantic = np.ascontiguousarray(self.sums[:, SEMANTIC])
        self.numerators, self.denominators = self.counts[:, NUMERATORS], self.counts[:, DENOMINATORS]
        self.foreign = foreign[self.item]

    def first(self, wanted: int, slot: str) -> list[int]:
        """Where the descent begins: the two nearest items take turns, so that neither gives more than its share."""
        one = len(self.of[0])
        first, second = list(range(one)), list(range(one, one + len(self.of[1])))
        if slot == "examples":
            first, second = second, first
        turns = [k for pair in zip(first, second, strict=False) for k in pair]
        return list(dict.fromkeys([*turns, *first, *second, *range(len(self.pieces))]))[:wanted]


def _parts(slot: str, skill: Skill) -> list[str]:
    """What a skill offers for a slot; nothing with fenced code, which cannot be taken apart line by line."""
    if slot == "head":
        return [f"{skill.title}\n{skill.description}"]
    if slot == "triggers":
        return [trigger for trigger in skill.triggers if trigger not in skill.description]
    if slot == "examples":
        return [example for example in skill.examples if "```" not in example and not re.search("^#", example, re.M)]
    if "```" in skill.instructions or "~~~" in skill.instructions:
        return []
    lines = skill.instructions.split("\n")
    # a line that something is nested in, or that leads up to the next, cannot stand by itself
    nested = {k for k, line in enumerate(lines[1:]) if re.match(r"[ \t]+\S", line)}
    return [
        _LISTED.sub("", line, count=1).strip()
        for k, line in enumerate(lines)
        if _LISTED.match(line) and k not in nested and not line.rstrip().endswith(":")
    ]


def _read_as(slot: str, text: str) -> str:
    """A piece as `units_of` reads it: a title is a sentence."""
    return text.replace("\n", ".\n", 1) if slot == "head" else text
