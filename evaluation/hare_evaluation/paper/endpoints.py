"""What is tested: one number a seed, computed from that seed's records alone.

A seed is a world of its own with its own users, so seeds are the clusters: users of one seed share a session and are
averaged before anything is tested. Each number is turned so that the hypothesis is upwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from hare_evaluation.judging import NotRunError, View
from hare_evaluation.paper.plan import Endpoint
from hare_evaluation.readings import catalogue_margin, visit_slope, visits
from hare_evaluation.results import Array, Record, Seed, curve_at

MEASURES = {
    "log_regret_ratio": "ln(regret of {other} ÷ regret of {agent})",
    "reward_gap": "expected reward a round, {agent} − {other}",
    "gap_growth": "lead of {agent} over {other} in reward a round, last quarter − first",
    "diagnostic_slope": "slope of {diagnostic} on ln(visit), {users} users",
    "rank_correlation": "Spearman of {diagnostic} with {against}, {users} users",
    "catalogue_margin": "expected reward of {agent} − the best item's, last {last:.0%} of rounds",
    "log_variety": "ln(effective number of items a user is shown), {agent} − {other}",
}
"""By measure, what it is in words; ``docs/paper.md`` has the formulas."""


def described(endpoint: Endpoint) -> str:
    """An endpoint's measure in words."""
    text = MEASURES[endpoint.measure].format(**endpoint.model_dump())
    return text.replace("all users", "mean over users")


def placed(endpoint: Endpoint) -> str:
    """An endpoint's environment and measure in words."""
    return f"{endpoint.environment}: {described(endpoint)}"


def values(endpoint: Endpoint, view: View) -> dict[Seed, float]:
    """The endpoint of every seed that all its agents finished, turned so that the hypothesis is upwards.

    Raises:
        NotRunError: Something was not run, or was not recorded.
    """
    view.need(endpoint.environment, *filter(None, (endpoint.agent, endpoint.other)))
    own = view.results.finished(endpoint.environment, endpoint.agent)
    if endpoint.measure in _OF_ONE:
        found = {seed: _OF_ONE[endpoint.measure](endpoint, record) for seed, record in own.items()}
    else:
        other = view.results.finished(endpoint.environment, endpoint.other)
        compare = _OF_TWO[endpoint.measure]
        found = {seed: compare(own[seed], other[seed]) for seed in own if seed in other}
    kept = {seed: endpoint.sign * value for seed, value in found.items() if math.isfinite(value)}
    if not kept:
        raise NotRunError(f"no seed of {endpoint.agent} on {endpoint.environment} gives {endpoint.measure}")
    return kept


def mean_reward(record: Record, start: float = 0.0, stop: float = 1.0) -> float:
    """Expected reward a round between two shares of a session."""
    T = record["rounds"][-1]
    first, last = curve_at(record, "expected_reward", np.array([start, stop]) * T)
    return float((last - first) / ((stop - start) * T))


def variety(record: Record) -> float:
    """The mean over users of the effective number of items that they were shown, from the trace.

    exp(−Σ p ln p) of the shares p of a user's traced rounds in which each item was shown: Hill's number of order 1.

    Raises:
        NotRunError: The record has no trace, or no items are selected.
    """
    found = visits(record, "item")
    numbers = []
    for _, items in found:
        _, counts = np.unique(items, return_counts=True)
        p = counts / counts.sum()
        numbers.append(math.exp(-float(p @ np.log(p))))
    return float(np.mean(numbers))


def rank_correlation(record: Record, diagnostic: str, against: str, users: str) -> float:
    """The mean over users of Spearman's correlation of two diagnostics along their visits; NaN without any."""
    from scipy.stats import rankdata

    found = []
    pairs = zip(visits(record, diagnostic, users), visits(record, against, users), strict=True)
    for (_, a), (_, b) in pairs:
        if a.size == b.size >= 3:
            x, y = (rankdata(v) - (v.size + 1) / 2 for v in (a, b))
            scale = math.sqrt(float(x @ x) * float(y @ y))
            if scale > 0.0:
                found.append(float(x @ y) / scale)
    return float(np.mean(found)) if found else math.nan


def by_visit(record: Record, edges: Sequence[float]) -> tuple[Array, Array]:
    """Users and the mean expected reward of each in ranges of visits, ``(U,)`` and ``(U, len(edges) - 1)``.

    NaN where a user has no traced visit in a range.
    """
    trace = record.get("trace") or {}
    if "expected_reward" not in trace:
        raise NotRunError(f"no trace of rewards in the runs of {record['spec']['agent']}: set trace_every")
    user, visit = np.array(trace["user"]), np.array(trace["visit"])
    reward = np.array(trace["expected_reward"], dtype=np.float64)
    users, place = np.unique(user, return_inverse=True)
    bins = np.searchsorted(edges, visit, side="right") - 1
    inside = (bins >= 0) & (bins < len(edges) - 1)
    shape = (users.size, len(edges) - 1)
    flat = place[inside] * shape[1] + bins[inside]
    counts = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
    sums = np.bincount(flat, weights=reward[inside], minlength=shape[0] * shape[1]).reshape(shape)
    return users, np.divide(sums, counts, out=np.full(shape, np.nan), where=counts > 0)


def _log_regret_ratio(own: Record, other: Record) -> float:
    a, b = own["totals"]["regret"], other["totals"]["regret"]
    return math.log(b / a) if a > 0 and b > 0 else math.nan


def _gap(own: Record, other: Record, start: float = 0.0, stop: float = 1.0) -> float:
    return mean_reward(own, start, stop) - mean_reward(other, start, stop)


_OF_TWO: dict[str, Callable[[Record, Record], float]] = {
    "log_regret_ratio": _log_regret_ratio,
    "reward_gap": _gap,
    "gap_growth": lambda own, other: _gap(own, other, 0.75, 1.0) - _gap(own, other, 0.0, 0.25),
    "log_variety": lambda own, other: math.log(variety(own) / variety(other)),
}
_OF_ONE: dict[str, Callable[[Endpoint, Record], float]] = {
    "diagnostic_slope": lambda e, record: visit_slope(record, e.diagnostic, e.users),
    "rank_correlation": lambda e, record: rank_correlation(record, e.diagnostic, e.against, e.users),
    "catalogue_margin": lambda e, record: catalogue_margin(record, e.last),
}
