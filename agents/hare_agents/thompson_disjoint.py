"""Disjoint linear Thompson sampling: one ridge model of the context for each item of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.disjoint import Context, RidgeBank
from hare_agents.items import Array, best_item, round_pool, top_items
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec
from hare_gym.environment import item_index


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


class DisjointThompson(Agent):
    """Thompson sampling with disjoint linear models (Agrawal and Goyal 2013, "Thompson sampling for contextual
    bandits with linear payoffs", Algorithm 1, with a parameter of its own for each item).

    The rule draws ``theta~_k ~ N(theta_k, v² A_k^-1)`` for each item and plays the largest ``x . theta~_k``. The
    draws are independent between items and new in each round, and the choice sees them through ``x . theta~_k``
    alone, which is N(x . theta_k, v² x^T A_k^-1 x). So one normal number an item is drawn instead of d: the
    distribution of the choice is the same, exactly.

    Context, cost and slates are those of `DisjointLinUCB`: ``x = [query, 1, one-hot of the user]``, without whose
    one-hot the agent could not tell users apart; with many users set ``user_features=False``.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select", "slate"})

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(DisjointThompsonConfig, hyperparameters, "agent 'lints-disjoint'")

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior.

        Raises:
            ConfigError: The models of this task would not fit in memory.
        """
        super().reset(spec, rng)
        self._context = Context(spec, self.config.intercept, self.config.user_features)
        self.bank = RidgeBank(spec.num_items, self._context.dim, self.config.ridge)
        self._last_widths: Array | None = None

    def draw(self, observation: Observation) -> Array:
        """One draw of every item's score, ``(num_items,)``."""
        means, variances = self.bank.posterior(self._context(observation))
        self._last_widths = np.sqrt(variances, out=variances)
        scores = self.rng.standard_normal(len(means))
        scores *= self.config.v
        scores *= self._last_widths
        scores += means
        return scores

    def act(self, observation: Observation) -> Action:
        """The item, or the slate of items, with the highest drawn scores."""
        scores, usable = self.draw(observation), round_pool(self.spec, observation)[1]
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
