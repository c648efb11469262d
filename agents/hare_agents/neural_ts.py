"""NeuralTS: Thompson sampling of a network's score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents._content import best_of, choose, climb, content_of, prefixed, without_prefix
from hare_agents._gradients import covariance
from hare_agents._mlp import MLP_SPACE, Contents, Float32, Learner, MlpConfig, Pass, with_one32
from hare_agents.items import Array
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec

OWNER = "agent 'neural-ts'"


@dataclass(frozen=True)
class NeuralTSConfig(MlpConfig):
    """The hyperparameters of `NeuralTS` beside the network's; lambda is ``regularization``. Tuned on nothing here.

    Attributes:
        nu: Factor of the sample's standard deviation; a customary value, which the paper finds by grid search.
        covariance: ``"diagonal"``, or ``"full"`` for small networks.
        starts: Items that ``synthesize`` climbs from.
        ascent_steps: Gradient steps of each climb.
    """

    nu: float = field(default=0.1, metadata={"low": 0})
    covariance: str = field(default="diagonal", metadata={"choices": ("diagonal", "full")})
    starts: int = field(default=8, metadata={"low": 1})
    ascent_steps: int = field(default=30, metadata={"low": 1})


class NeuralTS(Agent):
    """Draws each item's reward from N(f, nu² lambda gᵀU⁻¹g/m) and plays the best (Zhang et al. 2021, Algorithm 1).

    f is the network of `hare_agents._mlp`, g its gradient at the content, U = lambda I + sum g gᵀ/m. As in the
    paper, items are drawn independently of each other. Training takes Adam's minibatch steps every ``train_every``
    rounds instead of gradient descent every round.

    Contents in the ball cannot be drawn one by one, so ``synthesize`` draws one function for all of them,
    f(y) + nu √lambda g(y)·epsilon/√m with epsilon ~ N(0, U⁻¹), which has the paper's variance at each content, and
    climbs it from its best items. A slate's reward is learned as that of the mean of its items.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    search_space: ClassVar[SearchSpace] = {
        **MLP_SPACE,
        "nu": {"type": "float", "low": 1e-3, "high": 1.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(NeuralTSConfig, hyperparameters, OWNER)

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Draws the network."""
        super().reset(spec, rng)
        self.learner = Learner(spec, self.config, rng)
        self.network = self.learner.network
        self.U = covariance(self.config.covariance, self.network, self.config.regularization)
        self._scale = self.config.nu * math.sqrt(self.config.regularization)
        self._contents = Contents(spec)
        self._mean_width = 0.0

    def _forward(self, observation: Observation, Y1: Float32) -> Pass:
        return self.network.forward(observation["query"], int(observation["user"]), Y1)

    def act(self, observation: Observation) -> Action:
        """The best item or slate of one draw for each item, or the best content of one draw for all."""
        items, Y1, usable = self._contents.of_round(observation)
        run = self._forward(observation, Y1)
        width = self._scale * np.sqrt(self.U.variance(run))
        self._mean_width = float(width.mean(where=True if usable is None else usable))
        if self.spec.action_mode != "synthesize":
            scores = self.network.mean(run) + width * self.rng.standard_normal(len(width))
            return choose(self.spec, scores, usable, self.rng)
        epsilon = self.U.draw(run.user, self.rng)
        starts = best_of(items, self._drawn(run, epsilon)[0], usable, self.config.starts)
        return climb(
            lambda Y: self._drawn(self._forward(observation, with_one32(Y)), epsilon),
            starts,
            self.config.ascent_steps,
        ).astype(np.float32)

    def _drawn(self, run: Pass, epsilon: tuple[Array, Array]) -> tuple[Array, Array]:
        """The drawn function's values and gradients at the contents of ``run``."""
        p = self.network.pullback(run, *epsilon)
        scores = self.network.mean(run) + self._scale * np.vecdot(p, run.Y1)
        return scores, self.network.slope(run) + self._scale * p[:, 1:]

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Adds the played content's gradient to U, keeps the round, and trains when a training is due."""
        reward = finite_reward(OWNER, reward)
        y = content_of(self.spec, observation, action)
        self.learner.keep(observation, y, reward)
        self.U.add(self._forward(observation, with_one32(y[None])))
        self.learner.train_when_due(self.rng)

    def state(self) -> dict[str, NDArray[Any]]:
        """The network, its optimiser and replay (``network_*``), and U (``U_*``)."""
        return prefixed("network_", self.learner.state()) | prefixed("U_", self.U.state())

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task or width."""
        self.learner.load_state(without_prefix("network_", state))
        self.U.load_state(without_prefix("U_", state))

    def diagnostics(self) -> dict[str, float]:
        """The mean standard deviation of the last round's draws over usable items, and the last training's loss."""
        return {"mean_width": self._mean_width, "loss": self.learner.loss}
