"""What claims, figures and tables read off the curves and the trace of one record."""

from __future__ import annotations

import math

import numpy as np

from hare_evaluation.judging import NotRunError
from hare_evaluation.results import Array, Record, curve_at


def visits(record: Record, diagnostic: str, users: str = "all", after: float = 0.5) -> list[tuple[Array, Array]]:
    """A diagnostic along the visits of each user, from a record's trace.

    Args:
        record: Of a run with ``trace_every``.
        diagnostic: Its name.
        users: ``all``; ``late`` for those who first came after the share ``after`` of the session; ``early`` for the
            others.
        after: That share.

    Returns:
        For each user, which of their visits were traced (from 1, ``(n,)``) and the values, ``(n,)``.

    Raises:
        NotRunError: The record has no trace, or not of this diagnostic.
    """
    trace = record.get("trace") or {}
    if diagnostic not in trace:
        known = ", ".join(name for name in trace if name not in ("round", "user", "visit", "first"))
        there = f"it has {known}" if known else "set trace_every for the environment"
        raise NotRunError(f"no trace of {diagnostic} in the runs of {record['spec']['agent']}: {there}")
    user, visit, first = (np.array(trace[name]) for name in ("user", "visit", "first"))
    values = np.array(trace[diagnostic], dtype=np.float64)  # None becomes NaN
    chosen = np.isfinite(values)
    if users != "all":
        late = first > after * record["task"]["horizon"]
        chosen &= late if users == "late" else ~late
    return [
        (visit[mine].astype(np.float64), values[mine])
        for one in np.unique(user[chosen])
        for mine in [chosen & (user == one)]
    ]


def visit_slope(record: Record, diagnostic: str, users: str = "all", after: float = 0.5) -> float:
    """The mean over users of the least-squares slope of a diagnostic on ln(visit).

    On the logarithm, because what is unknown of a user falls as one over the visits: each doubling of them tells
    about as much, and the many late visits, where little happens, do not drown the early ones.

    Returns:
        Units of the diagnostic per factor e of visits; NaN without a user with three traced visits.
    """
    slopes = []
    for visit, values in visits(record, diagnostic, users, after):
        if visit.size >= 3:
            x = np.log(visit)
            x = x - x.mean()
            slopes.append(float(x @ values / (x @ x)))
    return float(np.mean(slopes)) if slopes else math.nan


def recovery(record: Record, regain: float = 0.9, window: float = 0.02) -> tuple[float, float]:
    """Rounds per user from the first abrupt change until the reward is back, from a record's curves.

    The level of some rounds is Σ expected reward / Σ best possible reward (of the action mode) over them. Before the
    change it is that of the last tenth of the session, or of the second half of the rounds before the change if these
    are fewer. After it, the level of the last ``window`` of the session is looked at every hundredth of the session,
    from one whole window after the change on.

    Returns:
        Rounds per user until the level is ``regain`` times that before, infinite if it never was; and how many
        rounds per user followed the change (up to the next one).
    """
    T, change = record["task"]["horizon"], int(record["spec"]["env_kwargs"].get("change_every") or 0)
    if not 0 < change < T:
        raise NotRunError(f"the users did not change: change_every was {change} in {T} rounds")
    users, end = record["task"]["num_users"], min(2 * change, T)
    best = "catalogue_oracle_reward" if record["task"]["action_mode"] in ("select", "slate") else "oracle_reward"

    def level(start: Array, stop: Array) -> Array:
        earned, possible = (
            curve_at(record, name, stop) - curve_at(record, name, start) for name in ("expected_reward", best)
        )
        return np.asarray(earned / possible)

    before = level(np.array(change - min(T / 10, change / 2)), np.array(change))
    rounds = np.arange(change + window * T, end + 1e-9 * T, T / 100)
    back = rounds[level(rounds - window * T, rounds) >= regain * before]
    return (float(back[0] - change) / users if back.size else math.inf), (end - change) / users


def catalogue_margin(record: Record, last: float) -> float:
    """Expected reward minus what the catalogue's best item would earn, a round, over the last share of rounds."""
    T = record["rounds"][-1]
    ends = [(1 - last) * T, T]
    own, best = (np.diff(curve_at(record, name, ends))[0] for name in ("expected_reward", "catalogue_oracle_reward"))
    return float((own - best) / (last * T))


def reward_after(record: Record, visits: float) -> float:
    """The mean expected reward a round from the round on that is ``visits`` times the number of users.

    Raises:
        NotRunError: The session ended before.
    """
    T = record["rounds"][-1]
    start = visits * record["task"]["num_users"]
    if start >= T:
        raise NotRunError(f"after {visits:g} rounds per user no round of {T} is left")
    before, end = curve_at(record, "expected_reward", [start, T])
    return float((end - before) / (T - start))
