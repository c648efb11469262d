"""Disjoint LinUCB: one ridge model of the context for each item of the pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.disjoint import DisjointAgent
from hare_agents.items import Array, greedy_probabilities, round_pool
from hare_gym.config import configure
from hare_gym.contract import Observation, SearchSpace


@dataclass(frozen=True)
class DisjointLinUCBConfig:
    """The hyperparameters of `DisjointLinUCB`: the paper's, tuned on nothing here.

    Attributes:
        alpha: Standard deviations added to the expected reward.
        ridge: Prior precision of an item's coefficients, lambda.
        intercept: Whether the context has a constant 1.
        user_features: Whether the context has a one-hot of the user, where the task has more than one.
    """

    alpha: float = field(default=1.0, metadata={"low": 0})
    ridge: float = field(default=1.0, metadata={"above": 0})
    intercept: bool = True
    user_features: bool = True


class DisjointLinUCB(DisjointAgent):
    """LinUCB with disjoint linear models (Li et al. 2010, "A contextual-bandit approach to personalized news article
    recommendation", Algorithm 1).

    The expected reward of item k is ``x . theta_k``, and items share nothing: what is learned of one says nothing of
    the others, and an item is an index of the pool, also where the pool changes from round to round. The context is
    ``x = [query, 1, one-hot of the user]``. The paper describes a user within the query; these tasks give the user's
    number, so without the one-hot this agent could not tell users apart. Its width is d = query_dim + 1 + num_users,
    and a round costs O(num_items d²): with many users set ``user_features=False``.
    """

    search_space: ClassVar[SearchSpace] = {
        "alpha": {"type": "float", "low": 0.01, "high": 3.0, "log": True},
        "ridge": {"type": "float", "low": 0.1, "high": 30.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: DisjointLinUCBConfig = configure(
            DisjointLinUCBConfig, hyperparameters, "agent 'linucb-disjoint'"
        )

    def _scores(self, means: Array, widths: Array) -> Array:
        scores = self.config.alpha * widths
        scores += means
        return scores

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """One for the best item, shared where several are."""
        if self.spec.action_mode != "select":
            return None
        return greedy_probabilities(self.scores(observation), round_pool(self.spec, observation)[1])
