"""Popularity: shows what has earned most per impression so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._content import take
from hare_agents.items import Array
from hare_agents.slates import Items, SlateAgent
from hare_gym.config import configure
from hare_gym.contract import Observation, SearchSpace, TaskSpec


@dataclass(frozen=True)
class PopularityConfig:
    """The hyperparameters of `Popularity`.

    Attributes:
        prior_impressions: Impressions that the prior counts for.
        prior_mean: What an item that was never shown is believed to earn per impression.
    """

    prior_impressions: float = field(default=10.0, metadata={"above": 0})
    prior_mean: float = field(default=0.2, metadata={"low": 0, "high": 1})


class Popularity(SlateAgent):
    """Shows the items of the largest smoothed mean credit, (s + n0 m0)/(n + n0), the same to everybody."""

    search_space: ClassVar[SearchSpace] = {
        "prior_impressions": {"type": "float", "low": 1.0, "high": 100.0, "log": True},
        "prior_mean": {"type": "float", "low": 0.02, "high": 0.6, "log": True},
    }
    config: PopularityConfig

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(PopularityConfig, hyperparameters, "agent 'popularity'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Forgets all counts."""
        super().reset(spec, rng)
        self.credit = np.zeros(spec.num_items)
        self.shown = np.zeros(spec.num_items)

    def _scores(self, observation: Observation) -> Array:
        c = self.config
        return (self.credit + c.prior_impressions * c.prior_mean) / (self.shown + c.prior_impressions)

    def _learn(self, observation: Observation, items: Items, credit: Array, chosen: int | None) -> None:
        np.add.at(self.credit, items, credit)
        np.add.at(self.shown, items, 1.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """Credit and impressions, by item."""
        return {"credit": self.credit.copy(), "shown": self.shown.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task."""
        self.credit, self.shown = take(state, "credit", self.credit), take(state, "shown", self.shown)

    def diagnostics(self) -> dict[str, float]:
        """The share of all impressions that the three items shown most had."""
        total = float(self.shown.sum())
        return {"top_share": float(np.sort(self.shown)[-3:].sum()) / total} if total else {}
