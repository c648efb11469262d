"""The ``hare skills`` commands: check, screen, collect and list skills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hare_gym.text.collect import Progress

app = typer.Typer(no_args_is_help=True, help="Agent Skills: check, screen, collect and list them.")

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="SKILL.md files or folders of them.")]


@app.command("validate")
def validate_command(paths: Paths) -> None:
    """Check SKILL.md files against the Agent Skills specification; every violation with its line and rule."""
    from hare_gym.errors import DataError
    from hare_gym.text.skills import MAX_BYTES, validate
    from hare_gym.text.sources import skill_files

    invalid = seen = 0
    for path in paths:
        if not path.exists():
            raise DataError(f"There is no file or folder {str(path)!r}.")
        files = skill_files(path) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: there is no SKILL.md below it.")
        for file in files:
            folder = file.resolve().parent.name if file.name == "SKILL.md" else None
            size = file.stat().st_size
            violations = validate(file.read_bytes() if size <= MAX_BYTES else b"x" * size, folder)
            for violation in violations:
                typer.echo(f"{file}:{violation.line}: {violation.severity}: {violation.rule}: {violation.message}")
            seen += 1
            invalid += any(violation.severity == "error" for violation in violations)
    typer.echo(f"{seen - invalid} of {seen} skills are valid.")
    if invalid:
        raise typer.Exit(1)


@app.command("screen")
def screen_command(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH...]", help="Folders, SKILL.md, CSV, JSONL or text files.")
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Measure the rules on the labelled set.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the counts, not the findings.")] = False,
) -> None:
    """Screen texts of strangers: injection, concealment, exfiltration, hidden and encoded text.

    Ends with status 1 when a text is blocked.
    """
    from hare_gym.errors import ConfigError

    if labelled:
        _show_quality()
    elif not paths:
        raise ConfigError("Name what to screen (hare skills screen PATH), or measure the rules with --labelled.")
    if not paths:
        return
    counts: Counter[tuple[str, str]] = Counter()
    for path in paths:
        for kind, place, text in _texts(Path(path)):
            counts[kind, _screen_one(place, text, quiet)] += 1
    for kind in sorted({kind for kind, _ in counts}):
        total = sum(count for (other, _), count in counts.items() if other == kind)
        parts = (f"{v} {counts[kind, v]} ({counts[kind, v] / total:.2%})" for v in ("block", "review", "pass"))
        typer.echo(f"{total} of kind {kind}: {', '.join(parts)}")
    if any(verdict == "block" for _, verdict in counts):
        raise typer.Exit(1)


def _texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, place and text of everything at a path; what cannot be read is told on stderr."""
    from hare_gym.errors import DataError
    from hare_gym.text.sources import Problem, read_collection

    if path.is_file() and not path.name.endswith((".csv", ".csv.gz", ".jsonl", ".jsonl.gz")):
        try:
            yield "text", str(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from error
        return
    for found in read_collection(path):
        if isinstance(found, Problem):
            typer.echo(str(found), err=True)
        else:
            yield found.kind, found.path, found.raw


def _screen_one(place: str, text: str, quiet: bool) -> str:
    from hare_gym.text.screening import screen

    result = screen(text)
    if not quiet:
        for finding in result.findings:
            via = f" (through {', '.join(finding.via)})" if finding.via else ""
            excerpt = finding.excerpt.encode("unicode_escape").decode()
            typer.echo(f"{place}:{finding.start}-{finding.end}: {finding.verdict}: {finding.rule}{via}: {excerpt}")
    return result.verdict


def _show_quality() -> None:
    from rich.console import Console
    from rich.table import Table

    from hare_gym.text.screening import labelled_set, quality

    table = Table(title="Screening on the labelled set")
    for heading in ("half", "verdict", "attacks", "benign", "caught", "false alarms", "precision", "recall"):
        table.add_column(heading)
    texts = labelled_set()
    for split in ("development", "held-out"):
        half = [text for text in texts if text.split == split]
        for name, verdicts in (("block", ("block",)), ("block or review", ("block", "review"))):
            q = quality(half, verdicts)
            figures = (q.attacks, q.benign, q.caught, q.false_alarms)
            table.add_row(split, name, *map(str, figures), f"{q.precision:.3f}", f"{q.recall:.3f}")
    Console().print(table)


@app.command("collect")
def collect_command(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE...]", help="Paths, git addresses, or public names.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("collected"),
    allow_unknown_licence: Annotated[
        bool, typer.Option("--allow-unknown-licence", help="Keep texts whose licence is not known.")
    ] = False,
    drop_review: Annotated[bool, typer.Option("--drop-review", help="Leave out what asks for a look, too.")] = False,
    names: Annotated[bool, typer.Option("--names", help="Show the public sources, and collect nothing.")] = False,
) -> None:
    """Collect skills and prompts: read, screened, freed of duplicates, split, with a manifest.

    Stopped, it goes on where it was when the same command is given again.
    """
    from hare_gym.text.collect import PUBLIC_SOURCES, CollectConfig, collect

    if names:
        for name, public in PUBLIC_SOURCES.items():
            typer.echo(f"{name:22} {public.address:66} {public.what}")
        return
    config = CollectConfig(allow_unknown_licence, drop_review)
    try:
        with _bars() as progress:
            made = collect(sources or [], out, config, progress)
    except KeyboardInterrupt:
        typer.echo("Interrupted; run the same command again to resume.", err=True)
        raise typer.Exit(130) from None
    for entry in made.dropped:
        if entry.reason == "broken":
            typer.echo(f"{entry.place}: {entry.detail}", err=True)
    for what, counts in made.manifest["counts"].items():
        typer.echo(f"{what:16} " + (", ".join(f"{name} {count}" for name, count in counts.items()) or "none"))
    typer.echo(f"{len(made.records)} of {made.manifest['read']} kept: {made.path}")


@contextmanager
def _bars() -> Iterator[Progress]:
    """A progress bar for each stage."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield advance


@app.command("list")
def list_command(
    path: Annotated[str | None, typer.Argument(help="A corpus instead of the built-in one.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
    level: Annotated[str | None, typer.Option(help="Only this level.")] = None,
) -> None:
    """List the skills of the built-in corpus by domain, topic and level, or those of a corpus given by its path."""
    from rich.console import Console
    from rich.table import Table

    from hare_gym.errors import unknown_name
    from hare_gym.text.corpus import FACETS, load_corpus

    chosen = {name: value for name, value in (("domain", domain), ("topic", topic), ("level", level)) if value}
    for name, value in chosen.items():
        if value not in FACETS[name]:
            raise unknown_name(name, value, FACETS[name])
    corpus = load_corpus(path)
    for problem in corpus.problems:
        typer.echo(str(problem), err=True)
    skills = corpus.where(**chosen) if chosen else corpus.skills
    facets = [name for name in FACETS if any(name in skill.metadata for skill in skills)]
    table = Table(title=f"{len(skills)} skills, {corpus.name}")
    for heading in ("name", *facets, "title"):
        table.add_column(heading, overflow="fold")
    for skill in skills:
        table.add_row(skill.name, *(skill.metadata.get(facet, "") for facet in facets), skill.title)
    Console().print(table)
