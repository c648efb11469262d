"""The uniformly random agent: the floor of every table."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.items import Array, usable_items
from hare_gym.contract import ACTION_MODES, Action, ActionMode, Agent, Observation


class Random(Agent):
    """Plays a uniformly random usable item, slate of distinct items, unit vector, or text of the pool.

    Where a task has no texts, it writes the empty one.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset(ACTION_MODES)

    def act(self, observation: Observation) -> Action:
        """A random action."""
        spec = self.spec
        if spec.action_mode == "synthesize":
            return random_direction(spec.content_dim, self.rng).astype(np.float32)
        if spec.action_mode == "write" and not spec.pool_texts:
            return ""
        if spec.action_mode == "select" and "pool_mask" not in observation:
            return int(self.rng.integers(spec.num_items))
        candidates = usable_items(spec, observation)
        if spec.action_mode == "slate":
            return self.rng.choice(candidates, spec.slate_size, replace=False)
        item = int(self.rng.choice(candidates))
        return spec.pool_texts[item] if spec.action_mode == "write" and spec.pool_texts else item

    def act_batch(self, observations: Observation) -> Action:
        """As B times `act`, with the same draws."""
        if self.spec.action_mode == "select" and "pool_mask" not in observations:
            return self.rng.integers(self.spec.num_items, size=len(observations["user"]))
        return super().act_batch(observations)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """Equal shares for the usable items."""
        if self.spec.action_mode != "select":
            return None
        chances = np.zeros(self.spec.num_items)
        candidates = usable_items(self.spec, observation)
        chances[candidates] = 1.0 / len(candidates)
        return chances


def random_direction(dim: int, rng: np.random.Generator) -> Array:
    """A uniformly random unit vector, ``(dim,)``."""
    y: Array = rng.standard_normal(dim)
    return np.asarray(y / np.linalg.norm(y))
