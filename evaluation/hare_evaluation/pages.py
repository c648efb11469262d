"""Markdown of results: tables, and the generated part of a page, which a command makes anew between two markers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hare_evaluation.claims import judge_all
from hare_evaluation.judging import NotRunError, View
from hare_evaluation.results import Results
from hare_evaluation.store import Record
from hare_evaluation.tables import (
    CLAIM_HEADS,
    claim_rows,
    displayed,
    environment_frame,
    measure_rows,
    number,
    reward_cells,
    reward_frame,
)
from hare_gym.errors import ConfigError

if TYPE_CHECKING:
    from hare_evaluation.spec import Suite


@dataclass(frozen=True)
class Table:
    """A table of a page: what it is called, its heads, its rows."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table under a bold title."""
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"**{self.title}**\n\n{body}"


def markers(command: str) -> tuple[str, str]:
    """The lines between which a page holds what a command has made."""
    return f"<!-- {command}: begin -->", f"<!-- {command}: end -->"


def rewrite(page: str, generated: str, command: str) -> str:
    """``page`` with the text between a command's markers replaced.

    Raises:
        ConfigError: The markers are not there, once each and in order.
    """
    begin_line, end_line = markers(command)
    head, begin, rest = page.partition(begin_line)
    _, end, tail = rest.partition(end_line)
    if not begin or not end or begin_line in rest or end_line in head + tail:
        raise ConfigError(f"The page must hold one line {begin_line!r} and after it one line {end_line!r}.")
    return f"{head}{begin_line}\n{generated}\n{end_line}{tail}"


def write_page(path: Path, generated: str, command: str) -> None:
    """`rewrite` for a file; raises ConfigError if it cannot be read."""
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The page {path} cannot be read: {error.strerror}.") from error
    path.write_text(rewrite(page, generated, command), encoding="utf-8")


def results_section(suite: Suite, records: Iterable[Record]) -> str:
    """What a suite's records show, as Markdown: its claims, tables, final regret by environment, each agent's tuning.

    Args:
        suite: The suite.
        records: Its records, whole.

    Raises:
        DataError: There are no records.
    """
    results = Results.from_records(records, suite.labels)
    versions = "; ".join(f"{name} {', '.join(found)}" for name, found in results.versions().items() if name != "code")
    codes = len(results.versions().get("code", []))
    finished = sum(len(found) for found in results.runs.values())
    start = (
        f"Made by `hare run {suite.name}` from {finished:,} runs on seeds 0 to {suite.seeds.count - 1} of the set "
        f"`{suite.seeds.set}`, {len(results.failures)} failed. Brackets are 95% intervals over seeds. Versions: "
        f"{versions}; {codes} fingerprints of code, one for what each agent and environment imports."
    )
    parts = [start, *results.notes]
    if suite.claims:
        parts.append(Table("Claims", CLAIM_HEADS, claim_rows(judge_all(suite.study, results))).markdown())
    parts += _rewards(suite, results)
    parts += [table.markdown() for table in _forests(suite, results)]
    for environment in results.environments:
        heads, rows = displayed(environment_frame(results, environment))
        parts.append(Table(f"Final regret: {environment}", heads, rows).markdown())
        measured = measure_rows(results, environment)
        if measured is not None:
            parts.append(Table(f"What {environment} measures, a round", *measured).markdown())
    tuned = _tuning_rows(suite)
    if tuned:
        heads = [
            "agent",
            "file",
            "trials",
            "runs",
            "chosen trial",
            "score",
            "score of the defaults",
            "hyperparameters",
        ]
        parts.append(Table("Tuning", heads, tuned).markdown())
    return "\n\n".join(parts)


def _rewards(suite: Suite, results: Results) -> list[str]:
    """The tables that the suite asks for, each with its note, or with what is missing."""
    parts = []
    for entry in suite.tables:
        try:
            heads, rows = reward_cells(entry, reward_frame(entry, View(suite.study, results)))
        except NotRunError as error:
            parts.append(f"**{entry.title}**\n\nNot run: {error}.")
            continue
        parts += [Table(entry.title, heads, rows).markdown(), *([entry.note.strip()] if entry.note else [])]
    return parts


def _forests(suite: Suite, results: Results) -> list[Table]:
    """The suite's forest figures in numbers: regret over the agent's own, variants by environments."""
    from hare_evaluation.drawings import drawing
    from hare_evaluation.figure_entries import ForestFigure

    tables = []
    for figure in suite.figures:
        if isinstance(figure, ForestFigure):
            try:
                frame = drawing(figure, View(suite.study, results)).frame
            except NotRunError:  # the claims say what was not run
                continue
            cells = {
                (row["environment"], row["agent"]): "{} [{}, {}]".format(
                    *(number(row[column]) for column in ("ratio", "ratio_low", "ratio_high"))
                )
                for row in frame.to_dict("records")
            }
            rows = [[v, *(cells.get((e, v), "–") for e in figure.environments)] for v in figure.variants]
            title = f"{figure.title}: regret over that of {figure.agent}"
            tables.append(Table(title, ["variant", *figure.environments], rows))
    return tables


def _tuning_rows(suite: Suite) -> list[list[str]]:
    rows: dict[str, list[str]] = {}
    for entry in suite.agents:
        if entry.tuned:
            found = entry.tuning
            rows.setdefault(
                str(found["source"]),
                [
                    entry.label,
                    f"`{found['source']}`",
                    str(found["trials"]),
                    str(found["runs"]),
                    str(found["trial"]),
                    number(found["score"]["value"]),
                    number(found["default_score"]["value"]),
                    f"`{json.dumps(found['kwargs'], sort_keys=True)}`",
                ],
            )
    return list(rows.values())
