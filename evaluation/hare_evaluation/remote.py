"""An agent that lives in another process, as the loop sees it: an :class:`Agent` that asks down a channel.

The channel (a pipe to a sandbox, in the leaderboard) is whatever has ``ask``. What it answers comes from a stranger,
so every action is checked here for type, shape and range before an environment meets it, and nothing is ever mended:
an action that is not in the action space ends the agent's part in the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import ACTION_MODES, TEXT_CHARSET, Action, Agent, Observation, TaskSpec
from hare_gym.errors import ActionError, HareError
from hare_gym.protocol import HEADER, MAX_ANSWER, VERSION, ProtocolError, frame, opened

__all__ = [
    "HEADER",
    "MAX_ANSWER",
    "STATUSES",
    "VERSION",
    "AgentFault",
    "Channel",
    "Forfeit",
    "ProtocolError",
    "RemoteAgent",
    "Status",
    "frame",
    "opened",
]

Status: TypeAlias = Literal["OK", "TIMEOUT", "INVALID_ACTION", "PROTOCOL", "CRASH", "INFRA"]

STATUSES: tuple[Status, ...] = ("OK", "TIMEOUT", "INVALID_ACTION", "PROTOCOL", "CRASH", "INFRA")
"""How a session ended for the agent. All but the first are faults; ``INFRA`` alone may be the host's own."""

_CHARSET = frozenset(TEXT_CHARSET)


class AgentFault(HareError):
    """The agent can play no further: a status other than ``OK``, and the reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Channel(Protocol):
    """The way to an agent's process."""

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one question.

        Raises:
            AgentFault: None came, or none that can be used.
        """


class RemoteAgent(Agent):
    """Plays through a channel until its first fault, and from then on plays something legal that earns nothing.

    What the agent learns from a round travels with the next question, so that a round costs one frame each way.

    Args:
        channel: To the agent's process.
        agent: Its name or ``"module:Class"``, as the process shall load it.
        kwargs: Its hyperparameters.
        folder: Where the process finds the agent's code; empty for an installed one.

    Attributes:
        fault: What ended the agent's part, or ``None``.
        fault_round: The round of the fault; 0 if the agent never got to play.
    """

    modes = frozenset(ACTION_MODES)

    def __init__(self, channel: Channel, agent: str, kwargs: Mapping[str, Any], folder: str = "") -> None:
        self.fault: AgentFault | None = None
        self.fault_round = 0
        self._channel, self._played = channel, 0
        self._start = {"op": "start", "agent": agent, "kwargs": dict(kwargs), "folder": folder}
        self._outcome: Any = None
        self._learn: list[Any] | None = None

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts the agent in its process; its seed is 16 bytes of ``rng``."""
        super().reset(spec, rng)
        bare = replace(spec, pool=None).to_json()
        try:
            hello = self._ask({"op": "hello", "version": VERSION})
            if hello.get("version") != VERSION:
                raise AgentFault("PROTOCOL", f"The worker speaks version {hello.get('version')!r}, not {VERSION}.")
            modes = self._ask(self._start).get("modes")
            if not isinstance(modes, list) or spec.action_mode not in modes:
                raise AgentFault("INVALID_ACTION", f"The agent plays {modes!r:.100}, not {spec.action_mode!r}.")
            self._ask({"op": "reset", "task": bare, "pool": spec.pool, "seed": rng.bytes(16)})
        except AgentFault as fault:
            self.fault = fault

    def act(self, observation: Observation) -> Action:
        """The agent's action, checked."""
        return self._act(observation, 1)

    def act_batch(self, observations: Observation) -> Action:
        """The agent's actions for B users at once, in one frame each way."""
        return self._act(observations, len(observations["user"]))

    def feedback(self, observation: Observation, action: Action, outcome: Mapping[str, float]) -> None:
        """Keeps the outcome for the next question."""
        self._outcome = {name: float(value) for name, value in outcome.items()}

    def feedback_batch(
        self, observations: Observation, actions: Action, outcomes: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Keeps the outcomes for the next question."""
        self._outcome = {name: np.asarray(values, dtype=np.float64) for name, values in outcomes.items()}

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Keeps the reward for the next question."""
        self._learn, self._outcome = [self._outcome, reward], None

    def update_batch(self, observations: Observation, actions: Action, rewards: NDArray[np.float64]) -> None:
        """Keeps the rewards for the next question."""
        self._learn, self._outcome = [self._outcome, np.asarray(rewards, dtype=np.float64)], None

    def finish(self) -> None:
        """Hands over the last reward and lets the process end."""
        if self.fault is None:
            try:
                self._ask({"op": "end", "learn": self._learn})
            except AgentFault as fault:
                self.fault, self.fault_round = fault, self._played

    def _act(self, observation: Observation, lanes: int) -> Action:
        self._played += lanes
        if self.fault is None:
            learn, self._learn = self._learn, None
            question = {"op": "round", "learn": learn, "observation": dict(observation), "lanes": lanes}
            try:
                answer = self._ask(question)
                return _checked(self.spec, answer.get("action"), lanes)
            except AgentFault as fault:
                self.fault, self.fault_round = fault, self._played
            except ActionError as error:
                self.fault, self.fault_round = AgentFault("INVALID_ACTION", str(error)), self._played
        return _filler(self.spec, lanes)

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._channel.ask(question)
        except ProtocolError as error:
            raise AgentFault("PROTOCOL", str(error)) from None
        failure = answer.get("error")
        if failure is not None:
            told = failure if isinstance(failure, dict) else {}
            raise AgentFault("CRASH", f"{told.get('type')!s:.100}: {told.get('message')!s:.2000}")
        return answer


class Forfeit(gym.Wrapper[Any, Any, Any, Any]):
    """The environment as a session counts it: from the agent's fault on, every round earns nothing.

    The regret of such a round is all that could have been earned in it. No policy can do worse, so stopping never
    pays.
    """

    def __init__(self, env: Any, agent: RemoteAgent) -> None:
        super().__init__(env)
        self._agent = agent

    def step(self, action: Action) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Plays the round, and takes its reward away if the agent is gone."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._agent.fault is not None:
            best = info["regret"] + info["expected_reward"]
            info = {**info, "expected_reward": 0.0 * best, "regret": best}
            reward = 0.0
        return observation, reward, bool(terminated), bool(truncated), info


def _checked(spec: TaskSpec, action: Any, lanes: int) -> Action:
    """The action if it is one of the task's.

    Raises:
        ActionError: Anything else; it names what is wrong.
    """
    if lanes == 1:
        return _checked_one(spec, action)
    if spec.action_mode == "write":
        if not isinstance(action, list) or len(action) != lanes:
            raise ActionError(f"A batch of {lanes} rounds needs a list of {lanes} texts.")
        return tuple(_checked_text(spec, text) for text in action)
    tail = {"select": (), "slate": (spec.slate_size,), "synthesize": (spec.content_dim,)}[spec.action_mode]
    if spec.action_mode == "synthesize":
        return _checked_vectors(action, (lanes, *tail))
    return _checked_items(action, (lanes, *tail), spec.num_items)


def _checked_one(spec: TaskSpec, action: Any) -> Action:
    if spec.action_mode == "select":
        if type(action) is not int:
            raise ActionError(f"A select action must be an integer, not {_described(action)}.")
        if not 0 <= action < spec.num_items:
            raise ActionError(f"Item {action} is not in the pool of {spec.num_items}: use 0 to {spec.num_items - 1}.")
        return action
    if spec.action_mode == "slate":
        return _checked_items(action, (spec.slate_size,), spec.num_items)
    if spec.action_mode == "synthesize":
        return _checked_vectors(action, (spec.content_dim,))
    return _checked_text(spec, action)


def _checked_items(action: Any, shape: tuple[int, ...], num_items: int) -> Action:
    if not isinstance(action, np.ndarray) or action.dtype.kind not in "iu" or action.shape != shape:
        raise ActionError(f"The action must be an integer array of shape {shape}, not {_described(action)}.")
    if action.size and not (action.min() >= 0 and action.max() < num_items):
        raise ActionError(f"The action names an item outside the pool of {num_items}: use 0 to {num_items - 1}.")
    return action.astype(np.int64)


def _checked_vectors(action: Any, shape: tuple[int, ...]) -> Action:
    if not isinstance(action, np.ndarray) or action.dtype.kind != "f" or action.shape != shape:
        raise ActionError(f"A synthesize action must be a float array of shape {shape}, not {_described(action)}.")
    if not np.isfinite(action).all():
        raise ActionError("A synthesize action must be finite; this one holds NaN or infinity.")
    if np.abs(action).max(initial=0.0) > 1.0 + 1e-6:
        raise ActionError(
            f"A synthesize action lies in [-1, 1] in every coordinate; this one holds {np.abs(action).max():.3g}."
        )
    return action


def _checked_text(spec: TaskSpec, action: Any) -> str:
    if not isinstance(action, str):
        raise ActionError(f"A write action must be a text, not {_described(action)}.")
    if len(action) > spec.text_length:
        raise ActionError(f"A text of {len(action)} characters is longer than the {spec.text_length} allowed.")
    if not _CHARSET.issuperset(action):
        strange = next(c for c in action if c not in _CHARSET)
        raise ActionError(f"The text holds {strange!a}, which is not in the charset: see hare_gym.contract.sanitise.")
    return action


def _described(action: Any) -> str:
    if isinstance(action, np.ndarray):
        return f"an array of dtype {action.dtype} and shape {action.shape}"
    return f"{action!r:.60} of type {type(action).__name__}"


def _filler(spec: TaskSpec, lanes: int) -> Action:
    """Something that the action space holds, for rounds that earn nothing anyway."""
    fillers: dict[str, Action] = {
        "select": 0,
        "slate": np.arange(spec.slate_size, dtype=np.int64),
        "synthesize": np.zeros(spec.content_dim, dtype=np.float32),
        "write": "",
    }
    one = fillers[spec.action_mode]
    if lanes == 1:
        return one
    return ("",) * lanes if spec.action_mode == "write" else np.stack([np.asarray(one)] * lanes)
