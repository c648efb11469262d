"""Which runs of a study must be measured for its claims and figures: while they are played, or played again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hare_evaluation.claims import GenerationClaim
from hare_evaluation.figure_entries import GenerationFigure, LearningFigure, UserRecoveryFigure
from hare_evaluation.judging import Study
from hare_evaluation.metrics import kept
from hare_evaluation.results import Record, Results
from hare_evaluation.runner import run
from hare_evaluation.spec import RunSpec, Suite
from hare_gym.contract import Agent
from hare_gym.errors import HareError


def wanted(study: Study, results: Results) -> list[Record]:
    """The records that claims and figures on texts ask for: the first `kept.SEEDS` runs of each agent they name."""
    found = [
        record
        for environment, agent in sorted(_asked_for(study))
        for record in [*results.finished(environment, agent).values()][: kept.SEEDS]
    ]
    return [record for record in found if record["task"]["action_mode"] == "write"]


def _asked_for(study: Study) -> set[tuple[str, str]]:
    """Environments and agents, by their labels, whose texts claims or figures are about."""
    return {
        (environment, agent)
        for entry in (*study.claims, *study.figures)
        if isinstance(entry, GenerationClaim | GenerationFigure | LearningFigure | UserRecoveryFigure)
        for environment in entry.environments
        for agent in entry.labels()
    }


@dataclass(frozen=True)
class Measuring:
    """Plays runs as `hare_evaluation.runner.run` does, and measures the texts of some of them at their end.

    Attributes:
        keys: Of the runs to measure.
    """

    keys: frozenset[str]

    @classmethod
    def of(cls, suite: Suite, lanes: int = 1) -> Measuring:
        """Measures what `wanted` will ask for, if no run fails; nothing with more lanes than one."""
        asked = _asked_for(suite.study) if lanes == 1 else set()
        return cls(
            frozenset(
                spec.key
                for environment, agent, specs in suite.specs(lanes)
                if (environment.label, agent.label) in asked and environment.knobs.get("action_mode") == "write"
                for spec in specs[: kept.SEEDS]
            )
        )

    def __call__(self, spec: RunSpec) -> tuple[Record, Record]:
        """Record and timing of a run. What cannot be measured is left for `measure_all`, which says why."""
        if spec.key not in self.keys:
            return run(spec)
        from hare_evaluation.metrics.probe import Watch, measure_watched

        watches: list[Watch] = []

        def watched(env: Any, agent: Agent) -> Watch:
            watches.append(Watch(env, agent))
            return watches[0]

        record, timing = run(spec, watched)
        if record["status"] == "ok":
            with suppress(Exception):  # a record is worth more than its measures
                kept.save(record, measure_watched(record, watches[0]))
        return record, timing


def missing(study: Study, results: Results) -> list[Record]:
    """Those of `wanted` that nobody has measured yet."""
    return [record for record in wanted(study, results) if kept.load(record) is None]


def measure_all(
    records: Sequence[Record], jobs: int | None = None, progress: Callable[[], Any] | None = None
) -> list[str]:
    """Plays records again, measures their texts and keeps what was found.

    Args:
        records: From `missing`.
        jobs: Sessions at once; all processors by default.
        progress: Called after each.

    Returns:
        What could not be measured and why, in sentences.
    """
    from joblib import Parallel, delayed

    problems = []
    tasks = (delayed(_measured)(dict(record)) for record in records)
    for problem in Parallel(n_jobs=jobs or -1, return_as="generator_unordered")(tasks):
        if problem:
            problems.append(problem)
        if progress is not None:
            progress()
    return sorted(set(problems))


def _measured(record: Record) -> str:
    from hare_evaluation.metrics.probe import measure

    try:
        kept.save(record, measure(record))
    except HareError as error:
        return str(error)
    return ""
