"""The ``hare demo`` commands: a page to play with, and a picture."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

QUERY = "I need help writing tests"

app = typer.Typer(help="HARE live on a page (`hare demo`), and a picture of what histories are worth.")

Port = Annotated[int, typer.Option(min=0, max=65535, help="Where the page is served; 0 for any free port.")]
Host = Annotated[str, typer.Option(help="The address to listen at. Any but this machine's own lets others in.")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")]
StoreFile = Annotated[
    Path | None,
    typer.Option("--store", help="The sessions' SQLite file; in your data folder by default."),
]


@app.callback(invoke_without_command=True)
def _page(
    context: typer.Context,
    port: Port = 8080,
    host: Host = "127.0.0.1",
    browser: Browser = True,
    store: StoreFile = None,
) -> None:
    """A page on which HARE learns from you; without a further word it is served at once."""
    if context.invoked_subcommand is None:
        live_command(port, host, browser, store)


@app.command("live")
def live_command(
    port: Port = 8080,
    host: Host = "127.0.0.1",
    browser: Browser = True,
    store: StoreFile = None,
    screenshots: Annotated[
        Path | None, typer.Option(help="Instead: plays two personas in a headless Chromium, and keeps pictures here.")
    ] = None,
) -> None:
    """HARE live on a page: ask, rate, and watch what it learns. `hare demo` alone does the same.

    Everything happens on this machine, and sessions are kept for the next time.
    """
    if screenshots is not None:
        from hare_evaluation.live.browser import take_screenshots

        for path in take_screenshots(screenshots):
            typer.echo(f"Written: {path}")
        return
    from hare_evaluation.live.start import start

    start(port, host, browser, store)


@app.command("killer")
def killer_command(
    query: Annotated[str, typer.Option(help="What every user asks.")] = QUERY,
    users: Annotated[int, typer.Option(min=2, max=6, help="How many users are shown.")] = 5,
    population: Annotated[int, typer.Option(min=2, help="How many users there are; the first are shown.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of history a user, on average.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another world.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of killer.md, killer.png and killer.svg.")] = Path("demo"),
) -> None:
    """Five users, one query: HARE's five skills beside RAG's one.

    Both have served the users before, without ever being told who they are. The same command makes the same files.
    """
    from rich.console import Console

    from hare_evaluation import figures, killer

    shown = killer.demonstration(query, users, population, rounds, seed)
    made = killer.mapped(shown)
    Console().print(killer.table(shown))
    out.mkdir(parents=True, exist_ok=True)
    page = out / "killer.md"
    command = f"hare demo killer{_options(query, users, population, rounds, seed)}"
    page.write_text(killer.markdown(shown, made, command), encoding="utf-8")
    png, svg = figures.save(killer.drawn(shown, made), out / "killer")
    for path in (page, png, svg):
        typer.echo(f"Written: {path}")


def _options(query: str, users: int, population: int, rounds: int, seed: int) -> str:
    given = {
        "--query": (query, QUERY),
        "--users": (users, 5),
        "--population": (population, 20),
        "--rounds": (rounds, 50),
        "--seed": (seed, 0),
    }
    words = [shlex.join([name, str(value)]) for name, (value, default) in given.items() if value != default]
    return "".join(f" {word}" for word in words)
