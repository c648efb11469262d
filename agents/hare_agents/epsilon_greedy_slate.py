"""Epsilon-greedy for slates: popularity, with a chance of a random item at each position."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hare_agents.items import Array, usable_items
from hare_agents.popularity import Popularity, PopularityConfig
from hare_gym.config import configure
from hare_gym.contract import Observation, SearchSpace


@dataclass(frozen=True)
class EpsilonGreedySlateConfig(PopularityConfig):
    """The hyperparameters of `EpsilonGreedySlate`.

    Attributes:
        epsilon: Chance of a random item at a position.
    """

    epsilon: float = field(default=0.1, metadata={"low": 0, "high": 1})


class EpsilonGreedySlate(Popularity):
    """Shows the best items by `Popularity`; with chance epsilon each position goes to a random item instead."""

    search_space: ClassVar[SearchSpace] = {
        **Popularity.search_space,
        "epsilon": {"type": "float", "low": 0.01, "high": 0.5, "log": True},
    }
    config: EpsilonGreedySlateConfig

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(EpsilonGreedySlateConfig, hyperparameters, "agent 'epsilon-greedy-slate'")

    def _scores(self, observation: Observation) -> Array:
        scores = super()._scores(observation)
        for _ in range(self.spec.slate_size):
            if self.rng.random() < self.config.epsilon:  # drawn items stand first, in random order
                scores[self.rng.choice(usable_items(self.spec, observation))] = 2.0 + self.rng.random()
        return scores
