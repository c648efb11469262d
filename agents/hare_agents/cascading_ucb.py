"""CascadeUCB1: optimism about what visitors choose who read a slate from the top."""

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

_UNSEEN = 1e6


@dataclass(frozen=True)
class CascadingUCBConfig:
    """The hyperparameters of `CascadingUCB`.

    Attributes:
        c: Width of the bound, the paper's 1.5 under the root.
    """

    c: float = field(default=1.5, metadata={"low": 0})


class CascadingUCB(SlateAgent):
    """Shows the items of the largest w + sqrt(c ln t / n) (Kveton, Szepesvari, Wen and Ashkan 2015, "Cascading
    bandits", Algorithm 1 with UCB1).

    In the cascade model a visitor reads from the top and stops at the first item that attracts: what stands above the
    one chosen was seen and did not attract, what stands below was not seen and teaches nothing. w is an item's mean
    credit over the times it was seen, n, and t the round. An item that was never seen comes first.
    """

    search_space: ClassVar[SearchSpace] = {"c": {"type": "float", "low": 0.001, "high": 3.0, "log": True}}

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: CascadingUCBConfig = configure(CascadingUCBConfig, hyperparameters, "agent 'cascading-ucb'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Forgets all counts."""
        super().reset(spec, rng)
        self.credit = np.zeros(spec.num_items)
        self.seen = np.zeros(spec.num_items)
        self.rounds = np.zeros(1)

    def _scores(self, observation: Observation) -> Array:
        n = np.maximum(self.seen, 1.0)
        bound = self.credit / n + np.sqrt(self.config.c * np.log(self.rounds[0] + 1.0) / n)
        return np.where(self.seen > 0.0, bound, _UNSEEN)

    def _learn(self, observation: Observation, items: Items, credit: Array, chosen: int | None) -> None:
        last = chosen + 1 if chosen is not None and chosen >= 0 else len(items)
        np.add.at(self.credit, items[:last], credit[:last])
        np.add.at(self.seen, items[:last], 1.0)
        self.rounds += 1.0

    def state(self) -> dict[str, NDArray[Any]]:
        """Credit and times seen, by item, and the rounds."""
        return {"credit": self.credit.copy(), "seen": self.seen.copy(), "rounds": self.rounds.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task."""
        credit, seen = take(state, "credit", self.credit), take(state, "seen", self.seen)
        self.credit, self.seen, self.rounds = credit, seen, take(state, "rounds", self.rounds)

    def diagnostics(self) -> dict[str, float]:
        """The share of items ever seen."""
        return {"items_seen": float((self.seen > 0.0).mean())}
