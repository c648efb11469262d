"""NeuralLinear-TS: Thompson sampling by Bayesian linear regression on a network's last hidden layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents._content import best_of, choose, climb, content_of, prefixed, take, without_prefix
from hare_agents._mlp import MLP_SPACE, Contents, Float32, Learner, MlpConfig, Pass, with_one32
from hare_agents.items import Array
from hare_agents.linear import Ridge, inverse
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec

OWNER = "agent 'neural-linear'"


@dataclass(frozen=True)
class NeuralLinearConfig(MlpConfig):
    """The hyperparameters of `NeuralLinear` beside the network's.

    Attributes:
        ridge: Prior precision of the last layer in units of the noise; 0.25 as in the code of Riquelme et al. (2018).
        a_0: Shape of the noise variance's inverse-gamma prior; 6 there.
        b_0: Its scale; 6 there. For rewards in [0, 1] that is a very wide prior: it puts the noise near 1.
        starts: Items that ``synthesize`` climbs from.
        ascent_steps: Gradient steps of each climb.
    """

    ridge: float = field(default=0.25, metadata={"above": 0})
    a_0: float = field(default=6.0, metadata={"above": 1})
    b_0: float = field(default=6.0, metadata={"above": 0})
    starts: int = field(default=8, metadata={"low": 1})
    ascent_steps: int = field(default=30, metadata={"low": 1})


class NeuralLinear(Agent):
    """Draws a last layer from its posterior and plays the content that is best under it (Riquelme et al. 2018).

    With z = [1; relu(h)], the hidden units of the network of `hare_agents._mlp`, the reward is z·beta + noise of
    variance sigma², and the conjugate posterior is exact:
    sigma² ~ InverseGamma(a, b), beta ~ N(mu, sigma² (ridge I + ZᵀZ)⁻¹), with a = a_0 + n/2 and
    b = b_0 + (rᵀr - muᵀ(ridge I + ZᵀZ)mu)/2. It learns from every round at once, and anew from the whole replay
    after each training, since training moves the hidden units.

    One network serves all items and users, instead of one output for each arm. ``synthesize`` climbs the draw's
    score from its best items. A slate's reward is learned as that of the mean of its items.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    search_space: ClassVar[SearchSpace] = {
        **MLP_SPACE,
        "ridge": {"type": "float", "low": 1e-2, "high": 10.0, "log": True},
        "b_0": {"type": "float", "low": 1e-2, "high": 10.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(NeuralLinearConfig, hyperparameters, OWNER)

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Draws the network, and starts from the prior."""
        super().reset(spec, rng)
        self.learner = Learner(spec, self.config, rng)
        self.network = self.learner.network
        self.posterior = Ridge(1 + self.config.width, self.config.ridge)
        self.squares = 0.0  # rᵀr
        self.rounds = 0
        self._contents = Contents(spec)

    @property
    def noise(self) -> tuple[float, float]:
        """The parameters a and b of the noise variance's posterior."""
        fitted = float(self.posterior.theta @ self.posterior.b)
        b = self.config.b_0 + 0.5 * max(self.squares - fitted, 0.0)
        return self.config.a_0 + 0.5 * self.rounds, b

    def draw(self) -> Array:
        """A last layer from the posterior, ``(1 + m,)``."""
        a, b = self.noise
        sigma = math.sqrt(b / self.rng.gamma(a))
        noise = self.rng.standard_normal(self.posterior.dim)
        return self.posterior.theta + sigma * (np.linalg.cholesky(self.posterior.A_inv) @ noise)

    def _forward(self, observation: Observation, Y1: Float32) -> Pass:
        return self.network.forward(observation["query"], int(observation["user"]), Y1)

    def act(self, observation: Observation) -> Action:
        """The best item, slate or content under one draw."""
        items, Y1, usable = self._contents.of_round(observation)
        beta = self.draw()
        scores = np.maximum(self._forward(observation, Y1).h, 0.0) @ beta[1:] + beta[0]
        if self.spec.action_mode != "synthesize":
            return choose(self.spec, scores, usable, self.rng)
        starts = best_of(items, scores, usable, self.config.starts)
        return climb(lambda Y: self._slope(observation, Y, beta), starts, self.config.ascent_steps).astype(np.float32)

    def _slope(self, observation: Observation, Y: Array, beta: Array) -> tuple[Array, Array]:
        run = self._forward(observation, with_one32(Y))
        scores = np.maximum(run.h, 0.0) @ beta[1:] + beta[0]
        return scores, ((run.h > 0.0) * beta[1:]) @ run.C[1:].T

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns the round, and after a training the whole replay anew."""
        reward = finite_reward(OWNER, reward)
        y = content_of(self.spec, observation, action)
        self.learner.keep(observation, y, reward)
        if self.learner.train_when_due(self.rng):
            self._refit()
            return
        h = self._forward(observation, with_one32(y[None])).h[0]
        self.posterior.update(np.concatenate([[1.0], np.maximum(h, 0.0)]), reward)
        self.squares += reward * reward
        self.rounds += 1

    def _refit(self) -> None:
        """The posterior given the replay, at the network's new hidden units."""
        r = self.learner.replay.r[: len(self.learner.replay)].astype(np.float64)
        Z = np.ones((len(r), self.posterior.dim))
        Z[:, 1:] = self.learner.hidden_units()
        A = Z.T @ Z
        A[np.diag_indices_from(A)] += self.config.ridge
        A_inv, b = inverse(A), Z.T @ r
        self.posterior.load_state(
            {"A": A, "A_inv": A_inv, "b": b, "theta": A_inv @ b, "count": np.array(0)}
            | {"waiting_x": Z[:0], "waiting_r": r[:0]}
        )
        self.squares, self.rounds = float(r @ r), len(r)

    def state(self) -> dict[str, NDArray[Any]]:
        """The network, its optimiser and replay (``network_*``), and the last layer's posterior (``last_*``)."""
        last = self.posterior.state() | {"squares": np.array(self.squares), "rounds": np.array(self.rounds)}
        return prefixed("network_", self.learner.state()) | prefixed("last_", last)

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task or width."""
        last = without_prefix("last_", state)
        self.learner.load_state(without_prefix("network_", state))
        self.posterior.load_state(last)
        self.squares = float(take(last, "squares", np.array(0.0)))
        self.rounds = int(take(last, "rounds", np.array(0)))

    def diagnostics(self) -> dict[str, float]:
        """The noise's posterior mean standard deviation, and the last training's mean loss."""
        a, b = self.noise
        return {"sigma": math.sqrt(b / (a - 1.0)), "loss": self.learner.loss}
