"""``hare leaderboard``: from a submission to a verified result."""

from __future__ import annotations

import typer

from hare_leaderboard import run_cli

app = typer.Typer(no_args_is_help=True, help="Submissions, verified runs and ranking.")
app.command("run")(run_cli.run)
app.add_typer(run_cli.app, name="season")
