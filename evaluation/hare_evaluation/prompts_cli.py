"""``hare prompts``: check the files of adaptive prompts, ask for a recommendation, and keep the store of events."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hare_agents.prompts import PromptsConfig
    from hare_agents.prompts.telemetry import Telemetry

app = typer.Typer(no_args_is_help=True, help="Adaptive prompts: files, recommendations, and the store of events.")

Config = Annotated[Path | None, typer.Option(help="The configuration as YAML; the published one by default.")]
Prompts = Annotated[Path, typer.Option(help="The prompts as YAML.")]
Store = Annotated[str, typer.Option("--db", help="sqlite:///path or postgresql+psycopg://user@host/name.")]
DB = "sqlite:///prompts.db"


@app.command("check")
def check_command(
    prompts: Annotated[Path | None, typer.Option(help="The prompts as YAML.")] = None, config: Config = None
) -> None:
    """Say what is wrong with a file of prompts or a configuration, by field and fix."""
    from hare_agents.prompts import Library

    _config(config)
    if prompts is not None:
        library = Library.load(prompts)
        typer.echo(f"{prompts}: {len(library)} prompts on {len(library.topic_names)} topics.")
    if config is not None:
        typer.echo(f"{config}: valid.")


@app.command("init")
def init_command(prompts: Prompts, db: Store = DB, config: Config = None) -> None:
    """Make or migrate the tables, and register the prompts, so that events may speak of them."""
    from hare_agents.prompts import Library

    library = Library.load(prompts)
    telemetry = _open(db, config)
    telemetry.register(library)
    typer.echo(f"{len(library)} prompts are registered.")


@app.command("recommend")
def recommend_command(
    prompts: Prompts,
    config: Config = None,
    db: Annotated[str | None, typer.Option(help="The store to learn from; none by default.")] = None,
    lens: Annotated[str, typer.Option(help="The visitor's way of looking.")] = "any",
    topic: Annotated[str, typer.Option(help="The topic cluster that is read.")] = "any",
    entropy: Annotated[float, typer.Option(help="From 0 (settled) to 1 (lost).")] = 0.5,
    depth: Annotated[int, typer.Option(help="Steps in the session so far.")] = 0,
    hour: Annotated[float, typer.Option(help="Hour of the day, from 0 up to 24.")] = 12.0,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Prompts; the configured number by default.")] = None,
) -> None:
    """Recommend prompts for a visit, and say why, factor by factor."""
    from hare_agents.prompts import Context, Library, PromptEngine

    engine = PromptEngine(Library.load(prompts), _config(config))
    if db is not None:
        _open(db, config).refresh(engine)
    context, now = Context(lens, topic, entropy, depth, hour), time.time()
    for one in engine.recommend(context, now, k):
        typer.echo(engine.explain(context, one.prompt, now))


@app.command("status")
def status_command(db: Store = DB) -> None:
    """Print how much is stored, and from when."""
    from hare_agents.prompts.telemetry import upkeep

    for name, value in upkeep.overview(_open(db, None).database).items():
        shown = value if name not in ("first", "last") else _utc(value)
        typer.echo(f"{name:<12} {shown}")


@app.command("retain")
def retain_command(
    db: Store = DB,
    config: Config = None,
    days: Annotated[int | None, typer.Option(help="Instead of telemetry.retention_days; at least 7.")] = None,
) -> None:
    """Delete events older than the retention; what they counted for stays in the aggregates."""
    from hare_agents.prompts.telemetry import upkeep

    telemetry = _open(db, config)
    kept = telemetry.config.telemetry.retention_days if days is None else days
    typer.echo(f"{upkeep.retain(telemetry.database, kept)} events older than {kept} days were deleted.")


@app.command("rebuild")
def rebuild_command(
    db: Store = DB, check: Annotated[bool, typer.Option("--check", help="Only compare; exit 1 if unequal.")] = False
) -> None:
    """Make all aggregates anew from the log, and say how many rows were different."""
    from hare_agents.prompts.telemetry import upkeep

    database = _open(db, None).database
    different = upkeep.differences(database) if check else upkeep.rebuild(database)
    typer.echo(f"{different} rows of the aggregates {'are' if check else 'were'} not what the log adds up to.")
    if check and different:
        raise typer.Exit(1)


@app.command("export")
def export_command(
    what: Annotated[str, typer.Argument(help="events, statistics or days.")],
    out: Annotated[Path, typer.Argument(help="A .csv or .jsonl file.")],
    db: Store = DB,
) -> None:
    """Write a table to a file, row by row."""
    from hare_agents.prompts.telemetry import upkeep

    typer.echo(f"{upkeep.export(_open(db, None).database, what, out)} rows are in {out}.")


def _config(path: Path | None) -> PromptsConfig:
    from hare_agents.prompts import PromptsConfig

    return PromptsConfig() if path is None else PromptsConfig.load(path)


def _open(db: str, config: Path | None) -> Telemetry:
    from hare_agents.prompts.telemetry import Telemetry

    return Telemetry(db, _config(config))


def _utc(at: float | None) -> str:
    return "none" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
