"""Running the paper: every suite of the plan, the experiments, and the report; what is there already is not run
again.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any, cast

from hare_evaluation.judging import View
from hare_evaluation.metrics.study import Measuring, measure_all, missing
from hare_evaluation.paper import experiments
from hare_evaluation.paper.document import Paper, Sources, write_files
from hare_evaluation.paper.experiments import Kept, kept
from hare_evaluation.paper.material import Material
from hare_evaluation.paper.page import html
from hare_evaluation.paper.plan import Plan
from hare_evaluation.paper.sections import sections
from hare_evaluation.paper.verdicts import Verdict, judge
from hare_evaluation.parallel import Play, run_all
from hare_evaluation.results import Results
from hare_evaluation.spec import Suite
from hare_evaluation.store import Record, Store, canonical_json
from hare_gym.errors import HareError

MANIFEST = "manifest.json"
TEXTS, TEN_ROUNDS = "paper-texts", "paper-ten-rounds"
PROFILE_AGENTS = ("HARE, drawn", "RAG")
TEN_ROUNDS_AGENTS = ("HARE", "no user state", "RAG")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "statsmodels", "matplotlib", "pandas")


@dataclass
class Progress:
    """How far the paper is, in expected CPU seconds, and what is left by the pace so far.

    Attributes:
        total: Expected CPU seconds of everything that is not there yet.
        say: Takes a line.
        every: Seconds between two lines.
    """

    total: float
    say: Callable[[str], object]
    every: float = 20.0
    done: float = 0.0
    started: float = field(default_factory=monotonic)
    _told: float = field(default_factory=monotonic)

    def advance(self, seconds: float, what: str) -> None:
        """Counts work that took so many expected seconds."""
        self.done += seconds
        now = monotonic()
        if now - self._told >= self.every and self.done > 0:
            self._told = now
            self.say(f"{self.share:.0%} done, about {duration(self.left(now))} left ({what})")

    @property
    def share(self) -> float:
        """Of the work, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total > 0 else 1.0

    def left(self, now: float) -> float:
        """Seconds of the clock, by the pace so far."""
        return (now - self.started) * max(self.total - self.done, 0.0) / max(self.done, 1e-9)


@dataclass(frozen=True)
class Settings:
    """What `hare paper` was asked for.

    Attributes:
        scale: The plan's.
        store: The folder of the records.
        out: The folder of the report.
        jobs: Runs at once; all processors by default.
        decoders: More decoders for experiment A and the scaling, by name.
        play: Whether missing runs are played; otherwise the report is made of what is there.
    """

    scale: str
    store: Path
    out: Path
    jobs: int | None = None
    decoders: tuple[str, ...] = ()
    play: bool = True


def make(plan: Plan, settings: Settings, say: Callable[[str], object]) -> tuple[Path, list[Verdict]]:
    """Runs or resumes the paper and writes its report.

    Returns:
        The path of ``index.html``, and the verdicts.
    """
    store = Store(settings.store)
    suites = plan.suites(settings.scale)
    say(expectation(plan, settings, store, suites))
    progress = Progress(_waiting(plan, settings, store, suites), say)
    views, records = _played(plan, settings, store, suites, progress)
    found, missing_why = _experiments(plan, settings, views, progress)
    verdicts = judge(plan, views)
    path = write(plan, settings, store, views, records, verdicts, found, missing_why)
    return path, verdicts


def expectation(plan: Plan, settings: Settings, store: Store, suites: Mapping[str, Suite]) -> str:
    """How long it will take, before it starts."""
    scale = plan.scale(settings.scale)
    jobs = settings.jobs or os.cpu_count() or 1
    total = sum(len(_specs(suite)) for suite in suites.values())
    left = _waiting(plan, settings, store, suites)
    return (
        f"Scale {settings.scale}: {scale.about}. {total:,} runs, then experiments and figures: about "
        f"{duration(left / jobs)} with {jobs} at once ({duration(left)} of processor time; measured on the "
        "processors that docs/benchmarks.md names). Stop it at any time: the same command goes on."
    )


def duration(seconds: float) -> str:
    """``95`` as ``2 minutes``."""
    minutes = max(1, round(seconds / 60))
    hours, rest = divmod(minutes, 60)
    if hours >= 2:
        return f"{hours} hours" + (f" {rest} minutes" if rest else "")
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def _specs(suite: Suite) -> list[Any]:
    return [spec for _, _, specs in suite.specs() for spec in specs]


def _waiting(plan: Plan, settings: Settings, store: Store, suites: Mapping[str, Suite]) -> float:
    seconds = plan.seconds(settings.scale)
    runs = sum(
        seconds[name] * sum(not store.path(spec.key).exists() for spec in _specs(suite))
        for name, suite in suites.items()
    )
    return (runs if settings.play else 0.0) + plan.scale(settings.scale).extra_seconds


def _played(
    plan: Plan, settings: Settings, store: Store, suites: Mapping[str, Suite], progress: Progress
) -> tuple[dict[str, View], dict[str, Record]]:
    """The studies by suite, and all their records by key."""
    seconds = plan.seconds(settings.scale)
    views: dict[str, View] = {}
    records: Sequence[Record]
    everything: dict[str, Record] = {}
    for name, suite in suites.items():
        made = suite.plan()
        if settings.play:
            there = sum(store.path(spec.key).exists() for spec in made.specs)
            skipped = iter(range(there))

            def tell(name: str = name, skipped: Any = skipped) -> None:
                if next(skipped, None) is None:
                    progress.advance(seconds[name], name)

            records = run_all(made.specs, store, settings.jobs, progress=tell, play=cast(Play, Measuring.of(suite)))
        else:
            records = stored(store, suite)
        if not records:
            continue
        results = Results.from_records(records, made.labels)
        views[name] = View(suite.study, results)
        everything |= {str(record["key"]): record for record in records}
        if settings.play:
            for problem in measure_all(missing(suite.study, results), settings.jobs):
                progress.say(problem)
    return views, everything


def stored(store: Store, suite: Suite) -> list[Record]:
    """The records of a suite's settings, whichever code made them; the newest last, which is the one that counts."""
    wanted = {canonical_json(spec.settings()) for spec in _specs(suite)}
    found = [record for record in store.records() if settings_of(record) in wanted]
    return sorted(found, key=lambda record: store.path(record["key"]).stat().st_mtime_ns)


def settings_of(record: Record) -> str:
    """What the user chose of a record's run, as `RunSpec.settings` has it, in canonical JSON."""
    return canonical_json({name: value for name, value in record["spec"].items() if name != "versions"})


def _experiments(
    plan: Plan, settings: Settings, views: Mapping[str, View], progress: Progress
) -> tuple[dict[str, Kept], dict[str, str]]:
    """Every experiment that has what it needs, by name; and why the others were not made, by name."""
    scale, folder = plan.scale(settings.scale), settings.out / "measured"
    names = experiments.decoder_names(settings.decoders)
    models = [name for name in names if name != "composer"]
    sessions = _sessions(views, TEXTS, "write", PROFILE_AGENTS, scale.texts)
    ten = _sessions(views, TEN_ROUNDS, "ten rounds", TEN_ROUNDS_AGENTS, 10**6)
    makers: dict[str, tuple[dict[str, Any], Callable[[], experiments.Found]]] = {
        "conditioned": ({"decoders": models}, lambda: experiments.conditioned(models)),
        "five-users": ({"rounds": scale.rounds}, lambda: experiments.five_users(scale.rounds)),
        "decoders": (
            {"names": names, "count": scale.contents},
            lambda: experiments.decoders(names, scale.contents),
        ),
    }
    if sessions:
        knobs = {"profiles": plan.profiles, "records": _keys(sessions)}
        makers["profiles"] = (knobs, lambda: experiments.profiles(sessions, plan.profiles))
    if ten:
        makers["ten-rounds"] = ({"records": _keys(ten)}, lambda: experiments.ten_rounds(ten))
    found: dict[str, Kept] = {}
    why = {name: "its sessions were not run" for name in scale.experiments if name not in makers}
    for name in scale.experiments:
        if name in makers:
            progress.say(f"{progress.share:.0%} done: {name}")
            try:
                found[name] = kept(folder, name, *makers[name])
            except HareError as error:  # such as sessions of other code, which cannot be played again
                why[name] = str(error).rstrip(".")
                progress.say(f"{name} was not made: {error}")
        progress.advance(scale.extra_seconds / len(scale.experiments), name)
    return found, why


def _sessions(
    views: Mapping[str, View], suite: str, environment: str, agents: Sequence[str], count: int
) -> dict[str, list[Record]]:
    """The first so many finished sessions of agents; empty if any agent has none."""
    if suite not in views:
        return {}
    found: dict[str, list[Any]] = {
        agent: [*views[suite].results.finished(environment, agent).values()][:count] for agent in agents
    }
    return found if all(found.values()) else {}


def _keys(sessions: Mapping[str, Sequence[Record]]) -> dict[str, list[str]]:
    return {agent: [str(record["key"]) for record in records] for agent, records in sessions.items()}


# -- the report ----------------------------------------------------------------------------------------------------


def write(
    plan: Plan,
    settings: Settings,
    store: Store,
    views: dict[str, View],
    records: Mapping[str, Record],
    verdicts: Sequence[Verdict],
    found: Mapping[str, Kept],
    why: Mapping[str, str],
) -> Path:
    """Writes the page, ``report.md``, tables, figures, data and the manifest; gives the page's path."""
    out = settings.out
    out.mkdir(parents=True, exist_ok=True)
    sources = Sources(out, store, views)
    made = sections(Material(plan, settings.scale, views, verdicts, found, why, sources))
    failed = sum(record["status"] == "failed" for record in records.values())
    lead = [
        f"{plan.scale(settings.scale).about.capitalize()}; {len(records):,} runs, {failed} failed. Every hypothesis, "
        "its test and the smallest effect that matters were written down before these runs; the verdicts are given "
        "by code. "
        "Numbers in tables lead to the records that they were computed from.",
    ]
    paper = Paper(plan.title, lead, made, [*sources.found.values()], facts(plan, settings, records, store))
    write_files(paper, out)
    path = out / "index.html"
    path.write_text(html(paper, out), encoding="utf-8")
    _write_manifest(plan, settings, store, records, verdicts)
    return path


def facts(plan: Plan, settings: Settings, records: Mapping[str, Record], store: Store) -> list[tuple[str, str]]:
    """What the paper was made with and on."""
    codes = {record["spec"]["versions"]["code"][:12] for record in records.values()}
    hardware = {str((store.timing(key) or {}).get("hardware", "unknown")) for key in records}
    sets: dict[str, set[int]] = {}
    for record in records.values():
        sets.setdefault(record["spec"]["seed_set"], set()).add(record["spec"]["seed"])
    seconds = sum(float((store.timing(key) or {}).get("wall_seconds", 0.0)) for key in records)
    made = {record["spec"]["versions"]["hare_gym"] for record in records.values()}
    return [
        ("command", f"hare paper --scale {settings.scale}"),
        ("commit", commit()),
        ("plan", f"{Path(plan.source).name}, SHA-256 {plan.digest}"),
        ("runs", f"{len(records):,}, {duration(seconds)} on the clocks of their processes"),
        (
            "seeds",
            "; ".join(f"{name}: {min(found)} to {max(found)}" for name, found in sorted(sets.items())) or "none",
        ),
        ("hare-gym", ", ".join(sorted(made)) or "—"),
        ("fingerprints of code", f"{len(codes)}: {', '.join(sorted(codes))}" if codes else "—"),
        ("hardware of the runs", "; ".join(sorted(hardware))),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
        *((name, _version(name)) for name in LIBRARIES),
    ]


def commit() -> str:
    """The commit of the source that is running, and whether it was changed since; ``unknown`` without a checkout."""
    git = shutil.which("git")
    here = Path(__file__).parent
    if git is None:
        return "unknown"

    def answer(*words: str) -> str:
        done = subprocess.run([git, "-C", str(here), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    tracked = answer("ls-files", "--error-unmatch", Path(__file__).name)
    name = answer("rev-parse", "HEAD") if tracked else ""
    if not name:
        return "unknown"
    return name + (
        " and changes that are not committed" if answer("status", "--porcelain", "--untracked-files=no") else ""
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "not installed"


def _write_manifest(
    plan: Plan, settings: Settings, store: Store, records: Mapping[str, Record], verdicts: Sequence[Verdict]
) -> None:
    manifest = {
        "schema": 1,
        "plan": plan.digest,
        "scale": settings.scale,
        "store": os.path.relpath(store.root, settings.out),
        "records": {key: store.digest(key) for key in sorted(records)},
        "verdicts": {verdict.hypothesis.id: verdict.verdict for verdict in verdicts},
        "effects": {
            f"{verdict.hypothesis.id}/{part.endpoint.id}": part.found.value
            for verdict in verdicts
            for part in verdict.tested
        },
    }
    text = json.dumps(manifest, indent=1, allow_nan=False)
    (settings.out / MANIFEST).write_text(text + "\n", encoding="utf-8")
