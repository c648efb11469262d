"""The report: one HTML file that needs nothing else, with its figures and tables beside it as files."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hare_evaluation import tables
from hare_evaluation.claims import claims_frame, claims_json, judge_all
from hare_evaluation.judging import Judgement, NotRunError, Study, View
from hare_evaluation.results import Labels, Record, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hare_evaluation.figure_entries import AnyFigure, RewardTable


# Names of the page's own files and sections.
_TAKEN = {"overall", "index", "runs", "curves", "claims", "figures", "tables", "failures", "statistics", "reproduce"}


# Figures from which on worker processes draw them: below, starting the workers takes longer than drawing.
_MANY = 16


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it, once its album has been drawn."""

    caption: str
    alt: str
    svg: Path

    @property
    def data(self) -> str:
        """The drawing as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.read_bytes()).decode()}"


class Album:
    """The figures of a page, drawn together at the end, because drawing is most of a report's time."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._waiting: list[tuple[Figure, Path]] = []

    def add(self, figure: Figure, name: str, caption: str, environment: str) -> Picture:
        """Takes a figure that will be ``name.png`` and ``name.svg``."""
        self._waiting.append((figure, self.out / name))
        return Picture(caption, f"{environment}: {caption}", self.out / f"{name}.svg")

    def draw(self) -> None:
        """Writes every figure's files; which process draws one changes none of its bytes."""
        from hare_evaluation import figures

        if len(self._waiting) < _MANY:
            for figure, stem in self._waiting:
                figures.save(figure, stem)
        else:
            from joblib import Parallel, delayed, parallel_config

            with parallel_config(backend="loky", inner_max_num_threads=1):
                Parallel(n_jobs=-1)(delayed(figures.save)(figure, stem) for figure, stem in self._waiting)
        self._waiting.clear()


@dataclass(frozen=True)
class Section:
    """One environment, or all together."""

    title: str
    anchor: str
    facts: str
    verdict: str
    heads: list[str]
    body: list[list[str]]
    pictures: list[Picture]
    logged: bool
    csv: str


@dataclass(frozen=True)
class Tabled:
    """A table that the suite asks for, or of what an environment measures; without a body, ``missing`` says why."""

    title: str
    anchor: str
    heads: list[str]
    body: list[list[str]]
    caption: str
    note: str
    missing: str


@dataclass(frozen=True)
class Drawn:
    """A figure that the suite asks for; without a picture, ``missing`` says why."""

    title: str
    anchor: str
    pictures: list[Picture]
    missing: str


def write_report(
    records: Iterable[Record], out: Path, title: str, labels: Labels | None = None, study: Study | None = None
) -> Path:
    """Writes ``index.html``, each figure as PNG and SVG, and each table as CSV; nothing else in ``out`` is touched.

    With claims there are ``claims.csv`` and ``claims.json`` as well, and with figures the data of each as CSV.

    Args:
        records: Whole records, as the runner wrote them.
        out: A folder, made if it is not there.
        title: The page's headline.
        labels: How to call environments and agents, and in which order.
        study: The suite's claims and figures.

    Returns:
        The path of ``index.html``.

    Raises:
        DataError: There are no records, or one that this version does not read.
    """
    results = Results.from_records(records, labels)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    results.runs_frame().to_csv(out / "runs.csv", index=False)
    results.curves_frame().to_csv(out / "curves.csv", index=False)
    names = _file_names(results.environments)
    album = Album(out)
    sections = [
        _environment_section(results, environment, names[environment], album) for environment in results.environments
    ]
    overall = _overall_section(results, album)
    study = study or Study()
    judgements = judge_all(study, results)
    _write_claims(judgements, out)
    drawn = [_drawn(entry, View(study, results), album) for entry in study.figures]
    tabled = [_tabled(entry, View(study, results), out) for entry in study.tables]
    tabled += [made for name in results.environments if (made := _measured(results, name, names[name]))]
    album.draw()
    page = template("report.html").render(
        title=title,
        results=results,
        sections=sections,
        overall=overall,
        judgements=judgements,
        claim_heads=tables.CLAIM_HEADS,
        claim_rows=tables.claim_rows(judgements),
        comparisons=[(j.claim.text, rows) for j in judgements if (rows := tables.comparison_rows(j))],
        drawn=drawn,
        tabled=tabled,
        everything=[*([overall] if overall else []), *sections],
        seeds=_seed_facts(results),
        versions=results.versions(),
        agents=_agent_facts(results),
        keys=results.runs_frame()[["environment", "agent", "seed_set", "seed", "key"]].values.tolist()
        if any(results.runs.values())
        else [],
        few=_fewest_seeds(results),
        alpha=tables.ALPHA,
    )
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _write_claims(judgements: list[Judgement], out: Path) -> None:
    if judgements:
        claims_frame(judgements).to_csv(out / "claims.csv", index=False)
        text = json.dumps(claims_json(judgements), ensure_ascii=False, indent=1, allow_nan=False)
        (out / "claims.json").write_text(text + "\n", encoding="utf-8")


def _tabled(entry: RewardTable, view: View, out: Path) -> Tabled:
    anchor = f"table-{entry.id}"
    try:
        frame = tables.reward_frame(entry, view)
    except NotRunError as error:
        return Tabled(entry.title, anchor, [], [], "", entry.note, str(error))
    frame.to_csv(out / f"{anchor}.csv", index=False)
    heads, body = tables.reward_cells(entry, frame)
    caption = f"Mean reward a round over seeds, with 95% intervals. As a file: {anchor}.csv."
    return Tabled(entry.title, anchor, heads, body, caption, entry.note, "")


def _measured(results: Results, environment: str, name: str) -> Tabled | None:
    found = tables.measure_rows(results, environment)
    if found is None:
        return None
    caption = "A session's sum divided by its rounds: means over seeds, with 95% intervals. By run: runs.csv."
    return Tabled(f"What {environment} measures, a round", f"table-measures-{name}", *found, caption, "", "")


def _drawn(entry: AnyFigure, view: View, album: Album) -> Drawn:
    from hare_evaluation.drawings import drawing

    anchor = f"figure-{entry.id}"
    try:
        made = drawing(entry, view)
    except NotRunError as error:
        return Drawn(entry.title, anchor, [], str(error))
    made.frame.to_csv(album.out / f"{anchor}.csv", index=False)
    return Drawn(entry.title, anchor, [album.add(made.draw(), anchor, made.caption, entry.title)], "")


def _environment_section(results: Results, environment: str, name: str, album: Album) -> Section:
    from hare_evaluation import figures

    frame = tables.environment_frame(results, environment)
    frame.to_csv(album.out / f"{name}-summary.csv", index=False)
    pictures = []
    if (frame["seeds"] > 0).any():
        colours = {agent: i for i, agent in enumerate(results.agents)}
        if results.is_logged(environment):
            estimators = tables.estimators(results, environment)
            shown = figures.off_policy_forest(frame, estimators, colours, frame.attrs["logger"])
            caption = (
                "Estimated reward per round of each agent, had it served the logged users itself, with 95% intervals."
            )
            pictures.append(album.add(shown, f"{name}-estimates", caption, environment))
        else:
            caption = (
                "Cumulative regret: mean over seeds; the band is a 95% interval at each round by itself. Left on "
                "plain axes, right on logarithmic ones, where a straight line of slope b means regret ∝ t^b."
            )
            shown = figures.regret_curves(results, environment)
            pictures.append(album.add(shown, f"{name}-regret", caption, environment))
            caption = "Final regret with 95% intervals, and the ranks that the seeds cannot exclude."
            pictures.append(album.add(figures.final_regret(frame, colours), f"{name}-final", caption, environment))
        caption = "Mean reward of all observed rounds so far, with the same kind of band."
        shown = figures.reward_curves(results, environment)
        pictures.append(album.add(shown, f"{name}-reward", caption, environment))
    heads, body = tables.displayed(frame)
    logged = results.is_logged(environment)
    facts, verdict = _facts(results, environment), tables.verdict(frame)
    return Section(environment, name, facts, verdict, heads, body, pictures, logged, f"{name}-summary.csv")


def _overall_section(results: Results, album: Album) -> Section | None:
    from hare_evaluation import figures

    frame = tables.overall_frame(results)
    if frame is None or not (frame["seeds"] > 0).any():
        return None
    frame.to_csv(album.out / "overall-summary.csv", index=False)
    colours = {agent: i for i, agent in enumerate(results.agents)}
    caption = "Regret as a share of the Random agent's on the same seed, averaged over environments."
    picture = album.add(figures.final_regret(frame, colours), "overall", caption, tables.OVERALL)
    heads, body = tables.displayed(frame)
    facts = "Environments: " + ", ".join(frame.attrs["environments"]) + "."
    anchor, csv = "all-environments", "overall-summary.csv"
    return Section(tables.OVERALL, anchor, facts, tables.verdict(frame), heads, body, [picture], False, csv)


def _facts(results: Results, environment: str) -> str:
    """The task in a line, from the first finished record."""
    for agent in results.agents_of(environment):
        for record in results.finished(environment, agent).values():
            task, lanes = record["task"], int(record["spec"].get("lanes") or 1)
            parts = [
                str(task["id"]),
                f"action mode {task['action_mode']}",
                f"{task['horizon']:,} rounds" + (f" in each of {lanes} lanes" if lanes > 1 else ""),
                f"{task['num_items']:,} items",
                f"{task['num_users']:,} users" if task["num_users"] != 1 else "1 user",
            ]
            knobs = [f"{key} = {value}" for key, value in sorted(record["spec"]["env_kwargs"].items())]
            return ", ".join(parts) + (f"; set: {', '.join(knobs)}" if knobs else "") + "."
    return "No run finished."


def _seed_facts(results: Results) -> str:
    sets: dict[str, set[int]] = {}
    for environment in results.environments:
        for name, seed in results.seeds(environment):
            sets.setdefault(name, set()).add(seed)
    return "; ".join(f"{name}: {_ranges(sorted(seeds))}" for name, seeds in sorted(sets.items())) or "none finished"


def _ranges(numbers: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0–2, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _agent_facts(results: Results) -> list[tuple[str, str, str]]:
    """Label, registered name and hyperparameters of each agent with a finished run."""
    facts = {}
    for (_, agent), finished in results.runs.items():
        for record in finished.values():
            spec = record["spec"]
            knobs = ", ".join(f"{key} = {value}" for key, value in sorted(spec["agent_kwargs"].items()))
            facts[agent] = (agent, str(spec["agent"]), knobs or "defaults")
    return [facts[agent] for agent in results.agents if agent in facts]


def _fewest_seeds(results: Results) -> int:
    counts = [len(finished) for finished in results.runs.values() if finished]
    return min(counts, default=0)


def _file_names(environments: list[str]) -> dict[str, str]:
    """A plain file name for each label, no two alike."""
    names: dict[str, str] = {}
    for environment in environments:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", environment).strip("-.")[:60] or "environment"
        taken = {other.casefold() for other in names.values()} | _TAKEN
        name = f"environment-{name}" if name.casefold().startswith(("figure-", "table-")) else name
        number, unique = 2, name
        while unique.casefold() in taken:
            unique, number = f"{name}-{number}", number + 1
        names[environment] = unique
    return names


def template(name: str) -> Any:
    """A page's template, in which every value is escaped and a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("hare_evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)
