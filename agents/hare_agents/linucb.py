"""Joint LinUCB: optimism over one linear model of query, user and content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.items import Array, greedy_probabilities
from hare_agents.joint import JointAgent
from hare_agents.linear import Belief
from hare_gym.config import configure
from hare_gym.contract import Observation, SearchSpace

_BEST_ITEMS = 8
_STEPS = 100
_GAIN = 1e-4


@dataclass(frozen=True)
class LinUCBConfig:
    """The hyperparameters of `JointLinUCB`: the plain values of the literature, tuned on nothing here.

    Attributes:
        alpha: Standard deviations added to the expected reward.
        ridge: Prior precision of the shared coefficients.
        user_ridge: Prior precision of each user's coefficients.
    """

    alpha: float = field(default=1.0, metadata={"low": 0})
    ridge: float = field(default=1.0, metadata={"above": 0})
    user_ridge: float = field(default=1.0, metadata={"above": 0})


class JointLinUCB(JointAgent):
    """Plays the content of the largest mean + alpha * width (Chu et al. 2011, Algorithm 1, on joint features).

    The features are phi(x, user, y) = [1, y, x⊗y, onehot(user)⊗y]. Over the unit ball the bound is convex in y, so
    that its maximum lies on the sphere and each step to the maximiser of the linearised bound raises it; `synthesize`
    climbs so from the best items, the greedy content and the two most uncertain ones, and takes the best end.
    """

    search_space: ClassVar[SearchSpace] = {
        "alpha": {"type": "float", "low": 0.01, "high": 3.0, "log": True},
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "user_ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: LinUCBConfig = configure(LinUCBConfig, hyperparameters, "agent 'linucb'")

    def _scores(self, belief: Belief, items: Array) -> Array:
        self._last_widths = belief.width(items)
        return belief.mean(items) + self.config.alpha * self._last_widths

    def _content(self, belief: Belief, observation: Observation) -> Array:
        items, usable = self._items(observation)
        scores = self._scores(belief, items)
        if usable is not None:
            items, scores = items[usable], scores[usable]
        best = items[np.argsort(-scores, kind="stable")[:_BEST_ITEMS], 1:]
        return most_optimistic(belief, self.config.alpha, best)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """One for the best item, shared where several are."""
        if self.spec.action_mode != "select":
            return None
        items, usable = self._items(observation)
        belief = self.model.belief(observation["query"], int(observation["user"]))
        return greedy_probabilities(self._scores(belief, items), usable)


def most_optimistic(belief: Belief, alpha: float, starts: Array) -> Array:
    """A maximiser over the unit ball of f(y) = [1; y]ᵀm + alpha √([1; y]ᵀV[1; y]).

    f is convex, so f(y') >= f(y) + ∇f(y)ᵀ(y' - y): going to y' = ∇f/|∇f| never lowers it. From several starts that
    finds the global maximum nearly always, not provably: maximising a convex function is hard in general.

    Args:
        belief: m ``(1 + d,)`` and V ``(1 + d, 1 + d)``.
        alpha: Standard deviations of optimism.
        starts: Contents to climb from, ``(n, d)``; m's direction and V's first axis, both ways, are added.

    Returns:
        The best content reached, ``(d,)``, of length 1.
    """
    m, V = belief
    axis = np.linalg.eigh(V[1:, 1:])[1][:, -1]
    Y1 = np.ones((len(starts) + 3, len(m)))
    Y1[:, 1:] = np.concatenate([starts, [m[1:], axis, -axis]])
    before = np.full(len(Y1), -np.inf)
    for _ in range(_STEPS):
        VY = Y1 @ V
        width = np.sqrt(np.maximum(np.vecdot(VY, Y1), 1e-300))
        bounds = Y1 @ m + alpha * width
        gain, before = (bounds - before).max(), bounds
        if gain < _GAIN:
            break
        gradient = m[1:] + (alpha / width)[:, None] * VY[:, 1:]
        length = np.sqrt(np.vecdot(gradient, gradient))[:, None]
        np.divide(gradient, length, out=Y1[:, 1:], where=length > 0.0)
    y: Array = Y1[bounds.argmax(), 1:]
    return y
