"""Simulated studies: does the paper's machinery find effects that are there, and none that are not?

A study has the plan's hypotheses, endpoints and seeds. A seed's number is the mean over its
users of effect + what is the seed's + what is the user's own; half of the variance is the seeds'. A planted effect
is twice the smallest that matters, and no loss where non-inferiority is claimed; a null is no effect at all. Right
is ``supported`` for a planted effect, and ``not supported`` for a null. ``docs/statistics.md`` holds what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hare_evaluation.judging import NOT_SUPPORTED, SUPPORTED
from hare_evaluation.paper import mixed
from hare_evaluation.paper.plan import Endpoint, Plan
from hare_evaluation.paper.verdicts import Tested, Verdict, examined, judged
from hare_evaluation.results import Array
from hare_evaluation.statistics import Interval, proportion_interval
from hare_gym.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

USERS = 20
SEED_SHARE = 0.5
TWICE = 2.0

NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "exponential": lambda rng, shape: rng.standard_exponential(shape) - 1.0,
}
"""Centred, of variance one; the second is skewed, so that the test of normality has something to refuse."""

SCENARIOS = ("all planted", "all null", "every other one")

SPREADS = ("smallest", "pilot")
"""Standard deviations over seeds: as large as the smallest effect that matters, or as the pilot saw them."""


@dataclass(frozen=True)
class Outcome:
    """What a scenario came to.

    Attributes:
        scenario: Which effects were planted.
        spread: One of `SPREADS`.
        noise: The shape of the noise.
        studies: How many.
        planted: Share of planted hypotheses that were found supported, with its interval; NaN without any.
        null: Share of nulls that were found not supported.
        false: Share of studies in which any null was found supported.
        least: The share of right verdicts of the hypothesis that fared worst.
        whole: Share of studies in which every verdict was right.
    """

    scenario: str
    spread: str
    noise: str
    studies: int
    planted: Interval
    null: Interval
    false: Interval
    least: float
    whole: Interval


def simulated(
    endpoint: Endpoint, planted: bool, spread: str, seeds: int, noise: str, rng: np.random.Generator
) -> Tested:
    """One endpoint of one study.

    Raises:
        ConfigError: The endpoint has no pilot, whose spread is asked for.
    """
    if spread == "pilot" and endpoint.pilot is None:
        raise ConfigError(f"The endpoint {endpoint.id!r} has no pilot, so its spread cannot be simulated.")
    sd = endpoint.pilot.sd if spread == "pilot" and endpoint.pilot is not None else abs(endpoint.least)
    draw = NOISES[noise]
    effect = TWICE * endpoint.least if planted and endpoint.margin is None else 0.0
    of_seed = np.sqrt(SEED_SHARE) * sd * draw(rng, (seeds,))
    of_users = np.sqrt((1.0 - SEED_SHARE) * USERS) * sd * draw(rng, (seeds, USERS))
    x = effect + of_seed + of_users.mean(axis=1)
    return examined(endpoint, {("simulated", i): float(value) for i, value in enumerate(x)})


def study(
    plan: Plan, scale: str, planted: Sequence[bool], spread: str, noise: str, rng: np.random.Generator
) -> list[Verdict]:
    """The verdicts of one simulated study; ``planted`` says of which hypotheses the effect is there."""
    shares = plan.scale(scale).parts
    found = {
        hypothesis.id: [simulated(e, there, spread, shares[e.suite].seeds, noise, rng) for e in hypothesis.endpoints]
        for hypothesis, there in zip(plan.hypotheses, planted, strict=True)
    }
    return judged(plan.hypotheses, found, plan.alpha)


def outcomes(plan: Plan, scale: str, studies: int) -> list[Outcome]:
    """Every scenario with every spread and noise, ``studies`` times each."""
    m = len(plan.hypotheses)
    patterns = {
        "all planted": [True] * m,
        "all null": [False] * m,
        "every other one": [i % 2 == 0 for i in range(m)],
    }
    return [
        _outcome(plan, scale, studies, scenario, patterns[scenario], spread, noise)
        for spread in SPREADS
        for noise in NOISES
        for scenario in SCENARIOS
    ]


def _outcome(
    plan: Plan, scale: str, studies: int, scenario: str, pattern: Sequence[bool], spread: str, noise: str
) -> Outcome:
    rng = np.random.default_rng([SCENARIOS.index(scenario), SPREADS.index(spread), [*NOISES].index(noise)])
    found = np.array([[v.verdict for v in study(plan, scale, pattern, spread, noise, rng)] for _ in range(studies)])
    planted = np.array(pattern, dtype=np.bool_)
    null = np.logical_not(planted)
    right = found == np.where(planted, SUPPORTED, NOT_SUPPORTED)
    false = ((found == SUPPORTED) & null).any(axis=1)
    return Outcome(
        scenario,
        spread,
        noise,
        studies,
        proportion_interval(int(right[:, planted].sum()), right[:, planted].size),
        proportion_interval(int(right[:, null].sum()), right[:, null].size),
        proportion_interval(int(false.sum()), studies),
        float(right.mean(axis=0).min()),
        proportion_interval(int(right.all(axis=1).sum()), studies),
    )


# -- the mixed model -----------------------------------------------------------------------------------------------

VISIT_MIDDLES = (1.0, 2.0, 3.5, 6.3, 11.7, 22.4)


def mixed_frame(interaction: float, seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    """Differences of a study with a known interaction, sized as those of the paper's texts; see `mixed`."""
    import pandas as pd

    x = np.log(VISIT_MIDDLES)
    x = x - x.mean()
    a, b = 0.02 * rng.standard_normal(seeds), 0.01 * rng.standard_normal(seeds)
    c = 0.06 * rng.standard_normal((seeds, USERS))
    s, k, j = (grid.ravel() for grid in np.meshgrid(range(seeds), range(USERS), range(x.size), indexing="ij"))
    d = 0.05 + interaction * x[j] + a[s] + b[s] * x[j] + c[s, k] + 0.1 * rng.standard_normal(s.size)
    return pd.DataFrame({"seed": s, "user": k, "x": x[j], "d": d})


def mixed_outcomes(
    seeds: int, studies: int, planted: float = 0.02
) -> list[tuple[float, Interval, Interval, Interval]]:
    """Planted interaction; share of fits that cover it, that find it above 0, and that find it below 0."""
    rows = []
    for interaction in (planted, 0.0):
        rng = np.random.default_rng([seeds, int(1e6 * interaction)])
        fits = [mixed.fit(mixed_frame(interaction, seeds, rng)).interaction for _ in range(studies)]
        covers, above, below = (
            proportion_interval(count, studies)
            for count in (
                sum(interaction in found for found in fits),
                sum(found.low > 0 for found in fits),
                sum(found.high < 0 for found in fits),
            )
        )
        rows.append((interaction, covers, above, below))
    return rows
