"""An agent's side of the protocol: ``python -u -m hare_gym.worker`` serves one agent for one session.

It needs :mod:`hare_gym` alone. The protocol runs over the standard input and output that the process was given; both
are moved to descriptors of their own first, so that whatever the agent prints goes to the standard error stream.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from typing import Any

import numpy as np

import hare_gym
from hare_gym.contract import Agent, Observation, TaskSpec
from hare_gym.protocol import HEADER, MAX_QUESTION, VERSION, ProtocolError, frame, opened
from hare_gym.registry import make_agent

MAX_ERROR_TEXT = 16_000
_CHUNK = 1 << 16


class Worker:
    """Answers the host's questions about one agent, in order."""

    agent: Agent

    def __init__(self) -> None:
        self._observation: Observation = {}
        self._action: Any = None
        self._lanes = 1

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What the agent says to one question.

        Raises:
            ProtocolError: A question that this version does not have.
        """
        op = question["op"]
        if op == "round":
            return self._round(question)
        if op == "hello":
            if question["version"] != VERSION:
                raise ProtocolError(
                    f"The host speaks version {question['version']} of the protocol, this worker version {VERSION}. "
                    "Install a matching version of hare-gym for the agent."
                )
            return {"version": VERSION, "hare_gym": hare_gym.__version__}
        if op == "start":
            if question["folder"]:
                sys.path.insert(0, question["folder"])
            self.agent = make_agent(question["agent"], **question["kwargs"])
            return {"modes": sorted(self.agent.modes)}
        if op == "reset":
            task = replace(TaskSpec.from_json(question["task"]), pool=question["pool"])
            self.agent.reset(task, generator(question["seed"]))
            return {}
        if op == "end":
            self._learn(question["learn"])
            return {}
        raise ProtocolError(f"Unknown op {op!r}.")

    def _round(self, question: dict[str, Any]) -> dict[str, Any]:
        self._learn(question["learn"])
        self._observation, self._lanes = question["observation"], question["lanes"]
        act = self.agent.act if self._lanes == 1 else self.agent.act_batch
        self._action = act(self._observation)
        return {"action": self._action}

    def _learn(self, learn: list[Any] | None) -> None:
        if learn is None:
            return
        outcome, reward = learn
        agent, observation, action = self.agent, self._observation, self._action
        if self._lanes == 1:
            if outcome is not None:
                agent.feedback(observation, action, outcome)
            agent.update(observation, action, reward)
        else:
            if outcome is not None:
                agent.feedback_batch(observation, action, outcome)
            agent.update_batch(observation, action, reward)


def generator(seed: bytes) -> np.random.Generator:
    """The generator of an agent whose seed is these bytes, in this process or in another."""
    return np.random.default_rng(int.from_bytes(seed, "little"))


def serve(questions: int, answers: int) -> None:
    """Reads questions from one descriptor and answers on the other until ``end``, or until the host is gone."""
    worker, buffer = Worker(), bytearray()
    while (asked := _next_question(questions, buffer)) is not None:
        nonce, question = asked
        try:
            answer = frame(nonce, worker.answer(question))
        except Exception as error:
            text = "".join(traceback.format_exception(error))[-MAX_ERROR_TEXT:]
            told = {"type": type(error).__name__, "message": str(error)[:2000], "traceback": text}
            answer = frame(nonce, {"error": told})
        _write(answers, answer)
        if question.get("op") == "end":
            return


def _next_question(descriptor: int, buffer: bytearray) -> tuple[int, dict[str, Any]] | None:
    """The next frame, what is read beyond it left in ``buffer``; ``None`` at the end of the stream."""
    needed = HEADER.size
    while True:
        while len(buffer) < needed:
            part = os.read(descriptor, max(_CHUNK, needed - len(buffer)))
            if not part:
                return None
            buffer += part
        length, nonce = HEADER.unpack_from(buffer)
        if not 8 <= length <= MAX_QUESTION:
            raise ProtocolError(f"The host announced a frame of {length} bytes.")
        if needed == length + 4:
            break
        needed = length + 4
    body = bytes(buffer[HEADER.size : needed])
    del buffer[:needed]
    return nonce, opened(body)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main() -> None:
    """Moves the protocol to descriptors of its own, and serves."""
    questions, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    serve(questions, answers)


if __name__ == "__main__":
    main()
