"""Retrieval by similarity: what a recommender does that learns nothing, and one that keeps a user profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents._content import best_of, choose, content_of, take
from hare_agents.items import Array, greedy_probabilities, round_pool
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec
from hare_gym.errors import ConfigError, DataError


@dataclass(frozen=True)
class RAGConfig:
    """The hyperparameters of `RAG`.

    Attributes:
        top_k: Items whose mean ``synthesize`` plays; fewer where fewer can be used.
    """

    top_k: int = field(default=5, metadata={"low": 1})


class RAG(Agent):
    """Retrieves the items whose vectors have the largest cosine with the query (the retriever of Lewis et al. 2020).

    ``select`` plays the nearest item, ``slate`` the nearest k, ``synthesize`` the normalised mean of the nearest
    ``top_k``. It learns nothing, and it can only work where one encoder made the queries and the items.

    Raises:
        ConfigError: At ``reset``, where queries and items differ in length.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    search_space: ClassVar[SearchSpace] = {"top_k": {"type": "int", "low": 1, "high": 16}}
    config: RAGConfig

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(RAGConfig, hyperparameters, "agent 'rag'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Refuses a task whose queries and items cannot be compared."""
        super().reset(spec, rng)
        if spec.query_dim != spec.content_dim:
            raise ConfigError(
                f"Retrieval compares queries with items, but in {spec.id} a query has {spec.query_dim} numbers and "
                f"an item {spec.content_dim}. Use a task whose queries and items come from one encoder."
            )
        self._directions = None if spec.pool is None else _unit(spec.pool)

    def _wanted(self, observation: Observation) -> Array:
        """What is looked for, ``(d,)``."""
        return np.asarray(observation["query"], dtype=np.float64)

    def _cosines(self, observation: Observation) -> Array:
        items = self._directions
        if items is None:
            items = _unit(round_pool(self.spec, observation)[0])
        return np.asarray(items @ _unit(self._wanted(observation)))

    def act(self, observation: Observation) -> Action:
        """The nearest item, the nearest items, or the direction of their mean."""
        items, usable = round_pool(self.spec, observation)
        cosines = self._cosines(observation)
        if self.spec.action_mode != "synthesize":
            return choose(self.spec, cosines, usable, self.rng)
        return _unit(best_of(items, cosines, usable, self.config.top_k).mean(axis=0)).astype(np.float32)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """One for the nearest item, shared where several are."""
        if self.spec.action_mode != "select":
            return None
        return greedy_probabilities(self._cosines(observation), round_pool(self.spec, observation)[1])


@dataclass(frozen=True)
class RAGProfileConfig(RAGConfig):
    """The hyperparameters of `RAGProfile`.

    Attributes:
        profile_rounds: Rounds of each user from which the profile is made; after them it is frozen.
        profile_weight: Weight of the profile's direction, in 0 to 1, against the query's.
    """

    profile_rounds: int = field(default=20, metadata={"low": 0})
    profile_weight: float = field(default=0.5, metadata={"low": 0, "high": 1})


class RAGProfile(RAG):
    """RAG with a static profile of each user, which is looked for together with the query.

    The profile is the mean of the contents that the user was shown, weighted by reward, p = sum r y / sum r, over
    the user's first ``profile_rounds`` rounds. What is looked for is (1 - weight) x/|x| + weight p/|p|; for a user
    without a profile, x alone.
    """

    search_space: ClassVar[SearchSpace] = {
        **RAG.search_space,
        "profile_rounds": {"type": "choice", "values": [5, 20, 50, 200]},
        "profile_weight": {"type": "float", "low": 0.05, "high": 0.95},
    }
    config: RAGProfileConfig

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(RAGProfileConfig, hyperparameters, "agent 'rag-profile'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Forgets the profiles."""
        super().reset(spec, rng)
        self.sums = np.zeros((spec.num_users, spec.content_dim))  # of r y
        self.weights = np.zeros(spec.num_users)  # of r
        self.rounds = np.zeros(spec.num_users, dtype=np.int64)

    def profile(self, user: int) -> Array | None:
        """The reward-weighted mean of what the user was shown, ``(d,)``; None before the first reward above 0."""
        weight = self.weights[user]
        return None if weight <= 0.0 else np.asarray(self.sums[user] / weight)

    def _wanted(self, observation: Observation) -> Array:
        query, profile = super()._wanted(observation), self.profile(int(observation["user"]))
        if profile is None:
            return query
        weight = self.config.profile_weight
        return np.asarray((1.0 - weight) * _unit(query) + weight * _unit(profile))

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Adds a round to the user's profile, unless it is frozen.

        Raises:
            DataError: The reward or the content is not finite, or the reward is below 0, which is no weight.
        """
        reward = finite_reward("agent 'rag-profile'", reward)
        y = content_of(self.spec, observation, action)
        if reward < 0.0 or not np.isfinite(y).all():
            raise DataError(
                "agent 'rag-profile': needs finite contents, and rewards of at least 0 to weight them by."
            )
        user = int(observation["user"])
        if self.rounds[user] >= self.config.profile_rounds:
            return
        self.sums[user] += reward * y
        self.weights[user] += reward
        self.rounds[user] += 1

    def state(self) -> dict[str, NDArray[Any]]:
        """The profiles: sums of r y, sums of r, and rounds, by user."""
        return {"sums": self.sums.copy(), "weights": self.weights.copy(), "rounds": self.rounds.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task."""
        sums, weights = take(state, "sums", self.sums), take(state, "weights", self.weights)
        self.sums, self.weights, self.rounds = sums, weights, take(state, "rounds", self.rounds)

    def diagnostics(self) -> dict[str, float]:
        """The share of users whose profile is frozen."""
        return {"frozen": float((self.rounds >= self.config.profile_rounds).mean())}


def _unit(v: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    return np.asarray(v / np.maximum(np.sqrt(np.vecdot(v, v)), 1e-300)[..., None])
