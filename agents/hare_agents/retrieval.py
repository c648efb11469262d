"""Retrieval from a user's own profile: LaMP's baselines. They answer from a few of the items and learn nothing.

Each agent ranks the items of the round's profile in its own way. The k first ones then answer, in the same way for
all: by vote where the task has labels, and for texts by the proposal (`hare_agents.decoders.answers.Proposer`) that
says most of the input in the manner of the retrieved items' answers; or a causal language model answers, with the
retrieved items as examples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.answers import COUNT, LanguageModel, Proposer, lamp_task
from hare_agents.decoders.habits import Profile, profile_of
from hare_agents.decoders.support import bm25_scores, hints, praise_in, stars, supports, votes
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec
from hare_gym.lamp.features import Features
from hare_gym.lamp.reading import HASHED, Reader, question_of, tokens_of
from hare_gym.lamp.tasks import LampTask, Question, query_of, references_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RetrievalConfig:
    """The hyperparameters of every agent that retrieves.

    Attributes:
        k: Items that answer.
        likeness: Weight of the manner of the retrieved answers when a text is chosen, against what it says of the
            input.
        cues: Weight of what the input's own words hint at, against the vote for a label or rating: stars by which
            all praise differs from no opinion, or the share of the hints at a label against its share of the votes.
        proposals: Texts to choose among, at most.
        model: A causal language model that answers instead, by name (``smollm2``), folder or hub's id; empty for
            none.
        device: Where that model runs.
    """

    k: int = field(default=4, metadata={"low": 1})
    likeness: float = field(default=1.0, metadata={"low": 0})
    cues: float = field(default=1.0, metadata={"low": 0})
    proposals: int = field(default=COUNT, metadata={"low": 2})
    model: str = ""
    device: str = "cpu"


class ProfileRetrieval(Agent):
    """Answers from the k items that stand first in a ranking of the profile. A subclass gives `_rank`.

    - Ratings: the mean of the items' scores, weighted by rank as 1/(1 + place), plus ``cues`` times by how much more
      the input praises than these items do, rounded.
    - Tags and categories: the label with the largest share of the same weights plus ``cues`` times its share of the
      input's words that hint at labels; equal ones by their count in the whole profile, then by chance.
    - Citation: the reference that shares most words, each counted by its rarity in the profile, with the items.
    - Texts: the proposal of the largest |words of both| / √(1 + |its words| |the input's|) + ``likeness`` times how
      like it is to the items' answers: frame, place and words (`hare_agents.decoders.habits.Manner.traits`), less the
      mean squared difference of style (`hare_gym.lamp.reading.STYLE`).

    A profile without items is answered for as by `PlainAnswer`.

    Raises:
        UnknownNameError: A hyperparameter that there is not, or no such language model.
        ConfigError: One out of range. At ``reset``, a task that is not of LaMP, or not in the mode ``write``.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"write"})
    search_space: ClassVar[SearchSpace] = {
        "k": {"type": "int", "low": 1, "high": 32, "log": True},
        "cues": {"type": "float", "low": 0.1, "high": 4.0, "log": True},
        "likeness": {"type": "float", "low": 0.05, "high": 10.0, "log": True},
    }
    owner: ClassVar[str]
    config: RetrievalConfig

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(self._config_class(), hyperparameters, self.owner)
        self.propose, self.read = Proposer(count=self.config.proposals), Reader()
        self.model = LanguageModel(self.config.model, self.config.device) if self.config.model else None

    @classmethod
    def _config_class(cls) -> type[RetrievalConfig]:
        return RetrievalConfig

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Finds out which of LaMP's tasks it is."""
        super().reset(spec, rng)
        self.task = lamp_task(spec, self.owner)

    @abstractmethod
    def _rank(self, profile: Profile, question: Question, observation: Observation) -> Array:
        """A score for each item of the profile, ``(n,)``; the highest are retrieved."""

    def retrieve(self, profile: Profile, question: Question, observation: Observation) -> list[int]:
        """The places of the k items of the highest scores in the profile, best first; equal ones in its order."""
        if not profile.items:
            return []
        scores = self._rank(profile, question, observation)
        return [int(i) for i in np.argsort(-scores, kind="stable")[: self.config.k]]

    def act(self, observation: Observation) -> Action:
        """The answer to one question."""
        task = self.task
        question = question_of(task, observation)
        profile = profile_of(task, question.profile)
        chosen = self.retrieve(profile, question, observation)
        if self.model is not None:
            return self.model.answer(task, question, [profile.items[i] for i in reversed(chosen)])
        if not task.labels:
            return self._text(question, profile, chosen)
        if not chosen:
            return plain_label(task, question, self.rng)
        if task.number == 1:
            return self._citation(task, question, profile, chosen)
        if task.metric == "rating":
            return self._rated(task, question, profile, chosen)
        return self._vote(task, question, profile, chosen)

    def _vote(self, task: LampTask, question: Question, profile: Profile, chosen: Sequence[int]) -> str:
        found = votes(task, question, profile, chosen, self.config.cues)
        overall = Counter(label.strip() for label in profile.answered)
        ranks = [(vote, overall[label]) for vote, label in zip(found.tolist(), task.labels, strict=True)]
        ties = [label for rank, label in zip(ranks, task.labels, strict=True) if rank == max(ranks)]
        return ties[0] if len(ties) == 1 else ties[int(self.rng.integers(len(ties)))]

    def _citation(self, task: LampTask, question: Question, profile: Profile, chosen: Sequence[int]) -> str:
        first, second = votes(task, question, profile, chosen, self.config.cues).tolist()
        if first == second:
            return plain_label(task, question, self.rng)
        return task.labels[int(second > first)]

    def _rated(self, task: LampTask, question: Question, profile: Profile, chosen: Sequence[int]) -> str:
        weights = 1.0 / np.arange(1, len(chosen) + 1)
        source = query_of(task, question.input)
        return _stars(task, stars(source, profile, chosen, weights / weights.sum(), self.config.cues))

    def _text(self, question: Question, profile: Profile, chosen: Sequence[int]) -> str:
        proposals = self.propose(self.task, question)
        source = query_of(self.task, question.input)
        traits = profile.manner_of(chosen).traits(proposals, source) if chosen else None
        manner = [profile.answered[i] for i in chosen]
        scores = supports(self.read, source, proposals, manner, traits, self.config.likeness)
        return proposals[int(scores.argmax())]


def _stars(task: LampTask, value: float) -> str:
    return task.labels[int(np.clip(math.floor(value + 0.5), 1, 5)) - 1]


def plain_label(task: LampTask, question: Question, rng: np.random.Generator) -> str:
    """A label without any profile.

    Three stars and up to two for praise or blame; the label that the input's words hint at most; the reference that
    shares more words with the author's paper in the question. Equal ones are drawn from.
    """
    source = query_of(task, question.input)
    if task.metric == "rating":
        return _stars(task, 3.0 + 2.0 * praise_in(source))
    references = references_of(question.input) if task.number == 1 else None
    if references is not None:
        paper = set(tokens_of(question.input.partition('"')[2].partition('"')[0]))
        shared = [float(len(paper & set(tokens_of(reference)))) for reference in references]
    elif task.number == 1:
        shared = [0.0, 0.0]
    else:
        shared = list(hints(task, source).values())
    ties = [label for label, count in zip(task.labels, shared, strict=True) if count == max(shared)]
    return ties[int(rng.integers(len(ties)))] if len(ties) > 1 else ties[0]


class PlainAnswer(ProfileRetrieval):
    """Answers from the input alone: no profile, nothing learned. With ``model``, a plain language model."""

    owner: ClassVar[str] = "agent 'plain'"
    search_space: ClassVar[SearchSpace] = {}

    def _rank(self, profile: Profile, question: Question, observation: Observation) -> Array:
        raise NotImplementedError

    def act(self, observation: Observation) -> Action:
        """The answer to the question as if the profile were empty."""
        stripped = {**observation, "pool_text": "", "pool_mask": np.zeros_like(observation["pool_mask"])}
        return super().act(stripped)


class MostRecent(ProfileRetrieval):
    """Retrieves the youngest items: by date, or where items have none the last of the profile."""

    owner: ClassVar[str] = "agent 'most-recent'"

    def _rank(self, profile: Profile, question: Question, observation: Observation) -> Array:
        return -profile.age


class RandomProfile(ProfileRetrieval):
    """Retrieves items at random, anew in each round."""

    owner: ClassVar[str] = "agent 'random-profile'"

    def _rank(self, profile: Profile, question: Question, observation: Observation) -> Array:
        return self.rng.random(len(profile.items))


class BM25(ProfileRetrieval):
    """Retrieves by Okapi BM25 over the words between spaces, as LaMP's published scripts do.

    Each profile is a corpus of its own. k1 = 1.5, b = 0.75; a word in more than half of the items, whose inverse
    document frequency would be negative, counts a quarter of the mean over words, as in the library rank_bm25, which
    those scripts use.
    """

    owner: ClassVar[str] = "agent 'bm25'"

    def _rank(self, profile: Profile, question: Question, observation: Observation) -> Array:
        return bm25_scores(profile, query_of(profile.task, question.input))


@dataclass(frozen=True)
class DenseConfig(RetrievalConfig):
    """The hyperparameters of `Dense`.

    Attributes:
        encoder: What makes the vectors: ``hashed``, or a name that `hare_gym.text.encoders.load_encoder` takes.
    """

    encoder: str = HASHED


class Dense(ProfileRetrieval):
    """Retrieves by the cosine between the vectors of the input and of what the items are about."""

    owner: ClassVar[str] = "agent 'dense'"
    config: DenseConfig

    @classmethod
    def _config_class(cls) -> type[RetrievalConfig]:
        return DenseConfig

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Finds out which task it is, and loads the encoder."""
        super().reset(spec, rng)
        self.features = Features(self.task, self.config.encoder)

    def _rank(self, profile: Profile, question: Question, observation: Observation) -> Array:
        return self.features.similarities(question)


@dataclass(frozen=True)
class RecencyConfig(RetrievalConfig):
    """The hyperparameters of `RecencyWeighted`.

    Attributes:
        half_life: Younger items after which an item counts half.
    """

    half_life: float = field(default=16.0, metadata={"above": 0})


class RecencyWeighted(ProfileRetrieval):
    """Retrieves by BM25 (shifted above 0) times a weight that halves with every ``half_life`` younger items."""

    owner: ClassVar[str] = "agent 'recency'"
    search_space: ClassVar[SearchSpace] = {
        **ProfileRetrieval.search_space,
        "half_life": {"type": "float", "low": 1.0, "high": 128.0, "log": True},
    }
    config: RecencyConfig

    @classmethod
    def _config_class(cls) -> type[RetrievalConfig]:
        return RecencyConfig

    def _rank(self, profile: Profile, question: Question, observation: Observation) -> Array:
        scores = bm25_scores(profile, query_of(profile.task, question.input))
        positive = scores - scores.min() + 1e-3 * max(float(np.ptp(scores)), 1.0)
        return np.asarray(positive * 0.5 ** (profile.age / self.config.half_life))
