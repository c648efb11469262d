"""The seven LaMP tasks: what a question holds, what is asked, and what counts as an answer.

Source: Salemi et al. (2024), "LaMP: When Large Language Models Meet Personalization", and its published files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from hare_gym.errors import unknown_name

MOVIE_TAGS = (
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
)
NEWS_CATEGORIES = (
    "women",
    "religion",
    "politics",
    "style & beauty",
    "entertainment",
    "culture & arts",
    "sports",
    "science & technology",
    "travel",
    "business",
    "crime",
    "education",
    "healthy living",
    "parents",
    "food & drink",
)


@dataclass(frozen=True)
class LampTask:
    """One task.

    Attributes:
        number: 1 to 7; 0 for the tasks of LongLaMP.
        name: What it asks for, in a word or two.
        labels: The answers there are; empty where the answer is free text.
        asked: The field of a profile item that stands for what is asked about.
        answered: The field that stands for its answer; for task 7 the text is both; for task 1 the title is what an
            author has cited or written, and no label.
        fields: All fields of a profile item but its id and date.
        metric: The official metric that the reward is made of: ``accuracy``, ``rating`` (1 - error/4, the error
            without its sign) or ``rouge`` (mean of the F-measures of ROUGE-1 and ROUGE-L).
    """

    number: int
    name: str
    labels: tuple[str, ...]
    asked: str
    answered: str
    fields: tuple[str, ...]
    metric: str

    @property
    def id(self) -> str:
        """As the evaluation files spell it, ``LaMP_3``; ours for LongLaMP, ``LongLaMP_topic``."""
        return f"LaMP_{self.number}" if self.number else f"LongLaMP_{self.name}"


TASKS: Mapping[int, LampTask] = {
    task.number: task
    for task in (
        LampTask(1, "citation", ("[1]", "[2]"), "abstract", "title", ("title", "abstract"), "accuracy"),
        LampTask(2, "movie tag", MOVIE_TAGS, "description", "tag", ("tag", "description"), "accuracy"),
        LampTask(3, "product rating", ("1", "2", "3", "4", "5"), "text", "score", ("text", "score"), "rating"),
        LampTask(4, "news headline", (), "text", "title", ("text", "title"), "rouge"),
        LampTask(5, "paper title", (), "abstract", "title", ("title", "abstract"), "rouge"),
        LampTask(6, "e-mail subject", (), "text", "title", ("text", "title"), "rouge"),
        LampTask(7, "tweet", (), "text", "text", ("text",), "rouge"),
    )
}
OLD_TASK_2 = LampTask(
    2, "news category", NEWS_CATEGORIES, "text", "category", ("text", "title", "category"), "accuracy"
)
"""Task 2 as it first was; the published files of both are still about."""
LONG_TASKS: Mapping[str, LampTask] = {
    task.name: task
    for task in (
        LampTask(0, "email", (), "title", "text", ("text", "title"), "rouge"),
        LampTask(0, "abstract", (), "title", "abstract", ("title", "abstract"), "rouge"),
        LampTask(
            0, "review", (), "description", "reviewText", ("overall", "summary", "description", "reviewText"), "rouge"
        ),
        LampTask(0, "topic", (), "summary", "content", ("summary", "content"), "rouge"),
    )
}
"""LongLaMP's tasks of long texts. Source: Kumar et al. (2024), "LongLaMP: A Benchmark for Personalized Long-form Text
Generation", and its published files."""


@dataclass(frozen=True)
class ProfileItem:
    """One thing that a user has written, rated or tagged before.

    Attributes:
        id: Its id in the file.
        fields: Its texts, by `LampTask.fields`; a score is a string.
        date: Whole date or year, in the time split; None elsewhere.
    """

    id: str
    fields: Mapping[str, str]
    date: str | None = None


@dataclass(frozen=True)
class Question:
    """One question of one user.

    Attributes:
        id: Its id in the file.
        input: What is asked, in the words of the file.
        profile: What the user has done before.
        user: Whose question it is: the file's ``user_id`` in the time split, else the question's own id.
        output: The answer; None where the file holds none (the test part).
    """

    id: str
    input: str
    profile: tuple[ProfileItem, ...] = field(default=(), repr=False)
    user: str = ""
    output: str | None = None


@dataclass(frozen=True, eq=False)
class LampData:
    """The questions of one task and split.

    Attributes:
        task: What is asked; `OLD_TASK_2` where the files are of the older task 2.
        split: ``train``, ``dev`` or ``test``; ``reviews`` of a file of reviews.
        questions: The questions in the order of the file; each is read when it is looked up, so keep what is used.
        ids: Their ids.
        owners: The user of each question.
        outputs: The answer of each; None throughout where the file is not there.
        timed: Whether it is the published split by time, whose questions name their users and whose profile items
            have dates. False for reviews, whose profiles hold already what was asked before.
    """

    task: LampTask
    split: str
    questions: Sequence[Question] = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    owners: tuple[str, ...] = field(repr=False)
    outputs: tuple[str | None, ...] = field(repr=False)
    timed: bool = False

    def __len__(self) -> int:
        return len(self.questions)

    @cached_property
    def asked(self) -> Mapping[str, tuple[int, ...]]:
        """The positions of each user's questions in `questions`, in order; users by first appearance."""
        asked: dict[str, list[int]] = {}
        for position, user in enumerate(self.owners):
            asked.setdefault(user, []).append(position)
        return {user: tuple(positions) for user, positions in asked.items()}

    @property
    def users(self) -> tuple[str, ...]:
        """The users, by first appearance."""
        return tuple(self.asked)

    @property
    def golds(self) -> dict[str, str]:
        """The answers that are known, by the ids of their questions."""
        return {id: output for id, output in zip(self.ids, self.outputs, strict=True) if output is not None}


def task_of(number: int) -> LampTask:
    """A task by its number.

    Raises:
        UnknownNameError: There is no such task.
    """
    if number not in TASKS:
        raise unknown_name("LaMP task", str(number), [str(known) for known in TASKS])
    return TASKS[number]


_QUOTED = re.compile(r'"([^"]*)"')
_AFTER: Mapping[int | str, str] = {
    2: "description:",
    3: "review:",
    4: "article:",
    5: "paper:",
    6: ":",
    7: ":",
    "email": ":",
    "abstract": "items:",
    "review": "",
    "topic": "",
}


def query_of(task: LampTask, input: str) -> str:
    """The part of an input that retrieval should look at, as the published scripts cut it out.

    For task 1 it is the two references, joined by a space; an input in another layout is returned whole.
    """
    if task.number == 1:
        quoted = _QUOTED.findall(input)
        return " ".join(quoted[1:3]) if len(quoted) >= 3 else input
    mark = "article:" if task == OLD_TASK_2 else _AFTER[task.number or task.name]
    if not mark:
        return input
    _, found, rest = input.partition(mark)
    return rest.strip() if found else input


def references_of(input: str) -> tuple[str, str] | None:
    """The two references of a question of task 1; None in another layout."""
    quoted = _QUOTED.findall(input)
    return (quoted[1], quoted[2]) if len(quoted) >= 3 else None
