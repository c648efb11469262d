"""Ranked bandits with Thompson sampling: one bandit for each position of the slate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._content import take
from hare_agents.items import Array, round_pool, top_items
from hare_agents.slates import Items, SlateAgent
from hare_gym.config import configure
from hare_gym.contract import Action, Observation, SearchSpace, TaskSpec


@dataclass(frozen=True)
class RankedThompsonConfig:
    """The hyperparameters of `RankedThompson`.

    Attributes:
        prior_impressions: Impressions that the prior counts for, a + b of the Beta distribution; 2 is uniform with
            ``prior_mean`` 0.5.
        prior_mean: Its mean, a/(a + b).
    """

    prior_impressions: float = field(default=2.0, metadata={"above": 0})
    prior_mean: float = field(default=0.5, metadata={"above": 0, "below": 1})


class RankedThompson(SlateAgent):
    """Fills each position by a bandit of its own (Radlinski, Kleinberg and Joachims 2008, "Learning diverse rankings
    with multi-armed bandits"), here with Beta-Bernoulli Thompson sampling.

    The bandit at a position learns whether its item was chosen there, so that lower positions come to hold what
    appeals to those who are not served by the higher ones. An item that stands further up already is passed over. A
    credit between 0 and 1 counts as that share of a success.
    """

    search_space: ClassVar[SearchSpace] = {
        "prior_impressions": {"type": "float", "low": 1.0, "high": 100.0, "log": True},
        "prior_mean": {"type": "float", "low": 0.02, "high": 0.6, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: RankedThompsonConfig = configure(
            RankedThompsonConfig, hyperparameters, "agent 'ranked-thompson'"
        )

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts every bandit from the prior."""
        super().reset(spec, rng)
        a = self.config.prior_impressions * self.config.prior_mean
        self.a = np.full((spec.slate_size, spec.num_items), a)
        self.b = np.full((spec.slate_size, spec.num_items), self.config.prior_impressions - a)

    def _scores(self, observation: Observation) -> Array:
        return np.asarray(self.rng.beta(self.a[0], self.b[0]))

    def act(self, observation: Observation) -> Action:
        """The slate, or in ``select`` the first bandit's item."""
        if self.spec.action_mode == "select":
            return super().act(observation)
        usable = round_pool(self.spec, observation)[1]
        free = np.ones(self.spec.num_items, dtype=np.bool_) if usable is None else usable.copy()
        slate = np.zeros(self.spec.slate_size, dtype=np.int64)
        for p, draws in enumerate(self.rng.beta(self.a, self.b)):
            slate[p] = top_items(draws, 1, free, self.rng)[0]
            free[slate[p]] = False
        return slate

    def _learn(self, observation: Observation, items: Items, credit: Array, chosen: int | None) -> None:
        positions = np.arange(len(items))
        self.a[positions, items] += credit
        self.b[positions, items] += 1.0 - credit

    def state(self) -> dict[str, NDArray[Any]]:
        """The Beta parameters, by position and item."""
        return {"a": self.a.copy(), "b": self.b.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task."""
        self.a, self.b = take(state, "a", self.a), take(state, "b", self.b)
