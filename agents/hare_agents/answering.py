"""Any agent that selects, and a proposer of answers: an agent that writes answers to LaMP's questions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._content import prefixed, take, without_prefix
from hare_agents.decoders.answers import COUNT, Proposer, lamp_task
from hare_agents.decoders.habits import TRAITS, profile_of
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec, nth_observation, sanitise
from hare_gym.errors import ConfigError
from hare_gym.lamp.features import Features
from hare_gym.lamp.metrics import score
from hare_gym.lamp.reading import HASHED, question_of
from hare_gym.lamp.tasks import OLD_TASK_2, LampTask, Question, query_of
from hare_gym.registry import make_agent

Array = NDArray[np.float64]

OWNER = "agent 'answerer'"
_INNER = "agent_"
# So that a vector of length one and traits that are all 1 are in the unit ball together.
_FEATURES, _TRAITS = 0.8, 0.3
# Rounds whose proposals are kept between `act` and `update`.
_KEPT = 1024


@dataclass(frozen=True)
class AnsweringConfig:
    """The hyperparameters of `Answering`.

    Attributes:
        agent: The name of the agent that chooses among the proposals, or ``"package.module:Class"``.
        agent_kwargs: Its hyperparameters.
        proposals: Texts to choose among, at most; where a task has labels these are the proposals.
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
    framed: float = field(default=0.8, metadata={"low": 0, "high": 1})
    rehearsed: int = field(default=8, metadata={"low": 0})
    attempts: int = field(default=4, metadata={"low": 1})
    topic: float = field(default=0.2, metadata={"low": 0, "high": 1})
    encoder: str = HASHED

    def __post_init__(self) -> None:
        if not isinstance(self.agent_kwargs, Mapping):
            raise ConfigError(f"{OWNER}: agent_kwargs must be a mapping of names to values.")


class Answering(Agent):
    """Lets an agent that selects play LaMP's tasks in ``write``.

    A round: `Proposer` lists answers that the input and the profile suggest, `Features` measures each as any reader
    could (for texts together with `Manner.traits`, how the user has made such answers), and the inner agent meets a
    round in ``select`` whose pool are these vectors. The answer that it selects is written, and its reward is what
    the inner agent learns. So HARE, LinUCB and the others play unchanged.

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

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Finds out which of LaMP's tasks it is, and resets the inner agent for it in the mode ``select``."""
        super().reset(spec, rng)
        self.task = lamp_task(spec, OWNER)
        self.features = Features(self.task, self.config.encoder)
        self._rehearsed = np.zeros(spec.num_users, dtype=bool)
        self._rounds: OrderedDict[tuple[int, str, str], tuple[tuple[str, ...], Observation]] = OrderedDict()
        self.agent.reset(
            replace(
                spec,
                action_mode="select",
                num_items=self.propose.most(self.task),
                content_dim=self.features.dim + (0 if self.task.labels else len(TRAITS)),
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
            question = question_of(self.task, observation)
            answers = tuple(sanitise(text, self.spec.text_length) for text in self.propose(self.task, question))
            found = self._rounds[key] = answers, self._inner(observation, self._measured(question, answers))
            if len(self._rounds) > _KEPT:
                self._rounds.popitem(last=False)
        return found

    def _measured(self, question: Question, answers: tuple[str, ...]) -> Array:
        """The answers' vectors, ``(n, content_dim)``, in the unit ball."""
        Y = self.features(question, answers)
        if self.task.labels:
            return Y
        source = query_of(self.task, question.input)
        traits = profile_of(self.task, question.profile).manner.traits(answers, source)
        return np.concatenate([_FEATURES * Y, _TRAITS * traits], axis=1)

    def _inner(self, observation: Observation, Y: Array) -> Observation:
        pool = np.zeros((self.propose.most(self.task), Y.shape[1]))
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
        return self._inner(observation, self._measured(question, (action,))), 0

    def _rehearse(self, observation: Observation) -> None:
        """Practises on the profile of a user, once."""
        user, task = int(observation["user"]), self.task
        if self._rehearsed[user]:
            return
        self._rehearsed[user] = True
        if task.asked == task.answered or task.number == 1:
            return
        profile = question_of(task, observation).profile
        for item in profile[-self.config.rehearsed :] if self.config.rehearsed else ():
            asked, answered = item.fields[task.asked], item.fields[task.answered]
            others = tuple(other for other in profile if other is not item)
            question = Question("", prompt_of(task, asked), others, str(user))
            if not asked or not answered or (task.labels and answered not in task.labels):
                continue
            answers = tuple(sanitise(text, self.spec.text_length) for text in self.propose(task, question))
            inner = self._inner(
                {"query": self.features.query(question), "user": observation["user"]},
                self._measured(question, answers),
            )
            chosen = int(self.agent.act(inner))
            drawn = self.rng.permutation(len(answers))[: self.config.attempts - 1].tolist()
            for k in dict.fromkeys([chosen, *drawn]):
                self.agent.update(inner, k, score(task, answered, answers[k]))

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


def prompt_of(task: LampTask, text: str) -> str:
    """An input that asks about a text, so that `query_of` finds the text in it."""
    marks = {2: task.asked, 3: "review", 4: "article", 5: "paper", 6: "email"}
    return f"{'article' if task == OLD_TASK_2 else marks[task.number]}: {text}"


def _stacked(observations: list[Observation]) -> Observation:
    return {name: np.stack([observation[name] for observation in observations]) for name in observations[0]}
