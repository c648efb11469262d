"""The pipes to an agent's process: asks, waits as long as the limits allow, says what went wrong, and kills."""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hare_evaluation.remote import HEADER, MAX_ANSWER, AgentFault, ProtocolError, frame, opened
from hare_leaderboard import confine

OUTPUT_BYTES = 64 * 1024
"""How much of the agent's own output is kept: the last of it."""

_CHUNK = 1 << 18
_STARTING = ("hello", "start", "reset")


@dataclass(frozen=True)
class Limits:
    """What one agent may use in one session.

    Attributes:
        memory_mb: Of address space, which is more than it touches (torch alone takes about 770).
        threads: Of its process; it cannot make further processes.
        cpu_seconds: Of processor time, start included.
        file_mb: Of one file.
        scratch_mb: Of all files in its private ``/tmp``.
        start_seconds: On the clock, until it is ready for the first round.
        act_seconds: On the clock, for one question.
        total_seconds: On the clock, for all questions after the start together.
    """

    memory_mb: int = 4096
    threads: int = 64
    cpu_seconds: int = 600
    file_mb: int = 16
    scratch_mb: int = 64
    start_seconds: float = 120.0
    act_seconds: float = 20.0
    total_seconds: float = 900.0


class AgentProcess:
    """One worker process, from its start to its end.

    Attributes:
        output: The last of what the agent wrote to its own output.
        waited: Seconds on the clock that the host waited for answers, those of the start left out.
    """

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.output = bytearray()
        self.waited = 0.0
        self._process, self._limits = process, limits
        self._questions, self._answers = process.stdin.fileno(), process.stdout.fileno()
        self._errors = process.stderr.fileno()
        for descriptor in (self._questions, self._answers, self._errors):
            os.set_blocking(descriptor, False)
        self._receiving, self._sending = select.poll(), select.poll()
        self._receiving.register(self._answers, select.POLLIN)
        self._sending.register(self._questions, select.POLLOUT)
        for poll in (self._receiving, self._sending):
            poll.register(self._errors, select.POLLIN)
        self._buffer = bytearray()
        self._start_left = limits.start_seconds
        self._cpu_at_start = self._cpu_at_end = 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds from the first round to the last, as the kernel counted them; 0 if it never told."""
        return max(0.0, self._cpu_at_end - self._cpu_at_start)

    @property
    def running(self) -> bool:
        """Whether the process has not been seen to end."""
        return self._process.returncode is None

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one question. A process that fails to give one is killed.

        Raises:
            AgentFault: The answer came too late, or is none to this question, or the process ended.
        """
        if not self.running:
            raise AgentFault("CRASH", "Its process has ended.")
        op = question["op"]
        limits, starting = self._limits, op in _STARTING
        allowed = self._start_left if starting else min(limits.act_seconds, limits.total_seconds - self.waited)
        if op == "end":
            self._cpu_at_end = self._processor_seconds()
        started = time.monotonic()
        try:
            answer = self._exchange(question, started + allowed)
        except TimeoutError:
            self.kill()
            raise AgentFault("TIMEOUT", self._too_late(op, allowed)) from None
        except ProtocolError as error:
            self.kill()
            raise AgentFault("PROTOCOL", str(error)) from None
        except (BrokenPipeError, EOFError):
            raise self._obituary(op) from None
        spent = time.monotonic() - started
        if starting:
            self._start_left -= spent
        else:
            self.waited += spent
        if op == "reset":
            self._cpu_at_start = self._processor_seconds()
        elif op == "end":
            self._let_go()
        return answer

    def kill(self) -> None:
        """Ends the process and all that belongs to it at once. Harmless if it has ended."""
        if self.running:
            self._cpu_at_end = self._cpu_at_end or self._processor_seconds()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._close()

    def _exchange(self, question: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        buffer = self._buffer
        if buffer or self._receive():
            raise ProtocolError("The agent's process sent something that it was not asked for.")
        nonce = secrets.randbits(64)
        self._send(frame(nonce, question), deadline)
        needed = HEADER.size
        while True:
            while len(buffer) < needed:
                self._wait(self._receiving, self._answers, deadline)
                self._receive()
            if needed > HEADER.size:
                break
            length, answered = HEADER.unpack_from(buffer)
            if answered != nonce:
                raise ProtocolError("The agent's process sent bytes that answer no question.")
            if not 8 < length <= MAX_ANSWER:
                raise ProtocolError(f"The answer has {length:,} bytes; at most {MAX_ANSWER:,} are taken.")
            needed = length + 4
        body = bytes(buffer[HEADER.size : needed])
        del buffer[:needed]
        return opened(body)

    def _receive(self) -> bool:
        """Takes what has come; false if nothing has."""
        try:
            part = os.read(self._answers, _CHUNK)
        except BlockingIOError:
            return False
        if not part:
            raise EOFError
        self._buffer += part
        return True

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while True:
            with suppress(BlockingIOError):
                view = view[os.write(self._questions, view) :]
                if not view:
                    return
            self._wait(self._sending, self._questions, deadline)

    def _wait(self, poll: select.poll, wanted: int, deadline: float) -> None:
        """Until ``wanted`` can be used; takes the agent's own output on the way, so that it never blocks on that."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready = dict(poll.poll(left * 1000 + 1))
            if self._errors in ready:
                self._drain()
            if wanted in ready:
                return

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            part = os.read(self._errors, _CHUNK)
            self.output += part
            del self.output[:-OUTPUT_BYTES]
            if not part:
                for poll in (self._receiving, self._sending):
                    poll.unregister(self._errors)

    def _let_go(self) -> None:
        """After its last answer the process should end by itself; how it does that is its own affair."""
        assert self._process.stdin
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        self.kill()

    def _close(self) -> None:
        assert self._process.stdin and self._process.stdout and self._process.stderr
        if self._process.stderr.closed:
            return
        for _ in range(16):  # what is left in the pipe; somebody who got away may still write to it
            with suppress(BlockingIOError):
                self.output += os.read(self._errors, _CHUNK)
        del self.output[:-OUTPUT_BYTES]
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(BrokenPipeError):
                stream.close()

    def _too_late(self, op: str, allowed: float) -> str:
        if op in _STARTING:
            return f"It was not ready within {self._limits.start_seconds:g} s."
        if allowed < self._limits.act_seconds:
            return f"The {self._limits.total_seconds:g} s of the whole session are used up."
        return f"No answer within {allowed:g} s."

    def _obituary(self, op: str) -> AgentFault:
        """Why the process is gone, as far as its exit status tells."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        gone = not self.running
        self.kill()
        if not gone:
            return AgentFault("PROTOCOL", f"It closed its pipe instead of answering {op!r}.")
        code = self._process.returncode
        number = -code if code < 0 else code - 128
        if code == confine.FAILED and op == "hello":
            text = self.output.decode("utf-8", "replace").strip()
            return AgentFault("INFRA", f"The sandbox could not be set up: {text[-300:]}")
        if number == signal.SIGXCPU:
            return AgentFault("TIMEOUT", f"It used more than {self._limits.cpu_seconds} s of processor time.")
        if number == signal.SIGKILL:
            return AgentFault("INFRA", "Its process was killed, and not by us; perhaps the machine is out of memory.")
        if number in {each.value for each in signal.Signals}:
            return AgentFault("CRASH", f"Its process ended by {signal.Signals(number).name}.")
        return AgentFault("CRASH", f"Its process ended with exit code {code}.")

    def _processor_seconds(self) -> float:
        """Of the process and its descendants, from ``/proc``; 0 where they cannot be read."""
        ticks, waiting = 0, [self._process.pid]
        while waiting:
            pid = waiting.pop()
            with suppress(OSError, ValueError, IndexError):
                columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(columns[11]) + int(columns[12])
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return ticks / os.sysconf("SC_CLK_TCK")
