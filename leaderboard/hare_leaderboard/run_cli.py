"""``hare leaderboard run`` and ``hare leaderboard season``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Open a season of hidden seeds, and reveal it when it is over.")

_SECRET_HELP = "The file of the season's secret; by default the one in your configuration folder."


def run(
    submissions: Annotated[list[Path], typer.Argument(help="Folders of submissions.")],
    benchmark: Annotated[str, typer.Option(help="A benchmark version, or the path of its YAML file.")] = "v1",
    track: Annotated[list[str] | None, typer.Option(help="Only this track; can be repeated.")] = None,
    isolation: Annotated[
        str | None, typer.Option(help="bwrap, landlock or process (unverified, never ranked); the best by default.")
    ] = None,
    public: Annotated[bool, typer.Option(help="Public seeds alone, which need no secret.")] = False,
    secret: Annotated[Path | None, typer.Option(help=_SECRET_HELP)] = None,
    jobs: Annotated[int | None, typer.Option(help="Sessions at once; all processors by default.")] = None,
    store: Annotated[Path, typer.Option(help="Where finished sessions are kept.")] = Path("runs/leaderboard"),
    results: Annotated[Path, typer.Option(help="Where results go.")] = Path("leaderboard/results"),
) -> None:
    """Run submissions in a sandbox on hidden seeds, and write their results.

    With several folders, what is wrong with one is said and the others are run.
    """
    from hare_evaluation.foundation import ConfigError
    from hare_evaluation.store import Store
    from hare_leaderboard.benchmark import load_benchmark
    from hare_leaderboard.results import ResultStore
    from hare_leaderboard.sandbox import best_sandbox
    from hare_leaderboard.season import Kind, default_secret_path, load_season
    from hare_leaderboard.submission import SubmissionError
    from hare_leaderboard.verify import verify

    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs must be at least 1, not {jobs}.")
    definition = load_benchmark(benchmark)
    folder = Path(benchmark).parent if Path(benchmark).suffix in (".yaml", ".yml") else None
    path = None if public else secret or default_secret_path(definition.version)
    season = load_season(definition, path, folder)
    sandbox = best_sandbox(isolation, definition.session_limits)  # type: ignore[arg-type]  # it looks at the name
    if sandbox.tier == "process":
        typer.echo("Not isolated: for code that you trust. The result is unverified and never ranked.", err=True)
    kinds: tuple[Kind, ...] = ("public",) if public else ("hidden", "public")
    failed = False
    for submission in submissions:
        try:
            written = verify(
                submission, season, sandbox, Store(store), ResultStore(results), track or (), kinds, jobs, typer.echo
            )
        except (ConfigError, SubmissionError) as error:
            if len(submissions) == 1:
                raise
            typer.echo(f"left out {submission}: {error}", err=True)
            failed = True
            continue
        for result in written:
            typer.echo(str(result))
    if failed:
        raise typer.Exit(1)


@app.command("open")
def open_command(
    benchmark: Annotated[str, typer.Argument(help="A benchmark version, or the path of its YAML file.")],
    secret: Annotated[Path | None, typer.Option(help=_SECRET_HELP)] = None,
) -> None:
    """Draw a secret and write the commitment to publish before the first run."""
    from hare_leaderboard.benchmark import load_benchmark
    from hare_leaderboard.season import default_secret_path, open_season

    definition = load_benchmark(benchmark)
    path = secret or default_secret_path(definition.version)
    typer.echo(f"{open_season(definition, path, _folder(benchmark))}: publish this; the secret is in {path}.")


@app.command("reveal")
def reveal_command(
    benchmark: Annotated[str, typer.Argument(help="A benchmark version, or the path of its YAML file.")],
    secret: Annotated[Path | None, typer.Option(help=_SECRET_HELP)] = None,
) -> None:
    """Publish the secret of a season that is over."""
    from hare_leaderboard.benchmark import load_benchmark
    from hare_leaderboard.season import default_secret_path, reveal_season

    definition = load_benchmark(benchmark)
    path = reveal_season(definition, secret or default_secret_path(definition.version), _folder(benchmark))
    typer.echo(f"{path}: publish this; hidden seeds can be computed by everybody now.")


def _folder(benchmark: str) -> Path | None:
    return Path(benchmark).parent if Path(benchmark).suffix in (".yaml", ".yml") else None
