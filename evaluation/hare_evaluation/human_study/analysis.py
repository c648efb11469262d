"""The planned analysis: fixed before anybody was asked, and run on whatever answers there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from hare_evaluation.human_study.answers import FIELDS, Answers
from hare_evaluation.human_study.design import SCALES
from hare_evaluation.statistics import holm
from hare_gym.errors import DataError

Array = NDArray[np.float64]

ALPHA = 0.05


@dataclass(frozen=True)
class Finding:
    """One scale, or the choice.

    Attributes:
        name: Of the scale, or ``choice``.
        effect: Mean of the first condition minus that of the second, in points; of the choice, the share that chose
            the first minus one half.
        low: Of the 95% interval.
        high: Of the 95% interval.
        d: Cohen's d: the effect over the standard deviation of a rating within the two conditions; of the choice, its
            participants' shares' own.
        p_mixed: Of the mixed model's fixed effect, by Student's t with participants - 1 degrees of freedom.
        p_wilcoxon: Of Wilcoxon's signed ranks of the participants' means.
        p_mixed_holm: Corrected over all findings.
        p_wilcoxon_holm: Likewise.
        between: Standard deviation of the effect between participants, by the mixed model.
        verdict: ``first``, ``second`` or ``undecided``: both corrected tests must be below 5%.
    """

    name: str
    effect: float
    low: float
    high: float
    d: float
    p_mixed: float
    p_wilcoxon: float
    p_mixed_holm: float
    p_wilcoxon_holm: float
    between: float
    verdict: str


def table(folder: Path) -> tuple[pd.DataFrame, tuple[str, str]]:
    """All complete answers, unblinded: a row a participant and round.

    Returns:
        Columns ``participant``, ``visit``, ``first_is_a``, ``<scale>_first``, ``<scale>_second`` and ``choice``
        (1 where the first condition was chosen); and the conditions' names.

    Raises:
        DataError: There is no key, or nobody has finished a round.
    """
    try:
        key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"There is no key.json in {str(folder)!r}: it says which text was whose.") from error
    answers = Answers(folder)
    rows: list[dict[str, Any]] = []
    for code in answers.codes:
        for hidden, said in zip(key["sheets"][code]["rounds"], answers.of(code), strict=True):
            if said.keys() >= FIELDS:
                first = hidden["first_is"]
                second = "b" if first == "a" else "a"
                rows.append(
                    {
                        "participant": code,
                        "visit": hidden["visit"],
                        "first_is_a": first == "a",
                        **{f"{scale}_first": said[f"{first}.{scale}"] for scale in SCALES},
                        **{f"{scale}_second": said[f"{second}.{scale}"] for scale in SCALES},
                        "choice": float(said["choice"] == first),
                    }
                )
    if not rows:
        raise DataError("Nobody has finished a round yet. Open the form with: hare study form")
    return pd.DataFrame(rows), (key["conditions"][0], key["conditions"][1])


def analyse(answers: pd.DataFrame) -> list[Finding]:
    """All scales and the choice.

    The mixed model is that of the differences between the two texts of a round, ``difference ~ 1 + left + visit``
    with a random intercept for each participant: what a rater gives everybody, and what a need deserves whoever
    answers it, cancels in the difference. ``left`` (±½) and ``visit`` (centred) take out position and time.

    Raises:
        DataError: Fewer than three participants.
    """
    if answers["participant"].nunique() < 3:
        raise DataError("Fewer than three participants have answered: there is nothing to test yet.")
    left = answers["first_is_a"].to_numpy(float) - 0.5
    visit = answers["visit"].to_numpy(float)
    visit = (visit - visit.mean()) / max(float(visit.std()), 1e-9)
    people = answers["participant"].to_numpy()
    raw = []
    for name in (*SCALES, "choice"):
        if name == "choice":
            y = answers["choice"].to_numpy(float) - 0.5
            spread = float(y.std(ddof=1))
        else:
            a, b = (answers[f"{name}_{which}"].to_numpy(float) for which in ("first", "second"))
            y, spread = a - b, float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2.0))
        raw.append((name, *_mixed(y, left, visit, people), spread, _wilcoxon(y, people)))
    mixed, ranks = holm([row[3] for row in raw]), holm([row[6] for row in raw])
    found = []
    for (name, effect, error, p, between, spread, p_w), p_holm, w_holm in zip(raw, mixed, ranks, strict=True):
        half = float(stats.t.ppf(1 - ALPHA / 2, len(np.unique(people)) - 1)) * error
        decided = max(p_holm, w_holm) < ALPHA
        verdict = ("first" if effect > 0 else "second") if decided else "undecided"
        found.append(
            Finding(
                name, effect, effect - half, effect + half, effect / spread if spread else 0.0,
                p, p_w, float(p_holm), float(w_holm), between, verdict,
            )
        )  # fmt: skip
    return found


def _mixed(y: Array, left: Array, visit: Array, people: NDArray[Any]) -> tuple[float, float, float, float]:
    """Effect, its standard error, p, and the standard deviation between participants."""
    import warnings

    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    if np.ptp(y) == 0.0:
        return float(y[0]), 0.0, 1.0 if y[0] == 0 else 0.0, 0.0
    X = np.column_stack([np.ones_like(y), *(x for x in (left, visit) if np.ptp(x) > 0.0)])
    with warnings.catch_warnings():
        # no variance between participants is an answer
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        fitted = sm.MixedLM(y, X, groups=people).fit(reml=True)
    effect, error = float(fitted.params[0]), float(fitted.bse[0])
    if not np.isfinite(error) or error <= 0.0:  # the variance lies at its bound: ordinary least squares
        plain = sm.OLS(y, X).fit()
        effect, error = float(plain.params[0]), float(plain.bse[0])
    t = effect / error
    p = 2.0 * float(stats.t.sf(abs(t), len(np.unique(people)) - 1))
    return effect, error, p, float(np.sqrt(max(float(np.asarray(fitted.cov_re)[0, 0]), 0.0)))


def _wilcoxon(y: Array, people: NDArray[Any]) -> float:
    means = pd.Series(y).groupby(people).mean().to_numpy()
    if not means.any():
        return 1.0
    return float(stats.wilcoxon(means, zero_method="zsplit").pvalue)


def power(
    d: float, participants: int, rounds: int = 10, between: float = 0.25, shared: float = 0.3, tests: int = 1
) -> float:
    """The chance that the mixed model finds an effect, by the non-central t distribution.

    Args:
        d: Cohen's d of a rating.
        participants: N.
        rounds: Each participant's.
        between: Standard deviation of the effect between participants, in standard deviations of a rating.
        shared: Correlation of the two ratings of a round: what rater and need have in common.
        tests: By how many Holm's correction divides the level at worst; 5 in the planned analysis.
    """
    error = np.sqrt((between**2 + 2.0 * (1.0 - shared) / rounds) / participants)
    df = participants - 1
    critical = float(stats.t.ppf(1.0 - ALPHA / (2.0 * tests), df))
    return float(stats.nct.sf(critical, df, d / error) + stats.nct.cdf(-critical, df, d / error))


def simulated(
    rng: np.random.Generator, d: float, participants: int = 20, rounds: int = 10, between: float = 0.25
) -> pd.DataFrame:
    """Answers of raters whose effect is known, in the form of `table`.

    A latent rating is rater + need + noise, of variances 0.15, 0.15 and 0.7, plus for the first condition d and the
    rater's own deviation from it; it is rounded to 1 to 5 around 3, at one point a standard deviation. The choice is
    whoever is rated higher with fresh noise.

    Args:
        rng: Draws everything.
        d: The effect on every scale, in latent standard deviations.
        participants: N.
        rounds: Of each.
        between: Standard deviation of the effect between raters.
    """
    N, R = participants, rounds
    rows: dict[str, Any] = {
        "participant": np.repeat([f"P{p:02d}" for p in range(N)], R),
        "visit": np.tile(np.linspace(1, 50, R).astype(int), N),
        "first_is_a": (np.arange(N * R) + np.repeat(np.arange(N), R)) % 2 == 0,
    }
    slope = np.repeat(rng.normal(d, between, N), R)
    for scale in SCALES:
        common = np.repeat(rng.normal(0.0, 0.15**0.5, N), R) + rng.normal(0.0, 0.15**0.5, N * R)
        for which, shift in (("first", slope / 2.0), ("second", -slope / 2.0)):
            latent = 3.0 + common + shift + rng.normal(0.0, 0.7**0.5, N * R)
            rows[f"{scale}_{which}"] = np.clip(np.rint(latent), 1, 5)
    rows["choice"] = (slope + rng.normal(0.0, 1.4**0.5, N * R) > 0).astype(float)
    return pd.DataFrame(rows)


def dry_run(effects: Sequence[float], studies: int, participants: int = 20, seed: int = 0) -> pd.DataFrame:
    """How often the planned analysis decides for the first condition, for the second, and covers, by planted effect.

    Args:
        effects: Cohen's d, planted.
        studies: Simulated of each.
        participants: Of each study.
        seed: Of all of it.

    Returns:
        A row an effect: ``planted``, ``any_scale`` (share of studies in which some verdict is for the first),
        ``wrong`` (share with any verdict for the second, or, at no effect, any verdict at all), ``per_scale`` (share
        of scales found), ``estimate`` (mean d).
    """
    rows = []
    for k, d in enumerate(effects):
        verdicts, estimates = [], []
        for study in range(studies):
            found = analyse(simulated(np.random.default_rng([seed, k, study]), d, participants))
            verdicts.append([finding.verdict for finding in found])
            estimates.append(np.mean([finding.d for finding in found if finding.name != "choice"]))
        V: NDArray[np.str_] = np.array(verdicts)
        against = V != "undecided" if d == 0 else np.equal(V, "second" if d > 0 else "first")
        rows.append(
            {
                "planted": d,
                "any_scale": float((V == "first").any(axis=1).mean()),
                "wrong": float(against.any(axis=1).mean()),
                "per_scale": float((V == "first").mean()),
                "estimate": float(np.mean(estimates)),
            }
        )
    return pd.DataFrame(rows)


def as_markdown(found: Sequence[Finding], conditions: tuple[str, str], answers: pd.DataFrame) -> str:
    """The findings as a page."""
    N, n = answers["participant"].nunique(), len(answers)
    lines = [
        "# Which texts people preferred",
        "",
        f"{N} participants, {n} rounds. Positive numbers are for {conditions[0]}, negative ones for {conditions[1]}. "
        "Brackets are 95% intervals; p-values are Holm's over all rows, and a verdict needs both below 0.05.",
        "",
        "| question | difference | Cohen's d | p (mixed model) | p (Wilcoxon) | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for finding in found:
        verdict = {"first": conditions[0], "second": conditions[1]}.get(finding.verdict, "undecided")
        lines.append(
            f"| {finding.name} | {finding.effect:.2f} [{finding.low:.2f}, {finding.high:.2f}] | {finding.d:.2f} | "
            f"{finding.p_mixed_holm:.3f} | {finding.p_wilcoxon_holm:.3f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def as_json(found: Sequence[Finding], conditions: tuple[str, str], answers: pd.DataFrame) -> str:
    """The findings, and how much they rest on."""
    return json.dumps(
        {
            "conditions": conditions,
            "participants": int(answers["participant"].nunique()),
            "rounds": len(answers),
            "findings": [asdict(finding) for finding in found],
        },
        indent=1,
    )
