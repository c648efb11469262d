"""Slate LinUCB: one ridge model of the context for each item, learned from what of the slate was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.disjoint import Context, RidgeBank
from hare_agents.items import Array
from hare_agents.slates import Items, SlateAgent
from hare_gym.config import configure
from hare_gym.contract import Observation, SearchSpace, TaskSpec


@dataclass(frozen=True)
class SlateLinUCBConfig:
    """The hyperparameters of `SlateLinUCB`.

    Attributes:
        alpha: Standard deviations added to the expected credit.
        ridge: Prior precision of an item's coefficients.
    """

    alpha: float = field(default=1.0, metadata={"low": 0})
    ridge: float = field(default=1.0, metadata={"above": 0})


class SlateLinUCB(SlateAgent):
    """Shows the items of the largest mean + alpha * width (Qin, Chen and Zhu 2014, "Contextual combinatorial bandit
    and its application on diversified online recommendation", Algorithm 1, with the models of Li et al. 2010).

    Each item's expected credit is linear in [query, 1]; of a slate every item's credit is observed (semi-bandit
    feedback).
    """

    search_space: ClassVar[SearchSpace] = {
        "alpha": {"type": "float", "low": 0.01, "high": 3.0, "log": True},
        "ridge": {"type": "float", "low": 0.1, "high": 100.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: SlateLinUCBConfig = configure(SlateLinUCBConfig, hyperparameters, "agent 'slate-linucb'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior; raises ConfigError if the models would not fit in memory."""
        super().reset(spec, rng)
        self._context = Context(spec, True, False)
        self.bank = RidgeBank(spec.num_items, self._context.dim, self.config.ridge)

    def _scores(self, observation: Observation) -> Array:
        means, variances = self.bank.posterior(self._context(observation))
        return np.asarray(means + self.config.alpha * np.sqrt(variances))

    def _learn(self, observation: Observation, items: Items, credit: Array, chosen: int | None) -> None:
        x = self._context(observation)
        for item, earned in zip(items.tolist(), credit.tolist(), strict=True):
            self.bank.update(item, x, earned)

    def state(self) -> dict[str, NDArray[Any]]:
        """The posteriors."""
        return self.bank.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another type or task."""
        self.bank.load_state(state)
