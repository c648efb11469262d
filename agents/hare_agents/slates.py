"""What agents share that learn from the position chosen of a slate: each item's credit, in order."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents._content import choose
from hare_agents.items import Array, round_pool
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec

Items = NDArray[np.int64]


class SlateAgent(Agent):
    """Plays the items of the highest scores, best position first. A subclass gives `_scores` and `_learn`.

    The item that was chosen is credited with the reward, the others with nothing. Where a task does not tell which
    one was chosen (``outcome["selected"]``, -1 for none), all are credited with the reward.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"slate", "select"})

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Forgets what was told."""
        super().reset(spec, rng)
        self._told: deque[int] = deque()

    @abstractmethod
    def _scores(self, observation: Observation) -> Array:
        """The items' scores, ``(num_items,)``."""

    @abstractmethod
    def _learn(self, observation: Observation, items: Items, credit: Array, chosen: int | None) -> None:
        """Learns from a slate.

        Args:
            observation: The round's.
            items: What was shown, ``(k,)``.
            credit: What each earned, ``(k,)``.
            chosen: The position chosen, -1 for none, None where it is not known.
        """

    def act(self, observation: Observation) -> Action:
        """The slate, or in ``select`` the item, of the highest scores; equal ones in random order."""
        return choose(self.spec, self._scores(observation), round_pool(self.spec, observation)[1], self.rng)

    def feedback(self, observation: Observation, action: Action, outcome: Mapping[str, float]) -> None:
        """Notes the position chosen until the reward comes."""
        if "selected" in outcome:
            self._told.append(int(outcome["selected"]))

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns the credit of each item that was shown."""
        reward = finite_reward(type(self).__name__, reward)
        items = np.atleast_1d(np.asarray(action, dtype=np.int64))
        chosen = self._told.popleft() if self._told else None
        self._learn(observation, items, credited(len(items), chosen, reward), chosen)


def credited(size: int, chosen: int | None, reward: float) -> Array:
    """What each item earned, ``(size,)``: the one that was chosen the reward, or all of them where nobody knows."""
    if chosen is None:
        return np.full(size, reward)
    credit = np.zeros(size)
    if chosen >= 0:
        credit[chosen] = reward
    return credit
