"""Joint linear Thompson sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from hare_agents.items import Array
from hare_agents.joint import JointAgent
from hare_agents.linear import Belief
from hare_gym.config import configure
from hare_gym.contract import Observation, SearchSpace


@dataclass(frozen=True)
class ThompsonConfig:
    """The hyperparameters of `JointThompson`, tuned on nothing here.

    Attributes:
        v: Standard deviation of the reward's noise in the posterior. A reward in [0, 1] is 1/2-sub-Gaussian
            (Hoeffding's lemma), hence the default.
        ridge: Prior precision of the shared coefficients, in units of the noise.
        user_ridge: Prior precision of each user's coefficients, likewise.
    """

    v: float = field(default=0.5, metadata={"low": 0})
    ridge: float = field(default=1.0, metadata={"above": 0})
    user_ridge: float = field(default=1.0, metadata={"above": 0})


class JointThompson(JointAgent):
    """Draws a model from N(theta, v² Sigma) and plays its best content (Agrawal and Goyal 2013, Algorithm 1).

    The features are phi(x, user, y) = [1, y, x⊗y, onehot(user)⊗y]. For one query and user the reward of every
    content follows from m ~ N(Fᵀtheta, v² FᵀSigma F) with 1 + d numbers, so these are drawn instead of all of theta;
    the distribution of the choice is the same. `synthesize` plays m_y/|m_y|, the draw's best content.
    """

    search_space: ClassVar[SearchSpace] = {
        "v": {"type": "float", "low": 0.01, "high": 1.0, "log": True},
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
        "user_ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: ThompsonConfig = configure(ThompsonConfig, hyperparameters, "agent 'lints'")

    def _scores(self, belief: Belief, items: Array) -> Array:
        return draw(belief, self.config.v, self.rng).mean(items)

    def _content(self, belief: Belief, observation: Observation) -> Array:
        y = draw(belief, self.config.v, self.rng).m[1:]
        length = np.linalg.norm(y)
        return y / length if length > 0.0 else y


def draw(belief: Belief, v: float, rng: np.random.Generator) -> Belief:
    """A belief whose mean is drawn from N(m, v² V), for one belief or for each of a batch."""
    m, V = belief
    noise = rng.standard_normal(m.shape)
    try:
        root = np.linalg.cholesky(V)
    except np.linalg.LinAlgError:
        # rounding can push the smallest eigenvalue of a nearly singular V below zero
        values, vectors = np.linalg.eigh(V)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    return Belief(m + v * np.vecdot(root, noise[..., None, :]), V)
