"""A user's profile taken apart: how their answers look, and where in what they answered to the words come from."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from hare_gym.lamp.reading import content_words, tokens_of
from hare_gym.lamp.tasks import LampTask, ProfileItem

Array = NDArray[np.float64]
V = TypeVar("V")

Frame = tuple[str, str]
"""What stands before and behind the part of an answer that its source has, in lower case."""

Place = tuple[str, str]
"""Where such a part stood: the words before and behind it in its sentence, `START` and `END` at the sentence's."""

START, END = "^", "$"
TRAITS = ("frame", "place", "frame and place", "own words")
"""What `Manner.traits` tells, each in [0, 1]."""

SMALL = frozenset(("a", "an", "and", "as", "at", "but", "by", "for", "from", "in", "of", "on", "or", "the", "to"))
"""Words that titles do not capitalise."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\s*\n+\s*")
_CLOSING = re.compile(r"[:,;?!]+\Z")
_DEFAULT_LENGTHS = (4, 7, 10)
# A beginning or an end belongs to a user's habits if so many of their texts have it.
_HABIT_COUNT, _HABIT_SHARE = 2, 0.08
# Sources that are remembered taken apart, and items of the profiles that are.
_SOURCES, _ITEMS = 256, 2**15


class Source:
    """A text that an answer is about, taken apart.

    Attributes:
        sentences: Its words, sentence by sentence.
        marked: The same as tokens, with `START` and `END` around each sentence.
        words: Its content words.
    """

    def __init__(self, text: str) -> None:
        self.sentences = [sentence.split() for sentence in _SENTENCE.split(text) if sentence.strip()]
        self.marked = [[START, *map(_plain, sentence), END] for sentence in self.sentences]
        self._tokens = [[frozenset(tokens_of(word)) for word in sentence] for sentence in self.sentences]
        self._content = [content_words([token for word in words for token in word]) for words in self._tokens]
        self.words = frozenset[str]().union(*self._content)

    def aligned(self, text: str) -> tuple[Frame, Place] | None:
        """How a text is made of this source: from its first to its last content word that the source has.

        Returns:
            What stands around that part of the text, and the words around it in the sentence of the source that has
            most of it; None where they share nothing.
        """
        words = text.split()
        found = [tokens_of(word) for word in words]
        shared = [i for i, own in enumerate(found) if not self.words.isdisjoint(own)]
        if not shared:
            return None
        first, last = shared[0], shared[-1]
        before, behind = " ".join(words[:first]).lower(), " ".join(words[last + 1 :]).lower()
        # a mark that closes the part belongs to what follows: ``..: What You Need to Know``
        mark = _CLOSING.search(words[last])
        if mark and behind:
            behind = f"{mark[0]} {behind}"
        part = content_words([token for own in found[first : last + 1] for token in own])
        k = max(range(len(self.sentences)), key=lambda k: len(part & self._content[k]))
        inside = [i for i, own in enumerate(self._tokens[k]) if not part.isdisjoint(own)]
        return (before, behind), (self.marked[k][inside[0]], self.marked[k][inside[-1] + 2])


@lru_cache(maxsize=_SOURCES)
def source_of(text: str) -> Source:
    """A source, taken apart once."""
    return Source(text)


def _plain(word: str) -> str:
    return "".join(tokens_of(word))


@dataclass(frozen=True)
class Habits:
    """How a user's texts look, and where they come from: what new answers in their manner are made by.

    Attributes:
        lengths: Words of a short, a middling and a long one.
        case: ``title``, ``sentence``, ``lower`` or ``upper``.
        frames: How answers begin and end around what is their source's, the commonest first.
        places: Where in the sources that stood, the commonest first.
        stop: What most of them end with, ``.``, ``!``, ``?`` or nothing.
    """

    lengths: tuple[int, ...] = _DEFAULT_LENGTHS
    case: str = "sentence"
    frames: tuple[Frame, ...] = ()
    places: tuple[Place, ...] = ()
    stop: str = ""

    @classmethod
    def of(cls, texts: Sequence[str], manner: Manner) -> Habits:
        """Those of some texts; the defaults where there are none."""
        split = [words for words in (text.split() for text in texts) if words]
        if not split:
            return cls()
        counts = np.array([len(words) for words in split])
        lengths = tuple(dict.fromkeys(round(float(x)) for x in np.quantile(counts, (0.2, 0.5, 0.8))))
        marks = Counter(words[-1][-1] for words in split)
        mark, share = marks.most_common(1)[0]
        stop = mark if mark in ".!?" and share > len(split) / 2 else ""
        case = Counter(_case(words) for words in split).most_common(1)[0][0]
        if manner.alone:
            return cls(lengths, case, _ends_of(split), (), stop)
        frames, places = (tuple(key for key, _ in count.most_common()) for count in (manner.frames, manner.places))
        return cls(lengths, case, frames, places, stop)


def _case(words: Sequence[str]) -> str:
    letters = [word for word in words if word[:1].isalpha()]
    if not letters:
        return "sentence"
    if all(word.isupper() for word in letters):
        return "upper"
    long = [word for word in letters[1:] if word.lower() not in SMALL]
    if long and sum(word[0].isupper() for word in long) >= 0.7 * len(long):
        return "title"
    return "sentence" if letters[0][0].isupper() else "lower"


def _ends_of(split: Sequence[Sequence[str]]) -> tuple[Frame, ...]:
    """Frames of texts whose sources are not known: beginnings and ends that come back, alone and together."""
    openings, endings = ([" ".join(key) for key in _ends(split, last)] for last in (False, True))
    frames: list[Frame] = [(opening, ending) for opening in openings[:3] for ending in endings[:3]]
    frames += [(opening, "") for opening in openings] + [("", ending) for ending in endings]
    return tuple(frames)


def _ends(split: Sequence[Sequence[str]], last: bool) -> list[tuple[str, ...]]:
    """Beginnings (or ends) of one to four words that come back, longer and commoner ones first."""
    counts: Counter[tuple[str, ...]] = Counter()
    for words in split:
        for n in range(1, min(4, len(words) - 1) + 1):
            counts[tuple(word.lower() for word in (words[-n:] if last else words[:n]))] += 1
    least = max(_HABIT_COUNT, _HABIT_SHARE * len(split))
    found = [key for key, count in counts.items() if count >= least]
    found.sort(key=lambda key: (-counts[key] * len(key) ** 0.5, key))

    def inside(key: tuple[str, ...]) -> bool:
        """Whether it is part of a longer one that is about as common, and says nothing more."""
        return any(
            len(other) > len(key)
            and (other[-len(key) :] if last else other[: len(key)]) == key
            and counts[other] >= 0.7 * counts[key]
            for other in found
        )

    return [key for key in found if not inside(key)][:4]


class Manner:
    """How some answers were made, so that others can be compared with them.

    Args:
        answers: Texts.
        sources: What each was about; None where that is not known.

    Attributes:
        frames: How often each frame occurs.
        places: How often each place does.
        alone: Whether the sources are not known.
    """

    def __init__(self, answers: Sequence[str], sources: Sequence[str] | None) -> None:
        self.alone = sources is None
        self._n = max(len(answers), 1)
        self._vocabulary = Counter(token for text in answers for token in set(tokens_of(text)))
        if sources is None:
            found = [_ends_alone(text) for text in answers]
        else:
            pairs = zip(answers, sources, strict=True)
            found = [one for one in (source_of(source).aligned(text) for text, source in pairs) if one is not None]
        self.frames: Counter[Frame] = Counter(frame for frame, _ in found)
        self.places: Counter[Place] = Counter(place for _, place in found)

    def traits(self, texts: Sequence[str], source: str) -> Array:
        """How much texts are made as these answers were, ``(n, 4)`` by `TRAITS`.

        The shares of the answers with the same frame, with the same place, and the product of the two; and how common
        in the answers the text's words are that its source does not have. Where sources are not known, the first two
        words stand for the frame, and the last for the place.
        """
        taken = source_of(source)
        have = frozenset(token for marked in taken.marked for token in marked)
        found = np.zeros((len(texts), len(TRAITS)))
        for row, text in zip(found, texts, strict=True):
            pair = _ends_alone(text) if self.alone else taken.aligned(text)
            if pair is not None:
                row[0], row[1] = self.frames[pair[0]] / self._n, self.places[pair[1]] / self._n
            own = [token for token in tokens_of(text) if token not in have]
            row[3] = sum(self._vocabulary[token] for token in own) / (self._n * (1 + len(own)))
        found[:, 2] = found[:, 0] * found[:, 1]
        return found


def _ends_alone(text: str) -> tuple[Frame, Place]:
    tokens = tokens_of(text)
    return (" ".join(tokens[:2]), ""), ("", " ".join(tokens[-1:]))


class Profile:
    """A user's profile for one task, with what is asked of it computed once.

    Attributes:
        items: As the question has them.
        asked: What each was about, by the field of the task.
        answered: What the user answered; for the tweets of task 7 the same.
        alone: Whether the answers are texts whose sources the profile does not have.
        index: Room for a retriever's index of the documents.
    """

    def __init__(self, task: LampTask, items: tuple[ProfileItem, ...]) -> None:
        self.task, self.items = task, items
        self.asked = [item.fields.get(task.asked, "") for item in items]
        self.answered = [item.fields.get(task.answered, "") for item in items]
        self.alone = task.asked == task.answered
        self.index: Any = None
        self._without: dict[int, tuple[ProfileItem, ...]] = {}

    def without(self, place: int) -> tuple[ProfileItem, ...]:
        """The other items; the same object when asked again."""
        if place not in self._without:
            self._without[place] = self.items[:place] + self.items[place + 1 :]
        return self._without[place]

    @cached_property
    def documents(self) -> list[str]:
        """What retrieval looks at: as the published scripts join an item's fields, without labels and scores."""
        fields = [name for name in ("title", "text", "abstract", "description") if name in self.task.fields]
        if self.task.number == 6:
            fields = ["text"]
        return [" ".join(item.fields.get(name, "") for name in fields) for item in self.items]

    @cached_property
    def manner(self) -> Manner:
        """How the user's answers were made."""
        return self.manner_of(range(len(self.items)))

    def manner_of(self, places: Sequence[int]) -> Manner:
        """How the answers of some items were made."""
        return Manner([self.answered[i] for i in places], None if self.alone else [self.asked[i] for i in places])

    @cached_property
    def habits(self) -> Habits:
        """How the user's answers look, and where they come from."""
        return Habits.of(self.answered, self.manner)

    @cached_property
    def vocabulary(self) -> Counter[str]:
        """In how many answers each token stands."""
        return Counter(token for text in self.answered for token in set(tokens_of(text)))

    @cached_property
    def age(self) -> Array:
        """How many items are younger than each, ``(n,)``: by date where all have one, else by place, the last the
        youngest.
        """
        n = len(self.items)
        order = list(range(n))
        if all(item.date for item in self.items):
            dates = [tuple(int(part) for part in re.findall(r"\d+", item.date or "")) for item in self.items]
            order.sort(key=lambda i: (dates[i], i))
        age = np.empty(n)
        age[order] = np.arange(n)[::-1]
        return age

    @cached_property
    def words(self) -> list[frozenset[str]]:
        """The content words of each document."""
        return [content_words(tokens_of(text)) for text in self.documents]


class _Profiles:
    """Those that are remembered, by the identity of their items."""

    def __init__(self) -> None:
        self._found: OrderedDict[int, Profile] = OrderedDict()
        self._items = 0

    def __call__(self, task: LampTask, items: tuple[ProfileItem, ...]) -> Profile:
        found = self._found.get(id(items))
        # the profile keeps its items alive, so that their id is nobody else's
        if found is not None and found.items is items and found.task is task:
            self._found.move_to_end(id(items))
            return found
        made = self._found[id(items)] = Profile(task, items)
        self._items += len(items) - (0 if found is None else len(found.items))
        while self._items > _ITEMS and len(self._found) > 1:
            self._items -= len(self._found.popitem(last=False)[1].items)
        return made


_profiles = _Profiles()


def profile_of(task: LampTask, items: tuple[ProfileItem, ...]) -> Profile:
    """The profile of some items; it is remembered as long as the tuple of items is the same object."""
    return _profiles(task, items)


class Kept(Generic[V]):
    """What was made of profiles and questions, so that agents who read the same do not make it again.

    Args:
        most: Things that are kept, at most; those that were not asked for the longest go first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[tuple[int, Hashable], tuple[ref[Profile], V]] = OrderedDict()

    def __call__(self, profile: Profile, key: Hashable, make: Callable[[], V]) -> V:
        """What is kept of a profile under a key, or what ``make`` gives, which must depend on these two alone."""
        place = id(profile), key
        found = self._found.get(place)
        # a profile that is gone may have left its id to another
        if found is not None and found[0]() is profile:
            self._found.move_to_end(place)
            return found[1]
        made = make()
        self._found[place] = ref(profile), made
        if len(self._found) > self._most:
            self._found.popitem(last=False)
        return made
