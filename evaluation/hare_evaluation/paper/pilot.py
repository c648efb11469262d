"""The pilot: the spread of every endpoint over a few seeds that the paper does not use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hare_evaluation.judging import View
from hare_evaluation.paper import endpoints
from hare_evaluation.paper.plan import Plan
from hare_evaluation.results import Results
from hare_evaluation.spec import RunSpec, Seeds, Suite
from hare_evaluation.store import Record

SEEDS = 4


def pilot_suites(plan: Plan, scale: str, count: int = SEEDS) -> dict[str, Suite]:
    """The suites that endpoints are of, on ``count`` seeds of the pilot's own set."""
    wanted = {endpoint.suite for hypothesis in plan.hypotheses for endpoint in hypothesis.endpoints}
    return {
        name: suite.model_copy(update={"seeds": Seeds(set=f"{plan.seed_set}-pilot", count=count)})
        for name, suite in plan.suites(scale).items()
        if name in wanted
    }


def spreads(
    plan: Plan, suites: Mapping[str, Suite], play: Callable[[Sequence[RunSpec], str], list[Record]]
) -> list[tuple[str, str, float, int]]:
    """Hypothesis, endpoint, standard deviation over seeds and number of seeds.

    Args:
        plan: The plan.
        suites: From `pilot_suites`.
        play: Runs specifications, under a title.
    """
    views = {}
    for name, suite in suites.items():
        made = suite.plan()
        records = play(made.specs, f"Pilot: {name}")
        views[name] = View(suite.study, Results.from_records(records, made.labels))
    found = []
    for hypothesis in plan.hypotheses:
        for endpoint in hypothesis.endpoints:
            x = np.array([*endpoints.values(endpoint, views[endpoint.suite]).values()])
            found.append((hypothesis.id, endpoint.id, float(x.std(ddof=1)), x.size))
    return found
