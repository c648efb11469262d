"""What judges claims: targets, findings and verdicts, the view of results that they ask, and what every claim has.

`hare_evaluation.claims` has the kinds of claims, and says what the verdicts mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hare_evaluation.metrics import kept
from hare_evaluation.results import Results, Seed
from hare_evaluation.statistics import Interval

if TYPE_CHECKING:
    from hare_evaluation.figure_entries import AnyFigure, RewardTable

Role = Literal["baseline", "agent", "ablation", "oracle"]

SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_RUN = "supported", "not supported", "undecided", "not run"


@dataclass(frozen=True)
class Study:
    """What a suite says of its results.

    Attributes:
        claims: What they will show.
        figures: What to draw beside the environments' own figures.
        tables: What to put together of several environments.
        roles: Each agent's role, by label.
        modes: The action modes that each agent plays, by label.
        players: The labels of the agents that are to play an environment, if they play its action mode.
    """

    claims: tuple[Claim, ...] = ()
    figures: tuple[AnyFigure, ...] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    modes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    players: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tables: tuple[RewardTable, ...] = ()


@dataclass(frozen=True)
class Target:
    """``value`` must not be exceeded (``at_most``), or must be reached. ``bound`` is that of the interval's far end.

    ``strict``: equality does not do.
    """

    value: float
    at_most: bool
    bound: float | None = None
    strict: bool = False

    def verdict(self, found: Interval) -> str:
        """What an estimate and its interval say."""
        if math.isnan(found.value) or math.isnan(found.low) or math.isnan(found.high):
            return UNDECIDED
        near, far = (found.low, found.high) if self.at_most else (found.high, found.low)
        bound = self.value if self.bound is None else self.bound
        if self._meets(found.value, self.value) and self._meets(far, bound):
            return SUPPORTED
        return UNDECIDED if self._meets(near, self.value) else NOT_SUPPORTED

    def _meets(self, x: float, limit: float) -> bool:
        if self.strict:
            return x < limit if self.at_most else x > limit
        return x <= limit if self.at_most else x >= limit

    def __str__(self) -> str:
        sign = ("<" if self.strict else "≤") if self.at_most else (">" if self.strict else "≥")
        end = "" if self.bound is None else f", upper end ≤ {self.bound:g}"
        return f"{sign} {self.value:g}{end}"


@dataclass(frozen=True)
class Finding:
    """One number beside its target. ``seeds`` are those that it rests on."""

    environment: str
    measure: str
    target: str
    found: Interval
    seeds: int
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """The same measure for, or against, another agent: shown beside a claim, and not judged."""

    environment: str
    measure: str
    agent: str
    found: Interval
    seeds: int


@dataclass(frozen=True)
class Judgement:
    """What became of a claim."""

    claim: Claim
    verdict: str
    reason: str
    findings: tuple[Finding, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


class NotRunError(Exception):
    """What a claim or figure needs is not there."""


@dataclass(frozen=True)
class View:
    """Results as claims ask for them."""

    study: Study
    results: Results

    def need(self, environment: str, *agents: str) -> None:
        """Raises `NotRunError` unless every agent finished a run there."""
        self.need_tried(environment, *agents)
        for agent in agents:
            if not self.results.finished(environment, agent):
                raise NotRunError(f"every run of {agent} on {environment} failed")

    def need_tried(self, environment: str, *agents: str) -> None:
        """Raises `NotRunError` unless every agent was run there, even if all its runs failed."""
        if environment not in self.results.environments:
            raise NotRunError(f"{environment} was not run")
        for agent in agents:
            if (environment, agent) not in self.results.runs:
                raise NotRunError(f"{agent} was not run on {environment}")

    def zoo(self, environment: str, *roles: Role) -> list[str]:
        """The agents with one of the roles that the suite plays on an environment, whether they were run or not."""
        mode = self._mode(environment)
        return [
            agent
            for agent in self.study.players.get(environment, ())
            if self.study.roles[agent] in roles and (mode is None or mode in self.study.modes[agent])
        ]

    def rivals(self, environment: str, agent: str, against: str | Sequence[str]) -> list[str]:
        """Whom a claim compares with: those it names, or every baseline of the environment."""
        if not isinstance(against, str):
            return [*against]
        rivals = [other for other in self.zoo(environment, "baseline") if other != agent]
        if not rivals:
            raise NotRunError(f"no baseline was run on {environment}")
        return rivals

    def failures(self, environment: str, agents: Iterable[str]) -> str:
        """A sentence on failed runs of these agents; empty if there are none."""
        counts = {agent: self.results.failed(environment, agent) for agent in agents}
        return ", ".join(
            f"{n} {'run' if n == 1 else 'runs'} of {agent} on {environment} failed"
            for agent, n in counts.items()
            if n
        )

    def finding(
        self, environment: str, measure: str, target: Target, found: Interval, seeds: int, agents: Iterable[str]
    ) -> Finding:
        """Judges one number; a failed run among ``agents`` withholds ``supported``."""
        verdict, reason = target.verdict(found), ""
        if math.isnan(found.low) or math.isnan(found.high):
            reason = f"{seeds} {'seed gives' if seeds == 1 else 'seeds give'} no interval"
        failed = self.failures(environment, agents)
        if failed and verdict == SUPPORTED:
            verdict, reason = UNDECIDED, f"{failed}, so the seeds that are left may be the easy ones"
        return Finding(environment, measure, str(target), found, seeds, verdict, reason)

    def measured(self, environment: str, agent: str) -> dict[Seed, kept.Measured]:
        """What was measured of the texts of an agent's first `kept.SEEDS` finished runs, by seed.

        Raises:
            NotRunError: The agent finished no run there, or its texts have not been measured.
        """
        self.need(environment, agent)
        records = [*self.results.finished(environment, agent).items()][: kept.SEEDS]
        found = {seed: measured for seed, record in records if (measured := kept.load(record)) is not None}
        if len(found) < len(records):
            raise NotRunError(f"the texts of {agent} on {environment} have not been measured")
        return found

    def _mode(self, environment: str) -> str | None:
        for agent in self.results.agents_of(environment):
            for record in self.results.finished(environment, agent).values():
                return str(record["task"]["action_mode"])
        return None


class Claim(BaseModel):
    """What every claim has. It holds only if it holds in each of its environments, unless its kind says otherwise.

    Attributes:
        id: Its name: lower-case words with hyphens.
        text: The sentence that is claimed.
        environments: Labels of the environments that it is about.
        agent: The label of the agent.
        kind: Which of `hare_evaluation.claims.CLAIMS` it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    text: str = Field(min_length=1)
    environments: list[str] = Field(min_length=1)
    agent: str
    kind: str

    def labels(self) -> list[str]:
        """The agents' labels that the claim names."""
        return [self.agent]

    def check(self, environment: str, knobs: Mapping[str, Any]) -> None:
        """Raises `ConfigError` if the claim makes no sense on an environment with these knobs."""

    def look(self, view: View, environment: str) -> tuple[list[Finding], list[Comparison]]:
        """What one environment has to say.

        Raises:
            NotRunError: Something is missing there.
        """
        raise NotImplementedError

    def verdict(self, findings: Sequence[Finding]) -> str:
        """What the findings of all environments come to."""
        verdicts = {finding.verdict for finding in findings}
        if NOT_SUPPORTED in verdicts:
            return NOT_SUPPORTED
        return SUPPORTED if verdicts == {SUPPORTED} else UNDECIDED
