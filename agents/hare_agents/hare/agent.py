"""HARE as an agent of the gym."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.hare.config import HAREConfig
from hare_agents.hare.model import HARE, OWNER
from hare_agents.items import Array, round_pool
from hare_agents.slates import credited
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec

# Directions whose clusters stand in for those of a pool that is not there yet.
_DIRECTIONS = 1024


class HAREAgent(Agent):
    """`HARE` behind the contract: ``select``, ``slate`` and ``synthesize``.

    Of a slate each item's own credit is learned where the task tells which position was chosen (`feedback`),
    otherwise the reward of the mean of its items.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate", "synthesize"})
    search_space: ClassVar[SearchSpace] = {
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "user_ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "posterior_bonus": {"type": "float", "low": 0.1, "high": 10.0, "log": True},
        "rank": {"type": "int", "low": 2, "high": 8},
        "learning_rate": {"type": "float", "low": 0.005, "high": 0.1, "log": True},
        "weight_decay": {"type": "float", "low": 0.01, "high": 1.0, "log": True},
    }

    def __init__(self, **knobs: Any) -> None:
        self.config: HAREConfig = configure(HAREConfig, knobs, OWNER)
        self._knobs = knobs

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior. Where the pool comes with each round, clusters are made of random directions."""
        super().reset(spec, rng)
        pool = spec.pool
        if pool is None:
            directions = rng.standard_normal((_DIRECTIONS, spec.content_dim))
            pool = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        knobs = dict(self._knobs)
        if 0.0 < self.config.freeze_at < 1.0:
            knobs["freeze_at"] = int(self.config.freeze_at * spec.horizon)
        self.hare = HARE(pool, spec.query_dim, rng, **knobs)
        self._told: deque[int] = deque()

    def _of_round(self, observation: Observation) -> tuple[Array | None, NDArray[np.bool_] | None]:
        """The round's own items, if the pool changes, and which can be used."""
        if self.spec.pool is not None and "pool_mask" not in observation:
            return None, None
        items, usable = round_pool(self.spec, observation)
        return (items if self.spec.pool is None else None), usable

    def act(self, observation: Observation) -> Action:
        """An item, a slate or content."""
        hare, (items, usable) = self.hare, self._of_round(observation)
        round = hare.prepare(observation["query"], int(observation["user"]))
        if self.spec.action_mode == "synthesize":
            return hare.compose(round, items, usable).astype(np.float32)
        if self.spec.action_mode == "slate":
            return np.asarray(hare.choose(round, self.spec.slate_size, items, usable), dtype=np.int64)
        return int(hare.choose(round, None, items, usable))

    def feedback(self, observation: Observation, action: Action, outcome: Mapping[str, float]) -> None:
        """Notes the position of a slate that was chosen until the reward comes."""
        if self.spec.action_mode == "slate" and "selected" in outcome:
            self._told.append(int(outcome["selected"]))

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns the reward of what was shown."""
        if self._told:
            self._learn_each(observation, action, credited(len(action), self._told.popleft(), reward))
            return
        hare, (items, _) = self.hare, self._of_round(observation)
        round = hare.prepare(observation["query"], int(observation["user"]))
        if self.spec.action_mode == "synthesize":
            hare.learn(round, np.asarray(action, dtype=np.float64), None, reward)
            return
        pool = self.spec.pool if items is None else items
        assert pool is not None
        y = pool[action]
        cluster = int(hare.pool.cluster[action]) if items is None and self.spec.action_mode == "select" else None
        hare.learn(round, y.mean(axis=0) if self.spec.action_mode == "slate" else y, cluster, reward)

    def _learn_each(self, observation: Observation, slate: Action, credit: Array) -> None:
        hare, (items, _) = self.hare, self._of_round(observation)
        pool = self.spec.pool if items is None else items
        assert pool is not None
        for item, earned in zip(slate, credit.tolist(), strict=True):
            round = hare.prepare(observation["query"], int(observation["user"]))
            hare.learn(round, pool[item], int(hare.pool.cluster[item]) if items is None else None, earned)

    def act_batch(self, observations: Observation) -> Action:
        """As `act` for B users; one item each, of the task's own pool, is chosen for all of them at once."""
        if not self._batches(observations):
            return super().act_batch(observations)
        return self.hare.act_many(observations["query"], observations["user"])

    def update_batch(self, observations: Observation, actions: Action, rewards: NDArray[np.float64]) -> None:
        """Learns B rewards, see `HARE.update_many`."""
        if self._batches(observations):
            self.hare.update_many(observations["query"], observations["user"], actions, rewards)
        else:
            super().update_batch(observations, actions, rewards)

    def _batches(self, observations: Observation) -> bool:
        own_pool = self.spec.pool is not None and "pool_mask" not in observations
        return own_pool and self.spec.action_mode == "select" and len(observations["user"]) > 1

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """The chance of each item, where it is known and the pool is the task's."""
        items, usable = self._of_round(observation)
        if self.spec.action_mode != "select" or items is not None:
            return None
        return self.hare.probabilities(observation["query"], int(observation["user"]), usable)

    def state(self) -> dict[str, NDArray[Any]]:
        """`HARE.state`."""
        return self.hare.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """`HARE.load_state`."""
        self.hare.load_state(state)

    def diagnostics(self) -> dict[str, float]:
        """`HARE.diagnostics`."""
        return self.hare.diagnostics()
