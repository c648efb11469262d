"""The ``hare demo`` commands: demonstrations, made by one command each."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

QUERY = "I need help writing tests"

app = typer.Typer(no_args_is_help=True, help="Demonstrations, made by one command each.")


@app.callback()
def _commands() -> None:
    """Demonstrations, made by one command each."""


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
