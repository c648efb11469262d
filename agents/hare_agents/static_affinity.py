"""Static affinity: today's rule for prompts, which shows what editors think fits and learns nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from hare_agents._content import choose
from hare_agents.items import round_pool
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec
from hare_gym.errors import ConfigError
from hare_gym.prompts import LENSES, QUERY_DIM, TOPICS, cards_of, decode_context


@dataclass(frozen=True)
class StaticAffinityConfig:
    """The hyperparameters of `StaticAffinity`.

    Attributes:
        off_topic: Affinity to a topic that a prompt is not about, in [0, 1]; to its own it is 1.
    """

    off_topic: float = field(default=0.5, metadata={"low": 0, "high": 1})


class StaticAffinity(Agent):
    """Shows the prompts with the largest mean of the affinities to the visitor's lens and to the topic that is read.

    It plays tasks of prompts only (`hare_gym.prompts`).
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"slate", "select"})
    search_space: ClassVar[SearchSpace] = {"off_topic": {"type": "float", "low": 0.0, "high": 1.0}}

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: StaticAffinityConfig = configure(
            StaticAffinityConfig, hyperparameters, "agent 'static-affinity'"
        )

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Reads the editors' affinities.

        Raises:
            ConfigError: The task is not one of prompts.
        """
        super().reset(spec, rng)
        if spec.query_dim != QUERY_DIM or spec.pool is None or spec.pool_texts is None:
            raise ConfigError(f"agent 'static-affinity' plays tasks of prompts, not {spec.id}: see hare_gym.prompts.")
        cards = cards_of(spec)
        lens = {name: np.array([card.affinity[name] for card in cards]) / 100.0 for name in LENSES}
        topic = {
            name: np.array([1.0 if card.topic == name else self.config.off_topic for card in cards])
            for name in TOPICS
        }
        self._relevance = {(a, b): 0.5 * (lens[a] + topic[b]) for a in LENSES for b in TOPICS}

    def act(self, observation: Observation) -> Action:
        """The slate for the context's lens and topic; equal prompts in random order."""
        context = decode_context(observation["query"])
        scores = self._relevance[context.lens, context.topic]
        return choose(self.spec, scores, round_pool(self.spec, observation)[1], self.rng)
