"""Ranking: from the files of results alone.

An entry's number is its normalised regret, ``regret / worst`` of each session: 0 is the oracle, 1 the worst policy of
that session. Entries of a track meet the same worlds, so they are compared seed by seed. Only verified, complete
entries are ranked; the rest is listed with the reason.

Order and ranks go by the mean over all hidden seeds, because an interquartile mean would forgive an agent that fails
on one seed in five. The interquartile mean stands beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hare_evaluation.statistics import (
    Interval,
    Rank,
    bootstrap_interval,
    iqm,
    mean_interval,
    pairwise_p_values,
    rank_intervals,
    unpaired_difference,
)
from hare_leaderboard.results import TIERS, Flaw, Folder, Removal, Run, RunSet, Stored

Array = NDArray[np.float64]
Seeds = Literal["hidden", "public"]

ALPHA = 0.05


@dataclass(frozen=True)
class Row:
    """An entry of a track.

    Attributes:
        stored: The result that counts: of the highest tier, then the newest.
        earlier: The submission's other results on the track, newest first.
        seeds: Which seeds its numbers are of: ``hidden`` if it has any.
        mean: Mean normalised regret, averaged over environments, with Student's interval.
        iqm: The interquartile mean, with a stratified bootstrap interval.
        rank: Its rank and the ranks that cannot be excluded; ``None`` if unranked.
        why: Why it is unranked, in a sentence; empty if ranked.
        p: Of the paired comparison with the first row, Holm-corrected over all pairs of the track; NaN for the first
            row itself and for unranked ones.
        gap: Hidden minus public mean normalised regret; NaN where one is missing.
        micros: Median microseconds that the agent took for a round, to act and to learn: of the processor where they
            are known, else of the clock.
        front: Whether no ranked entry has both less regret and less time.
        faults: Its sessions that ended in a fault of the agent.
        sessions: Its sessions on these seeds.
    """

    stored: Stored
    earlier: list[Stored]
    seeds: Seeds
    mean: Interval
    iqm: Interval
    rank: Rank | None
    why: str
    p: float
    gap: Interval
    micros: float
    front: bool
    faults: int
    sessions: int

    @property
    def runs(self) -> RunSet:
        """The result's content."""
        return self.stored.runs


@dataclass(frozen=True)
class Track:
    """One track of a benchmark version, ranked rows first.

    Attributes:
        name: The track.
        rows: All entries.
        definition: The hash of the track's definition that ranked entries have.
    """

    name: str
    rows: list[Row]
    definition: str

    @property
    def ranked(self) -> list[Row]:
        """The ranked entries, the least regret first."""
        return [row for row in self.rows if row.rank is not None]

    @property
    def unranked(self) -> list[Row]:
        """The others, with the reason in ``why``."""
        return [row for row in self.rows if row.rank is None]


@dataclass(frozen=True)
class Board:
    """Every track of a benchmark version."""

    benchmark: str
    tracks: list[Track]
    removed: list[Stored] = field(default_factory=list)
    lost: list[Removal] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)


def rank_all(folder: Folder, order: Sequence[str] = ()) -> list[Board]:
    """A board for each benchmark version in the folder, the newest name first.

    Args:
        folder: What :meth:`hare_leaderboard.results.ResultStore.load` found.
        order: Tracks in the order of display; others follow by name.
    """
    versions = sorted({stored.runs.benchmark for stored in [*folder.results, *folder.removed]}, reverse=True)
    return [_board(folder, version, order) for version in versions]


def _board(folder: Folder, benchmark: str, order: Sequence[str]) -> Board:
    by_track: dict[str, list[Stored]] = {}
    for stored in folder.results:
        if stored.runs.benchmark == benchmark:
            by_track.setdefault(stored.runs.track, []).append(stored)
    place = {name: i for i, name in enumerate(order)}
    names = sorted(by_track, key=lambda name: (place.get(name, len(place)), name))
    return Board(
        benchmark,
        [rank_track(name, by_track[name]) for name in names],
        [stored for stored in folder.removed if stored.runs.benchmark == benchmark],
        [removal for removal in folder.lost if removal.benchmark == benchmark],
        folder.flaws,
    )


def rank_track(name: str, results: Iterable[Stored]) -> Track:
    """Ranks all results of one track of one benchmark version."""
    chosen = _chosen(results)
    definition = _definition(chosen)
    reasons = [_why_unranked(stored.runs, definition) for stored, _ in chosen]
    players = [stored.runs for (stored, _), why in zip(chosen, reasons, strict=True) if not why]
    strata = normalised(players, "hidden")
    ranks = rank_intervals(strata, ALPHA) if len(players) > 1 else [Rank(1.0, 1, 1)] * len(players)
    p_values = pairwise_p_values(strata) if len(players) > 1 else np.ones((len(players), len(players)))
    means = [float(np.mean([stratum[i].mean() for stratum in strata])) for i in range(len(players))]
    best = int(np.argmin(means)) if means else 0
    micros = [_micros(runs) for runs in players]
    front = pareto_front(means, micros)
    rows, i = [], 0
    for (stored, earlier), why in zip(chosen, reasons, strict=True):
        if why:
            rows.append(_row(stored, earlier, None, why, math.nan, False))
        else:
            p = math.nan if i == best else float(p_values[i, best])
            rows.append(_row(stored, earlier, ranks[i], "", p, front[i]))
            i += 1
    rows.sort(key=_display_order)
    return Track(name, rows, definition)


def _display_order(row: Row) -> tuple[bool, int, float, str]:
    mean = row.mean.value
    return (row.rank is None, TIERS.index(row.runs.tier), math.inf if math.isnan(mean) else mean, row.runs.submission)


def normalised(entries: Sequence[RunSet], seeds: Seeds) -> list[Array]:
    """Normalised regret on a kind of seeds: one array an environment, a row an entry, a column a seed.

    Environments are those of the first entry; NaN stands where an entry has no such session.
    """
    if not entries:
        return []
    labels = [environment.label for environment in entries[0].environments]
    columns: dict[str, list[int]] = {
        label: sorted({run.seed for entry in entries for run in entry.runs if _counts(run, label, seeds)})
        for label in labels
    }
    tables = [np.full((len(entries), len(columns[label])), math.nan) for label in labels]
    place = {label: (tables[e], {s: c for c, s in enumerate(columns[label])}) for e, label in enumerate(labels)}
    for i, entry in enumerate(entries):
        for run in entry.runs:
            if run.environment in place and _counts(run, run.environment, seeds):
                table, column = place[run.environment]
                table[i, column[run.seed]] = run.regret / run.worst
    return [table for table in tables if table.shape[1]]


def pareto_front(regrets: Sequence[float], costs: Sequence[float]) -> list[bool]:
    """Which entries no other one beats in both regret and cost (and equals in neither or one)."""
    front = [False] * len(regrets)
    cheapest = math.inf
    for i in sorted(range(len(regrets)), key=lambda i: (regrets[i], costs[i])):
        if costs[i] < cheapest:
            front[i] = True
            cheapest = costs[i]
    return front


def _counts(run: Run, label: str, seeds: Seeds) -> bool:
    return run.environment == label and run.seeds == seeds and run.status != "INFRA"


def _chosen(results: Iterable[Stored]) -> list[tuple[Stored, list[Stored]]]:
    """Of each submission the result that counts, and the others.

    The newest counts, not the best: running again until luck helps gains nothing, and shows.
    """
    groups: dict[str, list[Stored]] = {}
    for stored in results:
        groups.setdefault(stored.runs.submission, []).append(stored)
    found = []
    for name in sorted(groups):
        newest = sorted(groups[name], key=lambda stored: (stored.runs.created, stored.sha256), reverse=True)
        first = min(newest, key=lambda stored: TIERS.index(stored.runs.tier))
        found.append((first, [stored for stored in newest if stored is not first]))
    return found


def _definition(chosen: Sequence[tuple[Stored, list[Stored]]]) -> str:
    """The definition of the track that most verified entries have; among equals the newest entry's."""
    verified = [stored.runs for stored, _ in chosen if stored.runs.tier == "verified"]
    if not verified:
        return ""
    count = Counter(runs.track_sha256 for runs in verified)
    return max(verified, key=lambda runs: (count[runs.track_sha256], runs.created)).track_sha256


def _why_unranked(runs: RunSet, definition: str) -> str:
    if runs.tier == "self-reported":
        return "Reported by its author; we have not run it."
    if runs.tier == "reproduced":
        return "Run by us on public seeds only."
    if runs.track_sha256 != definition:
        return "Run under another definition of the track; to be run again."
    missing = []
    for environment in runs.environments:
        have = {run.seed for run in runs.runs if _counts(run, environment.label, "hidden")}
        lacking = len(set(range(environment.hidden_seeds)) - have)
        if lacking or not environment.hidden_seeds:
            missing.append(f"{environment.label} {len(have)} of {environment.hidden_seeds}")
    return f"Incomplete: hidden seeds of {', '.join(missing)}." if missing else ""


def _row(stored: Stored, earlier: list[Stored], rank: Rank | None, why: str, p: float, front: bool) -> Row:
    runs = stored.runs
    hidden, public = _strata(runs, "hidden"), _strata(runs, "public")
    seeds: Seeds = "hidden" if any(x.size for x in hidden) else "public"
    used = hidden if seeds == "hidden" else public
    counted = [run for run in runs.runs if run.seeds == seeds]
    return Row(
        stored,
        earlier,
        seeds,
        mean_interval(used),
        bootstrap_interval(used, iqm),
        rank,
        why,
        p,
        unpaired_difference(hidden, public),
        _micros(runs),
        front,
        sum(run.status not in ("OK", "INFRA") for run in counted),
        len(counted),
    )


def _strata(runs: RunSet, seeds: Seeds) -> list[Array]:
    values: dict[str, list[float]] = {environment.label: [] for environment in runs.environments}
    for run in runs.runs:
        if run.seeds == seeds and run.status != "INFRA" and run.environment in values:
            values[run.environment].append(run.regret / run.worst)
    return [np.array(value, dtype=np.float64) for value in values.values()]


def _micros(runs: RunSet) -> float:
    # the processor's seconds where they are known: those of the clock depend on what else the machine did
    costs = [
        1e6 * (run.cpu_seconds or run.act_seconds + run.update_seconds) / run.rounds
        for run in runs.runs
        if run.rounds
    ]
    return float(np.median(costs)) if costs else math.nan
