"""``hare leaderboard``: make and check a submission, run it, and build the site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hare_leaderboard import run_cli

if TYPE_CHECKING:
    from hare_leaderboard.results import ResultStore, Stored

app = typer.Typer(no_args_is_help=True, help="Submit an agent to the leaderboard, check it, run it, build the site.")

BenchmarkName = Annotated[str, typer.Option("--benchmark", help="A benchmark version, or the path of its YAML file.")]
app.command("run")(run_cli.run)
app.add_typer(run_cli.app, name="season")

ResultsFolder = Annotated[Path, typer.Option(help="The folder of results.")]
RESULTS = Path("leaderboard/results")


@app.command("new")
def new_command(
    name: Annotated[str, typer.Argument(help="The submission's name.")],
    parent: Annotated[Path, typer.Option("--in", help="Where its folder is made.")] = Path("leaderboard/submissions"),
    benchmark: BenchmarkName = "v1",
) -> None:
    """Make a folder with a working submission, to be changed into your own."""
    from hare_leaderboard.benchmark import load_benchmark
    from hare_leaderboard.checking import new

    known = load_benchmark(benchmark).tracks
    # what the template's agent plays
    folder = new(name, parent, [track for track in ("bilinear-select", "real") if track in known] or list(known)[:1])
    typer.echo(f"{folder}: a working submission. Change the code and submission.yaml, then run:")
    typer.echo(f"hare leaderboard check {folder}")


@app.command("check")
def check_command(
    folder: Annotated[Path, typer.Argument(help="The submission's folder.")],
    benchmark: BenchmarkName = "v1",
) -> None:
    """Say everything that is wrong with a submission of your own. This runs its code, outside the sandbox."""
    from hare_leaderboard.benchmark import load_benchmark
    from hare_leaderboard.checking import check

    tracks = {
        name: [(environment.id, environment.kwargs) for environment in track.environments]
        for name, track in load_benchmark(benchmark).tracks.items()
    }
    findings = check(folder, tracks, lambda line: typer.echo(f"ok     {line}"))
    for finding in findings:
        typer.echo(f"wrong  {finding}", err=True)
    if findings:
        raise typer.Exit(1)
    typer.echo(f"{folder} can be submitted.")


@app.command("tracks")
def tracks_command(benchmark: BenchmarkName = "v1") -> None:
    """The tracks that can be entered."""
    from hare_leaderboard.benchmark import load_benchmark

    for name, track in load_benchmark(benchmark).tracks.items():
        worlds = ", ".join(dict.fromkeys(environment.id for environment in track.environments))
        typer.echo(f"{name:22} {track.title} ({worlds})")


@app.command("build")
def build_command(
    results: ResultsFolder = RESULTS,
    out: Annotated[Path, typer.Option(help="The folder of the site.")] = Path("leaderboard/site"),
    benchmark: BenchmarkName = "v1",
    picture: Annotated[Path | None, typer.Option(help="Also take a picture of the first page (by Chromium).")] = None,
) -> None:
    """Rank all results and write the site; open index.html in a browser, no server is needed."""
    from hare_leaderboard.benchmark import load_benchmark
    from hare_leaderboard.ranking import rank_all
    from hare_leaderboard.results import ResultStore
    from hare_leaderboard.site import TrackText, build_site

    tracks = load_benchmark(benchmark).tracks
    found = ResultStore(results).load()
    for flaw in found.flaws:
        typer.echo(f"Left out: {flaw.reason}", err=True)
    boards = rank_all(found, list(tracks))
    texts = {name: TrackText(track.title, track.description) for name, track in tracks.items()}
    index = build_site(boards, out, texts)
    typer.echo(f"{len(found.results)} results: {index}")
    if picture is not None:
        from hare_leaderboard.picture import take

        typer.echo(str(take(index, picture)))


@app.command("verify")
def verify_command(results: ResultsFolder = RESULTS) -> None:
    """Look whether every file of results matches its hash and lies where it belongs."""
    from hare_leaderboard.results import ResultStore

    found = ResultStore(results).load()
    for flaw in found.flaws:
        typer.echo(f"wrong  {flaw.reason}", err=True)
    if found.flaws:
        raise typer.Exit(1)
    typer.echo(f"{len(found.results)} results match their hashes; {len(found.removed)} were removed, with a reason.")


@app.command("remove")
def remove_command(
    sha256: Annotated[str, typer.Argument(help="The result's hash, or its first twelve digits.")],
    reason: Annotated[str, typer.Option(help="Why, for everybody to read.")],
    results: ResultsFolder = RESULTS,
) -> None:
    """Take a result off the board. The file stays, and the reason is kept beside it."""
    from hare_leaderboard.results import ResultStore

    store = ResultStore(results)
    typer.echo(str(store.remove(_result(store, sha256), reason)))


def _result(store: ResultStore, sha256: str) -> Stored:
    from hare_evaluation.foundation import ConfigError

    found = [stored for stored in store.load().results if len(sha256) >= 12 and stored.sha256.startswith(sha256)]
    if len(found) != 1:
        raise ConfigError(f"No result in {store.root} has the hash {sha256!r}. The site shows each one's.")
    return found[0]
