"""The leaderboard as a folder of pages: no server, nothing from elsewhere, and every string of a submission escaped.

All that is shown comes from the boards of :mod:`hare_leaderboard.ranking`. Names are made safe here again, as if
nothing had checked them before: file names from what is left of a name, texts without unseen characters, links by
https only.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import stats

from hare_evaluation.foundation import ConfigError
from hare_evaluation.statistics import Interval, mean_interval
from hare_leaderboard import charts
from hare_leaderboard.names import visible
from hare_leaderboard.ranking import Board, Row, Track
from hare_leaderboard.results import TIERS, Environment, Run, RunSet, Stored
from hare_leaderboard.submission import is_link

Array = NDArray[np.float64]

STALE_DAYS = 365
_TEMPLATES = Path(__file__).parent / "templates/site"
_ASSETS = ("style.css", "board.js", "compare.js", "icon.svg")
_MARK = "board.js"


@dataclass(frozen=True)
class TrackText:
    """How pages call a track, and what they say of it."""

    title: str
    description: str = ""


def build_site(
    boards: Sequence[Board], out: Path, texts: Mapping[str, TrackText] | None = None, built: str | None = None
) -> Path:
    """Writes the pages of every board; the first one's lie in ``out`` itself, the others in folders of their own.

    Args:
        boards: As :func:`hare_leaderboard.ranking.rank_all` gives them.
        out: The folder, made if it is not there. Files of an earlier build are replaced.
        texts: Titles and descriptions by track; a track without one is called by its name.
        built: The moment of building; now by default. Entries are as old as it says.

    Returns:
        The path of ``index.html``.

    Raises:
        ConfigError: The folder has files in it and is no site of an earlier build.
    """
    boards = list(boards) or [Board("", [])]
    moment = built or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    folders = _unique([board.benchmark for board in boards[1:]], {"data"})
    places = [out, *(out / folder for folder in folders)]
    for i, (board, place) in enumerate(zip(boards, places, strict=True)):
        links = [
            (other.benchmark, f"{'../' if i else ''}{folders[j - 1] + '/' if j else ''}index.html")
            for j, other in enumerate(boards)
            if j != i
        ]
        _Site(board, place, dict(texts or {}), moment, links).write()
    return out / "index.html"


def shown(value: Any) -> Any:
    """A string without characters that cannot be seen or that turn others about; anything else as it is."""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return visible(value, len(value))
    return value


class _Site:
    """One board's pages."""

    def __init__(
        self, board: Board, out: Path, texts: dict[str, TrackText], built: str, others: list[tuple[str, str]]
    ) -> None:
        self.board, self.out, self.texts, self.built, self.others = board, out, texts, built, others
        names = _unique([track.name for track in board.tracks])
        self.tracks = [
            _TrackPage(track, name, self.texts.get(track.name, TrackText(track.name)))
            for track, name in zip(board.tracks, names, strict=True)
        ]
        self.entries: dict[str, list[tuple[_TrackPage, Row]]] = {}
        for page in self.tracks:
            for row in page.track.rows:
                self.entries.setdefault(row.runs.submission, []).append((page, row))
        self.slugs = dict(zip(self.entries, _unique(list(self.entries)), strict=True))

    def write(self) -> None:
        """Writes every page, the data and what pages need, in place of an earlier build."""
        _clear(self.out)
        (self.out / "data/results").mkdir(parents=True, exist_ok=True)
        for name in _ASSETS:
            shutil.copyfile(_TEMPLATES / name, self.out / name)
        self._write("method.html", "method.html")
        for page in self.tracks:
            self._write_track(page)
        for submission in self.entries:
            self._write_agent(submission)
        self._write("index.html", "index.html", **self._overview())

    def _write(self, template: str, name: str, **values: Any) -> None:
        text = self._environment.get_template(template).render(
            board=self.board,
            tracks=self.tracks,
            here=name,
            built=self.built[:10],
            count=sum(1 + len(row.earlier) for page in self.tracks for row in page.track.rows)
            + len(self.board.removed),
            others=self.others,
            stale_days=STALE_DAYS,
            tiers=TIERS,
            **values,
        )
        (self.out / name).write_text(text, encoding="utf-8")

    @cached_property
    def _environment(self) -> Any:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        return Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def _overview(self) -> dict[str, Any]:
        entries = []
        for submission, played in self.entries.items():
            cells = {page.name: _cell(row) for page, row in played}
            rows = [row for _, row in played]
            newest = max((row.runs for row in rows), key=lambda runs: runs.created)
            tier = min((row.runs.tier for row in rows), key=TIERS.index)
            entries.append(
                {
                    "title": newest.title,
                    "page": f"agent-{self.slugs[submission]}.html",
                    "cells": [cells.get(page.name) for page in self.tracks],
                    "tier": tier,
                    "created": newest.created,
                    "stale": self._stale(newest.created),
                    "search": _searched(newest),
                    "place": (-sum(row.rank is not None for row in rows), _average_rank(rows)),
                }
            )
        entries.sort(key=lambda entry: (entry["place"], entry["title"]))
        runs = [row.runs for page in self.tracks for row in page.track.rows]
        return {
            "entries": entries,
            "sessions": sum(len(each.runs) for each in runs),
            "latest": max((each.created for each in runs), default=""),
        }

    def _write_track(self, page: _TrackPage) -> None:
        rows = [self._track_row(page, row) for row in page.track.rows]
        ranked, unranked = rows[: len(page.track.ranked)], rows[len(page.track.ranked) :]
        points = [{**row, "value": row["mean"].value, "regret": f"{row['mean'].value:.3f}"} for row in ranked]
        self._write(
            "track.html", page.page, track=page, rows=ranked, unranked=unranked, pareto=charts.scatter(points)
        )
        _write_csv(self.out / page.csv, map(_summary, page.track.rows))
        _write_csv(self.out / page.seeds_csv, (line for row in page.track.rows for line in _sessions(row.runs)))
        if len(ranked) > 1:
            text = json.dumps(page.comparison(), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
            (self.out / page.data).write_text(f"const board = {text};\n", encoding="ascii")
            self._write("compare.html", page.compare, track=page)

    def _track_row(self, page: _TrackPage, row: Row) -> dict[str, Any]:
        x = 100.0 / page.scale
        low, high = (min(max(x * end, 0.0), 100.0) for end in (row.mean.low, row.mean.high))
        return _facts(row) | {
            "page": f"agent-{self.slugs[row.runs.submission]}.html",
            "search": _searched(row.runs),
            "stale": self._stale(row.runs.created),
            "dot": f"{min(max(x * row.mean.value, 0.0), 100.0):.2f}",
            "bar": None if math.isnan(row.mean.low) else (f"{low:.2f}", f"{high:.2f}"),
            "iqm": row.iqm,
        }

    def _write_agent(self, submission: str) -> None:
        played = self.entries[submission]
        newest = max((row.runs for _, row in played), key=lambda runs: runs.created)
        entry = newest.entry
        agent = {
            "title": newest.title,
            "submission": submission,
            "version": entry.version,
            "authors": ", ".join(entry.authors) or "–",
            "licence": entry.licence,
            "description": entry.description,
            "url": entry.url,
            "link": entry.url if is_link(entry.url) else "",
            "disclosure": entry.disclosure,
        }
        parts = [self._part(page, row, self.slugs[submission]) for page, row in played]
        self._write("agent.html", f"agent-{self.slugs[submission]}.html", agent=agent, parts=parts)

    def _part(self, page: _TrackPage, row: Row, slug: str) -> dict[str, Any]:
        runs = row.runs
        files = [self._copy(stored, slug) for stored in (row.stored, *row.earlier)]
        earlier = [
            {
                "created": stored.runs.created,
                "tier": stored.runs.tier,
                "file": file,
                "mean": _mean_of(stored.runs),
            }
            for stored, file in zip(row.earlier, files[1:], strict=True)
        ]
        return _facts(row) | {
            "track": page.title,
            "page": page.page,
            "anchor": page.anchor,
            "of": len(page.track.ranked),
            "stale": self._stale(runs.created),
            "charts": page.charts(row),
            "runs": sorted(runs.runs, key=lambda run: (run.environment, run.seeds, run.seed)),
            "tails": [run for run in runs.runs if run.output_tail and run.status != "OK"][:10],
            "sessions": row.sessions,
            "entry_point": runs.entry.entry_point,
            "configuration": json.dumps(runs.entry.configuration, ensure_ascii=False),
            "manifest": runs.manifest,
            "limits": ", ".join(f"{name} {value}" for name, value in runs.manifest.limits.items()) or "no limits",
            "dependencies": ", ".join(
                f"{name} {value}" for name, value in sorted(runs.manifest.dependencies.items())
            ),
            "code": runs.entry.code_sha256,
            "sha256": row.stored.sha256,
            "file": files[0],
            "earlier": earlier,
        }

    def _copy(self, stored: Stored, slug: str) -> str:
        """The file of a result as the pages offer it."""
        name = f"{_slug(stored.runs.track)}-{stored.sha256[:12]}.json"
        folder = self.out / "data/results" / slug
        folder.mkdir(exist_ok=True)
        shutil.copyfile(stored.path, folder / name)
        return f"data/results/{slug}/{name}"

    def _stale(self, created: str) -> bool:
        return (_moment(self.built) - _moment(created)).days > STALE_DAYS


class _TrackPage:
    """A track with the names of its pages."""

    def __init__(self, track: Track, slug: str, text: TrackText) -> None:
        self.track, self.name = track, track.name
        self.title, self.description = text.title, text.description
        self.page, self.compare = f"track-{slug}.html", f"compare-{slug}.html"
        self.data, self.csv, self.seeds_csv = f"data/{slug}.js", f"data/{slug}.csv", f"data/{slug}-sessions.csv"
        self.anchor = f"track-{slug}"
        shown_rows = track.ranked or track.rows
        self._environments = shown_rows[0].runs.environments if shown_rows else []
        ends = [row.mean.value if math.isnan(row.mean.high) else row.mean.high for row in track.ranked]
        self.scale = max(math.ceil(20 * max((end for end in ends if not math.isnan(end)), default=1.0)) / 20, 0.05)

    @property
    def environments(self) -> list[dict[str, Any]]:
        """What the page tells of each environment."""
        return [
            {
                "label": environment.label,
                "id": environment.id,
                "knobs": ", ".join(f"{k} = {v}" for k, v in environment.kwargs.items() if k != "horizon"),
                "horizon": environment.horizon,
                "hidden_seeds": environment.hidden_seeds,
                "public_seeds": environment.public_seeds,
            }
            for environment in self._environments
        ]

    @property
    def verdict(self) -> str:
        """The first entry, and who cannot be told apart from it."""
        ranked = self.track.ranked
        if len(ranked) < 2:
            return ""
        first = ranked[0].runs.title
        tied = [row.runs.title for row in ranked[1:] if row.rank is not None and row.rank.low == 1]
        if not tied:
            return f"{first} has less regret than every other entry."
        more = f" and {len(tied) - 8} more" if len(tied) > 8 else ""
        return f"{first} has the least regret; these seeds cannot tell it apart from {', '.join(tied[:8])}{more}."

    @cached_property
    def _first_curves(self) -> dict[str, tuple[str, Array, list[int]]]:
        """The first entry's mean curve on each environment."""
        if not self.track.ranked:
            return {}
        row = self.track.ranked[0]
        return {
            environment.label: (row.runs.title, curves.mean(axis=0), environment.checkpoints)
            for environment in row.runs.environments
            if len(curves := _curves(row.runs, environment, row.seeds))
        }

    def charts(self, row: Row) -> list[charts.Curve]:
        """The regret curves of one entry, with the first entry's beside it."""
        drawn = []
        for environment in row.runs.environments:
            curves = _curves(row.runs, environment, row.seeds)
            if not len(curves) or not environment.checkpoints:
                continue
            first = self._first_curves.get(environment.label)
            other = first is not None and row is not self.track.ranked[0] and first[2] == environment.checkpoints
            values = [_normalised(run) for run in _of(row.runs, environment, row.seeds)]
            drawn.append(
                charts.curve(
                    environment.label,
                    environment.checkpoints,
                    curves,
                    mean_interval([values]),
                    (first[0], first[1]) if other and first else None,
                )
            )
        return drawn

    def comparison(self) -> dict[str, Any]:
        """What the page that compares two entries computes with."""
        kept = [charts.thinned(environment.checkpoints, 40) for environment in self._environments]
        columns = [range(environment.hidden_seeds) for environment in self._environments]
        return {
            "t": [round(float(stats.t.ppf(0.975, n)), 5) for n in range(1, 201)],
            "environments": [
                {"label": shown(e.label), "horizon": e.horizon, "rounds": [e.checkpoints[i] for i in places]}
                for e, places in zip(self._environments, kept, strict=True)
            ],
            "entries": [
                {
                    "title": shown(row.runs.title),
                    "values": [_by_seed(row.runs, e, n) for e, n in zip(self._environments, columns, strict=True)],
                    "curves": [_mean_curve(row, e, p) for e, p in zip(self._environments, kept, strict=True)],
                }
                for row in self.track.ranked
            ],
        }


def _cell(row: Row) -> dict[str, Any]:
    value = row.mean.value
    return {
        "value": value,
        "shown": "–" if math.isnan(value) else f"{value:.3f}",
        "rank": _rank_shown(row),
        "first": row.rank is not None and row.rank.low == 1,
    }


def _facts(row: Row) -> dict[str, Any]:
    """What the pages of a track and of an agent both tell of a row."""
    runs = row.runs
    return {
        "title": runs.title,
        "rank": _rank_shown(row),
        "rank_value": row.rank.rank if row.rank else "",
        "first": row.rank is not None and row.rank.low == 1,
        "why": row.why,
        "tier": runs.tier,
        "seeds": row.seeds,
        "created": runs.created,
        "mean": row.mean,
        "p": row.p,
        "p_shown": "–" if math.isnan(row.p) else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}",
        "gap_value": "" if math.isnan(row.gap.value) else row.gap.value,
        "gap_shown": _signed(row.gap),
        "micros": row.micros,
        "time": charts.duration(row.micros),
        "front": row.front,
        "faults": row.faults,
    }


def _rank_shown(row: Row) -> str:
    if row.rank is None:
        return ""
    return str(row.rank.low) if row.rank.low == row.rank.high else f"{row.rank.low}–{row.rank.high}"


def _signed(gap: Interval) -> str:
    if math.isnan(gap.value):
        return "–"
    half = "" if math.isnan(gap.low) else f" ± {(gap.high - gap.low) / 2:.3f}"
    return f"{gap.value:+.3f}{half}".replace("-", "−")


def _average_rank(rows: Iterable[Row]) -> float:
    ranks = [row.rank.rank for row in rows if row.rank is not None]
    return float(np.mean(ranks)) if ranks else math.inf


def _searched(runs: RunSet) -> str:
    entry = runs.entry
    return str(shown(" ".join([runs.submission, runs.title, entry.licence, *entry.authors]).lower()[:500]))


def _mean_of(runs: RunSet) -> str:
    for seeds in ("hidden", "public"):
        values = [_normalised(run) for run in runs.runs if run.seeds == seeds and run.status != "INFRA"]
        if values:
            return f"{np.mean(values):.3f} on {seeds} seeds"
    return "no sessions"


def _of(runs: RunSet, environment: Environment, seeds: str) -> list[Run]:
    return [
        run
        for run in runs.runs
        if run.environment == environment.label and run.seeds == seeds and run.status != "INFRA"
    ]


def _curves(runs: RunSet, environment: Environment, seeds: str) -> Array:
    return np.array([run.curve for run in _of(runs, environment, seeds)], dtype=np.float64)


def _mean_curve(row: Row, environment: Environment, places: Sequence[int]) -> list[float] | None:
    curves = _curves(row.runs, environment, "hidden")
    if not len(curves) or curves.shape[1] != len(environment.checkpoints):
        return None
    return [round(float(value), 2) for value in curves.mean(axis=0)[list(places)]]


def _by_seed(runs: RunSet, environment: Environment, seeds: Iterable[int]) -> list[float | None]:
    found = {run.seed: round(_normalised(run), 6) for run in _of(runs, environment, "hidden")}
    return [found.get(seed) for seed in seeds]


def _normalised(run: Run) -> float:
    return run.regret / run.worst


def _summary(row: Row) -> dict[str, Any]:
    runs, rank = row.runs, row.rank
    return {
        "submission": runs.submission,
        "title": runs.title,
        "tier": runs.tier,
        "rank": rank.rank if rank else "",
        "rank_low": rank.low if rank else "",
        "rank_high": rank.high if rank else "",
        "unranked_because": row.why,
        "seeds": row.seeds,
        "mean": row.mean.value,
        "mean_low": row.mean.low,
        "mean_high": row.mean.high,
        "iqm": row.iqm.value,
        "iqm_low": row.iqm.low,
        "iqm_high": row.iqm.high,
        "p_to_first": row.p,
        "gap": row.gap.value,
        "gap_low": row.gap.low,
        "gap_high": row.gap.high,
        "microseconds_a_round": row.micros,
        "on_front": row.front,
        "faults": row.faults,
        "sessions": row.sessions,
        "created": runs.created,
        "sha256": row.stored.sha256,
    }


def _sessions(runs: RunSet) -> Iterable[dict[str, Any]]:
    for run in runs.runs:
        values = run.model_dump(exclude={"curve", "output_tail"})
        yield {"submission": runs.submission, **values, "normalised": _normalised(run)}


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file = io.StringIO()
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({name: _csv_cell(value) for name, value in row.items()})
    path.write_text(file.getvalue(), encoding="utf-8")


def _csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a quote before it; NaN is empty."""
    if isinstance(value, str):
        return f"'{shown(value)}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else shown(value)
    return "" if isinstance(value, float) and math.isnan(value) else value


def _clear(folder: Path) -> None:
    """Removes the pages of an earlier build, so that nothing stays of an entry that is gone."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / _MARK).is_file():
        raise ConfigError(
            f"{folder} has files in it that are no site of an earlier build. Choose another with --out."
        )
    for pattern in ("agent-*.html", "track-*.html", "compare-*.html"):
        for path in folder.glob(pattern):
            path.unlink()
    shutil.rmtree(folder / "data", ignore_errors=True)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:64].strip("-.") or "unnamed"


def _unique(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A file name for each name, no two alike even where case does not count."""
    used, found = set(taken), []
    for name in names:
        slug = unique = _slug(name)
        number = 2
        while unique.casefold() in used:
            unique, number = f"{slug}-{number}", number + 1
        used.add(unique.casefold())
        found.append(unique)
    return found


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
