"""What every single environment of this package shares: action modes, checked actions, `info`, rendering."""

from __future__ import annotations

import math
import operator
from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.contract import ActionMode, TaskSpec, action_space, observation_space
from hare_gym.errors import ActionError, ConfigError, unknown_name
from hare_gym.rendering import session_image, session_text


class Environment(gym.Env[dict[str, Any], Any]):
    """Base class. A subclass sets ``modes``, calls :meth:`_set_task`, and implements ``reset`` and ``_judge``.

    Attributes:
        modes: The action modes that the environment has, its default first.
        task: The current :class:`~hare_gym.contract.TaskSpec`. Where the world is drawn from the seed, the pool
            is in it after ``reset`` only.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}
    modes: ClassVar[tuple[ActionMode, ...]]
    task: TaskSpec
    _t: int

    def __init__(self, action_mode: str | None, render_mode: str | None) -> None:
        self.action_mode: ActionMode = check_mode(type(self).__name__, self.modes, action_mode)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown_name("render mode", str(render_mode), self.metadata["render_modes"])
        self.render_mode = render_mode
        self._history: list[tuple[float, float]] = []
        self._last_round: dict[str, Any] = {}

    def _set_task(self, task: TaskSpec) -> None:
        self.task = task
        self.observation_space = observation_space(task)
        self.action_space = action_space(task)

    @abstractmethod
    def optimal_action(self) -> Any:
        """The best action for the observation just given. For oracles and tests; agents never see it."""

    def _info(self, expected: float, oracle: float, catalogue: float, **parts: Any) -> dict[str, Any]:
        """``info`` for one round: the contract's keys, and the reward's parts by name."""
        best = catalogue if self.action_mode in ("select", "slate") else oracle
        return {
            "expected_reward": expected,
            "oracle_reward": oracle,
            "catalogue_oracle_reward": catalogue,
            "regret": best - expected,
            **parts,
        }

    def _prepare(self) -> None:
        """Makes round ``self._t`` ready; :meth:`_end_round` calls it."""
        raise NotImplementedError

    def _observation(self) -> dict[str, Any]:
        """The observation of the round made ready last."""
        raise NotImplementedError

    def _end_round(
        self, user: int, action: Any, reward: float, info: dict[str, Any]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """What ``step`` returns: notes the round and goes on to the next, unless it was the session's last."""
        if info.get("observed", True):
            self._note_round(user, action, reward, info)
        self._t += 1
        truncated = self._t >= self.task.horizon
        if not truncated:
            self._prepare()
        return self._observation(), reward, False, truncated, info

    def _start_rendering(self) -> None:
        self._history.clear()
        self._last_round = {}

    def _note_round(self, user: int, action: Any, reward: float, info: dict[str, Any]) -> None:
        """Keeps what ``render`` shows; free when nothing is rendered."""
        if self.render_mode is not None:
            self._history.append((reward, info["regret"]))
            self._last_round = {"user": user, "action": action, "reward": reward, **info}

    def render(self) -> Any:
        """A line of text (``ansi``) or a picture (``rgb_array``, uint8, ``(360, 640, 3)``) of the session so far."""
        if self.render_mode == "ansi":
            return session_text(self.task, self._history, self._last_round)
        if self.render_mode == "rgb_array":
            return session_image(self.task, self._history, self._last_round)
        return None


def check_mode(owner: str, modes: tuple[ActionMode, ...], mode: str | None) -> ActionMode:
    """``mode`` if it is one of ``modes``; the first of them for ``None``."""
    if mode is None:
        return modes[0]
    for known in modes:
        if mode == known:
            return known
    raise unknown_name(f"action_mode of {owner}", str(mode), modes)


def lane_count(num_envs: Any) -> int:
    """How many environments a native vector form plays.

    Raises:
        ConfigError: No whole number, or less than one.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise ConfigError(f"num_envs must be a whole number, at least 1, not {num_envs!r}.")
    return int(num_envs)


def lane_generators(seed: int | list[int | None] | None, num_envs: int) -> list[np.random.Generator]:
    """The generator of each lane: for one number, lane i gets that of ``seed + i``.

    Raises:
        ConfigError: Another number of seeds than of lanes.
    """
    seeds: list[int | None] = [None] * num_envs
    if seed is not None:
        seeds = [seed + i for i in range(num_envs)] if isinstance(seed, int) else seed
    if len(seeds) != num_envs:
        raise ConfigError(f"seed must be one number or {num_envs} of them, not {len(seeds)}.")
    return [seeding.np_random(one)[0] for one in seeds]


def item_index(action: Any, num_items: int) -> int:
    """A ``select`` action as an int.

    Raises:
        ActionError: Not an integer (a bool and a whole float are not), or outside the pool.
    """
    if type(action) is not int:
        if isinstance(action, bool | np.bool_):
            raise ActionError(f"A select action must be an item's index, not the bool {action!r}.")
        if isinstance(action, np.ndarray) and action.shape != ():
            raise ActionError(f"A select action must be one index, not an array of shape {action.shape}.")
        try:
            action = operator.index(action)
        except TypeError:
            raise ActionError(
                f"A select action must be an integer, not {action!r} of type {type(action).__name__}."
            ) from None
    if not 0 <= action < num_items:
        raise ActionError(f"Item {action} is not in the pool of {num_items}: use 0 to {num_items - 1}.")
    return int(action)


def content_vector(action: Any, dim: int) -> list[float]:
    """A ``synthesize`` action as floats, pulled back to the unit ball where it is longer than 1.

    Raises:
        ActionError: Not a float array of shape ``(dim,)``, or not finite.
    """
    if not isinstance(action, np.ndarray) or action.dtype not in (np.float32, np.float64):
        kind = f"dtype {action.dtype}" if isinstance(action, np.ndarray) else type(action).__name__
        raise ActionError(f"A synthesize action must be a float32 array of shape ({dim},), not {kind}.")
    if action.shape != (dim,):
        raise ActionError(f"A synthesize action must have shape ({dim},), not {action.shape}.")
    y: list[float] = action.tolist()
    length = math.sqrt(portable.dot(y, y))
    if not math.isfinite(length):
        raise ActionError("A synthesize action must be finite; this one holds NaN or infinity.")
    return [value / length for value in y] if length > 1.0 else y


def check_horizon(owner: str, horizon: int, available: int | None = None) -> int:
    """A horizon that is a positive whole number, and within what is available."""
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise ConfigError(f"{owner}: horizon must be a whole number of rounds, at least 1, not {horizon!r}.")
    if available is not None and horizon > available:
        raise ConfigError(f"{owner}: horizon {horizon} is longer than the data, which has {available} rounds.")
    return int(horizon)


def readonly(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, no longer writeable."""
    array.setflags(write=False)
    return array
