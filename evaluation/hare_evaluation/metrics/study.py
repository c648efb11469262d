"""Which runs of a study must be measured for its claims and figures, and measuring them, several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hare_evaluation.claims import GenerationClaim, Study
from hare_evaluation.figure_entries import GenerationFigure, LearningFigure, UserRecoveryFigure
from hare_evaluation.metrics import kept
from hare_evaluation.results import Record, Results
from hare_gym.errors import HareError


def wanted(study: Study, results: Results) -> list[Record]:
    """The records that claims and figures on texts ask for: the first `kept.SEEDS` runs of each agent they name."""
    entries = [
        entry
        for entry in (*study.claims, *study.figures)
        if isinstance(entry, GenerationClaim | GenerationFigure | LearningFigure | UserRecoveryFigure)
    ]
    pairs = {(environment, agent) for e in entries for environment in e.environments for agent in e.labels()}
    found = [
        record
        for environment, agent in sorted(pairs)
        for record in [*results.finished(environment, agent).values()][: kept.SEEDS]
    ]
    return [record for record in found if record["task"]["action_mode"] == "write"]


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
