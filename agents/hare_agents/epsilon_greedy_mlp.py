"""Epsilon-greedy on a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents._content import best_of, choose, climb, content_of
from hare_agents._mlp import MLP_SPACE, Contents, Float32, Learner, MlpConfig, Pass, with_one32
from hare_agents.items import Array, greedy_probabilities, usable_items
from hare_agents.random import random_direction
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec

OWNER = "agent 'epsilon-greedy-mlp'"


@dataclass(frozen=True)
class EpsilonGreedyMLPConfig(MlpConfig):
    """The hyperparameters of `EpsilonGreedyMLP` beside the network's, tuned on nothing here.

    Attributes:
        epsilon: Chance of a random choice; 0.1 is the example of Sutton and Barto, section 2.3.
        decay: The chance after t updates is epsilon (1 + t)^-decay; 0 keeps it constant.
        starts: Items that ``synthesize`` climbs from.
        ascent_steps: Gradient steps of each climb.
    """

    epsilon: float = field(default=0.1, metadata={"low": 0, "high": 1})
    decay: float = field(default=0.0, metadata={"low": 0, "high": 1})
    starts: int = field(default=8, metadata={"low": 1})
    ascent_steps: int = field(default=30, metadata={"low": 1})


class EpsilonGreedyMLP(Agent):
    """Plays the content that the network of `hare_agents._mlp` scores highest, or with chance epsilon a random one.

    Random content is an item, a slate of distinct items, or a direction. ``synthesize`` climbs the network's score
    from its best items. A slate's reward is learned as that of the mean of its items.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    search_space: ClassVar[SearchSpace] = {
        **MLP_SPACE,
        "epsilon": {"type": "float", "low": 0.005, "high": 0.3, "log": True},
        "decay": {"type": "choice", "values": [0.0, 0.25, 0.5]},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(EpsilonGreedyMLPConfig, hyperparameters, OWNER)

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Draws the network."""
        super().reset(spec, rng)
        self.learner = Learner(spec, self.config, rng)
        self.network = self.learner.network
        self._contents = Contents(spec)

    @property
    def epsilon(self) -> float:
        """The chance of a random choice this round."""
        return float(self.config.epsilon * (1.0 + self.learner.replay.count) ** -self.config.decay)

    def _forward(self, observation: Observation, Y1: Float32) -> Pass:
        return self.network.forward(observation["query"], int(observation["user"]), Y1)

    def act(self, observation: Observation) -> Action:
        """A random item, slate or content with chance epsilon, else the best."""
        items, Y1, usable = self._contents.of_round(observation)
        explore = self.rng.random() < self.epsilon
        if self.spec.action_mode == "synthesize" and explore:
            return random_direction(self.spec.content_dim, self.rng).astype(np.float32)
        scores = self.network.mean(self._forward(observation, Y1))
        if self.spec.action_mode != "synthesize":
            return choose(self.spec, np.zeros_like(scores) if explore else scores, usable, self.rng)
        starts = best_of(items, scores, usable, self.config.starts)
        return climb(lambda Y: self._slope(observation, Y), starts, self.config.ascent_steps).astype(np.float32)

    def _slope(self, observation: Observation, Y: Array) -> tuple[Array, Array]:
        run = self._forward(observation, with_one32(Y))
        return self.network.mean(run), self.network.slope(run)

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Keeps the round, and trains when a training is due."""
        reward = finite_reward(OWNER, reward)
        self.learner.keep(observation, content_of(self.spec, observation, action), reward)
        self.learner.train_when_due(self.rng)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """Exact: epsilon spread over the usable items, the rest shared by the best ones."""
        if self.spec.action_mode != "select":
            return None
        _, Y1, usable = self._contents.of_round(observation)
        scores = self.network.mean(self._forward(observation, Y1))
        chances = (1.0 - self.epsilon) * greedy_probabilities(scores, usable)
        candidates = usable_items(self.spec, observation)
        chances[candidates] += self.epsilon / len(candidates)
        return chances

    def state(self) -> dict[str, NDArray[Any]]:
        """The network, its optimiser and its replay."""
        return self.learner.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task or width."""
        self.learner.load_state(state)

    def diagnostics(self) -> dict[str, float]:
        """The current epsilon, and the last training's mean loss."""
        return {"epsilon": self.epsilon, "loss": self.learner.loss}
