"""Hybrid LinUCB: a shared model of item and query, and a private model of the query for each arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.items import Array, best_item, greedy_probabilities, round_pool, top_items
from hare_agents.linear import ArrowRidge
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec


@dataclass(frozen=True)
class HybridLinUCBConfig:
    """The hyperparameters of `HybridLinUCB`; the ridges are those of the paper's Algorithm 2, tuned on nothing here.

    Attributes:
        alpha: Standard deviations added to the expected reward.
        ridge: Prior precision of the shared coefficients.
        arm_ridge: Prior precision of each arm's coefficients.
    """

    alpha: float = field(default=1.0, metadata={"low": 0})
    ridge: float = field(default=1.0, metadata={"above": 0})
    arm_ridge: float = field(default=1.0, metadata={"above": 0})


class HybridLinUCB(Agent):
    """LinUCB with hybrid linear models (Li et al. 2010, "A contextual-bandit approach to personalized news article
    recommendation", Algorithm 2).

    The expected reward of arm a with vector y is zᵀbeta + xᵀtheta_a with z = vec(x⊗y) shared by all arms. An arm is
    an index of the pool, also where the pool changes from round to round. The user's number is not used: the paper
    describes a user by the query. Each item of a slate is credited with the slate's reward.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate"})
    search_space: ClassVar[SearchSpace] = {
        "alpha": {"type": "float", "low": 0.01, "high": 3.0, "log": True},
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "arm_ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(HybridLinUCBConfig, hyperparameters, "agent 'linucb-hybrid'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior."""
        super().reset(spec, rng)
        self.posterior = ArrowRidge(
            spec.query_dim * spec.content_dim, spec.query_dim, self.config.ridge, self.config.arm_ridge
        )
        self._last_width: float | None = None

    def scores(self, observation: Observation) -> Array:
        """The upper confidence bound of every arm, ``(num_items,)``."""
        x = observation["query"]
        pool, usable = round_pool(self.spec, observation)
        Z = (x[:, None] * pool[:, None, :]).reshape(len(pool), -1)
        mean, variance = self.posterior.predict(Z, x, range(len(pool)))
        width = np.sqrt(np.maximum(variance, 0.0))
        self._last_width = float(width.mean(where=True if usable is None else usable))
        return mean + self.config.alpha * width

    def act(self, observation: Observation) -> Action:
        """The arm, or the slate of arms, with the highest bounds."""
        _, usable = round_pool(self.spec, observation)
        scores = self.scores(observation)
        if self.spec.action_mode == "slate":
            return top_items(scores, self.spec.slate_size, usable, self.rng)
        return best_item(scores, usable, self.rng)

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns the reward of the arm, or of each arm of the slate."""
        x = observation["query"]
        pool, _ = round_pool(self.spec, observation)
        for item in np.atleast_1d(action).tolist():
            self.posterior.update(item, np.multiply.outer(x, pool[item]).ravel(), x, reward)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """One for the best arm, shared where several are."""
        if self.spec.action_mode != "select":
            return None
        return greedy_probabilities(self.scores(observation), round_pool(self.spec, observation)[1])

    def state(self) -> dict[str, NDArray[Any]]:
        """The posterior."""
        return self.posterior.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another type or task."""
        self.posterior.load_state(state)

    def diagnostics(self) -> dict[str, float]:
        """The last round's mean width over usable arms."""
        return {} if self._last_width is None else {"mean_width": self._last_width}
