"""Verdicts on hypotheses, by fixed rules, with Holm's correction across all of them.

For an endpoint with values x of n seeds, null a and least effect b (for superiority a = 0 and b the smallest effect
that matters; for non-inferiority a = b = −margin) two one-sided tests are made: of a mean at or below a, and of a
mean at or above b. A hypothesis has the largest p-value of the first kind among its endpoints (all must hold), and
of the second kind the smallest times their number (one is enough). Each kind is corrected by Holm across hypotheses.
Then it is

- ``supported``: the corrected first p-value is below alpha and every estimate reaches its b;
- ``not supported``: the corrected second p-value is below alpha: some effect is smaller than what matters;
- ``undecided``: neither; also where a run failed that the support would rest on;
- ``not run``: something was not run; the reason names it, and the others are corrected as if it had been.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hare_evaluation import statistics
from hare_evaluation.judging import NOT_RUN, NOT_SUPPORTED, SUPPORTED, UNDECIDED, NotRunError, View
from hare_evaluation.paper import endpoints
from hare_evaluation.paper.plan import Endpoint, Hypothesis, Plan
from hare_evaluation.results import Array, Seed
from hare_evaluation.statistics import Interval

DRAWS = 4000


@dataclass(frozen=True)
class Tested:
    """What the seeds say of an endpoint.

    Attributes:
        endpoint: Which.
        values: By seed, turned so that the hypothesis is upwards.
        found: Mean and its 95% interval over seeds, in the endpoint's own direction.
        p_support: Of the mean being at or below the null, one-sided, not corrected.
        p_refute: Of the mean reaching the least effect, one-sided, not corrected.
        test: Which test gave ``p_support``.
        failed: A sentence on failed runs; empty if there are none.
    """

    endpoint: Endpoint
    values: Mapping[Seed, float]
    found: Interval
    p_support: float
    p_refute: float
    test: str
    failed: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a hypothesis; p-values are those of the hypothesis, corrected across all."""

    hypothesis: Hypothesis
    verdict: str
    p_support: float
    p_refute: float
    tested: tuple[Tested, ...]
    reason: str = ""


def examined(endpoint: Endpoint, values: Mapping[Seed, float], failed: str = "") -> Tested:
    """Tests one endpoint."""
    x = np.array([*values.values()], dtype=np.float64)
    support, refute = statistics.above_test(x, endpoint.null), statistics.above_test(-x, -endpoint.least)
    found = statistics.mean_interval([endpoint.sign * x])
    return Tested(endpoint, values, found, support.p, refute.p, support.test, failed)


def judged(hypotheses: Sequence[Hypothesis], found: Mapping[str, Sequence[Tested]], alpha: float) -> list[Verdict]:
    """The verdicts of hypotheses from their tested endpoints.

    Args:
        hypotheses: All of the family.
        found: By hypothesis, all its endpoints; one that is missing was not run.
        alpha: The family-wise error of either kind.
    """
    supports, refutes = [], []
    for hypothesis in hypotheses:
        parts = found.get(hypothesis.id)
        supports.append(max(part.p_support for part in parts) if parts else 1.0)
        refutes.append(min(1.0, len(parts) * min(part.p_refute for part in parts)) if parts else 1.0)
    corrected = zip(hypotheses, statistics.holm(supports), statistics.holm(refutes), strict=True)
    return [_verdict(h, tuple(found.get(h.id) or ()), float(s), float(r), alpha) for h, s, r in corrected]


def _verdict(
    hypothesis: Hypothesis, parts: tuple[Tested, ...], support: float, refute: float, alpha: float
) -> Verdict:
    if not parts:
        return Verdict(hypothesis, NOT_RUN, math.nan, math.nan, ())
    reached = all(reaches(part) for part in parts)
    verdict, reason = UNDECIDED, ""
    if support < alpha and reached:
        failed = "; ".join(filter(None, dict.fromkeys(part.failed for part in parts)))
        verdict = UNDECIDED if failed else SUPPORTED
        reason = f"{failed}, so the seeds that are left may be the easy ones" if failed else ""
    elif refute < alpha:
        verdict = NOT_SUPPORTED
    return Verdict(hypothesis, verdict, support, refute, parts, reason)


def reaches(part: Tested) -> bool:
    """Whether an endpoint's estimate is as large as it has to be."""
    return part.endpoint.sign * part.found.value >= part.endpoint.least


def judge(plan: Plan, views: Mapping[str, View]) -> list[Verdict]:
    """Verdicts on a plan's hypotheses.

    Args:
        plan: The plan.
        views: By suite, the study and its results; a suite that is missing was not run.
    """
    found: dict[str, list[Tested]] = {}
    missing: dict[str, str] = {}
    for hypothesis in plan.hypotheses:
        try:
            found[hypothesis.id] = [_endpoint(endpoint, views) for endpoint in hypothesis.endpoints]
        except NotRunError as error:
            missing[hypothesis.id] = str(error)
    verdicts = judged(plan.hypotheses, found, plan.alpha)
    return [replace(v, reason=missing[v.hypothesis.id]) if v.hypothesis.id in missing else v for v in verdicts]


def _endpoint(endpoint: Endpoint, views: Mapping[str, View]) -> Tested:
    view = views.get(endpoint.suite)
    if view is None:
        raise NotRunError(f"the suite {endpoint.suite} was not run")
    agents = [*filter(None, (endpoint.agent, endpoint.other))]
    return examined(endpoint, endpoints.values(endpoint, view), view.failures(endpoint.environment, agents))


# -- before and after the runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Power:
    """What an endpoint can show with n seeds, at the strictest of Holm's steps.

    Attributes:
        at_smallest: The chance of support if the effect is the smallest that matters (for non-inferiority: none).
        at_twice: If it is twice that.
        detectable: The least effect whose chance of support is the plan's power; for non-inferiority the largest
        loss.
    """

    at_smallest: float
    at_twice: float
    detectable: float


def power(endpoint: Endpoint, seeds: int, alpha: float, wanted: float) -> Power | None:
    """The power of an endpoint for its pilot's spread, by drawing normal studies; None without a pilot.

    Args:
        endpoint: With its pilot.
        seeds: How many.
        alpha: Of one test: the family's, over the number of hypotheses.
        wanted: For which power the least detectable effect is stated.
    """
    from scipy import stats

    if endpoint.pilot is None or seeds < 2:
        return None
    rng = np.random.default_rng(0)
    sd, n = endpoint.pilot.sd, seeds
    noise = sd / math.sqrt(n) * rng.standard_normal(DRAWS)
    spread = sd * np.sqrt(rng.chisquare(n - 1, DRAWS) / (n - 1))
    critical = float(stats.t.ppf(1 - alpha, n - 1)) * spread / math.sqrt(n)

    def chance(effect: float) -> float:
        mean = effect + noise
        return float(np.mean((mean - endpoint.null > critical) & (mean >= endpoint.least)))

    unit = abs(endpoint.least)
    low, high = endpoint.null, endpoint.null + unit
    while chance(high) < wanted:
        high += unit + sd
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= wanted else (middle, high)
    if endpoint.margin is not None:
        return Power(chance(0.0), chance(unit), high)
    return Power(chance(unit), chance(2 * unit), high)


def with_seeds(verdicts: Sequence[Verdict], count: int, alpha: float) -> list[Verdict]:
    """The verdicts that the first so many seeds of each endpoint would have given."""
    found = {
        verdict.hypothesis.id: [
            examined(part.endpoint, dict([*part.values.items()][:count]), part.failed) for part in verdict.tested
        ]
        for verdict in verdicts
        if verdict.tested
    }
    return judged([verdict.hypothesis for verdict in verdicts], found, alpha)


def without_one(part: Tested) -> tuple[float, float]:
    """The lowest and highest mean when any one seed is left out, in the endpoint's own direction."""
    x: Array = part.endpoint.sign * np.array([*part.values.values()])
    if x.size < 2:
        return math.nan, math.nan
    means = (x.sum() - x) / (x.size - 1)
    return float(means.min()), float(means.max())
