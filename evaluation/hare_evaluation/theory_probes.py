"""Agents that play as ever and are told the truth afterwards: for the numeric checks of docs/theory.md.

They choose exactly as the agents that they derive from. Being privileged, they also see every item's true mean, and
tell in their diagnostics how the core's widths compare with its errors.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents.hare import HAREAgent
from hare_agents.linear import BilinearModel, with_one
from hare_agents.linucb import JointLinUCB
from hare_gym.contract import Action, Observation, TaskSpec

Array = NDArray[np.float64]


def true_means(env: Any) -> Array:
    """The mean reward of every item in the round to come of a ``HareBilinear`` in ``select``, ``(N,)``."""
    # the environment tells an agent of its own item only, and afterwards
    worlds, i = env._worlds, env._i
    efficacy = worlds.pool_efficacy[:, 0] if worlds.config.efficacy else 0.0
    nearness = worlds.ideal[:, i, 0] @ worlds.pool[:, :, 0]
    means: Array = worlds.mean_reward(nearness, worlds.pool_length2[:, 0], worlds.length[i, 0], efficacy)
    return means


class Coverage:
    """How the core's widths w, for unit noise, compare with its errors, summed over the rounds so far.

    A round *fails* if the best item's mean lies above m + alpha w, or the shown item's below m − alpha w. In all
    other rounds the regret of the item with the largest m + alpha w is at most 2 alpha w.
    """

    def __init__(self, alpha: float, pool: Array) -> None:
        self.alpha, self.items = alpha, with_one(pool)
        self.rounds = 0
        self.log_det = self.log_det_users = self.potential = 0.0
        self.shown = self.best = self.all = 0.0
        self.bound = self.failed = self.failed_regret = self.largest = 0.0

    def add(self, model: BilinearModel, observation: Observation, shown: int, truth: Array) -> None:
        """Judges one round, before its reward is learned.

        Args:
            model: The core.
            observation: Of the round.
            shown: The item that is shown.
            truth: Every item's mean reward, ``(N,)``.
        """
        user = int(observation["user"])
        belief = model.belief(observation["query"], user)
        width = belief.width(self.items)
        error = truth - belief.mean(self.items)
        covered = np.abs(error) <= self.alpha * width
        best = int(truth.argmax())
        y, w2 = self.items[shown, 1:], float(width[shown]) ** 2
        self.rounds += 1
        self.log_det += np.log1p(w2)
        self.log_det_users += np.log1p(float(y @ model.posterior.A_u_inv[model.posterior.slot(user)] @ y))
        self.potential += w2
        self.shown += covered[shown]
        self.best += covered[best]
        self.all += covered.mean()
        self.largest = max(self.largest, float((np.abs(error) / width).max()))
        if error[best] > self.alpha * width[best] or error[shown] < -self.alpha * width[shown]:
            self.failed += 1
            self.failed_regret += truth[best] - truth[shown]
        else:
            self.bound += 2.0 * self.alpha * width[shown]

    def figures(self) -> dict[str, float]:
        """Sums, except for ``covered_*`` and ``failed``, which are shares of the rounds, and ``largest``."""
        n = max(self.rounds, 1)
        return {
            "log_det": self.log_det,
            "log_det_users": self.log_det_users,
            "potential": self.potential,
            "covered_shown": self.shown / n,
            "covered_best": self.best / n,
            "covered_all": self.all / n,
            "failed": self.failed / n,
            "failed_regret": self.failed_regret,
            "bound": self.bound,
            "largest": self.largest,
        }


class ProbedLinUCB(JointLinUCB):
    """`JointLinUCB` with a `Coverage`."""

    privileged: ClassVar[bool] = True

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior."""
        super().reset(spec, rng)
        assert spec.pool is not None
        self.coverage = Coverage(self.config.alpha, spec.pool)

    def attach(self, env: Any) -> None:
        """Keeps the unwrapped environment."""
        self._env = env

    def act(self, observation: Observation) -> Action:
        """As LinUCB's; the truth is looked at when the choice is made."""
        action = super().act(observation)
        self.coverage.add(self.model, observation, int(action), true_means(self._env))
        return action

    def diagnostics(self) -> dict[str, float]:
        """LinUCB's and the coverage's."""
        return {**super().diagnostics(), **self.coverage.figures()}


class ProbedHARE(HAREAgent):
    """`HAREAgent` with a `Coverage` of its core."""

    privileged: ClassVar[bool] = True

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts from the prior."""
        super().reset(spec, rng)
        assert spec.pool is not None
        self.coverage = Coverage(0.0, spec.pool)

    def attach(self, env: Any) -> None:
        """Keeps the unwrapped environment."""
        self._env = env

    def act(self, observation: Observation) -> Action:
        """As HARE's; the truth is looked at when the choice is made."""
        action = super().act(observation)
        self.coverage.alpha = self.config.posterior_bonus * self.hare.gate.s
        self.coverage.add(self.hare.core, observation, int(action), true_means(self._env))
        return action

    def diagnostics(self) -> dict[str, float]:
        """HARE's and the coverage's."""
        return {**super().diagnostics(), **self.coverage.figures()}
