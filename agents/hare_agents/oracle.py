"""The agent that knows: for tests, and for a line at zero regret in a plot."""

from __future__ import annotations

from typing import Any, ClassVar

from hare_gym.contract import ACTION_MODES, Action, ActionMode, Agent, Observation
from hare_gym.errors import ContractError


class Oracle(Agent):
    """Asks the environment for the best action of the current round. Privileged: never ranked."""

    modes: ClassVar[frozenset[ActionMode]] = frozenset(ACTION_MODES)
    privileged: ClassVar[bool] = True

    def attach(self, env: Any) -> None:
        """Keeps the unwrapped environment.

        Raises:
            ContractError: The environment has no ``optimal_action``.
        """
        if not hasattr(env, "optimal_action"):
            raise ContractError(
                f"{type(env).__name__} has no optimal_action(), so the oracle cannot play it. "
                "Implement it, or leave the oracle out."
            )
        self._env = env

    def act(self, observation: Observation) -> Action:
        """The environment's best action for the observation just given."""
        return self._env.optimal_action()

    def act_batch(self, observations: Observation) -> Action:
        """As `act`, for a batch of one.

        Raises:
            ContractError: A larger batch: an environment knows its own round only.
        """
        if len(observations["user"]) != 1:
            raise ContractError("The oracle plays one environment at a time, not a batch of users.")
        return super().act_batch(observations)
