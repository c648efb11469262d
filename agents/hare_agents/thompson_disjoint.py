"""Disjoint linear Thompson sampling: one ridge model of the context for each item of the pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hare_agents.disjoint import DisjointAgent
from hare_agents.items import Array
from hare_gym.config import configure
from hare_gym.contract import SearchSpace


@dataclass(frozen=True)
class DisjointThompsonConfig:
    """The hyperparameters of `DisjointThompson`, tuned on nothing here.

    Attributes:
        v: Standard deviation of the reward's noise in the posterior. A reward in [0, 1] is 1/2-sub-Gaussian
            (Hoeffding's lemma), hence the default.
        ridge: Prior precision of an item's coefficients, lambda, in units of the noise.
        intercept: Whether the context has a constant 1.
        user_features: Whether the context has a one-hot of the user, where the task has more than one.
    """

    v: float = field(default=0.5, metadata={"low": 0})
    ridge: float = field(default=1.0, metadata={"above": 0})
    intercept: bool = True
    user_features: bool = True


class DisjointThompson(DisjointAgent):
    """Thompson sampling with disjoint linear models (Agrawal and Goyal 2013, "Thompson sampling for contextual
    bandits with linear payoffs", Algorithm 1, with a parameter of its own for each item).

    The rule draws ``theta~_k ~ N(theta_k, v² A_k^-1)`` for each item and plays the largest ``x . theta~_k``. The
    draws are independent between items and new in each round, and the choice sees them through ``x . theta~_k``
    alone, which is N(x . theta_k, v² x^T A_k^-1 x). So one normal number an item is drawn instead of d: the
    distribution of the choice is the same, exactly.

    Context, cost and slates are those of `DisjointLinUCB`: ``x = [query, 1, one-hot of the user]``, without whose
    one-hot the agent could not tell users apart; with many users set ``user_features=False``.
    """

    search_space: ClassVar[SearchSpace] = {
        "v": {"type": "float", "low": 0.01, "high": 1.0, "log": True},
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: DisjointThompsonConfig = configure(
            DisjointThompsonConfig, hyperparameters, "agent 'lints-disjoint'"
        )

    def _scores(self, means: Array, widths: Array) -> Array:
        scores = self.rng.standard_normal(len(means))
        scores *= self.config.v
        scores *= widths
        scores += means
        return scores
