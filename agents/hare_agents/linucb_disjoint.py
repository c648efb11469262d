"""Disjoint LinUCB: one ridge model of the context for each item of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.disjoint import Context, RidgeBank
from hare_agents.items import Array, best_item, greedy_probabilities, round_pool, top_items
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec
from hare_gym.environment import item_index


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


class DisjointLinUCB(Agent):
    """LinUCB with disjoint linear models (Li et al. 2010, "A contextual-bandit approach to personalized news article
    recommendation", Algorithm 1).

    The expected reward of item k is ``x . theta_k``, and items share nothing: what is learned of one says nothing of
    the others, and an item is an index of the pool, also where the pool changes from round to round. The context is
    ``x = [query, 1, one-hot of the user]``. The paper describes a user within the query; these tasks give the user's
    number, so without the one-hot this agent could not tell users apart. Its width is d = query_dim + 1 + num_users,
    and a round costs O(num_items d²): with many users set ``user_features=False``.

    Each item of a slate is credited with the slate's reward.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate"})

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(DisjointLinUCBConfig, hyperparameters, "agent 'linucb-disjoint'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior.

        Raises:
            ConfigError: The models of this task would not fit in memory.
        """
        super().reset(spec, rng)
        self._context = Context(spec, self.config.intercept, self.config.user_features)
        self.bank = RidgeBank(spec.num_items, self._context.dim, self.config.ridge)
        self._last_widths: Array | None = None

    def scores(self, observation: Observation) -> Array:
        """The upper confidence bound of every item, ``(num_items,)``."""
        means, variances = self.bank.posterior(self._context(observation))
        self._last_widths = np.sqrt(variances, out=variances)
        scores = self.config.alpha * self._last_widths
        scores += means
        return scores

    def act(self, observation: Observation) -> Action:
        """The item, or the slate of items, with the highest bounds."""
        scores, usable = self.scores(observation), round_pool(self.spec, observation)[1]
        if self.spec.action_mode == "slate":
            return top_items(scores, self.spec.slate_size, usable, self.rng)
        return best_item(scores, usable, self.rng)

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns the reward of the item, or of each item of the slate.

        Raises:
            ActionError: An item that is not in the pool.
            DataError: A context or reward that is not finite; nothing has been learned then.
        """
        x = self._context(observation)
        items = action.tolist() if self.spec.action_mode == "slate" else (action,)
        for item in items:
            self.bank.update(item_index(item, self.spec.num_items), x, reward)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """One for the best item, shared where several are."""
        if self.spec.action_mode != "select":
            return None
        return greedy_probabilities(self.scores(observation), round_pool(self.spec, observation)[1])

    def state(self) -> dict[str, NDArray[Any]]:
        """The posteriors."""
        return self.bank.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another type or task."""
        self.bank.load_state(state)

    def diagnostics(self) -> dict[str, float]:
        """The last round's mean width over items, and the share of items ever learned about."""
        shown = {"items_learned": float(np.count_nonzero(self.bank.counts)) / self.spec.num_items}
        if self._last_widths is not None:
            shown["mean_width"] = float(self._last_widths.mean())
        return shown
