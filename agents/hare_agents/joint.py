"""What the joint linear agents share: the model, its items, learning, batches, saving. Each rule has its own file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from hare_agents.items import Array, Mask, best_item, round_pool, top_items
from hare_agents.linear import Belief, BilinearModel, with_one
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec, nth_observation

# Users whose uncertainty `diagnostics` averages, so that it stays cheap in a large population.
_USERS_SHOWN = 32


class JointConfig(Protocol):
    """The hyperparameters that every joint agent has."""

    @property
    def ridge(self) -> float:
        """Prior precision of the shared coefficients."""

    @property
    def user_ridge(self) -> float:
        """Prior precision of each user's coefficients."""


class JointAgent(Agent):
    """An agent over phi(x, user, y) = [1, y, x⊗y, onehot(user)⊗y]. A subclass gives `_scores` and `_content`.

    A slate's reward is learned as that of the mean of its items' vectors, which in a linear model is the mean of
    the items' rewards.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    widths: ClassVar[bool] = True
    config: JointConfig

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior."""
        super().reset(spec, rng)
        self.model = BilinearModel(
            spec.query_dim, spec.content_dim, self.config.ridge, self.config.user_ridge, self.widths
        )
        self._pool = None if spec.pool is None else with_one(spec.pool)
        self._last_widths: Array | None = None
        self._last_usable: Mask | None = None

    @abstractmethod
    def _scores(self, belief: Belief, items: Array) -> Array:
        """The items' scores, ``(..., N)``, with or without a leading batch axis; ``items`` are ``[1; y]``."""

    @abstractmethod
    def _content(self, belief: Belief, observation: Observation) -> Array:
        """The content to synthesize, ``(content_dim,)``, for one belief."""

    def _items(self, observation: Observation) -> tuple[Array, Mask | None]:
        """The items of a round (or of a batch) as ``[1; y]``, and which can be used."""
        if self._pool is not None and "pool_mask" not in observation:
            return self._pool, None
        pool, usable = round_pool(self.spec, observation)
        self._last_usable = usable
        return (with_one(pool) if self._pool is None else self._pool), usable

    def _choose(self, scores: Array, usable: Mask | None) -> Any:
        if self.spec.action_mode == "slate":
            return top_items(scores, self.spec.slate_size, usable, self.rng)
        return best_item(scores, usable, self.rng)

    def act(self, observation: Observation) -> Action:
        """The best item, slate or content under the agent's rule."""
        belief = self.model.belief(observation["query"], int(observation["user"]))
        if self.spec.action_mode == "synthesize":
            return self._content(belief, observation).astype(np.float32)
        items, usable = self._items(observation)
        return self._choose(self._scores(belief, items), usable)

    def act_batch(self, observations: Observation) -> Action:
        """As `act` for B users, with one matrix product for all of their beliefs."""
        size = len(observations["user"])
        if size == 1:
            return super().act_batch(observations)
        m, V = self.model.beliefs(observations["query"], observations["user"])
        if self.spec.action_mode == "synthesize":
            contents = [self._content(Belief(m[i], V[i]), nth_observation(observations, i)) for i in range(size)]
            return np.stack(contents).astype(np.float32)
        items, usable = self._items(observations)
        scores = self._scores(Belief(m, V), items)
        return np.stack([self._choose(scores[i], None if usable is None else usable[i]) for i in range(size)])

    def _chosen(self, observation: Observation, action: Action) -> Array:
        """The content vector that an action stands for, ``(content_dim,)``."""
        if self.spec.action_mode == "synthesize":
            return np.asarray(action, dtype=np.float64)
        pool, _ = round_pool(self.spec, observation)
        y: Array = pool[action]
        return y.mean(axis=0) if self.spec.action_mode == "slate" else y

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns the reward of the content that was shown."""
        y = self._chosen(observation, action)
        self.model.update(observation["query"], int(observation["user"]), y, reward)

    def update_batch(self, observations: Observation, actions: Action, rewards: NDArray[np.float64]) -> None:
        """Learns B rewards in order."""
        size = len(rewards)
        if size == 1:
            super().update_batch(observations, actions, rewards)
            return
        Y = np.stack([self._chosen(nth_observation(observations, i), actions[i]) for i in range(size)])
        self.model.update_batch(observations["query"], observations["user"], Y, rewards)

    def state(self) -> dict[str, NDArray[Any]]:
        """The posterior."""
        return self.model.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another type or task."""
        self.model.load_state(state)

    def diagnostics(self) -> dict[str, float]:
        """The last round's mean width over usable items; the mean trace of Sigma_uu over (up to 32) users seen."""
        posterior = self.model.posterior
        users = posterior.groups[:_USERS_SHOWN]
        shown: dict[str, float] = {}
        if self._last_widths is not None:
            where = True if self._last_usable is None else self._last_usable
            shown["mean_width"] = float(self._last_widths.mean(where=where))
        if users:
            shown["user_trace"] = float(np.mean([np.trace(posterior.covariance(user)) for user in users]))
        return shown
