"""A mixed model of rounds × method: does one agent's lead over another grow with a user's visits?

Both agents meet the same users, queries and luck on a seed, so the model is of their paired difference d of user k of
seed s in a range of visits with middle v: d = β₀ + β₁·(ln v − mean) + (a_s + b_s·(ln v − mean)) + c_sk + ε. In a
balanced paired design β₁ is the interaction of rounds and method and β₀ the method's effect. Random: intercept a_s
and slope b_s of the seed, intercept c_sk of the user within the seed. Fitted by restricted maximum likelihood
(statsmodels, after Laird and Ware 1982); intervals use Student's t with as many degrees of freedom as there are
seeds less one, because seeds are the clusters: the normal quantile that statsmodels prints is too small for a dozen
of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hare_evaluation.paper.endpoints import by_visit
from hare_evaluation.results import Array, Record, Seed
from hare_evaluation.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd

NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Mixed:
    """A fitted model.

    Attributes:
        method: β₀, the lead at the mean of ln v, in reward.
        interaction: β₁, its growth per e-fold of visits.
        p: Two-sided, of β₁ = 0.
        seed_sd: Standard deviation of a_s.
        slope_sd: Of b_s.
        user_sd: Of c_sk.
        residual_sd: Of ε.
        rows: Differences that it was fitted to.
        note: What the optimiser had to say; empty if nothing.
    """

    method: Interval
    interaction: Interval
    p: float
    seed_sd: float
    slope_sd: float
    user_sd: float
    residual_sd: float
    rows: int
    note: str = ""


def visit_edges(last: int) -> list[float]:
    """Edges of the ranges of visits 1, 2, 3 to 4, 5 to 8, ... up to ``last``; each range begins at its edge."""
    edges, at = [1.0], 2.0
    while at <= last:
        edges.append(at)
        at = 2 * at - 1 if at > 2 else 3.0
    return [*edges, float(last + 1)]


def differences(own: Mapping[Seed, Record], other: Mapping[Seed, Record]) -> pd.DataFrame:
    """One row a seed, user and range of visits that both agents have: seed, user, x = ln of the range's middle, d."""
    import pandas as pd

    shared = [seed for seed in own if seed in other]
    last = max((max(own[seed]["trace"]["visit"]) for seed in shared if own[seed].get("trace")), default=1)
    edges = visit_edges(last)
    middles = np.log([math.sqrt(a * max(a, b - 1)) for a, b in pairwise(edges)])
    frames = []
    for seed in shared:
        users, a = by_visit(own[seed], edges)
        _, b = by_visit(other[seed], edges)
        d = a - b
        k, j = np.nonzero(np.isfinite(d))
        frames.append(pd.DataFrame({"seed": seed[1], "user": users[k], "x": middles[j], "d": d[k, j]}))
    return pd.concat(frames, ignore_index=True)


def fit(frame: pd.DataFrame, level: float = 0.95) -> Mixed:
    """Fits the model to `differences`; without any spread, or with fewer than three seeds, there is no interval."""
    from scipy import stats
    from statsmodels.regression.mixed_linear_model import MixedLM

    seeds = frame["seed"].nunique()
    if seeds < 3 or not frame["d"].std() > 1e-12 or not frame["x"].std() > 1e-12:
        return Mixed(
            NO_INTERVAL,
            NO_INTERVAL,
            math.nan,
            math.nan,
            math.nan,
            math.nan,
            math.nan,
            len(frame),
            f"{seeds} seeds give no model",
        )
    data = frame.assign(x=frame["x"] - frame["x"].mean())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = MixedLM.from_formula(
            "d ~ x", data, groups="seed", re_formula="~x", vc_formula={"user": "0 + C(user)"}
        )
        found = model.fit(reml=True, method=["lbfgs"])
    quantile = float(stats.t.ppf(0.5 + level / 2, seeds - 1))

    def interval(name: str) -> Interval:
        value, half = float(found.fe_params[name]), quantile * float(found.bse_fe[name])
        return Interval(value, value - half, value + half)

    t = float(found.fe_params["x"] / found.bse_fe["x"])
    random: Array = np.asarray(found.cov_re, dtype=np.float64)
    variances = (random[0, 0], random[1, 1], found.vcomp[0], found.scale)
    seed_sd, slope_sd, user_sd, residual_sd = (math.sqrt(max(float(v), 0.0)) for v in variances)
    note = "" if found.converged else "; ".join(dict.fromkeys(str(each.message).split(";")[0] for each in told))
    p = float(2 * stats.t.sf(abs(t), seeds - 1))
    return Mixed(interval("Intercept"), interval("x"), p, seed_sd, slope_sd, user_sd, residual_sd, len(frame), note)
