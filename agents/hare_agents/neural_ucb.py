"""NeuralUCB: optimism over a network's gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents._content import best_of, choose, climb, content_of, prefixed, without_prefix
from hare_agents._gradients import covariance
from hare_agents._mlp import MLP_SPACE, Contents, Float32, Learner, MlpConfig, Pass, with_one32
from hare_agents.items import Array, greedy_probabilities
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec

OWNER = "agent 'neural-ucb'"


@dataclass(frozen=True)
class NeuralUCBConfig(MlpConfig):
    """The hyperparameters of `NeuralUCB` beside the network's; lambda is ``regularization``. Tuned on nothing here.

    Attributes:
        gamma: Standard deviations of optimism; a customary value, which the paper finds by grid search.
        covariance: ``"diagonal"``, or ``"full"`` for small networks.
        starts: Items that ``synthesize`` climbs from.
        ascent_steps: Gradient steps of each climb.
    """

    gamma: float = field(default=0.1, metadata={"low": 0})
    covariance: str = field(default="diagonal", metadata={"choices": ("diagonal", "full")})
    starts: int = field(default=8, metadata={"low": 1})
    ascent_steps: int = field(default=30, metadata={"low": 1})


class NeuralUCB(Agent):
    """Plays the content of the largest f + gamma √(gᵀZ⁻¹g/m) (Zhou et al. 2020, Algorithm 1).

    f is the network of `hare_agents._mlp`, g its gradient at the content, Z = lambda I + sum g gᵀ/m. Differences
    from the paper: gamma is constant (as in its experiments), training takes Adam's minibatch steps every
    ``train_every`` rounds instead of gradient descent every round, and users have parameters of their own.
    ``synthesize`` climbs the same score by its exact gradient, from the best items. A slate's reward is learned as
    that of the mean of its items.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    search_space: ClassVar[SearchSpace] = {
        **MLP_SPACE,
        "gamma": {"type": "float", "low": 1e-3, "high": 1.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(NeuralUCBConfig, hyperparameters, OWNER)

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Draws the network."""
        super().reset(spec, rng)
        config = self.config
        self.learner = Learner(spec, config, rng)
        self.network = self.learner.network
        self.Z = covariance(config.covariance, self.network, config.regularization)
        self._contents = Contents(spec)
        self._mean_width = 0.0

    def _forward(self, observation: Observation, Y1: Float32) -> Pass:
        return self.network.forward(observation["query"], int(observation["user"]), Y1)

    def _scores(self, run: Pass) -> tuple[Array, Array]:
        """The optimistic scores f + gamma √(gᵀZ⁻¹g/m), and the root alone."""
        width = np.sqrt(self.Z.variance(run))
        return self.network.mean(run) + self.config.gamma * width, width

    def act(self, observation: Observation) -> Action:
        """The best item, slate or content under the optimistic score."""
        items, Y1, usable = self._contents.of_round(observation)
        scores, width = self._scores(self._forward(observation, Y1))
        self._mean_width = float(width.mean(where=True if usable is None else usable))
        if self.spec.action_mode != "synthesize":
            return choose(self.spec, scores, usable, self.rng)
        starts = best_of(items, scores, usable, self.config.starts)
        return climb(lambda Y: self._slope(observation, Y), starts, self.config.ascent_steps).astype(np.float32)

    def _slope(self, observation: Observation, Y: Array) -> tuple[Array, Array]:
        """The optimistic score of contents ``(n, d)``, and its gradient."""
        run = self._forward(observation, with_one32(Y))
        p = self.Z.slope(run)
        width = np.sqrt(np.maximum(np.vecdot(p, run.Y1), 1e-300))
        gamma = self.config.gamma
        scores = self.network.mean(run) + gamma * width
        return scores, self.network.slope(run) + gamma * p[:, 1:] / width[:, None]

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Adds the played content's gradient to Z, keeps the round, and trains when a training is due."""
        reward = finite_reward(OWNER, reward)
        y = content_of(self.spec, observation, action)
        self.learner.keep(observation, y, reward)
        self.Z.add(self._forward(observation, with_one32(y[None])))
        self.learner.train_when_due(self.rng)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """One for the best item, shared where several are."""
        if self.spec.action_mode != "select":
            return None
        _, Y1, usable = self._contents.of_round(observation)
        return greedy_probabilities(self._scores(self._forward(observation, Y1))[0], usable)

    def state(self) -> dict[str, NDArray[Any]]:
        """The network, its optimiser and replay (``network_*``), and Z (``Z_*``)."""
        return prefixed("network_", self.learner.state()) | prefixed("Z_", self.Z.state())

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task or width."""
        self.learner.load_state(without_prefix("network_", state))
        self.Z.load_state(without_prefix("Z_", state))

    def diagnostics(self) -> dict[str, float]:
        """The last round's mean width over usable items, and the last training's mean loss."""
        return {"mean_width": self._mean_width, "loss": self.learner.loss}
