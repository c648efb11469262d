"""What ``hare paper`` does, one function a mode; each says whether all went well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import strftime

import typer

from hare_evaluation.pages import Table, write_page
from hare_evaluation.paper.plan import Plan, load_plan
from hare_evaluation.paper.verdicts import Verdict
from hare_evaluation.spec import RunSpec
from hare_evaluation.statistics import Interval
from hare_evaluation.store import Record

COMMAND = "hare paper"
SIMULATED = "hare paper --simulate"


@dataclass(frozen=True)
class Options:
    """The command's options."""

    scale: str | None
    plan: Path | None
    jobs: int | None
    store: Path
    out: Path
    decoders: tuple[str, ...]
    play: bool
    page: Path | None

    def load(self) -> tuple[Plan, str]:
        """The plan, and the scale's name: the plan's last by default."""
        plan = load_plan(self.plan)
        name = self.scale or list(plan.scales)[-1]
        plan.scale(name)
        return plan, name


def make_paper(options: Options) -> bool:
    """Runs or resumes the paper, prints its verdicts, and rewrites a page's part with them if asked to."""
    from hare_evaluation.paper import run

    plan, scale = options.load()
    settings = run.Settings(scale, options.store, options.out, options.jobs, options.decoders, options.play)
    try:
        path, verdicts = run.make(plan, settings, say)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. What is finished is kept in {options.store}; the same command goes on.", err=True)
        raise typer.Exit(130) from None
    for verdict in verdicts:
        typer.echo(f"{verdict.hypothesis.name} {verdict.verdict}: {verdict.hypothesis.statement}")
    typer.echo(f"Report: {path}")
    if options.page is not None:
        write_page(options.page, summary(plan, scale, verdicts), COMMAND)
    return True


def say(line: str) -> None:
    """A line of progress, with the time."""
    typer.echo(f"{strftime('%H:%M:%S')} {line}", err=True)


def summary(plan: Plan, scale: str, verdicts: Sequence[Verdict]) -> str:
    """The verdicts as Markdown, for ``docs/results.md``."""
    from hare_evaluation.paper.endpoints import placed
    from hare_evaluation.paper.material import interval, target
    from hare_evaluation.tables import p_value

    rows = []
    for verdict in verdicts:
        for i, part in enumerate(verdict.tested):
            head = [
                f"{verdict.hypothesis.name}. {verdict.hypothesis.statement}",
                verdict.verdict,
                p_value(verdict.p_support),
            ]
            cells = [placed(part.endpoint), interval(part.found), target(part.endpoint), str(len(part.values))]
            rows.append([*(head if not i else [""] * 3), *cells])
        if not verdict.tested:
            rows.append([verdict.hypothesis.statement, verdict.verdict, "—", verdict.reason, "—", "—", "0"])
    heads = ["hypothesis", "verdict", "p (Holm)", "endpoint", "effect [95%]", "needed", "seeds"]
    counts = ", ".join(
        f"{sum(v.verdict == name for v in verdicts)} {name}" for name in dict.fromkeys(v.verdict for v in verdicts)
    )
    about = plan.scale(scale).about
    start = (
        f"Made by `hare paper --scale {scale}` ({about}; seed set `{plan.seed_set}`) with the plan of SHA-256 "
        f"`{plan.digest[:12]}`: {counts}. Effects are means over seeds with 95% intervals; p is the hypothesis's, "
        f"corrected by Holm across all {len(verdicts)}."
    )
    return f"{start}\n\n{Table('Hypotheses', heads, rows).markdown()}"


def verify_paper(options: Options, folder: Path, share: float) -> bool:
    """Checks a paper, and says what is wrong with it."""
    from hare_evaluation.paper.verify import verify

    found = verify(folder, load_plan(options.plan), share, jobs=options.jobs, say=say)
    for problem in found.problems:
        typer.echo(problem, err=True)
    if found.problems:
        count = len(found.problems)
        typer.echo(f"Not verified: {count} problem{'s' * (count != 1)}.", err=True)
        return False
    typer.echo(
        f"Verified: all {found.records:,} records have their hashes, {found.replayed} of them were played again and "
        "are the same to the bit, and the verdicts follow from them."
    )
    return True


def print_pilot(options: Options) -> bool:
    """Prints every endpoint's spread on the pilot's seeds, as the plan has it."""
    from hare_evaluation.paper.pilot import pilot_suites, spreads
    from hare_evaluation.parallel import run_all
    from hare_evaluation.store import Store

    plan, scale = options.load()
    store = Store(options.store)

    def play(specs: Sequence[RunSpec], title: str) -> list[Record]:
        say(f"{title}: {len(specs)} runs")
        return run_all(specs, store, options.jobs)

    for hypothesis, endpoint, sd, seeds in spreads(plan, pilot_suites(plan, scale), play):
        typer.echo(f"{hypothesis} {endpoint}: pilot: {{sd: {sd:.3g}, seeds: {seeds}}}")
    return True


def simulate_studies(options: Options, studies: int) -> bool:
    """Judges simulated studies, prints the tables, and rewrites a page's part with them if asked to."""
    from hare_evaluation.paper.simulate import mixed_outcomes, outcomes

    plan, scale = options.load()
    rows = [
        [
            each.spread,
            each.noise,
            each.scenario,
            *map(_share, (each.whole, each.planted, each.null, each.false)),
            f"{each.least:.1%}",
        ]
        for each in outcomes(plan, scale, studies)
    ]
    heads = ["spread", "noise", "effects", "studies entirely right", "planted: supported", "null: not supported"]
    heads += ["studies with a false support", "worst hypothesis"]
    seeds = mixed_seeds(plan, scale)
    fits = [[f"{effect:g}", *map(_share, shares)] for effect, *shares in mixed_outcomes(seeds, studies)]
    text = "\n\n".join(
        [
            f"Made by `hare paper --simulate {studies} --scale {scale}`. Brackets are exact 95% intervals (Clopper "
            "and "
            "Pearson).",
            Table(f"Verdicts of {studies} simulated studies each", heads, rows).markdown(),
            Table(
                f"The mixed model, {seeds} seeds, {studies} simulated studies each",
                ["growth per e-fold", "interval covers it", "found above 0", "found below 0"],
                fits,
            ).markdown(),
        ]
    )
    typer.echo(text)
    if options.page is not None:
        write_page(options.page, text, SIMULATED)
    return True


def mixed_seeds(plan: Plan, scale: str) -> int:
    """The most seeds that a mixed model of the plan is fitted to."""
    shares = plan.scale(scale).parts
    endpoints = [e for h in plan.hypotheses for e in h.endpoints if e.id in h.mixed and e.suite in shares]
    return max((shares[e.suite].seeds for e in endpoints), default=10)


def _share(found: Interval) -> str:
    return "—" if found.value != found.value else f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"
