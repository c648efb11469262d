"""The ``hare`` command: run suites, rebuild reports, check and list what is installed.

Another package adds its own sub-commands by an entry point: the name, and a ``typer.Typer``::

    [project.entry-points."hare_gym.commands"]
    leaderboard = "hare_leaderboard.cli:app"
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hare_evaluation.judging import Study
    from hare_evaluation.results import Labels
    from hare_evaluation.spec import RunSpec, Suite
    from hare_evaluation.store import Record, Store

# Before NumPy is imported, here and in the workers: runs go side by side, so each gets one thread, and threads
# that wait must not spin.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMAND_GROUP = "hare_gym.commands"

app = typer.Typer(
    name="hare",
    help="Contextual bandits for personalised recommendation: environments, agents and honest evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
check_app = typer.Typer(no_args_is_help=True, help="Check an environment or an agent against the contract.")
list_app = typer.Typer(no_args_is_help=True, help="List what is installed.")
app.add_typer(check_app, name="check")
app.add_typer(list_app, name="list")

SuiteName = Annotated[str | None, typer.Argument(help="A built-in suite, or the path of a YAML file.")]
StoreFolder = Annotated[Path, typer.Option(help="The folder of the records.")]
ReportFolder = Annotated[Path, typer.Option(help="The folder of the report.")]
EnvironmentArgs = Annotated[
    list[str] | None, typer.Option("--env-arg", metavar="KNOB=VALUE", help="A knob of every environment.")
]
AgentArgs = Annotated[
    list[str] | None, typer.Option("--agent-arg", metavar="KNOB=VALUE", help="A hyperparameter of every agent.")
]
Horizon = Annotated[int | None, typer.Option(min=1, help="Rounds in a session.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs at once; all processors by default.")]
Backend = Annotated[str, typer.Option(help="loky, ray or serial.")]
Address = Annotated[str | None, typer.Option(help="The Ray cluster's address.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed runs again.")]


@app.command("run")
def run_command(
    suite: SuiteName = None,
    env: Annotated[str | None, typer.Option(help="Instead of a suite: an environment's id.")] = None,
    agent: Annotated[str | None, typer.Option(help="With --env: agents' names, separated by commas.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds.")] = None,
    horizon: Horizon = None,
    mode: Annotated[str | None, typer.Option(help="The action mode of every environment.")] = None,
    env_arg: EnvironmentArgs = None,
    agent_arg: AgentArgs = None,
    lanes: Annotated[int, typer.Option(min=1, help="Users of one world that are served at once.")] = 1,
    jobs: Jobs = None,
    backend: Backend = "loky",
    address: Address = None,
    store: StoreFolder = Path("runs"),
    out: ReportFolder = Path("report"),
    retry_failed: RetryFailed = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the report.")] = True,
) -> None:
    """Run a suite (`hare run quick`), or agents on one environment (`--env ID --agent NAME --seeds N`).

    Finished runs are kept in the store and never repeated: the same command resumes where it stopped.
    """
    from hare_evaluation.metrics.study import Measuring
    from hare_evaluation.store import Store

    chosen = _chosen_suite(suite, env, agent, seeds)
    knobs = assignments("--env-arg", env_arg)
    knobs |= {} if horizon is None else {"horizon": horizon}
    knobs |= {} if mode is None else {"action_mode": mode}
    chosen = chosen.overridden(knobs, assignments("--agent-arg", agent_arg), seeds)
    plan = chosen.plan(lanes)
    for note in plan.notes:
        typer.echo(note, err=True)
    kept = Store(store)
    title = chosen.title or chosen.name
    options: dict[str, Any] = {"jobs": jobs, "backend": backend, "address": address, "retry_failed": retry_failed}
    records = _run_all(plan.specs, kept, title, play=Measuring.of(chosen, lanes), **options)
    _measure_texts(records, plan.labels, chosen.study, jobs)
    _show(records, plan.labels, out if report else None, title, chosen.study)
    if _tell_failures(records, kept):
        raise typer.Exit(1)


@app.command("tune")
def tune_command(
    suite: Annotated[str, typer.Argument(help="Whose environments and agents: a built-in suite, or a YAML file.")],
    agent: Annotated[str | None, typer.Option(help="Only these agents, separated by commas; also others.")] = None,
    trials: Annotated[int, typer.Option(help="Configurations an agent, the defaults included.")] = 24,
    seeds: Annotated[int, typer.Option(help="How many tuning seeds each of them plays.")] = 3,
    horizon: Horizon = None,
    jobs: Jobs = None,
    backend: Backend = "loky",
    address: Address = None,
    store: StoreFolder = Path("runs"),
    out: Annotated[Path, typer.Option(help="Gets the folder SUITE with a file for each agent.")] = Path("tuned"),
    retry_failed: RetryFailed = False,
) -> None:
    """Choose every agent's hyperparameters by the same number of trials, on seeds that nothing is judged on.

    The winners are written to files that suites take with `tuned`. The same command resumes where it stopped.
    """
    import shlex

    from rich.console import Console

    from hare_evaluation.spec import AgentEntry, load_suite
    from hare_evaluation.store import Store
    from hare_evaluation.tune import outcome_table, plan_tuning, write_tuned

    chosen = load_suite(suite)
    options: dict[str, Any] = {"--trials": trials, "--seeds": seeds}
    if agent is not None:
        names = [name.strip() for name in agent.split(",")]
        listed = [
            [e for e in chosen.agents if name in (e.name, e.label)] or [AgentEntry(name=name)] for name in names
        ]
        chosen = chosen.model_copy(update={"agents": [entry for entries in listed for entry in entries]})
        options["--agent"] = ",".join(names)
    if horizon is not None:
        chosen = chosen.overridden({"horizon": horizon}, {})
        options["--horizon"] = horizon
    tuning = plan_tuning(chosen, trials, seeds)
    for note in tuning.notes:
        typer.echo(note, err=True)
    specs, title = tuning.specs, f"Tuning on {chosen.name}"
    records = _run_all(
        specs, Store(store), title, jobs=jobs, backend=backend, address=address, retry_failed=retry_failed
    )
    outcomes = tuning.judge(records)
    Console().print(outcome_table(outcomes))
    words = ["hare", "tune", suite, *(str(word) for option in options.items() for word in option)]
    for path in write_tuned(tuning, outcomes, out, shlex.join(words)):
        typer.echo(f"Written: {path}")
    without = [outcome.entry.label for outcome in outcomes if outcome.best is None]
    if without:
        typer.echo(f"Every trial failed, so nothing was written: {', '.join(without)}.", err=True)
        raise typer.Exit(1)


@app.command("theory")
def theory_command(
    seeds: Annotated[int, typer.Option(min=2, help="How many seeds.")] = 6,
    horizon: Annotated[int, typer.Option(min=100, help="Rounds in the longest sessions.")] = 10_000,
    jobs: Jobs = None,
    backend: Backend = "loky",
    address: Address = None,
    store: StoreFolder = Path("runs"),
    page: Annotated[Path | None, typer.Option(help="The page whose generated part is replaced.")] = None,
) -> None:
    """Measure what docs/theory.md predicts: growth with time, users and dimension, coverage, log-determinants.

    The tables are printed as Markdown. About three minutes on one processor; the same command resumes.
    """
    from hare_evaluation.pages import write_page
    from hare_evaluation.store import Store
    from hare_evaluation.theory import COMMAND, Measured, section, study

    suite = study(seeds, horizon)
    plan = suite.plan()
    kept = Store(store)
    records = _run_all(plan.specs, kept, suite.title, jobs=jobs, backend=backend, address=address)
    if _tell_failures(records, kept):
        raise typer.Exit(1)
    generated = section(Measured(plan, records), f"hare theory --seeds {seeds} --horizon {horizon}")
    typer.echo(generated)
    if page is not None:
        write_page(page, generated, COMMAND)


@app.command("paper")
def paper_command(
    scale: Annotated[str | None, typer.Option(help="small or full (default): what the plan has.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Another plan than evaluation/suites/hypotheses.yaml.")] = None,
    jobs: Jobs = None,
    store: StoreFolder = Path("runs"),
    out: ReportFolder = Path("report"),
    decoder: Annotated[list[str] | None, typer.Option(help="One more decoder to compare: a name or folder.")] = None,
    verify: Annotated[Path | None, typer.Option(metavar="DIR", help="Check the paper in a folder instead.")] = None,
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --verify: of the records to play again.")
    ] = 0.05,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="Only print every endpoint's spread on pilot seeds.")
    ] = False,
    simulate: Annotated[int | None, typer.Option(min=20, help="Only judge so many simulated studies.")] = None,
    play: Annotated[bool, typer.Option("--play/--no-play", help="Play what is missing.")] = True,
    page: Annotated[Path | None, typer.Option(help="A Markdown page whose generated part is replaced.")] = None,
) -> None:
    """Run (or resume) the paper: hypotheses, text experiments, ablations, scaling; one report with all verdicts.

    It says first how long it will take. With --verify DIR a random 5% of the records in DIR's paper is played again.
    """
    from hare_evaluation.paper import commands

    options = commands.Options(scale, plan, jobs, store, out, tuple(decoder or ()), play, page)
    if verify is not None:
        done = commands.verify_paper(options, verify, share)
    elif pilot:
        done = commands.print_pilot(options)
    elif simulate is not None:
        done = commands.simulate_studies(options, simulate)
    else:
        done = commands.make_paper(options)
    if not done:
        raise typer.Exit(1)


@app.command("report")
def report_command(
    suite: SuiteName = None,
    store: StoreFolder = Path("runs"),
    out: ReportFolder = Path("report"),
    page: Annotated[Path | None, typer.Option(help="A Markdown page whose generated part is replaced.")] = None,
    jobs: Jobs = None,
) -> None:
    """Rebuild the table, the figures and the report from the records of a suite, or from all records.

    Claims and figures about texts need sessions played again, unless that has been done: see
    docs/generation_metrics.md.
    """
    from hare_evaluation.results import Labels
    from hare_evaluation.spec import load_suite
    from hare_evaluation.store import Store

    chosen = load_suite(suite) if suite else None
    kept = Store(store)
    records, notes = _stored_records(kept, chosen)
    for note in notes:
        typer.echo(note, err=True)
    labels = chosen.labels if chosen else Labels(environments={}, agents={})
    title = (chosen.title or chosen.name) if chosen else f"All records in {store}"
    if chosen is not None:
        _measure_texts(records, labels, chosen.study, jobs)
    _show(records, labels, out, title, chosen.study if chosen else None)
    if page is not None:
        from hare_evaluation.pages import results_section, write_page
        from hare_gym.errors import ConfigError

        if chosen is None:
            raise ConfigError("A page is of one suite: name it, as in: hare report flagship --page docs/results.md")
        write_page(page, results_section(chosen, records), f"hare report {chosen.name}")
    _tell_failures(records, kept)


@check_app.command("env")
@check_app.command("environment", hidden=True)
def check_env_command(id: str, env_arg: EnvironmentArgs = None) -> None:
    """Check an environment: spaces, rewards, oracles, seeds."""
    from hare_evaluation.environments import make
    from hare_gym.checks import check_task

    check_task(make(id, assignments("--env-arg", env_arg)))
    typer.echo(f"{id} keeps the contract.")


@check_app.command("agent")
def check_agent_command(name: str, agent_arg: AgentArgs = None) -> None:
    """Check an agent: actions, updates, state, randomness."""
    from hare_gym.checks import check_agent
    from hare_gym.registry import make_agent

    check_agent(make_agent(name, **assignments("--agent-arg", agent_arg)))
    typer.echo(f"{name} keeps the contract.")


@list_app.command("envs")
@list_app.command("environments", hidden=True)
def list_envs_command() -> None:
    """The registered environments."""
    from hare_gym.registry import environment_ids

    for id in environment_ids():
        typer.echo(id)


@list_app.command("agents")
def list_agents_command() -> None:
    """The installed agents."""
    from hare_gym.registry import agent_names

    for name in agent_names():
        typer.echo(name)


@list_app.command("suites")
def list_suites_command() -> None:
    """The built-in suites."""
    from hare_evaluation.spec import load_suite, suite_names

    for name in suite_names():
        typer.echo(f"{name:12} {load_suite(name).title}")


def main() -> None:
    """Runs the command line. A mistake of the user's ends it with a sentence on stderr and status 2."""
    _add_plugins()
    try:
        app()
    except Exception as error:
        from hare_gym.errors import HareError

        if not isinstance(error, HareError):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _add_plugins() -> None:
    there = {group.name for group in app.registered_groups}  # a second call adds nothing
    for entry in entry_points(group=COMMAND_GROUP):
        if entry.name in there:
            continue
        try:
            app.add_typer(entry.load(), name=entry.name)
        except Exception as error:  # a stranger's broken package must not take this command down
            warnings.warn(f"The command {entry.name!r} of {entry.value!r} was not added: {error!r}")


def _chosen_suite(suite: str | None, env: str | None, agent: str | None, seeds: int | None) -> Suite:
    from hare_evaluation.spec import AgentEntry, EnvironmentEntry, Seeds, Suite, load_suite
    from hare_gym.errors import ConfigError

    if suite is not None and env is None and agent is None:
        return load_suite(suite)
    if suite is not None or env is None or not agent:
        raise ConfigError(
            "Name either a suite (hare run quick; hare list suites) or both --env and --agent "
            "(hare run --env HareBilinear-v0 --agent linucb,random --seeds 5)."
        )
    return Suite(
        name="command-line",
        title=f"{agent} on {env}",
        seeds=Seeds(set="quick", count=seeds or 5),
        environments=[EnvironmentEntry(id=env)],
        agents=[AgentEntry(name=name.strip()) for name in agent.split(",")],
    )


def assignments(option: str, values: list[str] | None) -> dict[str, Any]:
    """``["alpha=2", "tables=[a, b]"]`` as a dict, the values read as YAML."""
    from hare_evaluation.safe_yaml import load_yaml
    from hare_gym.errors import ConfigError

    found = {}
    for text in values or []:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{option} must look like name=value, not {text!r}.")
        found[name.strip()] = load_yaml(value, f"The value of {option} {text!r}")
    return found


def _run_all(specs: Sequence[RunSpec], store: Store, title: str, **options: Any) -> list[Record]:
    """`run_all` under a progress bar; Ctrl-C ends the program with what is finished."""
    from hare_evaluation.parallel import run_all

    try:
        with _progress_bar(title, len(specs)) as advance:
            return run_all(specs, store, progress=advance, **options)
    except KeyboardInterrupt:
        done = sum(store.path(spec.key).exists() for spec in specs)
        typer.echo(
            f"Interrupted. {done} of {len(specs)} runs are finished and kept in {store.root}; "
            "run the same command again to resume.",
            err=True,
        )
        raise typer.Exit(130) from None


@contextmanager
def _progress_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


def _measure_texts(records: list[Record], labels: Labels, study: Study, jobs: int | None) -> None:
    """Measures the texts that the study asks for, as far as nobody has; what cannot be measured is told."""
    from hare_evaluation.metrics.study import measure_all, missing
    from hare_evaluation.results import Results

    waiting = missing(study, Results.from_records(records, labels))
    if waiting:
        with _progress_bar("Measuring texts", len(waiting)) as advance:
            problems = measure_all(waiting, jobs, advance)
        for problem in problems:
            typer.echo(problem, err=True)


def _show(records: list[Record], labels: Labels, out: Path | None, title: str, study: Study | None) -> None:
    from rich.console import Console

    from hare_evaluation.claims import judge_all
    from hare_evaluation.judging import View
    from hare_evaluation.results import Results
    from hare_evaluation.tables import claims_table, reward_table, summary_table

    console = Console()
    console.print(summary_table(records, labels))
    if study and study.claims:
        console.print(claims_table(judge_all(study, Results.from_records(records, labels))))
    if study and study.tables:
        view = View(study, Results.from_records(records, labels))
        console.print(*(reward_table(entry, view) for entry in study.tables))
    if out is not None:
        from hare_evaluation.report import write_report

        typer.echo(f"Report: {write_report(records, out, title, labels, study)}")


def _tell_failures(records: list[Record], store: Store) -> int:
    """Says where the tracebacks of failed runs are (the table has named the runs), and gives their number."""
    failed = [record["key"] for record in records if record["status"] == "failed"]
    if failed:
        typer.echo(f"{len(failed)} of {len(records)} runs failed. Their tracebacks are in:", err=True)
    for key in failed:
        typer.echo(f"  {store.path(key)}", err=True)
    return len(failed)


def _stored_records(store: Store, suite: Suite | None) -> tuple[list[Record], list[str]]:
    """The records to report and what to say of them; the best of several for one run stands last.

    Those are records that different versions of the code made: best is the code that is installed, then the newest.
    """
    from hare_evaluation.store import canonical_json
    from hare_gym.errors import ConfigError

    records = sorted(store.records(), key=lambda record: _preference(record, store))
    notes = []
    if suite is not None:
        wanted: set[str] = set()
        found = {_settings(record) for record in records}
        for environment, agent, specs in suite.specs():
            runs = {canonical_json(spec.settings()) for spec in specs}
            wanted |= runs
            if len(runs & found) < len(runs):
                notes.append(
                    f"{agent.label} on {environment.label}: {len(runs & found)} of {len(runs)} runs are there."
                )
        records = [record for record in records if _settings(record) in wanted]
    if not records:
        raise ConfigError(
            f"There are no such records in {store.root}. Make some first: "
            f"hare run {suite.name if suite else 'quick'} --store {store.root}"
        )
    return records, notes


def _settings(record: Record) -> str:
    from hare_evaluation.store import canonical_json

    return canonical_json({name: value for name, value in record["spec"].items() if name != "versions"})


def _preference(record: Record, store: Store) -> tuple[bool, int]:
    from hare_evaluation.spec import code_fingerprint
    from hare_gym.errors import HareError

    try:
        current = (
            code_fingerprint(record["spec"]["env"], record["spec"]["agent"]) == record["spec"]["versions"]["code"]
        )
    except HareError:  # records may outlive the agent that they are of
        current = False
    return current, store.path(record["key"]).stat().st_mtime_ns


if __name__ == "__main__":
    main()
