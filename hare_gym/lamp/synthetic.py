"""Synthetic LaMP questions, in the very format of the published files, with hidden users behind them.

A hidden user has habits: topics, tags, ratings, words. Their profile was made by these habits and so is every answer,
with noise: now and then somebody tags, rates or writes like anyone else. So a profile tells a good deal of a user and
not all, and what it leaves open the rewards tell. All texts are put together from `hare_gym.lamp.material`.

What a user's habits are, by task:

1. **citation**: topics, and kinds of paper (theory, experiments, ...). A cited paper is on the topic of the paper
   that cites it, or on another of the user's; the other reference is from somebody else's reading.
2. **movie tag**: films of some kinds rather than others, and tags that come to mind sooner than others. A description
   hints at three tags, and by chance at others; the user gives one of the three, more often the first.
3. **rating**: a bias, how far apart good and bad are, and which aspects of a product matter.
4. **headline**, 5. **paper title**, 6. **subject**: which of three things in the text is named, whether all of it,
   and in which of eight frames ("Why ...", "..: What You Need to Know", ...).
7. **tweet**: openings, closings, abbreviations, a favourite intensifier, hashtags. What is asked is the same in
   plain words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.config import configure
from hare_gym.envs.noise import stream
from hare_gym.lamp import material as words
from hare_gym.lamp.data import SPLITS, write_questions
from hare_gym.lamp.tasks import MOVIE_TAGS, LampTask, ProfileItem, Question, task_of

T = TypeVar("T")
Array = NDArray[np.float64]

GENERATOR_VERSION = "1"
# How often somebody does not heed a habit of theirs.
NOISE = 0.15
_BLOCK = 512


class Draws:
    """Numbers from a generator, one at a time; a block is drawn ahead, as single draws cost most of a question."""

    def __init__(self, seed: Sequence[int]) -> None:
        self._rng = stream(list(seed))
        self._next: Iterator[float] = iter(())

    def uniform(self) -> float:
        """In [0, 1)."""
        for value in self._next:
            return value
        self._next = iter(self._rng.random(_BLOCK).tolist())
        return next(self._next)

    def below(self, n: int) -> int:
        """0 to n - 1."""
        return int(self.uniform() * n)

    def of(self, things: Sequence[T]) -> T:
        """One of several."""
        return things[int(self.uniform() * len(things))]

    def by(self, cumulative: Sequence[float]) -> int:
        """An index, by cumulative chances."""
        u = self.uniform()
        for k, bound in enumerate(cumulative):
            if u < bound:
                return k
        return len(cumulative) - 1

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """Different ones, in random order."""
        left = list(things)
        return [left.pop(int(self.uniform() * len(left))) for _ in range(min(count, len(left)))]

    def shares(self, n: int, peak: float) -> tuple[float, ...]:
        """Cumulative chances of n things: uniform numbers to the power of ``peak``, normalised; few stand out."""
        weights = [(1.0 - self.uniform()) for _ in range(n)]
        logs = portable.exp(np.maximum(peak * portable.log(np.array(weights)), -60.0))
        total, sums = 0.0, []
        for weight in logs.tolist():
            total += weight
            sums.append(total)
        return tuple(one / total for one in sums)

    def normal(self) -> float:
        """Nearly standard normal: twelve uniforms less six."""
        return sum(self.uniform() for _ in range(12)) - 6.0


@dataclass(frozen=True, slots=True)
class Made:
    """A thing that a user answered: as a question, and as an item of a profile.

    Attributes:
        input: The question.
        output: The user's answer.
        fields: The item.
    """

    input: str
    output: str
    fields: Mapping[str, str]


class Maker(ABC):
    """What makes the questions of one task. Habits are numbers, or cumulative chances, by name."""

    @abstractmethod
    def habits(self, draw: Draws) -> dict[str, Any]:
        """The habits of a new user."""

    @abstractmethod
    def make(self, draw: Draws, habits: Mapping[str, Any]) -> Made:
        """Something that this user answered."""

    def item(self, draw: Draws, habits: Mapping[str, Any]) -> Mapping[str, str]:
        """Something of the user's past."""
        return self.make(draw, habits).fields


class _Citations(Maker):
    """Task 1."""

    _fields = tuple(words.FIELDS)
    _kinds = tuple(words.KINDS)

    def habits(self, draw: Draws) -> dict[str, Any]:
        return {"topics": draw.shares(len(self._fields), 6.0), "kinds": draw.shares(len(self._kinds), 3.0)}

    def _title(self, draw: Draws, topic: int, kind: int) -> str:
        one, two = draw.some(words.FIELDS[self._fields[topic]], 2)
        word = draw.of(words.KINDS[self._kinds[kind]])
        return draw.of(
            (
                f"{word} for {one.title()} and {two.title()}",
                f"{draw.of(words.QUALITIES).title()} {one.title()}: {word} beyond {two.title()}",
                f"{word} of {draw.of(words.QUALITIES).title()} {one.title()}",
            )
        )

    def make(self, draw: Draws, habits: Mapping[str, Any]) -> Made:
        topic = draw.by(habits["topics"])
        title = self._title(draw, topic, draw.by(habits["kinds"]))
        near = draw.uniform() < 0.3
        cited = self._title(draw, topic if near else draw.by(habits["topics"]), draw.by(habits["kinds"]))
        # what somebody else has read: on the paper's own topic a quarter of the time
        other = topic if draw.uniform() < 0.25 else draw.below(len(self._fields))
        foreign = self._title(draw, other, draw.below(len(self._kinds)))
        place = draw.below(2)
        references = (cited, foreign) if place == 0 else (foreign, cited)
        if draw.uniform() < 0.5 * NOISE:
            place = 1 - place
        return Made(
            f'For an author who has written the paper with the title "{title}", which reference is related? '
            "Just answer with [1] or [2] without explanation. "
            f'[1]: "{references[0]}" [2]: "{references[1]}"',
            f"[{place + 1}]",
            {},
        )

    def item(self, draw: Draws, habits: Mapping[str, Any]) -> Mapping[str, str]:
        topic = draw.by(habits["topics"])
        title = self._title(draw, topic, draw.by(habits["kinds"]))
        about = draw.some(words.FIELDS[self._fields[topic]], 2)
        abstract = (
            f"We study {about[0]} with {draw.of(words.METHODS)}. {draw.of(words.PAPER_REMARKS)}. "
            f"Results on {about[1]} show {draw.of(words.GAINS)}."
        )
        return {"title": title, "abstract": abstract}


class _Tags(Maker):
    """Task 2."""

    _input = (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
        f"explanation. tags: [{', '.join(MOVIE_TAGS)}] description: "
    )

    def habits(self, draw: Draws) -> dict[str, Any]:
        return {
            "seen": draw.shares(len(MOVIE_TAGS), 10.0),
            "liking": tuple(1.1 * draw.normal() for _ in MOVIE_TAGS),
        }

    def make(self, draw: Draws, habits: Mapping[str, Any]) -> Made:
        tags = [draw.by(habits["seen"])]
        while len(tags) < 3:
            tag = draw.by(habits["seen"]) if draw.uniform() < 0.6 else draw.below(len(MOVIE_TAGS))
            if tag not in tags:
                tags.append(tag)
        hints = [hint for tag, n in zip(tags, (2, 2, 2), strict=True) for hint in self._hints(draw, tag, n)]
        # hints that belong to no tag of this film
        hints += [draw.of(words.TAG_HINTS[draw.of(MOVIE_TAGS)]) for _ in range(4)]
        hints = draw.some(hints, len(hints))
        sentences = []
        for one, two in zip(hints[::2], hints[1::2], strict=True):
            sentence = draw.of(words.FILM_PATTERNS).replace("{0}", one).replace("{1}", two)
            sentence = sentence.replace("{hero}", draw.of(words.HEROES)).replace("{where}", draw.of(words.SETTINGS))
            sentences.append(sentence[0].upper() + sentence[1:] + ".")
        description = " ".join(sentences)
        liking = habits["liking"] if draw.uniform() >= NOISE else (0.0,) * len(MOVIE_TAGS)
        worth = [liking[tag] + 0.9 * (1 - k) + 0.5 * draw.normal() for k, tag in enumerate(tags)]
        given = MOVIE_TAGS[tags[worth.index(max(worth))]]
        return Made(self._input + description, given, {"tag": given, "description": description})

    @staticmethod
    def _hints(draw: Draws, tag: int, count: int) -> list[str]:
        return draw.some(words.TAG_HINTS[MOVIE_TAGS[tag]], count)


class _Ratings(Maker):
    """Task 3."""

    _aspects = tuple(words.ASPECTS)
    _input = (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
        "further explanation. review: "
    )

    def habits(self, draw: Draws) -> dict[str, Any]:
        return {
            "bias": 0.2 + 1.1 * draw.normal(),
            "stretch": 0.4 + 1.2 * draw.uniform(),
            "aspects": draw.shares(len(self._aspects), 2.0),
            "loud": draw.uniform(),
        }

    def make(self, draw: Draws, habits: Mapping[str, Any]) -> Made:
        product, quality = draw.of(words.PRODUCTS), 0.8 * draw.normal()
        sentences, felt, weighed = [], 0.0, 0.0
        shares = (0.0, *habits["aspects"])
        for k in draw.some(range(len(self._aspects)), 3):
            level = min(max(round(2.0 + quality + 0.8 * draw.normal()), 0), 4)
            sentence = draw.of(words.REVIEW_PATTERNS).replace("{worth}", draw.of(words.WORTH[level]))
            sentence = sentence.replace("{aspect}", draw.of(words.ASPECTS[self._aspects[k]]))
            sentences.append(sentence[0].upper() + sentence[1:] + ("!" if draw.uniform() < habits["loud"] else "."))
            weight = shares[k + 1] - shares[k] + 0.1
            felt += weight * (level - 2.0)
            weighed += weight
        remark = draw.of(words.REVIEW_REMARKS).replace("{product}", product) + "."
        sentences.insert(draw.below(4), remark)
        heeded = draw.uniform() >= NOISE
        bias, stretch = (habits["bias"], habits["stretch"]) if heeded else (0.2, 1.0)
        score = min(max(round(3.0 + bias + stretch * felt / weighed + 0.4 * draw.normal()), 1), 5)
        text = " ".join(sentences)
        return Made(self._input + text, str(score), {"text": text, "score": str(score)})


class _Titles(Maker):
    """Tasks 4 to 6: a text names three things, of which a title takes one, whole or short, in a frame."""

    frames: ClassVar[tuple[str, ...]]
    title_case: ClassVar[bool] = True

    def habits(self, draw: Draws) -> dict[str, Any]:
        return {
            "source": draw.shares(3, 2.5),
            "frame": draw.shares(len(self.frames), 6.0),
            "short": draw.uniform(),
            "lower": draw.uniform() < 0.25,
        }

    @abstractmethod
    def write(self, draw: Draws) -> tuple[str, list[tuple[str, str]]]:
        """A text, and the three things that it names: each whole and short."""

    @abstractmethod
    def phrased(self, text: str, title: str) -> Made:
        """Text and title as question and item."""

    def make(self, draw: Draws, habits: Mapping[str, Any]) -> Made:
        text, named = self.write(draw)
        heeds = [draw.uniform() >= NOISE for _ in range(2)]
        source = draw.by(habits["source"]) if heeds[0] else draw.below(3)
        frame = draw.by(habits["frame"]) if heeds[1] else draw.below(len(self.frames))
        # short to the ear: those who like it do it nearly always
        core = named[source][draw.uniform() < habits["short"]]
        title = self.frames[frame].replace("{}", core)
        if habits["lower"]:
            title = title.lower()
        elif self.title_case:
            title = " ".join(word[:1].upper() + word[1:] for word in title.split())
        else:
            title = title[:1].upper() + title[1:]
        return self.phrased(text, title)


class _Headlines(_Titles):
    """Task 4."""

    frames = words.HEADLINE_FRAMES
    _desks = tuple(words.DESKS.values())

    def write(self, draw: Draws) -> tuple[str, list[tuple[str, str]]]:
        who, does, follows = (draw.of(part) for part in draw.of(self._desks))
        modifier, place = draw.of(words.NEWS_MODIFIERS), draw.of(words.NEWS_PLACES)
        number, things = 10 + draw.below(90), draw.of(words.NEWS_COUNTS)
        follow_modifier = draw.of(words.NEWS_MODIFIERS)
        remarks = draw.some(words.NEWS_REMARKS, 2)
        text = (
            f"The {who} {does} {modifier}. {remarks[0]}. An inquiry counts {number} {things} in {place} this year. "
            f"{remarks[1]}. Meanwhile {follows} {follow_modifier}."
        )
        return text, [
            (f"{who} {does} {modifier}", f"{who} {does}"),
            (f"{number} {things} in {place} this year", f"{number} {things} in {place}"),
            (f"{follows} {follow_modifier}", follows),
        ]

    def phrased(self, text: str, title: str) -> Made:
        return Made(f"Generate a headline for the following article: {text}", title, {"text": text, "title": title})


class _PaperTitles(_Titles):
    """Task 5."""

    frames = words.TITLE_FRAMES
    _fields = tuple(words.FIELDS.values())

    def write(self, draw: Draws) -> tuple[str, list[tuple[str, str]]]:
        about, other = draw.some(draw.of(self._fields), 2)
        issue, method, gain = draw.of(words.ISSUES), draw.of(words.METHODS), draw.of(words.GAINS)
        quality, resource = draw.of(words.QUALITIES), draw.of(words.RESOURCES)
        remarks = draw.some(words.PAPER_REMARKS, 2)
        text = (
            f"Many systems suffer from {issue} in {about} under {resource}. {remarks[0]}. "
            f"We present {quality} {method} for {about} with {resource}. {remarks[1]}. "
            f"Experiments show {gain} for {other} and {about}."
        )
        return text, [
            (f"{issue} in {about} under {resource}", f"{issue} in {about}"),
            (f"{quality} {method} for {about} with {resource}", f"{quality} {method} for {about}"),
            (f"{gain} for {other} and {about}", f"{gain} for {other}"),
        ]

    def phrased(self, text: str, title: str) -> Made:
        asked = f"Generate a title for the following abstract of a paper: {text}"
        return Made(asked, title, {"title": title, "abstract": text})


class _Subjects(_Titles):
    """Task 6."""

    frames = words.SUBJECT_FRAMES
    title_case = False
    _matters = tuple(words.MATTERS.values())

    def write(self, draw: Draws) -> tuple[str, list[tuple[str, str]]]:
        matter, due, ask = (draw.of(part) for part in draw.of(self._matters))
        project, (day, until) = draw.of(words.PROJECTS), draw.some(words.DAYS, 2)
        remarks = draw.some(words.MAIL_REMARKS, 2)
        text = (
            f"Hello, this is about the {matter} for the {project}. {remarks[0]}. "
            f"We still need the {due} by {day}. {remarks[1]}. Could you please {ask} before {until}?"
        )
        return text, [
            (f"{matter} for {project}", matter),
            (f"{due} by {day}", due),
            (f"{ask} before {until}", ask),
        ]

    def phrased(self, text: str, title: str) -> Made:
        return Made(f"Generate a subject for the following email: {text}", title, {"text": text, "title": title})


class _Tweets(Maker):
    """Task 7."""

    _moods = tuple(words.MOODS.values())
    _input = "Paraphrase the following tweet without any explanation before or after it: "

    def habits(self, draw: Draws) -> dict[str, Any]:
        return {
            "opener": draw.shares(len(words.OPENERS), 9.0),
            "closer": draw.shares(len(words.CLOSERS), 9.0),
            "much": draw.shares(len(words.MUCH), 4.0),
            "abbreviates": draw.of((0.05, 0.5, 0.95)),
            "hashtag": draw.of((0.05, 0.5, 0.95)),
            "lower": draw.uniform() < 0.6,
            "marks": draw.of(("", ".", "!", "!!!")),
            "terse": draw.of((0.05, 0.5, 0.95)),
        }

    def make(self, draw: Draws, habits: Mapping[str, Any]) -> Made:
        says, about, tag = draw.of(self._moods)
        said, thing, when, reason = draw.of(says), draw.of(about), draw.of(words.TIMES), draw.of(words.REASONS)
        plain = f"{said.replace('{much}', 'really')} {thing} {when} {reason}."
        heeds = [draw.uniform() >= NOISE for _ in range(3)]
        opener = words.OPENERS[draw.by(habits["opener"]) if heeds[0] else draw.below(len(words.OPENERS))]
        closer = words.CLOSERS[draw.by(habits["closer"]) if heeds[1] else draw.below(len(words.CLOSERS))]
        much = words.MUCH[draw.by(habits["much"]) if heeds[2] else draw.below(len(words.MUCH))]
        core = f"{said.replace('{much}', much)} {thing} {when}"
        if draw.uniform() >= habits["terse"]:
            core = f"{core} {reason}"
        if draw.uniform() < habits["abbreviates"]:
            core = " ".join(words.SHORT.get(word, word) for word in core.split())
        parts = [opener, core, closer, f"#{tag}" if draw.uniform() < habits["hashtag"] else ""]
        styled = " ".join(part for part in parts if part) + str(habits["marks"])
        if habits["lower"]:
            styled = styled.lower()
        return Made(self._input + plain, styled, {"text": styled})


MAKERS: Mapping[int, type[Maker]] = {
    1: _Citations,
    2: _Tags,
    3: _Ratings,
    4: _Headlines,
    5: _PaperTitles,
    6: _Subjects,
    7: _Tweets,
}


class World:
    """A population of hidden users, their profiles, and their questions in order; drawn when first asked for.

    Args:
        number: The task, 1 to 7.
        num_users: Users.
        profile_size: Items in each profile.
        seed: What everything follows from.
        dated: Whether profile items have dates, as in the split by time.

    Raises:
        UnknownNameError: There is no such task.
    """

    def __init__(self, number: int, num_users: int, profile_size: int, seed: int, dated: bool = False) -> None:
        self.task: LampTask = task_of(number)
        self.num_users, self.profile_size, self.dated = num_users, profile_size, dated
        self._maker = MAKERS[number]()
        self._draws = [Draws((seed, number, user)) for user in range(num_users)]
        self._habits: list[dict[str, Any] | None] = [None] * num_users
        self._profiles: list[tuple[ProfileItem, ...] | None] = [None] * num_users
        self._questions: list[list[Question]] = [[] for _ in range(num_users)]

    def habits(self, user: int) -> Mapping[str, Any]:
        """The hidden habits of a user. For oracles and tests; agents never see them."""
        found = self._habits[user]
        if found is None:
            found = self._habits[user] = self._maker.habits(self._draws[user])
        return found

    def profile(self, user: int) -> tuple[ProfileItem, ...]:
        """What the user has done before, oldest first."""
        found = self._profiles[user]
        if found is None:
            habits = self.habits(user)
            found = self._profiles[user] = tuple(
                ProfileItem(
                    f"{user + 1}{k:04d}",
                    self._maker.item(self._draws[user], habits),
                    _date(k, self.profile_size) if self.dated else None,
                )
                for k in range(self.profile_size)
            )
        return found

    def question(self, user: int, k: int) -> Question:
        """The user's k-th question, with its answer; there is no last one."""
        asked = self._questions[user]
        while len(asked) <= k:
            profile = self.profile(user)  # drawn before any question
            made = self._maker.make(self._draws[user], self.habits(user))
            id = f"{user + 1}{self.profile_size + len(asked):04d}"
            asked.append(Question(id, made.input, profile, str(user), made.output))
        return asked[k]


def _date(k: int, count: int) -> str:
    """A day in the twelve years before 2022, later for a later item."""
    month = 12 * 12 * k // max(count, 1)
    return f"{2010 + month // 12}-{month % 12 + 1:02d}-{1 + k % 28:02d}"


@dataclass(frozen=True)
class FilesConfig:
    """What `write_files` writes.

    Attributes:
        train: Questions in the train part.
        dev: Questions in the dev part.
        test: Questions in the test part.
        profile_size: Items in each profile.
        split: ``user``: every question is of another user. ``time``: users recur, questions have a ``user_id``, and
            profile items a ``date``.
        num_users: Users of the split by time.
        seed: What everything follows from.
    """

    train: int = field(default=200, metadata={"low": 1})
    dev: int = field(default=50, metadata={"low": 1})
    test: int = field(default=50, metadata={"low": 1})
    profile_size: int = field(default=16, metadata={"low": 0})
    split: str = field(default="user", metadata={"choices": ("user", "time")})
    num_users: int = field(default=20, metadata={"low": 1})
    seed: int = 0


def write_files(folder: str | Path, number: int, **knobs: Any) -> None:
    """Writes the five files of a task, as they are published: the test part has no outputs.

    Args:
        folder: Where to; it is made where it does not exist.
        number: The task, 1 to 7.
        **knobs: See `FilesConfig`.

    Raises:
        UnknownNameError: There is no such task or knob.
        ConfigError: A knob out of range.
    """
    task = task_of(number)
    config = configure(FilesConfig, knobs, "write_files")
    sizes = (config.train, config.dev, config.test)
    timed = config.split == "time"
    users = config.num_users if timed else sum(sizes)
    world = World(number, users, config.profile_size, config.seed, dated=timed)
    first = 0
    for split, size in zip(SPLITS, sizes, strict=True):
        questions = (
            world.question(n % users, n // users) if timed else _of_own_user(world.question(n, 0))
            for n in range(first, first + size)
        )
        write_questions(folder, task, split, questions, outputs=split != "test")
        first += size


def _of_own_user(question: Question) -> Question:
    return Question(question.id, question.input, question.profile, question.id, question.output)
