"""Epsilon-greedy on the joint ridge model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.items import Array, Mask, greedy_probabilities, usable_items
from hare_agents.joint import JointAgent
from hare_agents.linear import Belief
from hare_agents.random import random_direction
from hare_gym.config import configure
from hare_gym.contract import Observation, SearchSpace


@dataclass(frozen=True)
class EpsilonGreedyConfig:
    """The hyperparameters of `EpsilonGreedy`; epsilon = 0.1 is the example of Sutton and Barto, section 2.3.

    Attributes:
        epsilon: Chance of a random choice.
        decay: The chance after t updates is epsilon (1 + t)^-decay; 0 keeps it constant.
        ridge: Prior precision of the shared coefficients.
        user_ridge: Prior precision of each user's coefficients.
    """

    epsilon: float = field(default=0.1, metadata={"low": 0, "high": 1})
    decay: float = field(default=0.0, metadata={"low": 0, "high": 1})
    ridge: float = field(default=1.0, metadata={"above": 0})
    user_ridge: float = field(default=1.0, metadata={"above": 0})


class EpsilonGreedy(JointAgent):
    """Plays the content of the largest expected reward, or with chance epsilon a uniformly random one.

    The expected reward is the ridge regression on phi(x, user, y) = [1, y, x⊗y, onehot(user)⊗y]. Random content is
    an item, a slate of distinct items, or a direction.
    """

    widths: ClassVar[bool] = False
    search_space: ClassVar[SearchSpace] = {
        "epsilon": {"type": "float", "low": 0.005, "high": 0.3, "log": True},
        "decay": {"type": "choice", "values": [0.0, 0.25, 0.5]},
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "user_ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: EpsilonGreedyConfig = configure(EpsilonGreedyConfig, hyperparameters, "agent 'epsilon-greedy'")

    @property
    def epsilon(self) -> float:
        """The chance of a random choice this round."""
        return float(self.config.epsilon * (1.0 + self.model.posterior.shared.count) ** -self.config.decay)

    def _scores(self, belief: Belief, items: Array) -> Array:
        return belief.mean(items)

    def _choose(self, scores: Array, usable: Mask | None) -> Any:
        if self.rng.random() < self.epsilon:
            scores = np.zeros(len(scores))
        return super()._choose(scores, usable)

    def _content(self, belief: Belief, observation: Observation) -> Array:
        y = belief.m[1:]
        length = float(np.linalg.norm(y))
        if self.rng.random() < self.epsilon or length == 0.0:
            return random_direction(len(y), self.rng)
        return y / length

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """Exact: epsilon spread over the usable items, the rest shared by the best ones."""
        if self.spec.action_mode != "select":
            return None
        items, usable = self._items(observation)
        belief = self.model.belief(observation["query"], int(observation["user"]))
        chances = (1.0 - self.epsilon) * greedy_probabilities(self._scores(belief, items), usable)
        candidates = usable_items(self.spec, observation)
        chances[candidates] += self.epsilon / len(candidates)
        return chances

    def diagnostics(self) -> dict[str, float]:
        """The current epsilon, and the joint agents' figures."""
        return {"epsilon": self.epsilon, **super().diagnostics()}
