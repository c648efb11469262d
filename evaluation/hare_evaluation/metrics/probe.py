"""What the records do not hold: a finished session is played again, and the agent asked for texts and user states.

A session that is yet to be played can be watched instead (`measure_watched`), which gives the same for less.
The probe is deterministic: the same specification gives the same session, whose actions must be those of the record.
Asked are all users with the same few queries, twice: what the second answer differs by is the agent's own dice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.language_model import ConditionedDecoder
from hare_agents.decoders.trained import load_decoder
from hare_agents.hare import HAREAgent
from hare_agents.rag import RAGProfile
from hare_agents.writing import Writing
from hare_evaluation.metrics import diversity, learning, overlap
from hare_evaluation.metrics.likelihood import conditioning
from hare_evaluation.replaying import replayed
from hare_evaluation.results import Record
from hare_evaluation.runner import one_thread
from hare_gym.contract import Agent
from hare_gym.text.corpus import TOPICS, Corpus
from hare_gym.text.encoders import Encoder, load_encoder
from hare_gym.text.measure import Measured, Measurer, read_skill
from hare_gym.text.reward import RewardModel
from hare_gym.text.users import Users

Array = NDArray[np.float64]

VISITS = (1, 2, 5, 10, 20, 30, 40)
"""After how many of a user's visits the user state is read."""

JUDGED = 8
"""Of how many of a session's texts, at most, the perplexity is measured."""


@dataclass(frozen=True, eq=False)
class Probed:
    """A session that was played again, and what the agent then said.

    Attributes:
        env: The environment, at the session's end.
        agent: The agent.
        users: Who was served, ``(T,)``.
        rewards: Expected reward of each round, ``(T,)``.
        valid: Share of the rounds whose text broke no rule of the format.
        states: By visit, u_t of every user after it, or None for a user who came less often.
        queries: The queries that were asked, Q of them.
        texts: The answers, by query and user, ``Q × U``.
        again: The answers when asked again.
    """

    env: Any
    agent: Agent
    users: NDArray[np.int64]
    rewards: Array
    valid: float
    states: dict[int, list[Array | None]]
    queries: list[str]
    texts: list[list[str]]
    again: list[list[str]]


def probe(record: Record) -> Probed:
    """Plays a record's session again and asks.

    Raises:
        DataError: It is no session of one lane in which texts are written, or the code has changed since: the session
            went another way.
    """
    return _probed(record["spec"], replayed(record, Watch))


def _probed(spec: Any, watch: Watch) -> Probed:
    """Asks the agent whose session has just ended."""
    watch.look()
    inside = watch.unwrapped
    queries = fixed_queries(inside.corpus)
    with one_thread():
        texts, again = (ask(watch.agent, measurer_of(spec), queries, inside.task.num_users) for _ in range(2))
    return Probed(
        inside,
        watch.agent,
        np.array(watch.users),
        np.array(watch.rewards),
        float(np.mean(watch.valid)),
        watch.states,
        queries,
        texts,
        again,
    )


def ask(agent: Agent, measurer: Measurer, queries: list[str], num_users: int) -> list[list[str]]:
    """An agent's texts for every query and user; it learns nothing from it."""
    vectors = [measurer.query(query) for query in queries]
    return [
        [
            str(agent.act({"query": vector.copy(), "user": np.int64(user), "query_text": query}))
            for user in range(num_users)
        ]
        for query, vector in zip(queries, vectors, strict=True)
    ]


def fixed_queries(corpus: Corpus) -> list[str]:
    """The first query of each topic that would suit any domain: "I need help writing tests" and five others."""
    return [
        next(query.text for query in corpus.queries[topic] if not query.hints)
        for topic in TOPICS
        if any(not query.hints for query in corpus.queries.get(topic, ()))
    ]


def user_state(agent: Agent, user: int) -> Array | None:
    """What an agent knows of a user, ``(d,)``: HARE's u_t, or the profile of RAG; None if it keeps nothing."""
    inner = agent.agent if isinstance(agent, Writing) else agent
    if isinstance(inner, HAREAgent):
        return inner.hare.user_mean(user) if inner.config.user_state else None
    return inner.profile(user) if isinstance(inner, RAGProfile) else None


def measure(record: Record) -> dict[str, Any]:
    """Everything of one run, as JSON values: ``metrics`` by name, ``states``, ``attributes`` and ``curve``.

    Raises:
        DataError: As `probe` does.
    """
    return _measured(record, probe(record))


def measure_watched(record: Record, watch: Watch) -> dict[str, Any]:
    """What `measure` would find, of a session that has just been played through a `Watch`."""
    return _measured(record, _probed(record["spec"], watch))


def _measured(record: Record, probed: Probed) -> dict[str, Any]:
    metrics = generation_metrics(probed, _encoder_name(record["spec"]))
    rounds, entropy = learning.entropy_trajectory(record)
    metrics["entropy_change"] = float(entropy[-1] - entropy[0]) if rounds.size else math.nan
    metrics["entropy_end"] = float(entropy[-1]) if rounds.size else math.nan
    return {
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        "states": {
            str(visit): [None if state is None else state.tolist() for state in states]
            for visit, states in probed.states.items()
            if any(state is not None for state in states)
        },
        "attributes": {name: values.tolist() for name, values in probed.env.users.attributes().items()},
        "curve": learning.learning_curve(probed.users, probed.rewards).tolist(),
    }


def generation_metrics(probed: Probed, encoder_name: str) -> dict[str, float]:
    """The metrics of a probe, by their names in `definitions.TEXTS`; NaN where one does not apply."""
    task, hidden = probed.env.task, probed.env.users
    encoder = _encoder(encoder_name, task.pool_texts)
    flat = [text for row in probed.texts for text in row]
    references = best_items(probed.env.corpus, encoder_name, hidden, probed.queries, task.pool_texts)
    wanted = [text for row in references for text in row]
    units = unit_embeddings([*flat, *(t for row in probed.again for t in row), *wanted], encoder)
    E, again = (
        np.array([[units[text].mean(axis=0) for text in row] for row in rows])
        for rows in (probed.texts, probed.again)
    )
    near = overlap.nearest(flat, task.pool_texts)
    pairs = [*zip(flat, wanted, strict=True)]
    return {
        "reward_slope": learning.learning_slope(probed.users, probed.rewards),
        "divergence": diversity.divergence(E),
        "resampled_divergence": diversity.resampled_divergence(E, again),
        "distance_correlation": diversity.distance_correlation(E, diversity.user_distances(hidden)),
        "intra_list_diversity": diversity.intra_list_diversity(E),
        "self_bleu": float(np.mean([overlap.self_bleu(row) for row in probed.texts])),
        "novelty": overlap.novelty(near),
        "exact_copies": float(np.mean([text in set(task.pool_texts) for text in flat])),
        "pool_rouge_l": float(near.mean()),
        "pool_rouge_l_max": float(near.max()),
        "bleu_4": overlap.bleu_4(flat, wanted),
        "rouge_l": float(np.mean([overlap.rouge_l(text, best).f1 for text, best in pairs])),
        "sentence_bert_score": float(
            np.mean([overlap.sentence_bert_score(units[text], units[best]).f1 for text, best in pairs])
        ),
        "format_validity": probed.valid,
        **perplexities(flat, encoder_name),
    }


def perplexities(texts: list[str], encoder_name: str) -> dict[str, float]:
    """How likely distinct texts are to the language model `tiny`: with their own content, another's, and without.

    Args:
        texts: At most `JUDGED` of the distinct ones are taken, evenly spaced.
        encoder_name: The environment's; tiny knows content as MiniLM measures it, and no other.

    Returns:
        By name in `definitions.TEXTS`; NaN for another encoder, or with fewer than two distinct texts.
    """
    distinct = [*dict.fromkeys(texts)]
    names = ("perplexity", "perplexity_shuffled", "perplexity_unconditioned", "information")
    if encoder_name != "minilm" or len(distinct) < 2:
        return dict.fromkeys(names, math.nan)
    chosen = [distinct[i] for i in np.unique(np.linspace(0, len(distinct) - 1, JUDGED).astype(int))]
    z = np.stack([_measurer(encoder_name).text(text).phi for text in chosen])
    judge = _judge()
    with one_thread():
        found = conditioning(judge, chosen, z, None, np.random.default_rng(0))
    values = (found.conditioned, found.shuffled, found.unconditioned, found.information)
    return dict(zip(names, values, strict=True))


def unit_embeddings(texts: list[str], encoder: Encoder) -> dict[str, Array]:
    """By text, the embeddings of its sentences, ``(n, d)``; a text that is no skill is one sentence.

    The words that name a level or a style are taken out, as they are in the reward: texts are compared by what they
    say. The embedding of a whole text is the mean over its sentences, because MiniLM reads no more than the first 256
    tokens of what it is given.
    """
    parts = {text: _units(text) for text in dict.fromkeys(texts)}
    distinct = [*dict.fromkeys(unit for units in parts.values() for unit in units)]
    vectors = dict(zip(distinct, encoder.encode(distinct).astype(np.float64), strict=True))
    return {text: np.stack([vectors[unit] for unit in units]) for text, units in parts.items()}


def best_items(
    corpus: Corpus, encoder_name: str, users: Users, queries: list[str], pool_texts: tuple[str, ...]
) -> list[list[str]]:
    """The text of the pool that would earn each user most for each query, ``Q × U``: what texts are compared with."""
    measurer, items = _measured_items(corpus, encoder_name)
    model = RewardModel()
    of_user = model.user_table(users, items)  # (U, N)
    of_query = model.query_table(np.stack([measurer.query(query) for query in queries]), items)  # (Q, N)
    return [[pool_texts[int(np.argmax(logs + row))] for logs in of_user] for row in of_query]


def measurer_of(spec: Any) -> Measurer:
    """The measurer of a specification's environment."""
    return _measurer(_encoder_name(spec))


class Watch:
    """An environment that keeps what happens in it, and the agent's user states after certain visits."""

    def __init__(self, env: Any, agent: Agent) -> None:
        self.env, self.agent = env, agent
        self.users: list[int] = []
        self.rewards: list[float] = []
        self.valid: list[bool] = []
        self.states: dict[int, list[Array | None]] = {}
        self._visits: dict[int, int] = {}

    @property
    def unwrapped(self) -> Any:
        """The environment itself."""
        return self.env.unwrapped

    def reset(self, **options: Any) -> Any:
        """As the environment's."""
        observation, info = self.env.reset(**options)
        self._next = int(observation["user"])
        U = self.unwrapped.task.num_users
        self.states = {visit: [None] * U for visit in VISITS}
        return observation, info

    def step(self, action: Any) -> Any:
        """As the environment's."""
        self.look()
        user = self._next
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.users.append(user)
        self.rewards.append(float(info["expected_reward"]))
        self.valid.append(info["validity"] == 1.0)
        self._visits[user] = self._visits.get(user, 0) + 1
        self._next = int(observation["user"])
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """As the environment's."""
        self.env.close()

    def look(self) -> None:
        """Reads the state of the last round's user, which the agent has learned from by now."""
        if self.users and self._visits[self.users[-1]] in self.states:
            user = self.users[-1]
            state = user_state(self.agent, user)
            self.states[self._visits[user]][user] = None if state is None else state.copy()


def _units(text: str) -> tuple[str, ...]:
    units = read_skill(text)[1]
    return (units.all if units else ()) or (text or " ",)


def _encoder_name(spec: Any) -> str:
    return str(spec["env_kwargs"].get("encoder", "minilm"))


@lru_cache(maxsize=2)
def _encoder(name: str, pool_texts: tuple[str, ...]) -> Encoder:
    return load_encoder(name, pool_texts)


@lru_cache(maxsize=1)
def _judge() -> ConditionedDecoder:
    return load_decoder("tiny")


@lru_cache(maxsize=2)
def _measurer(name: str) -> Measurer:
    return Measurer(name)


@lru_cache(maxsize=2)
def _measured_items(corpus: Corpus, name: str) -> tuple[Measurer, list[Measured]]:
    measurer = _measurer(name)
    return measurer, measurer.items(corpus)
