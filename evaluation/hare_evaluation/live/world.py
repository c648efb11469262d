"""What all sessions of the demonstration share: skills, measures, writers, and what HARE learned before they began.

Nothing in here changes when a session learns. Writers and measurers keep caches, so they are used one at a time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hare_agents
import hare_gym
from hare_agents._content import into_ball
from hare_agents.decoders import Decoder, make_decoder
from hare_agents.decoders.composer import Composer
from hare_agents.decoders.models import CONFIG_FILE, TINY_FOLDER, complete, decoder_folder
from hare_agents.decoders.pool import reader_of
from hare_agents.hare import HARE
from hare_agents.writing import Writing
from hare_evaluation.environments import make
from hare_evaluation.killer import about
from hare_evaluation.metrics.probe import fixed_queries
from hare_evaluation.runner import Session, one_thread, seeds
from hare_evaluation.spec import load_suite
from hare_gym.contract import Agent, TaskSpec, sanitise
from hare_gym.errors import ConfigError, DataError
from hare_gym.registry import make_agent
from hare_gym.text.corpus import DOMAINS, TOPICS, Corpus
from hare_gym.text.encoders import cache_folder
from hare_gym.text.measure import Measurer
from hare_gym.text.reward import RewardModel
from hare_gym.text.users import Users

Array = NDArray[np.float64]
Told = Callable[[str], None]

HARE_LABEL, RAG_LABEL, PROFILE_LABEL = "no ideal points", "RAG writes", "RAG with profile writes"
"""What the suite ``skills`` calls the agents; their hyperparameters are the suite's, tuned alike. HARE has no ideal
points: its posterior narrows with each rating, where one over blends may widen, and its scores draw nothing."""
ENVIRONMENT = "HareSkills-v0"
POPULATION, ROUNDS, SEED_SET = 20, 50, "demo"
"""Whom HARE has served before anybody opens the page: 20 simulated users in 1,000 rounds, none of them a persona."""
NUM_PERSONAS, _PERSONA_SEED = 8, 7
FIRST_PERSON = 1000
"""HARE's number for the person at the page; persona k is this + 1 + k."""
TRACKED = 1e-12
"""The least alpha: it changes no score, but HARE keeps the clusters' uncertainty only while alpha is above zero."""
WORD_LIMITS = (320, 260, 210, 170, 140, 110, 90)
"""The composer's limits of words: each "too long" takes the next."""
_LABELS = ("domain", "topic", "level", "style")
WRITERS = ("composer", "tiny", "smollm2", "claude")


@dataclass(frozen=True)
class Persona:
    """A simulated user who rates for you.

    Attributes:
        name: What the page calls them.
        words: Who they are; HARE is never told.
    """

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Writer:
    """What may write here.

    Attributes:
        name: As `make_decoder` knows it.
        label: What the page calls it.
        missing: Why it cannot be had, with the remedy; empty where it can.
        leaves: Whether it sends the need and the skills it is shown to a service.
    """

    name: str
    label: str
    missing: str = ""
    leaves: bool = False


class World:
    """The shared part of the demonstration.

    Args:
        population: How many simulated users HARE has served before.
        rounds: How often each of them, on average.
        cache: Whether what it learned from them is kept in the user's cache folder.
    """

    def __init__(self, population: int = POPULATION, rounds: int = ROUNDS, cache: bool = True) -> None:
        self.lock = RLock()
        self._population, self._rounds, self._cached = population, rounds, cache
        self._env = make(
            ENVIRONMENT, {"action_mode": "write", "num_users": population, "horizon": population * rounds}
        )
        self.spec: TaskSpec = self._env.unwrapped.task
        self.corpus: Corpus = self._env.unwrapped.corpus
        assert self.spec.pool is not None and self.spec.pool_texts is not None
        self.pool: Array = self.spec.pool
        self.pool_texts: tuple[str, ...] = self.spec.pool_texts
        self.measurer, self.model = Measurer(), RewardModel()
        self.author = Measurer(pool=[skill.text for skill in self.corpus.skills])
        self.content = reader_of(self.spec)
        self.users = Users.draw(np.random.default_rng(_PERSONA_SEED), NUM_PERSONAS)
        self.personas = tuple(_persona(self.users, k) for k in range(NUM_PERSONAS))
        self.examples = tuple(fixed_queries(self.corpus))
        self._vectors = [self.measurer.query(query) for query in self.examples]
        self.needs = tuple(q.text for topic in TOPICS for q in self.corpus.queries[topic] if not q.hints)
        self._decoders: dict[tuple[Any, ...], tuple[Decoder, RLock]] = {}
        self.rag = self.retriever(RAG_LABEL)
        self.base, self.base_rng = self._experience()
        self.clusters = self._cluster_names()

    # -- HARE ---------------------------------------------------------------------------------------------------

    @cached_property
    def knobs(self) -> dict[str, Any]:
        """HARE's tuned hyperparameters."""
        return {**_entry(HARE_LABEL)["agent_kwargs"], "alpha": TRACKED}

    def hare(self, alpha: float, beta: float, arrays: dict[str, Any] | None = None, rng: Any = None) -> HARE:
        """A HARE of one's own, as it was when the page opened, or with the state of another.

        Args:
            alpha: Weight of the clusters' uncertainty U_j.
            beta: Weight of the posterior's width.
            arrays: What `HARE.state` gave.
            rng: The state of its generator.

        Raises:
            DataError: Arrays of another task or configuration.
        """
        generator = np.random.Generator(np.random.PCG64())
        knobs = {**self.knobs, "alpha": max(alpha, TRACKED), "posterior_bonus": beta}
        made = HARE(self.pool[:1], self.spec.query_dim, generator, **knobs)  # the clusters come with the arrays
        arrays = dict(self.base if arrays is None else arrays)
        arrays["alpha"] = np.full_like(self.base["alpha"], max(alpha, TRACKED))
        made.load_state(arrays)
        generator.bit_generator.state = self.base_rng if rng is None else rng
        return made

    def _experience(self) -> tuple[dict[str, Any], Any]:
        path = cache_folder() / "demo" / f"{self._digest()}.npz"
        if self._cached and path.is_file():
            with suppress(DataError):  # a damaged file is made anew
                kept = HARE.load(path)
                return kept.state(), kept.rng.bit_generator.state
        kwargs = _entry(HARE_LABEL)
        agent = make_agent("writer", **{**kwargs, "agent_kwargs": self.knobs})
        assert isinstance(agent, Writing)
        with one_thread():
            Session(self._env, agent, 1).play(*seeds(SEED_SET, 0))
        learned: HARE = agent.agent.hare  # type: ignore[attr-defined]
        if self._cached:
            path.parent.mkdir(parents=True, exist_ok=True)
            learned.save(path)
        return learned.state(), learned.rng.bit_generator.state

    def _digest(self) -> str:
        """Of everything that what HARE has learned depends on."""
        found = hashlib.sha256(f"{self.knobs} {self._population} {self._rounds} {version('numpy')}".encode())
        for package in (hare_gym, hare_agents):
            for path in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
                found.update(path.read_bytes())
        return found.hexdigest()[:24]

    def entropy_over(self, hare: HARE, user: int, entropy: Callable[[Array], float]) -> float:
        """Mean entropy of a user's tempered attention over the six example needs, in nats."""
        return float(np.mean([entropy(hare.attention(x, user)[1]) for x in self._vectors]))

    def _cluster_names(self) -> list[str]:
        """What sets the items of each cluster apart from all items: the two labels that are most over-represented."""
        labels = [
            {key: str(skill.metadata.get(key, "")) for key in _LABELS} if skill.metadata else {}
            for skill in self.corpus.skills
        ]
        overall = Counter(pair for facts in labels for pair in facts.items())
        cluster_of = self.hare(0.0, 1.0).pool.cluster
        names: list[str] = []
        for cluster in range(int(cluster_of.max()) + 1):
            inside = [labels[i] for i in np.flatnonzero(cluster_of == cluster)]
            counts = Counter(pair for facts in inside for pair in facts.items())
            lift = {p: n / max(len(inside), 1) - overall[p] / len(labels) for p, n in counts.items()}
            ordered = sorted(lift, key=lambda pair: (-lift[pair], pair))
            first = ordered[:1]
            second = [pair for pair in ordered if first and pair[0] != first[0][0]][:1]
            name = ", ".join(value for _, value in first + second) or f"cluster {cluster + 1}"
            same = sum(each.partition(" (")[0] == name for each in names)
            names.append(f"{name} ({same + 1})" if same else name)
        return names

    # -- retrieval ----------------------------------------------------------------------------------------------

    def retriever(self, label: str) -> Agent:
        """Retrieval as the suite has it, choosing content vectors for HARE's rivals."""
        kwargs = _entry(label)
        agent = make_agent(kwargs["agent"], **kwargs["agent_kwargs"])
        agent.reset(replace(self.spec, action_mode="synthesize", num_users=NUM_PERSONAS), np.random.default_rng(0))
        return agent

    def retrieved(self, agent: Agent, x: Array, user: int) -> tuple[Array, Array]:
        """What a retriever wants written, ``(17,)``, and its weights of the items, ``(N,)``, as in `Writing`."""
        z = into_ball(np.asarray(agent.act({"query": x.copy(), "user": np.int64(user)}))[None])[0]
        lengths = np.maximum(np.sqrt(np.vecdot(self.pool, self.pool)), 1e-12)
        logits = (self.pool / lengths[:, None]) @ z / (max(float(np.linalg.norm(z)), 1e-12) * 0.05)
        weights = np.exp(logits - logits.max())
        return z, weights / weights.sum()

    # -- writing ------------------------------------------------------------------------------------------------

    def writers(self) -> list[Writer]:
        """What may write on this machine, and what is missing for the others."""
        smollm2 = (decoder_folder("smollm2") / CONFIG_FILE).is_file()
        no_tiny = "" if complete(TINY_FOLDER) else "hare models train-tiny"
        claude = ""
        if importlib.util.find_spec("anthropic") is None:
            claude = "pip install 'hare-gym[claude]'"
        elif not os.environ.get("ANTHROPIC_API_KEY", "").strip():
            claude = "set ANTHROPIC_API_KEY and start again"
        return [
            Writer("composer", "composer (milliseconds, no model)"),
            Writer("tiny", "tiny (language model in the package)", no_tiny),
            Writer(
                "smollm2",
                "SmolLM2-135M (slow on a processor)",
                "" if smollm2 else "hare models fetch smollm2, then hare models train --base smollm2",
            ),
            Writer("claude", "Claude (hosted: leaves this machine)", claude, True),
        ]

    def write(
        self,
        writer: str,
        label: str,
        words: int,
        z: Array,
        u: Array,
        query: str,
        weights: Array,
        rng: np.random.Generator,
        told: Told | None = None,
    ) -> str:
        """A text for content z.

        Args:
            writer: One of `WRITERS`.
            label: Whose text it is: the composer has the knobs that were tuned for that agent.
            words: Most words of a composed text.
            z: ``(17,)``.
            u: The user's state, ``(17,)``.
            query: The need.
            weights: Of the items, ``(N,)``.
            rng: For language models.
            told: Called with the text so far, while a language model writes.

        Raises:
            ConfigError: The writer cannot be had.
            HareError: The hosted model did not answer with a skill.
        """
        decoder, lock = self._decoder(writer, label, words)
        stream = getattr(decoder, "stream", None)
        with lock:
            if told is not None and stream is not None:
                text = stream(z, u, query, self.pool_texts, weights, rng, told)
            else:
                text = decoder.decode(z, u, query, self.pool_texts, weights, rng)
        return sanitise(text, self.spec.text_length)

    def _decoder(self, writer: str, label: str, words: int) -> tuple[Decoder, RLock]:
        key: tuple[Any, ...] = (writer, label, words) if writer == "composer" else (writer,)
        with self.lock:
            if key not in self._decoders:
                missing = {each.name: each.missing for each in self.writers()}
                if missing.get(writer, "no such writer"):
                    raise ConfigError(f"{writer!r} cannot write here: {missing.get(writer, 'no such writer')}.")
                self._decoders[key] = self._made(writer, label, words)
            return self._decoders[key]

    def _made(self, writer: str, label: str, words: int) -> tuple[Decoder, RLock]:
        if writer != "composer":
            decoder = make_decoder(writer)
            decoder.prepare(self.spec)
            return decoder, RLock()
        composer = Composer(**_entry(label)["decoder_kwargs"])
        composer.config = replace(composer.config, most_words=words, least_words=min(140, int(0.6 * words)))
        composer.prepare(self.spec)
        return composer, self.lock

    # -- judging ------------------------------------------------------------------------------------------------

    def expected_reward(self, persona: int, x: Array, text: str, query: str) -> tuple[float, dict[str, float]]:
        """The persona's mean reward of a text, and its parts."""
        with self.lock:
            parts = self.model.parts(self.users[persona], x, self.author.text(text), query)
        return self.model.combine(parts), parts

    def catalogue_rewards(self, persona: int, x: Array) -> Array:
        """The persona's mean reward of every skill of the catalogue, ``(N,)``."""
        with self.lock:
            items = self._items
            logs = self.model.user_table(self.users[persona : persona + 1], items)[0]
            logs = logs + self.model.query_table(x[None], items)[0]
        return np.asarray(np.exp(np.maximum(logs, -60.0)))

    @cached_property
    def _items(self) -> list[Any]:
        return self.measurer.items(self.corpus)

    @cached_property
    def concentration(self) -> float:
        """The kappa of a persona's Beta rewards."""
        return float(self._env.unwrapped.config.concentration)


def _entry(label: str) -> dict[str, Any]:
    """An agent's tuned hyperparameters in the suite ``skills``."""
    (entry,) = (entry for entry in load_suite("skills").agents if entry.label == label)
    return dict(entry.hyperparameters)


def _persona(users: Users, k: int) -> Persona:
    domains, level, wish, style = about(users, k)
    main = DOMAINS[int(np.argmax(users.domains[k]))]
    return Persona(f"{main.capitalize()}, {level}", (domains, level, f"wants {wish}", f"likes {style} style"))
