"""The ``hare study`` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A study with people: sheets, form, analysis, power, dry run.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the study.")]


@app.command("sheets")
def sheets_command(
    folder: Folder,
    suite: Annotated[str, typer.Option(help="Whose records hold the sessions.")] = "skills",
    environment: Annotated[str, typer.Option(help="Its label in the suite.")] = "write",
    first: Annotated[str, typer.Option(help="An agent, by its label.")] = "HARE writes",
    second: Annotated[str, typer.Option(help="The other one.")] = "RAG writes",
    participants: Annotated[int, typer.Option(min=2, max=400)] = 24,
    rounds: Annotated[int, typer.Option(min=2, help="Of each participant; even.")] = 10,
    store: Annotated[Path, typer.Option(help="The folder of the records.")] = Path("runs"),
    seed: Annotated[int, typer.Option(min=0, help="Of the orders.")] = 0,
) -> None:
    """Make blinded sheets from the records of a suite. Their sessions are played again, as records hold no texts."""
    from hare_evaluation.human_study.sheets import write_study
    from hare_evaluation.results import Results
    from hare_evaluation.spec import load_suite
    from hare_evaluation.store import Store
    from hare_gym.errors import DataError, unknown_name

    chosen = load_suite(suite)
    kept = Store(store)
    wanted = [spec.key for _, _, specs in chosen.specs(1) for spec in specs]
    records = [record for key in wanted if (record := kept.get(key)) is not None]
    if not records:
        raise DataError(f"There are no records of {suite!r} in {str(store)!r}. Make them with: hare run {suite}")
    results = Results.from_records(records, chosen.labels)
    for kind, name, known in (
        ("environment", environment, results.environments),
        ("agent", first, results.agents),
        ("agent", second, results.agents),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    ours, theirs = (results.finished(environment, agent) for agent in (first, second))
    both = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    if not both:
        raise DataError(f"No session was finished by both {first!r} and {second!r}.")
    write_study(folder, (first, second), both, participants, rounds, seed)
    typer.echo(f"{participants} sheets are in {folder / 'sheets'}. Leave {folder / 'key.json'} closed until the end.")


@app.command("form")
def form_command(
    folder: Folder, port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8720
) -> None:
    """Open the form on this machine, and list the links, one a participant."""
    from hare_evaluation.human_study.answers import Answers
    from hare_evaluation.human_study.form import server

    answers = Answers(folder)
    with server(answers, port) as serving:
        address = f"http://127.0.0.1:{serving.server_address[1]}/"
        for code in answers.codes:
            typer.echo(f"{address}#{code}  {answers.done(code)} answered")
        typer.echo("Ctrl-C ends it; nothing is lost.")
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            typer.echo("Ended.")


@app.command("analyse")
def analyse_command(folder: Folder) -> None:
    """Run the planned analysis; writes findings.md and findings.json into the study's folder."""
    from hare_evaluation.human_study import analysis

    answers, conditions = analysis.table(folder)
    found = analysis.analyse(answers)
    page = analysis.as_markdown(found, conditions, answers)
    (folder / "findings.md").write_text(page, encoding="utf-8")
    (folder / "findings.json").write_text(analysis.as_json(found, conditions, answers), encoding="utf-8")
    typer.echo(page)


@app.command("power")
def power_command(
    d: Annotated[float, typer.Option(help="Cohen's d to be found.")] = 0.45,
    rounds: Annotated[int, typer.Option(min=2)] = 10,
) -> None:
    """The chance to find an effect, by participants and by how much the effect differs between them."""
    from hare_evaluation.human_study.analysis import power

    typer.echo(f"d = {d}, {rounds} rounds; without correction, and at the strictest step of Holm's (a fifth)")
    for participants in (10, 15, 20, 25, 30):
        cells = []
        for between in (0.0, 0.25, 0.4, 0.5):
            plain, strict = (power(d, participants, rounds, between, tests=tests) for tests in (1, 5))
            cells.append(f"{between:.2f}: {plain:.2f} {strict:.2f}")
        typer.echo(f"N = {participants}   " + "   ".join(cells))


@app.command("dry-run")
def dry_run_command(
    studies: Annotated[int, typer.Option(min=1, help="Simulated at each effect.")] = 200,
    participants: Annotated[int, typer.Option(min=3)] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Plant effects in simulated raters and see what the planned analysis makes of them."""
    from hare_evaluation.human_study.analysis import dry_run

    typer.echo(dry_run([-0.45, 0.0, 0.45], studies, participants, seed).to_string(index=False, float_format="%.3f"))
