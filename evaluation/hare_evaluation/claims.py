"""Claims: what a suite says its results will show, and what they do show, judged by fixed rules.

A claim is data in the suite's file, written before the runs. `judge_all` gives each one a verdict:

- ``supported``: in every finding of the claim the estimate meets the target, and so does the far end of its interval
  (``upper_at_most`` sets another bound for that end);
- ``not supported``: in some finding the whole interval misses the target;
- ``undecided``: neither, or there is no interval, or a run of an agent that was compared failed;
- ``not run``: something that the claim needs was not run; the reason names it.

The docstring of a claim says what it measures; ``docs/metrics.md`` is made of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hare_evaluation import statistics
from hare_evaluation.definitions import TEXTS
from hare_evaluation.judging import (
    NOT_RUN,
    NOT_SUPPORTED,
    SUPPORTED,
    UNDECIDED,
    Claim,
    Comparison,
    Finding,
    Judgement,
    NotRunError,
    Study,
    Target,
    View,
)
from hare_evaluation.metrics import kept
from hare_evaluation.readings import catalogue_margin, recovery, reward_after, visit_slope
from hare_evaluation.results import Array, Results, Seed, measures_of
from hare_evaluation.statistics import Interval
from hare_gym.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

Share = Annotated[float, Field(gt=0, le=1)]
NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


class RatioClaim(Claim):
    """The agent's regret is at most so many times another's, or that of the best of several.

    **Measured.** Regret ÷ the other's at T, or at shares of it: from 0, 1 is equal, lower is better
    (`ratio_of_means`). The best is the one with the largest ratio, which is the one with the least mean regret on
    the same seeds. It is chosen by looking, to the disadvantage of the claim: among equal baselines the least mean
    is below the truth, so the ratio is too high. All agents of the role ``baseline`` in that environment count, and
    the ratio to each is shown.

    Attributes:
        against: Labels, or ``best`` for every agent of the role ``baseline``.
        at: At which shares of the session; the claim must hold at each.
        at_most: The target of the ratio.
        upper_at_most: Of the upper end of its interval; ``at_most`` if it is not given.
    """

    kind: Literal["ratio"]
    against: Literal["best"] | list[str] = "best"
    at: list[Share] = [1.0]
    at_most: float = Field(gt=0)
    upper_at_most: float | None = Field(default=None, gt=0)

    def labels(self) -> list[str]:
        """The agent and whom it names."""
        return [self.agent, *([] if isinstance(self.against, str) else self.against)]

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """A finding a share of the session, and the ratio to every rival."""
        view.need(environment, self.agent)
        rivals = view.rivals(environment, self.agent, self.against)
        view.need_tried(environment, *rivals)
        target = Target(self.at_most, True, self.upper_at_most)
        findings, comparisons = [], []
        for share in self.at:
            scores = view.results.scores(environment, at=share)
            own = scores.loc[self.agent].to_numpy()
            when = "regret" if share == 1.0 else f"regret at {_share(share)}"
            others = {rival: scores.loc[rival].to_numpy() for rival in rivals}
            pairs = {rival: int((~np.isnan(own + other)).sum()) for rival, other in others.items()}
            beside = [
                Comparison(
                    environment, f"{when} ÷ that of", rival, statistics.ratio_of_means(own, other), pairs[rival]
                )
                for rival, other in others.items()
            ]
            # with a rival that has no regret at all there is no ratio, and no better rival
            beside.sort(key=lambda each: (not each.seeds, -np.nan_to_num(each.found.value, nan=np.inf)))
            best = beside[0]
            if not best.seeds:
                view.need(environment, best.agent)
                raise NotRunError(f"{self.agent} and {best.agent} finished no seed in common on {environment}")
            measure = f"{when} ÷ {best.agent}'s" + (" (the best)" if len(rivals) > 1 else "")
            compared = [self.agent, *rivals]
            findings.append(view.finding(environment, measure, target, best.found, best.seeds, compared))
            comparisons += beside
        return findings, comparisons if len(rivals) > 1 else []


class GapGrowsClaim(Claim):
    """Another agent has at least so many times the agent's regret, and its lag grows after a share of the session.

    **Measured.** The other's regret ÷ the agent's at T: from 0, higher is better for the agent (`ratio_of_means`).
    And the difference of the two at T minus that at ``since``·T, in reward, which must be above 0 (`mean_interval`).

    Attributes:
        other: The label of the agent that lags.
        at_least: The target of other ÷ agent at the end.
        since: The share of the session from which on the difference grows.
    """

    kind: Literal["gap_grows"]
    other: str
    at_least: float = Field(gt=0)
    since: Annotated[float, Field(gt=0, lt=1)] = 0.25

    def labels(self) -> list[str]:
        """Both agents."""
        return [self.agent, self.other]

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The ratio at the end, and the growth of the difference."""
        view.need(environment, self.agent, self.other)
        late, early = (view.results.scores(environment, at=share) for share in (1.0, self.since))
        own, other = late.loc[self.agent].to_numpy(), late.loc[self.other].to_numpy()
        growth = (other - own) - (early.loc[self.other] - early.loc[self.agent]).to_numpy()
        seeds = int((~np.isnan(growth)).sum())
        rows = [
            (f"{self.other}'s regret ÷ {self.agent}'s", Target(self.at_least, False)),
            (f"growth of the difference from {_share(self.since)} to T", Target(0.0, False, strict=True)),
        ]
        numbers = [statistics.ratio_of_means(other, own), statistics.mean_interval([growth])]
        return [
            view.finding(environment, measure, target, found, seeds, self.labels())
            for (measure, target), found in zip(rows, numbers, strict=True)
        ], []


class SlopeClaim(Claim):
    """A diagnostic of the agent falls while users are served: the slope on the logarithm of their visits is below 0.

    **Measured.** For each user, least squares of the traced values on the logarithm of which of the user's visits it
    was; then the mean over users (`mean_interval` over seeds). Units of the diagnostic per factor e of visits, any
    sign. The logarithm, because what is unknown of a user falls as one over the visits: each doubling tells about as
    much, and the many late visits do not drown the early ones. It says nothing of whether the fall does any good. The
    agent goes on learning from everybody meanwhile, so a fall is not by itself the user's doing; early users' curves
    stand beside it in the figure.

    Attributes:
        diagnostic: Its name; the environment needs ``trace_every``.
        users: ``late``, ``early`` or ``all``.
        after: Late users come for the first time after this share of the session.
    """

    kind: Literal["slope"]
    diagnostic: str
    users: Literal["late", "early", "all"] = "late"
    after: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The mean slope."""
        view.need(environment, self.agent)
        records = view.results.finished(environment, self.agent).values()
        slopes = np.array([visit_slope(record, self.diagnostic, self.users, self.after) for record in records])
        found = statistics.mean_interval([slopes])
        what = "" if self.users == "all" else f"{self.users} "
        measure = f"slope of {self.diagnostic} on ln(visit), {what}users"
        seeds = int((~np.isnan(slopes)).sum())
        finding = view.finding(environment, measure, Target(0.0, True, strict=True), found, seeds, [self.agent])
        if seeds < slopes.size and not finding.reason:
            missing = slopes.size - seeds
            finding = replace(finding, reason=f"{missing} of {slopes.size} seeds have no such users")
        return [finding], []


class RewardMarginClaim(Claim):
    """At the end the agent earns so much more than the best item of the catalogue would.

    **Measured.** Σ (expected reward − the best item's) over the last rounds ÷ their number: reward a round, −1 to 1,
    higher is better (`mean_interval`).

    Attributes:
        at_least: The target of the mean expected reward minus the catalogue oracle's.
        last: The share of the session, at its end, that counts.
    """

    kind: Literal["reward_margin"]
    at_least: float
    last: Share = 0.1

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The margin, and every baseline's."""
        view.need(environment, self.agent)
        measure = f"expected reward − the best item's, last {self.last:.0%} of rounds"
        others = [other for other in view.zoo(environment, "baseline") if view.results.finished(environment, other)]
        margins = {agent: self._margins(view, environment, agent) for agent in [self.agent, *others]}
        found = {agent: statistics.mean_interval([values]) for agent, values in margins.items()}
        own = view.finding(
            environment,
            measure,
            Target(self.at_least, False),
            found[self.agent],
            margins[self.agent].size,
            [self.agent],
        )
        beside = [Comparison(environment, measure, other, found[other], margins[other].size) for other in others]
        return [own], sorted(beside, key=lambda each: -_or_least(each.found.value))

    def _margins(self, view: View, environment: str, agent: str) -> Array:
        records = view.results.finished(environment, agent).values()
        return np.array([catalogue_margin(record, self.last) for record in records])


class LeadClaim(Claim):
    """Once it has met its users some times, the agent earns more than another on so many environments, on none less.

    **Measured.** Expected reward a round minus the other's, on the seeds that both played: −1 to 1, higher is better
    (`mean_interval` of the differences). More (less) is an interval that lies above (below) 0 as a whole.

    Attributes:
        other: The label of the other agent.
        after: Rounds per user, on average, that do not count yet.
        wins: On how many of the environments it must earn more.
    """

    kind: Literal["lead"]
    other: str
    after: float = Field(ge=0)
    wins: int = Field(ge=0)

    def labels(self) -> list[str]:
        """Both agents."""
        return [self.agent, self.other]

    def check(self, environment: str, knobs: Mapping[str, Any]) -> None:
        """There must be as many environments as are to be won."""
        if self.wins > len(self.environments):
            raise ConfigError(
                f"The claim {self.id!r} wants to win {self.wins} environments, but names {len(self.environments)}."
            )

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The difference on the seeds that both played."""
        view.need(environment, self.agent, self.other)
        own, other = (view.results.finished(environment, agent) for agent in self.labels())
        seeds = [seed for seed in own if seed in other]
        if not seeds:
            raise NotRunError(f"{self.agent} and {self.other} finished no seed in common on {environment}")
        gains = [reward_after(own[seed], self.after) - reward_after(other[seed], self.after) for seed in seeds]
        measure = f"expected reward a round − {self.other}'s, after {self.after:g} rounds per user"
        found = statistics.mean_interval([np.array(gains)])
        target = Target(0.0, False, strict=True)
        return [view.finding(environment, measure, target, found, len(seeds), self.labels())], []

    def verdict(self, findings: Sequence[Finding]) -> str:
        """Counts the environments."""
        verdicts = [finding.verdict for finding in findings]
        lost = verdicts.count(NOT_SUPPORTED)
        if lost:
            return NOT_SUPPORTED
        return SUPPORTED if verdicts.count(SUPPORTED) >= self.wins else UNDECIDED


class MeasureClaim(Claim):
    """What an environment measures beside the reward, per round or per another measure, or a multiple of another's.

    **Measured.** Σ ``measure`` ÷ Σ ``per`` over a session, in the units of the
    [measures](#measures-of-environments). A rate per round is a mean; a rate per another measure, such as rounds of
    waiting per arrival, is a ratio of sums within each session, so that what had not arrived at the end still counts
    in the numerator. The mean over seeds (`mean_interval`), or with ``against`` the multiple of that agent's
    (`ratio_of_means`), from 0; everybody else's is shown beside.

    Attributes:
        measure: A name among the environment's measures, whose sum is taken over the session.
        per: What it is divided by: another measure, or ``rounds``.
        against: The label of the other agent; None to judge the rate itself.
        at_least: The target of the ratio or the rate.
        at_most: Or this one.
        strict: Equality with the target does not do.
    """

    kind: Literal["measure"]
    measure: str
    per: str = "rounds"
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    strict: bool = False

    def labels(self) -> list[str]:
        """The agents that it names."""
        return [self.agent, *([self.against] if self.against else [])]

    def check(self, environment: str, knobs: Mapping[str, Any]) -> None:
        """There must be one target."""
        if (self.at_least is None) == (self.at_most is None):
            raise ConfigError(f"The claim {self.id!r} needs either at_least or at_most.")

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The mean rate over seeds, or the ratio of means over the seeds that both played; and everybody else's."""
        view.need(environment, *self.labels())
        other = None if self.against is None else self._rates(view, environment, self.against)
        players = [
            label
            for label in view.results.agents_of(environment)
            if label != self.against and view.results.finished(environment, label)
        ]
        found = {}
        for label in players:
            own = self._rates(view, environment, label)
            if other is None:
                found[label] = (statistics.mean_interval([np.array([*own.values()])]), len(own))
                continue
            seeds = [seed for seed in own if seed in other]
            pairs = np.array([(own[seed], other[seed]) for seed in seeds]).reshape(-1, 2)
            found[label] = (statistics.ratio_of_means(pairs[:, 0], pairs[:, 1]), len(seeds))
        each = "a round" if self.per == "rounds" else f"per {self.per}"
        measure = f"{self.measure} {each}" + (f" ÷ {self.against}'s" if self.against else "")
        value = self.at_least if self.at_most is None else self.at_most
        assert value is not None
        target = Target(value, self.at_most is not None, strict=self.strict)
        ratio, count = found.pop(self.agent)
        finding = view.finding(environment, measure, target, ratio, count, self.labels())
        return [finding], [Comparison(environment, measure, label, *values) for label, values in found.items()]

    def _rates(self, view: View, environment: str, agent: str) -> dict[Seed, float]:
        rates = {}
        for seed, record in view.results.finished(environment, agent).items():
            totals = record["totals"]
            for name in (self.measure, self.per):
                if name not in totals:
                    known = ", ".join(measures_of(record)) or "nothing"
                    raise NotRunError(f"{environment} does not measure {name!r}; it measures {known}")
            rates[seed] = totals[self.measure] / totals[self.per] if totals[self.per] else math.nan
        return rates


class RankClaim(Claim):
    """The agent is among the best of the zoo: all baselines and agents, without ablations and oracles.

    **Measured.** Its rank by mean regret (`rank_intervals`): from 1 to the size of the zoo, lower is better.

    Attributes:
        best: The worst rank that will do, for the upper end of the interval too.
    """

    kind: Literal["rank"]
    best: int = Field(ge=1)

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The rank, and everybody's."""
        view.need(environment, self.agent)
        zoo = view.zoo(environment, "baseline", "agent")
        view.need_tried(environment, *zoo)
        there = [other for other in zoo if view.results.finished(environment, other)]
        scores = view.results.scores(environment).loc[there]
        ranks = dict(zip(there, statistics.rank_intervals([scores.to_numpy()]), strict=True))
        intervals = {agent: Interval(rank.rank, rank.low, rank.high) for agent, rank in ranks.items()}
        seeds = {agent: len(view.results.finished(environment, agent)) for agent in there}
        measure = f"rank of {len(there)} by mean regret"
        found = intervals[self.agent] if seeds[self.agent] > 1 else replace(NO_INTERVAL, value=ranks[self.agent].rank)
        target = Target(self.best, True)
        own = view.finding(environment, measure, target, found, seeds[self.agent], zoo)
        beside = [Comparison(environment, measure, other, intervals[other], seeds[other]) for other in there]
        return [own], sorted(beside, key=lambda each: each.found.value)


class RecoveryClaim(Claim):
    """After an abrupt change of the users, the agent soon earns nearly as much of what can be earned as before.

    **Measured.** Rounds per user until the level of reward is first ``regain`` times the level before: from
    ``window``·T ÷ users on, infinite if it never was, lower is better (`median_interval`). The level of some rounds
    is Σ expected reward ÷ Σ best possible reward (best item in ``select`` and ``slate``, best content otherwise).
    Before the first abrupt change it is taken over the last tenth of the session (the second half of what was
    before, if that is shorter); afterwards over the last ``window`` of the session, every hundredth of it, from a
    whole window after the change to the next change or the end. So the time is rounded up, and one lucky window ends
    it. An agent that had learned little has little to regain and may look quick. Where it was not regained, the time
    is infinite in the median and at the interval's upper end, and the rounds that followed in its lower.

    Attributes:
        at_most: The target of the median number of rounds per user until then.
        regain: The share of the level before that counts as regained.
        window: The share of the session that the reward is averaged over.
    """

    kind: Literal["recovery"]
    at_most: float = Field(gt=0)
    regain: Share = 0.9
    window: Annotated[float, Field(gt=0, le=0.2)] = 0.02

    def check(self, environment: str, knobs: Mapping[str, Any]) -> None:
        """The users must change there."""
        if not knobs.get("change_every"):
            raise ConfigError(
                f"The claim {self.id!r} asks how soon a change of the users is made up for, but on {environment!r} "
                "they do not change: set change_every there."
            )

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The median time, and every baseline's."""
        view.need(environment, self.agent)
        measure = f"rounds per user until {self.regain:.0%} of the reward before the change"
        others = [other for other in view.zoo(environment, "baseline") if view.results.finished(environment, other)]
        found, times = {}, {}
        for agent in [self.agent, *others]:
            records = view.results.finished(environment, agent).values()
            pairs = np.array([recovery(record, self.regain, self.window) for record in records])
            late = np.where(pairs[:, 0] <= pairs[:, 1], pairs[:, 0], np.inf)
            found[agent] = statistics.median_interval(late, np.minimum(late, pairs[:, 1]))
            times[agent] = late
        own = times[self.agent]
        finding = view.finding(
            environment, measure, Target(self.at_most, True), found[self.agent], own.size, [self.agent]
        )
        if np.isinf(own).any():
            never = f"not regained by the end in {int(np.isinf(own).sum())} of {own.size} seeds"
            finding = replace(finding, reason="; ".join(filter(None, [finding.reason, never])))
        beside = [Comparison(environment, measure, other, found[other], times[other].size) for other in others]
        return [finding], sorted(beside, key=lambda each: each.found.value)


class Rival(BaseModel):
    """What is subtracted from a metric: ``times`` the ``metric``, of another ``agent`` or of the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    agent: str | None = None
    times: float = 1.0


class GenerationClaim(Claim):
    """A [metric of the agent's texts](#metrics-of-texts) reaches a target, or does not exceed it.

    **Measured.** The metric in its own unit and range, of the sessions that were measured, less a multiple of another
    (`mean_interval`).

    Attributes:
        metric: Its name.
        minus: What is subtracted from it, seed by seed: ``times`` a ``metric``, of another ``agent`` or of the same.
        at_least: The target.
        at_most: Or this one.
        strict: Equality with the target does not do.
    """

    kind: Literal["generation"]
    metric: str
    minus: Rival | None = None
    at_least: float | None = None
    at_most: float | None = None
    strict: bool = False

    def labels(self) -> list[str]:
        """The agent, and the other one."""
        return [self.agent, *([self.minus.agent] if self.minus and self.minus.agent else [])]

    def check(self, environment: str, knobs: Mapping[str, Any]) -> None:
        """There must be one target, of metrics that exist, on an environment where texts are written."""
        for metric in (self.metric, *([self.minus.metric] if self.minus else [])):
            if metric not in TEXTS:
                raise unknown_name(f"metric of the claim {self.id!r}", metric, TEXTS)
        if (self.at_least is None) == (self.at_most is None):
            raise ConfigError(f"The claim {self.id!r} needs either at_least or at_most.")
        if knobs.get("action_mode") != "write":
            raise ConfigError(
                f"The claim {self.id!r} is about texts, but on {environment!r} none are written: set action_mode to "
                "write there."
            )

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """The mean over the seeds that were measured."""
        runs = view.measured(environment, self.agent)
        values = kept.by_seed([*runs.values()], self.metric)
        name = TEXTS[self.metric].label
        if self.minus is not None:
            rival = self.minus.agent or self.agent
            others = view.measured(environment, rival)
            if others.keys() != runs.keys():
                raise NotRunError(f"{self.agent} and {rival} were not measured on the same seeds of {environment}")
            values = values - self.minus.times * kept.by_seed([*others.values()], self.minus.metric)
            whose = "" if rival == self.agent else f"{rival}'s "
            times = "" if self.minus.times == 1.0 else f"{self.minus.times:g} × "
            name = f"{name} − {times}{whose}{TEXTS[self.minus.metric].label}"
        if np.isnan(values).all():
            why = kept.why_not([*runs.values()], self.metric)
            raise NotRunError(f"no {self.metric} of {self.agent} on {environment}: {why}")
        value = self.at_least if self.at_most is None else self.at_most
        assert value is not None
        target = Target(value, self.at_most is not None, strict=self.strict)
        found = statistics.mean_interval([values])
        return [view.finding(environment, name, target, found, int((~np.isnan(values)).sum()), self.labels())], []


AnyClaim = (
    RatioClaim
    | GapGrowsClaim
    | SlopeClaim
    | RewardMarginClaim
    | LeadClaim
    | MeasureClaim
    | RankClaim
    | RecoveryClaim
    | GenerationClaim
)

CLAIMS: dict[str, type[Claim]] = {
    "ratio": RatioClaim,
    "gap_grows": GapGrowsClaim,
    "slope": SlopeClaim,
    "reward_margin": RewardMarginClaim,
    "lead": LeadClaim,
    "measure": MeasureClaim,
    "rank": RankClaim,
    "recovery": RecoveryClaim,
    "generation": GenerationClaim,
}


def judge_all(study: Study, results: Results) -> list[Judgement]:
    """The study's claims, in order, each with its verdict."""
    view = View(study, results)
    return [_judge(claim, view) for claim in study.claims]


def _judge(claim: Claim, view: View) -> Judgement:
    findings: list[Finding] = []
    comparisons: list[Comparison] = []
    missing: list[str] = []
    for environment in claim.environments:
        try:
            found, beside = claim.look(view, environment)
        except NotRunError as error:
            missing.append(str(error))
            continue
        findings += found
        comparisons += beside
    reasons = [finding.reason for finding in findings if finding.reason]
    if missing:
        verdict, reasons = NOT_RUN, [*missing, *reasons]
    else:
        verdict = claim.verdict(findings)
    return Judgement(claim, verdict, "; ".join(dict.fromkeys(reasons)), tuple(findings), tuple(comparisons))


def claims_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row a finding, with its claim and the claim's verdict; one row for a claim without any finding."""
    import pandas as pd

    rows = []
    for judged in judgements:
        shared = {"claim": judged.claim.id, "text": judged.claim.text, "kind": judged.claim.kind}
        ends = {"verdict": judged.verdict, "reason": judged.reason}
        rows += [shared | row | ends for row in map(_row, judged.findings)] or [shared | ends]
    return pd.DataFrame(rows, columns=[*_COLUMNS])


_COLUMNS = (
    "claim", "text", "kind", "environment", "measure", "target", "estimate", "low", "high", "seeds", "finding",
    "verdict", "reason",
)  # fmt: skip


def claims_json(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """The judgements as JSON values; a number that is not finite is null."""
    return [
        {
            "claim": judged.claim.model_dump(mode="json"),
            "verdict": judged.verdict,
            "reason": judged.reason,
            "findings": [_finite(_row(finding)) for finding in judged.findings],
            "comparisons": [
                _finite(
                    {
                        "environment": each.environment,
                        "measure": each.measure,
                        "agent": each.agent,
                        "estimate": each.found.value,
                        "low": each.found.low,
                        "high": each.found.high,
                        "seeds": each.seeds,
                    }
                )
                for each in judged.comparisons
            ],
        }
        for judged in judgements
    ]


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "environment": finding.environment,
        "measure": finding.measure,
        "target": finding.target,
        "estimate": finding.found.value,
        "low": finding.found.low,
        "high": finding.found.high,
        "seeds": finding.seeds,
        "finding": finding.verdict,
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def _or_least(x: float) -> float:
    return -math.inf if math.isnan(x) else x


def _share(share: float) -> str:
    part = Fraction(share).limit_denominator(100)
    return f"{part.numerator if part.numerator > 1 else ''}T/{part.denominator}"
