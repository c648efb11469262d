"""A Bayesian bilinear core with a plain network on its residual: what attention must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents._content import best_of, choose, climb, content_of, prefixed, take, without_prefix
from hare_agents._mlp import MLP_SPACE, Batch, Contents, Float32, Learner, MlpConfig, Pass, with_one32
from hare_agents.items import Array, greedy_probabilities
from hare_agents.linear import BilinearModel, with_one
from hare_agents.linucb import most_optimistic
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec

OWNER = "agent 'core-mlp'"

# Users whose vectors set the scale that the network sees them in.
_USERS_SCALED = 256


@dataclass(frozen=True)
class CoreMLPConfig(MlpConfig):
    """The hyperparameters of `CoreMLP` beside the network's, tuned on nothing here.

    Attributes:
        alpha: Standard deviations of the core added to the score.
        ridge: Prior precision of the core's shared coefficients.
        user_ridge: Prior precision of each user's coefficients.
        gate: ``"auto"`` lets the network in while core and network together predict better than the core alone;
            ``"open"`` and ``"shut"`` decide for good.
        gate_memory: Rounds that the gate's errors look back, as the time constant of a running mean.
        starts: Items that ``synthesize`` climbs from, beside the core's own choice.
        ascent_steps: Gradient steps of each climb.
    """

    alpha: float = field(default=1.0, metadata={"low": 0})
    ridge: float = field(default=1.0, metadata={"above": 0})
    user_ridge: float = field(default=1.0, metadata={"above": 0})
    gate: str = field(default="auto", metadata={"choices": ("auto", "open", "shut")})
    gate_memory: float = field(default=500.0, metadata={"low": 1})
    starts: int = field(default=8, metadata={"low": 1})
    ascent_steps: int = field(default=30, metadata={"low": 1})


class CoreMLP(Agent):
    """Joint LinUCB, whose mean a network corrects where that has been predicting better.

    The core is the exact ridge posterior of `BilinearModel`. Its mean for the user's own coefficients, u_t, is the
    user's state, and the network of `hare_agents._mlp` reads [1, x, u_t]⊗[1, y] (u_t scaled to a root mean square
    length of 1 over the users) and is trained on what the core, as it is now, leaves over. The score is::

        core mean + g * network + alpha * core width

    with the gate g = 1 while the running mean of squared errors, each made before the round was learned, is lower
    with the network than without it, else 0. With g = 0 this is `JointLinUCB`, action by action. ``synthesize``
    climbs the score from the core's most optimistic content and from the best items. A slate's reward is learned as
    that of the mean of its items.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    search_space: ClassVar[SearchSpace] = {
        **MLP_SPACE,
        "alpha": {"type": "float", "low": 0.01, "high": 3.0, "log": True},
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "user_ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "gate_memory": {"type": "choice", "values": [100.0, 500.0, 2000.0]},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(CoreMLPConfig, hyperparameters, OWNER)

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts the core from its prior, and draws the network."""
        super().reset(spec, rng)
        config = self.config
        self.core = BilinearModel(spec.query_dim, spec.content_dim, config.ridge, config.user_ridge)
        self.learner = Learner(spec, config, rng, user_dim=spec.content_dim)
        self.network = self.learner.network
        self.errors = np.zeros(2)  # running mean squares, of the core and of both
        self._user_scale = 1.0
        self._contents = Contents(spec)
        self._pool1 = None if spec.pool is None else with_one(spec.pool)
        self._mean_width = 0.0

    @property
    def gate(self) -> float:
        """g: 1 if the network has a say, else 0."""
        if self.config.gate == "auto":
            return float(self.errors[1] < self.errors[0])
        return float(self.config.gate == "open")

    def _forward(self, observation: Observation, Y1: Float32) -> Pass:
        u = self.core.posterior.mean(int(observation["user"])) * self._user_scale
        return self.network.forward(np.concatenate([observation["query"], u]), 0, Y1)

    def _scores(self, observation: Observation, items1: Array, Y1: Float32) -> tuple[Array, Array]:
        """The score of each item, and the core's width."""
        belief = self.core.belief(observation["query"], int(observation["user"]))
        width = belief.width(items1)
        scores = belief.mean(items1) + self.config.alpha * width
        if self.gate:
            scores += self.network.mean(self._forward(observation, Y1))
        return scores, width

    def act(self, observation: Observation) -> Action:
        """The best item, slate or content under the score."""
        items, Y1, usable = self._contents.of_round(observation)
        items1 = with_one(items) if self._pool1 is None else self._pool1
        scores, width = self._scores(observation, items1, Y1)
        self._mean_width = float(width.mean(where=True if usable is None else usable))
        if self.spec.action_mode != "synthesize":
            return choose(self.spec, scores, usable, self.rng)
        best = best_of(items, scores, usable, self.config.starts)
        belief = self.core.belief(observation["query"], int(observation["user"]))
        y = most_optimistic(belief, self.config.alpha, best)
        if self.gate:
            y = climb(lambda Y: self._slope(observation, Y), np.vstack([best, y]), self.config.ascent_steps)
        return y.astype(np.float32)

    def _slope(self, observation: Observation, Y: Array) -> tuple[Array, Array]:
        """The score of contents ``(n, d)`` with the gate open, and its gradient."""
        m, V = belief = self.core.belief(observation["query"], int(observation["user"]))
        Y1 = with_one(Y)
        width = np.maximum(belief.width(Y1), 1e-150)
        run = self._forward(observation, Y1.astype(np.float32))
        alpha = self.config.alpha
        scores = belief.mean(Y1) + alpha * width + self.network.mean(run)
        return scores, m[1:] + alpha * (Y1 @ V)[:, 1:] / width[:, None] + self.network.slope(run)

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Judges both predictions, learns the round in the core, and trains the network when a training is due."""
        reward = finite_reward(OWNER, reward)
        x, user = observation["query"], int(observation["user"])
        y = content_of(self.spec, observation, action)
        self.learner.keep(observation, y, reward)
        core = float(self.core.belief(x, user).mean(with_one(y[None]))[0])
        both = core
        if self.learner.trained:
            both += float(self.network.mean(self._forward(observation, with_one32(y[None])))[0])
        squares = np.square([reward - core, reward - both])
        self.errors += (squares - self.errors) / self.config.gate_memory
        self.core.update(x, user, y, reward)
        if self.learner.train_when_due(self.rng, self._batch):
            u = self._user_vectors(self.core.posterior.groups[:_USERS_SCALED])
            self._user_scale = float(1.0 / max(np.sqrt(np.square(u).sum(axis=1).mean()), 1e-6))

    def _user_vectors(self, users: list[int]) -> Array:
        """u_t of several users, ``(n, d)``."""
        posterior = self.core.posterior
        H = posterior.H[[posterior.slot(user) for user in users]]
        return np.asarray(H[:, :, -1] - H[:, :, :-1] @ posterior.shared.theta)

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        """Contexts [x, u_t] and what the core leaves over of the rewards, for rows of the replay."""
        x, users, Y1, r = self.learner.replay.batch(rows)
        present, row = np.unique(users, return_inverse=True)
        u = self._user_vectors(present.tolist())[row]
        theta, d = self.core.posterior.shared.theta, self.spec.content_dim
        slopes = theta[1 : 1 + d] + x @ theta[1 + d :].reshape(-1, d) + u
        left = r - theta[0] - np.vecdot(slopes, Y1[:, 1:])
        contexts = np.concatenate([x, u * self._user_scale], axis=1, dtype=np.float32)
        return contexts, users, Y1, left.astype(np.float32)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """One for the best item, shared where several are."""
        if self.spec.action_mode != "select":
            return None
        items, Y1, usable = self._contents.of_round(observation)
        items1 = with_one(items) if self._pool1 is None else self._pool1
        return greedy_probabilities(self._scores(observation, items1, Y1)[0], usable)

    def state(self) -> dict[str, NDArray[Any]]:
        """The core's posterior (``core_*``), the network (``network_*``), the gate's errors and the users' scale."""
        return (
            prefixed("core_", self.core.state())
            | prefixed("network_", self.learner.state())
            | {"errors": self.errors.copy(), "user_scale": np.array(self._user_scale)}
        )

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task or width."""
        self.core.load_state(without_prefix("core_", state))
        self.learner.load_state(without_prefix("network_", state))
        self.errors = take(state, "errors", self.errors)
        self._user_scale = float(take(state, "user_scale", np.array(1.0)))

    def diagnostics(self) -> dict[str, float]:
        """The gate, both errors (root mean square), the last round's mean core width, the last training's loss."""
        core, both = np.sqrt(self.errors).tolist()
        return {
            "gate": self.gate,
            "core_error": core,
            "gated_error": both,
            "mean_width": self._mean_width,
            "loss": self.learner.loss,
        }
