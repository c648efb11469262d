"""Any agent that selects, and a proposer of answers: an agent that writes answers to LaMP's questions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hare_agents._content import prefixed, take, without_prefix
from hare_agents.decoders.answers import COUNT, Proposer, lamp_task
from hare_agents.decoders.habits import TRAITS, Kept, Profile, profile_of
from hare_agents.decoders.support import bm25_scores, supports, votes
from hare_gym import portable
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec, nth_observation, sanitise
from hare_gym.errors import ConfigError
from hare_gym.lamp.features import Features
from hare_gym.lamp.metrics import scores
from hare_gym.lamp.reading import HASHED, question_of
from hare_gym.lamp.tasks import OLD_TASK_2, LampTask, Question, query_of
from hare_gym.registry import make_agent

Array = NDArray[np.float64]

OWNER = "agent 'answerer'"
_INNER = "agent_"
# So that a vector of length one, traits that are all 1, and the supports are in the unit ball together.
_FEATURES, _TRAITS, _SUPPORTS = 0.7, 0.25, (0.3, 0.4)
_LABELS = 0.85
# How a text that is no label is supported: less than any.
_NO_LABEL = -60.0
# Rounds whose proposals are kept between `act` and `update`.
_KEPT = 1024


@dataclass(frozen=True)
class AnsweringConfig:
    """The hyperparameters of `Answering`.

    Attributes:
        agent: The name of the agent that chooses among the proposals, or ``"package.module:Class"``.
        agent_kwargs: Its hyperparameters.
        proposals: Texts to choose among, at most; where a task has labels these are the proposals.
        shortlist: Of these texts, how many are kept: those that retrieval from the whole profile would choose first.
        likeness: As of `hare_agents.retrieval.ProfileRetrieval`, how much the manner counts there.
        cues: The same, how much the input's own words do.
        framed: Share of the proposed texts that are set into frames which the user has used.
        rehearsed: Items of a user's profile, the latest ones, that are practised on at the user's first reward; see
            `Answering`. 0 for none.
        attempts: Answers to each of them.
        topic: Length of the query's vector as the inner agent sees it. The shorter, the less it expects the right
            answer's making to depend on what is asked about.
        encoder: What the features compare texts with, see `hare_gym.lamp.features.Features`.
    """

    agent: str = "hare"
    agent_kwargs: Any = field(default_factory=dict)
    proposals: int = field(default=COUNT, metadata={"low": 2})
    shortlist: int = field(default=8, metadata={"low": 1})
    likeness: float = field(default=10.0, metadata={"low": 0})
    cues: float = field(default=1.5, metadata={"low": 0})
    framed: float = field(default=0.8, metadata={"low": 0, "high": 1})
    rehearsed: int = field(default=16, metadata={"low": 0})
    attempts: int = field(default=8, metadata={"low": 1})
    topic: float = field(default=0.2, metadata={"low": 0, "high": 1})
    encoder: str = HASHED

    def __post_init__(self) -> None:
        if not isinstance(self.agent_kwargs, Mapping):
            raise ConfigError(f"{OWNER}: agent_kwargs must be a mapping of names to values.")


class Answering(Agent):
    """Lets an agent that selects play LaMP's tasks in ``write``.

    A round: `Proposer` lists answers that the input and the profile suggest, retrieval from the whole profile judges
    them (`hare_agents.decoders.support`), and of texts keeps the first few. `Features` measures each as any reader
    could (for texts together with `Manner.traits`, how the user has made such answers), and two more coordinates say
    how far it is behind what retrieval would answer, and whether it is that. The inner agent meets a round in
    ``select`` whose pool are these vectors. The answer that it selects is written, and its reward is what the inner
    agent learns. So HARE, LinUCB and the others play unchanged, and begin at what retrieval knows.

    A profile item that has what was asked and what was answered (in tasks 2 to 6) is a question with a known answer.
    With the first reward of a user the inner agent meets some of these as rounds, with the profile's other items for
    a profile: it answers, and learns what the official metric says of its answer and of others drawn at random.

    Raises:
        UnknownNameError: No such agent or knob.
        ConfigError: A knob out of range, or an inner agent that does not select. At ``reset``, a task that is not of
            LaMP, or not in the mode ``write``.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"write"})
    config: AnsweringConfig

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(AnsweringConfig, hyperparameters, OWNER)
        self.agent = make_agent(self.config.agent, **self.config.agent_kwargs)
        if "select" not in self.agent.modes or self.agent.privileged:
            raise ConfigError(
                f"{OWNER}: {self.config.agent!r} is no agent that selects and learns from rewards alone."
            )
        self.propose = Proposer(count=self.config.proposals, framed=self.config.framed)

    def _most(self) -> int:
        """The most answers to choose among."""
        return len(self.task.labels) or min(self.config.shortlist, self.config.proposals)

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Finds out which of LaMP's tasks it is, and resets the inner agent for it in the mode ``select``."""
        super().reset(spec, rng)
        self.task = lamp_task(spec, OWNER)
        self.features = _features_of(self.task, self.config.encoder)
        self._rehearsed = np.zeros(spec.num_users, dtype=bool)
        self._rounds: OrderedDict[tuple[int, str, str], tuple[tuple[str, ...], Observation]] = OrderedDict()
        self.agent.reset(
            replace(
                spec,
                action_mode="select",
                num_items=self._most(),
                content_dim=self.features.dim + len(_SUPPORTS) + (0 if self.task.labels else len(TRAITS)),
                pool=None,
                pool_texts=None,
                has_query_text=False,
                has_pool_text=False,
            ),
            rng,
        )

    def act(self, observation: Observation) -> Action:
        """The answer to one question."""
        answers, inner = self._round(observation)
        return answers[int(self.agent.act(inner))]

    def act_batch(self, observations: Observation) -> Action:
        """As `act` for B users; the inner agent chooses for all of them at once."""
        rounds = [self._round(nth_observation(observations, b)) for b in range(len(observations["user"]))]
        chosen = self.agent.act_batch(_stacked([inner for _, inner in rounds]))
        return tuple(answers[int(k)] for (answers, _), k in zip(rounds, chosen, strict=True))

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Teaches the inner agent what the answer earned, whoever proposed it."""
        self._rehearse(observation)
        inner, k = self._taught(observation, action)
        self.agent.update(inner, k, reward)

    def update_batch(self, observations: Observation, actions: Action, rewards: NDArray[np.float64]) -> None:
        """Teaches the B rewards of one `act_batch`."""
        for b in range(len(rewards)):
            self._rehearse(nth_observation(observations, b))
        taught = [self._taught(nth_observation(observations, b), actions[b]) for b in range(len(rewards))]
        chosen = np.array([k for _, k in taught], dtype=np.int64)
        self.agent.update_batch(_stacked([inner for inner, _ in taught]), chosen, rewards)

    def _round(self, observation: Observation) -> tuple[tuple[str, ...], Observation]:
        """The proposals of a round, and the round as the inner agent meets it."""
        key = int(observation["user"]), str(observation["query_text"]), str(observation["pool_text"])
        found = self._rounds.get(key)
        if found is None:
            read = self._read(question_of(self.task, observation))
            found = self._rounds[key] = read.answers, self._inner(observation, read.Y)
            if len(self._rounds) > _KEPT:
                self._rounds.popitem(last=False)
        return found

    def _read(self, question: Question) -> _Reading:
        """The answers to choose among; not to be changed, as other agents get the same."""
        c, profile = self.config, profile_of(self.task, question.profile)

        def make() -> _Reading:
            answers = tuple(sanitise(text, self.spec.text_length) for text in self.propose(self.task, question))
            supports = self._supports(profile, question, answers)
            if not self.task.labels:
                best = np.argsort(-supports, kind="stable")[: c.shortlist]
                answers, supports = tuple(answers[k] for k in best), supports[best]
            return _Reading(answers, self._measured(question, answers, supports.max()), supports.max())

        retrieval = self.propose.config, c.shortlist, c.likeness, c.cues
        return _readings(profile, (question.input, retrieval, self.features.name, self.spec.text_length), make)

    def _supports(self, profile: Profile, question: Question, answers: tuple[str, ...]) -> Array:
        """How retrieval from the whole profile judges answers, ``(n,)``."""
        source = query_of(self.task, question.input)
        if self.task.labels:
            order = np.argsort(-bm25_scores(profile, source), kind="stable").tolist() if profile.items else []
            by_label = dict(
                zip(self.task.labels, votes(self.task, question, profile, order, self.config.cues), strict=True)
            )
            return np.array([by_label.get(answer.strip(), _NO_LABEL) for answer in answers])
        traits = profile.manner.traits(answers, source)
        return supports(self.features.reader, source, answers, profile.answered, traits, self.config.likeness)

    def _measured(self, question: Question, answers: tuple[str, ...], best: float) -> Array:
        """The answers' vectors, ``(n, content_dim)``, in the unit ball; ``best`` is the shortlist's best support."""
        Y = self.features(question, answers)
        profile = profile_of(self.task, question.profile)
        behind = np.maximum(best - self._supports(profile, question, answers), 0.0)
        supported = np.stack([portable.exp(-np.minimum(behind, 60.0)), behind == 0.0], axis=1) * _SUPPORTS
        if self.task.labels:
            return np.concatenate([_LABELS * Y, supported], axis=1)
        traits = profile.manner.traits(answers, query_of(self.task, question.input))
        return np.concatenate([_FEATURES * Y, _TRAITS * traits, supported], axis=1)

    def _inner(self, observation: Observation, Y: Array) -> Observation:
        pool = np.zeros((self._most(), Y.shape[1]))
        pool[: len(Y)] = Y
        mask = np.zeros(len(pool), dtype=np.int8)
        mask[: len(Y)] = 1
        return {
            "query": self.config.topic * observation["query"],
            "user": observation["user"],
            "pool": pool,
            "pool_mask": mask,
        }

    def _taught(self, observation: Observation, action: str) -> tuple[Observation, int]:
        answers, inner = self._round(observation)
        if action in answers:
            return inner, answers.index(action)
        question = question_of(self.task, observation)
        return self._inner(observation, self._measured(question, (action,), self._read(question).best)), 0

    def _rehearse(self, observation: Observation) -> None:
        """Practises on the profile of a user, once."""
        user, task = int(observation["user"]), self.task
        if self._rehearsed[user]:
            return
        self._rehearsed[user] = True
        if task.asked == task.answered or task.number == 1:
            return
        profile = profile_of(task, question_of(task, observation).profile)
        n = len(profile.items)
        for place in range(max(0, n - self.config.rehearsed), n):
            asked, answered = profile.asked[place], profile.answered[place]
            if not asked or not answered or (task.labels and answered not in task.labels):
                continue
            question = Question("", prompt_of(task, asked), profile.without(place), str(user))
            read = self._read(question)
            answers = read.answers
            inner = self._inner({"query": self.features.query(question), "user": observation["user"]}, read.Y)
            chosen = int(self.agent.act(inner))
            drawn = self.rng.permutation(len(answers))[: self.config.attempts - 1].tolist()
            tried = list(dict.fromkeys([chosen, *drawn]))
            for k, earned in zip(tried, scores(task, answered, [answers[k] for k in tried]), strict=True):
                self.agent.update(inner, k, earned)

    def state(self) -> dict[str, NDArray[Any]]:
        """The inner agent's, and ``rehearsed``: whose profiles have been practised on, ``(num_users,)``."""
        return {**prefixed(_INNER, self.agent.state()), "rehearsed": self._rehearsed.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task, or as the inner agent does."""
        rehearsed = take(state, "rehearsed", self._rehearsed)
        self.agent.load_state(without_prefix(_INNER, state))
        self._rehearsed = rehearsed

    def diagnostics(self) -> dict[str, float]:
        """The inner agent's."""
        return self.agent.diagnostics()


class _Reading(NamedTuple):
    """What there is to choose among.

    Attributes:
        answers: Texts by their support, or the labels.
        Y: Their vectors, ``(n, content_dim)``.
        best: The largest support.
    """

    answers: tuple[str, ...]
    Y: Array
    best: float


_readings: Kept[_Reading] = Kept(2**13)


@lru_cache(maxsize=16)
def _features_of(task: LampTask, encoder: str) -> Features:
    return Features(task, encoder)


def prompt_of(task: LampTask, text: str) -> str:
    """An input that asks about a text, so that `query_of` finds the text in it."""
    marks = {2: task.asked, 3: "review", 4: "article", 5: "paper", 6: "email"}
    return f"{'article' if task == OLD_TASK_2 else marks[task.number]}: {text}"


def _stacked(observations: list[Observation]) -> Observation:
    return {name: np.stack([observation[name] for observation in observations]) for name in observations[0]}
