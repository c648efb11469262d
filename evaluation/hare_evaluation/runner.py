"""The one loop: a specification goes in, a record comes out.

Agents never log and never see ``info``; this is the only place that reads it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import fsum, isfinite, nan
from time import perf_counter
from typing import Any

import numpy as np
from numpy import vdot
from threadpoolctl import threadpool_limits

from hare_evaluation.environments import make
from hare_evaluation.spec import RunSpec
from hare_evaluation.store import Record
from hare_gym.contract import Action, Agent, Observation, TaskSpec
from hare_gym.errors import ContractError, DataError
from hare_gym.registry import make_agent

SCHEMA = 1
# Agents' diagnostics may cost as much as many rounds, so they are asked for at every eighth checkpoint only, counted
# from the last: 20 to 25 points of a curve.
DIAGNOSTICS_EVERY = 8
FROM_INFO = ("regret", "expected_reward", "oracle_reward", "catalogue_oracle_reward")
CURVES = ("reward", *FROM_INFO, "observed")
_INTEGERS = (int, np.integer)


def run(spec: RunSpec, watched: Callable[[Any, Agent], Any] | None = None) -> tuple[Record, Record]:
    """Plays one session.

    An exception of the agent or the environment ends the session and becomes part of the record, whose curves
    then go as far as the session did. Ctrl-C and a machine that is out of memory or disk are not the agent's
    failure, and are raised.

    Args:
        spec: What to run.
        watched: From the environment and the agent, the environment to play: the same one, looked at.

    Returns:
        The record, the same bytes whenever and wherever the specification is run, and the timing, which is not.

    Raises:
        HareError: The environment or the agent cannot be made.
    """
    env, agent = make(spec.env, spec.env_kwargs, spec.lanes), make_agent(spec.agent, **spec.agent_kwargs)
    if watched is not None:
        env = watched(env, agent)
    session = Session(env, agent, spec.lanes, spec.trace_every)
    environment_seed, rng = seeds(spec.seed_set, spec.seed)
    error = None
    started = perf_counter()
    try:
        with one_thread():
            session.play(environment_seed, rng)
    except Exception as raised:
        if isinstance(raised, MemoryError) or getattr(raised, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        error = _describe(raised, session.round or None)
    finally:
        env.close()
    record = {
        "schema": SCHEMA,
        "key": spec.key,
        "spec": spec.to_dict(),
        "status": "failed" if error else "ok",
        "task": session.task_summary(),
        **session.ledger.summary(),
        **({} if session.trace is None else {"trace": session.trace.columns}),
        "estimates": session.estimates,
        "actions_sha256": session.actions_hash.hexdigest(),
        "error": error,
    }
    return record, session.timing(perf_counter() - started)


class Session:
    """One agent playing one session of one environment (or ``lanes`` users of it at once).

    A round is one user's: with lanes, each pass of the loop is ``lanes`` rounds.
    """

    def __init__(self, env: Any, agent: Agent, lanes: int, trace_every: int = 0) -> None:
        self.env, self.agent, self.lanes = env, agent, lanes
        self.ledger = Ledger()
        self.trace = Trace(trace_every) if trace_every else None
        self.actions_hash = hashlib.sha256()
        self.estimates: dict[str, Any] | None = None
        self.round = 0  # the pass of the loop that is being played; 0 while the session is being set up
        self.seconds = (0.0, 0.0, 0.0)

    def play(self, environment_seed: int, rng: np.random.Generator) -> None:
        """Runs the session to its end."""
        agent, lanes, store, trace = self.agent, self.lanes, self.ledger.store, self.trace
        observation, _ = self.env.reset(seed=environment_seed)
        task: TaskSpec = self.env.unwrapped.task
        agent.reset(task, rng)
        if agent.privileged:
            agent.attach(self.env.unwrapped)
        act: Callable[..., Any] = agent.act if lanes == 1 else agent.act_batch
        measures: tuple[str, ...] = getattr(self.env.unwrapped, "measures", ())
        self.ledger.measure(measures)
        step: Callable[..., Any] = self.env.step if lanes == 1 else _Lanes(self.env, measures).step
        update: Callable[..., None] = agent.update if lanes == 1 else agent.update_batch
        feedback: Callable[..., None] = agent.feedback if lanes == 1 else agent.feedback_batch
        checked_reward: Callable[..., Any] = _checked_reward if lanes == 1 else _checked_rewards
        log = getattr(self.env.unwrapped, "log", None)
        logged = None if log is None else _LoggedRounds(log)
        points = checkpoints(task.horizon)
        remaining, asked = iter(points), {*points[::-DIAGNOSTICS_EVERY]}
        checkpoint = next(remaining)
        # items are hashed a checkpoint at a time; contents at once, for an agent may reuse the array it gave
        items: list[Any] = []
        add_action = self.actions_hash.update
        add_items = task.action_mode == "select" and lanes == 1
        # plain sums in plain variables: what is not agent or environment here must cost next to nothing
        reward_sum = regret = expected = oracle = catalogue = 0.0
        measured = [0.0] * len(measures)
        played = observed = 0
        act_seconds = step_seconds = update_seconds = 0.0
        ended = False
        with one_thread():  # again: resetting the agent may just have imported torch
            try:
                for t in range(1, task.horizon + 1):
                    self.round = t
                    _check_observation(observation)
                    if logged is not None:
                        logged.before(agent, observation)
                    t0 = perf_counter()
                    action = act(observation)
                    t1 = perf_counter()
                    next_observation, reward, terminated, truncated, info = step(action)
                    t2 = perf_counter()
                    reward = checked_reward(reward)
                    if info.get("observed", True):
                        if "outcome" in info:
                            feedback(observation, action, info["outcome"])
                        update(observation, action, reward)
                        reward_sum += reward if lanes == 1 else fsum(reward)
                        regret += info["regret"]
                        expected += info["expected_reward"]
                        oracle += info["oracle_reward"]
                        catalogue += info["catalogue_oracle_reward"]
                        observed += lanes
                        for i, name in enumerate(measures):
                            measured[i] += info[name]
                    t3 = perf_counter()
                    if trace is not None:
                        told = {"expected_reward": float(info["expected_reward"])}
                        if add_items:
                            told["item"] = int(action)
                        trace.visit(t, int(observation["user"]), agent, told)
                    act_seconds += t1 - t0
                    step_seconds += t2 - t1
                    update_seconds += t3 - t2
                    if add_items:
                        items.append(action)
                    else:
                        add_action(_action_bytes(action))
                    if logged is not None:
                        logged.actions.append(action)
                    played = t
                    if t == checkpoint:
                        sums = (reward_sum, regret, expected, oracle, catalogue, *measured, observed)
                        store(t * lanes, sums, agent.diagnostics() if t in asked else {})
                        checkpoint = next(remaining, 0)
                        add_action(np.array(items, dtype="<i8").tobytes())
                        items.clear()
                    observation = next_observation
                    if terminated or truncated:
                        ended = True
                        break
            finally:
                add_action(np.array(items, dtype="<i8").tobytes())
                self.seconds = (act_seconds, step_seconds, update_seconds)
                store(played * lanes, (reward_sum, regret, expected, oracle, catalogue, *measured, observed), {})
        if not ended:
            raise ContractError(f"{task.id} did not truncate after its horizon of {task.horizon} rounds.")
        if logged is not None:
            self.estimates = logged.estimates()

    def task_summary(self) -> dict[str, Any] | None:
        """What the record tells of the task; ``None`` if the environment has none."""
        task: TaskSpec | None = getattr(self.env.unwrapped, "task", None)
        if task is None:
            return None
        return {
            "id": task.id,
            "action_mode": task.action_mode,
            "horizon": task.horizon,
            "num_users": task.num_users,
            "num_items": task.num_items,
            "digest": task.digest,
        }

    def timing(self, wall: float) -> dict[str, Any]:
        """Seconds of the clock, in all and by part, and what they were measured on."""
        act, step, update = self.seconds
        return {
            "wall_seconds": wall,
            "act_seconds": act,
            "step_seconds": step,
            "update_seconds": update,
            "rounds_per_second": self.round * self.lanes / wall,
            "hardware": f"{os.cpu_count()} processors, {platform.machine()}",
        }


class Ledger:
    """The cumulative sums at the checkpoints, and what the agent said of itself there."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.curves: dict[str, list[float]] = {name: [] for name in CURVES}
        self.diagnostics: dict[str, list[float | None]] = {}

    def measure(self, names: tuple[str, ...]) -> None:
        """Keeps sums of further parts of ``info`` as well, before ``observed``, the last.

        Raises:
            ContractError: A name that a curve has already.
        """
        for name in names:
            if name in self.curves:
                raise ContractError(
                    f"The environment measures {name!r}, which is a curve of every record. Rename it."
                )
        self.curves = {name: [] for name in (*CURVES[:-1], *names, CURVES[-1])}

    def store(self, rounds: int, sums: tuple[float, ...], diagnostics: dict[str, float]) -> None:
        """Makes a checkpoint after ``rounds`` rounds, unless there is one.

        Raises:
            DataError: A sum is NaN or infinite; what is stored ends before it.
        """
        last = self.rounds[-1] if self.rounds else 0
        if rounds == last:
            return
        *values, observed = sums
        for name, value in zip(self.curves, values, strict=False):
            if not isfinite(value):
                raise DataError(
                    f"The environment's info must be finite, but {name!r} became {value} after round {last}, "
                    f"by round {rounds}."
                )
        self.rounds.append(rounds)
        for name, value in zip(self.curves, values, strict=False):
            self.curves[name].append(float(value))
        self.curves["observed"].append(observed)
        for name in diagnostics.keys() - self.diagnostics.keys():
            self.diagnostics[name] = [None] * (len(self.rounds) - 1)
        for name, series in self.diagnostics.items():
            found = float(diagnostics.get(name, nan))
            series.append(found if isfinite(found) else None)

    def summary(self) -> dict[str, Any]:
        """The record's part: ``rounds``, ``curves``, ``diagnostics`` and ``totals``."""
        totals = {name: values[-1] if values else 0.0 for name, values in self.curves.items()}
        observed = self.curves["observed"][-1] if self.rounds else 0
        rounds = self.rounds[-1] if self.rounds else 0
        return {
            "rounds": self.rounds,
            "curves": self.curves,
            "diagnostics": self.diagnostics,
            "totals": {**totals, "observed": observed, "rounds": rounds},
        }


class Trace:
    """Who was served, what came of it, and what the agent said of itself, at every n-th round.

    What comes of a round is its expected reward and, where items are selected, the item.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.columns: dict[str, list[Any]] = {"round": [], "user": [], "visit": [], "first": []}
        self._visits: dict[int, tuple[int, int]] = {}

    def visit(self, t: int, user: int, agent: Agent, told: Mapping[str, Any]) -> None:
        """Counts a user's round; keeps it if it is the n-th of the session."""
        first, visits = self._visits.get(user, (t, 0))
        self._visits[user] = first, visits + 1
        if t % self.every:
            return
        diagnostics = agent.diagnostics()
        columns, kept = self.columns, len(self.columns["round"])
        row = {**diagnostics, **told, "round": t, "user": user, "visit": visits + 1, "first": first}
        for name in row.keys() - columns.keys():
            columns[name] = [None] * kept
        for name, column in columns.items():
            value = row.get(name, nan)
            column.append(value if isfinite(value) else None)


class _Lanes:
    """A vector environment as the loop sees it: one answer for all lanes, sums of their info, and their outcomes.

    ``fsum`` is exact, so the order of the lanes does not matter.
    """

    def __init__(self, env: Any, measures: tuple[str, ...]) -> None:
        self.env = env
        self.summed = (*FROM_INFO, *measures)

    def step(self, actions: Action) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        sums: dict[str, Any] = {name: fsum(info[name]) for name in self.summed}
        if "outcome" in info:  # Gymnasium's own vector forms put a mask "_name" beside each name
            sums["outcome"] = {name: values for name, values in info["outcome"].items() if not name.startswith("_")}
        return observations, rewards, bool(np.all(terminated | truncated)), False, sums


class _LoggedRounds:
    """What off-policy estimates need of a session that plays logged data."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.actions: list[Action] = []
        self.probabilities: list[Any] | None = []

    def before(self, agent: Agent, observation: Observation) -> None:
        if self.probabilities is not None:
            chances = agent.probabilities(observation)
            if chances is None:
                self.probabilities = None
            else:
                self.probabilities.append(np.array(chances, dtype=np.float64))

    def estimates(self) -> dict[str, Any]:
        from hare_evaluation.off_policy import estimates_for_run

        chances = None if self.probabilities is None else np.stack(self.probabilities)
        found: dict[str, Any] = estimates_for_run(self.log, np.asarray(self.actions), chances)
        return found


def seeds(seed_set: str, seed: int) -> tuple[int, np.random.Generator]:
    """The environment's seed and the agent's generator of one seed of a named set.

    Both come from the name and the index alone, so agents that are compared on a seed meet the same world.
    """
    digest = hashlib.sha256(seed_set.encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
    environment, agent = np.random.SeedSequence([*words, seed]).spawn(2)
    return int(environment.generate_state(1, np.uint64)[0] >> 1), np.random.default_rng(agent)


def checkpoints(horizon: int) -> list[int]:
    """The rounds whose values are kept: about 100 even ones, 100 log-spaced ones, and always the last."""
    even = np.linspace(0.0, horizon, 101)[1:]
    logarithmic = np.geomspace(1.0, horizon, 100)
    return sorted({*np.ceil(even).astype(int).tolist(), *np.rint(logarithmic).astype(int).tolist(), horizon})


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS, OpenMP and torch: results do not depend on the machine's load, nor runs on each other."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    with threadpool_limits(1):
        if threads != 1:
            torch.set_num_threads(1)  # type: ignore[union-attr]
        try:
            yield
        finally:
            if threads != 1:
                torch.set_num_threads(threads)  # type: ignore[union-attr]


def _checked_reward(reward: Any) -> Any:
    number = float(reward)
    if not 0.0 <= number <= 1.0:
        raise DataError(f"The environment gave the reward {number}, which is not within [0, 1].")
    return number


def _checked_rewards(rewards: Any) -> Any:
    rewards = np.asarray(rewards, dtype=np.float64)
    good = (rewards >= 0.0) & (rewards <= 1.0)
    if not good.all():
        raise DataError(f"The environment gave the reward {rewards[~good][0]}, which is not within [0, 1].")
    return rewards


def _check_observation(observation: Observation) -> None:
    query, pool = observation["query"], observation.get("pool")
    # a square overflows for some values that are finite, so it only says where to look
    if not isfinite(vdot(query, query)) and not np.isfinite(query).all():
        raise DataError("The environment gave an observation whose 'query' holds NaN or infinity.")
    if pool is not None and not isfinite(vdot(pool, pool)) and not np.isfinite(pool).all():
        raise DataError("The environment gave an observation whose 'pool' holds NaN or infinity.")


def _action_bytes(action: Action) -> bytes:
    if type(action) is int or isinstance(action, _INTEGERS):
        return int(action).to_bytes(8, "little", signed=True)
    if isinstance(action, str):
        text = action.encode("utf-8", "surrogatepass")
        return len(text).to_bytes(8, "little") + text
    if isinstance(action, tuple | list) and action and isinstance(action[0], str):
        return b"".join(_action_bytes(text) for text in action)
    array = np.asarray(action)
    return array.astype(np.int64).tobytes() if np.issubdtype(array.dtype, np.integer) else array.tobytes()


def _describe(error: Exception, round: int | None) -> dict[str, Any]:
    """The record's ``error``: without what differs from one machine or process to the next."""
    text = "".join(traceback.format_exception(error))
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        text = text.replace(f'File "{folder.rstrip("/")}/', 'File "')
    return {
        "round": round,
        "type": type(error).__name__,
        "message": _without_addresses(str(error)),
        "traceback": _without_addresses(text),
    }


def _without_addresses(text: str) -> str:
    return re.sub(r"\b0x[0-9a-f]{6,}\b", "0x...", text)
