"""``hare lamp``: write synthetic files in LaMP's format, answer questions of files, and evaluate answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from hare_gym.contract import Agent, Observation
    from hare_gym.lamp.data import LampData
    from hare_gym.lamp.features import Features
    from hare_gym.lamp.tasks import Question

app = typer.Typer(no_args_is_help=True, help="LaMP's tasks: synthetic files, predictions, official figures.")

TEXT_LENGTH = 8192
# Rounds between two steps of the progress bar, so that it costs nothing.
_STEP = 16

Task = Annotated[int, typer.Option(help="1 to 7.")]
Data = Annotated[Path, typer.Option(help="The folder of the task's files.")]
Split = Annotated[str, typer.Option(help="train, dev or test.")]


@app.command("generate")
def generate_command(
    out: Annotated[Path, typer.Option(help="Gets a folder LaMP_<k> for each task.")],
    task: Annotated[
        list[int] | None, typer.Option(help="1 to 7, may be given several times; all by default.")
    ] = None,
    by: Annotated[str, typer.Option(help="The split: user or time.")] = "user",
    train: Annotated[int, typer.Option(help="Questions to learn from.")] = 200,
    dev: Annotated[int, typer.Option(help="Questions with answers to test on.")] = 50,
    test: Annotated[int, typer.Option(help="Questions without answers.")] = 50,
    profile_size: Annotated[int, typer.Option(help="Items in each profile.")] = 16,
    users: Annotated[int, typer.Option(help="Users of the split by time.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="What everything follows from.")] = 0,
) -> None:
    """Write synthetic questions in the five files of each task, as LaMP publishes its own."""
    from hare_gym.lamp.synthetic import write_files
    from hare_gym.lamp.tasks import TASKS, task_of

    for number in task or list(TASKS):
        folder = out / task_of(number).id
        write_files(
            folder,
            number,
            train=train,
            dev=dev,
            test=test,
            profile_size=profile_size,
            split=by,
            num_users=users,
            seed=seed,
        )
        typer.echo(f"{folder}: {train} questions to learn from, {dev} to test on, {test} without answers.")


@app.command("predict")
def predict_command(
    data: Data,
    task: Task,
    out: Annotated[Path, typer.Option(help="The file of predictions.")],
    split: Split = "dev",
    agent: Annotated[str, typer.Option(help="An agent that writes: bm25, answerer, ...")] = "bm25",
    agent_arg: Annotated[list[str] | None, typer.Option(help="name=value, may be given several times.")] = None,
    learn: Annotated[int, typer.Option(min=0, help="Questions of the train part to learn from first.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions, from the first.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what the agent draws.")] = 0,
) -> None:
    """Answer the questions of a file, in LaMP's own format, so that the official evaluator can judge them.

    With --learn the agent first plays questions of the train part, one after the other, each answer rewarded by the
    official metric. While it predicts it is told nothing.
    """
    import numpy as np

    from hare_evaluation.cli import assignments
    from hare_gym.lamp.data import load, write_outputs
    from hare_gym.registry import make_agent

    made = make_agent(agent, **assignments("--agent-arg", agent_arg))
    asked = load(data, task, split, limit=limit)
    taught = load(data, task, "train", limit=learn) if learn else None
    with _bar() as advance:
        predictions = predict(made, asked, taught, np.random.default_rng(seed), advance)
    typer.echo(
        f"{len(predictions)} answers to {asked.task.id}, {split}: {write_outputs(out, asked.task, predictions)}"
    )


@app.command("evaluate")
def evaluate_command(
    golds: Annotated[Path, typer.Argument(help="The file of outputs, such as dev_outputs.json.")],
    predictions: Annotated[Path, typer.Argument(help="The file of predictions.")],
    task: Task,
    oddities: Annotated[
        bool, typer.Option("--oddities", help="Judge what is no answer as the published evaluator does.")
    ] = False,
) -> None:
    """Print the official figures of a file of predictions."""
    from hare_gym.lamp.data import evaluate_files

    for name, value in evaluate_files(golds, predictions, task, oddities=oddities).items():
        typer.echo(f"{name:<10} {value:.6f}")


def predict(
    agent: Agent,
    asked: LampData,
    taught: LampData | None,
    rng: np.random.Generator,
    advance: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict[str, str]:
    """An agent's answers by the ids of the questions.

    Args:
        agent: One that plays ``write``.
        asked: The questions to answer; nothing is told about the answers.
        taught: Questions that it plays before, with rewards; None for none.
        rng: For what the agent draws.
        advance: Told stage, done and total now and then.

    Raises:
        ConfigError: An agent that does not write.
        DataError: The questions to learn from are of another task, or have no answers.
    """
    from hare_gym.errors import ConfigError, DataError
    from hare_gym.lamp.features import Features
    from hare_gym.lamp.metrics import score

    if "write" not in agent.modes:
        raise ConfigError(
            f"{type(agent).__name__} does not write. Let it choose among answers: "
            "--agent answerer --agent-arg agent=<its name>."
        )
    if taught is not None and taught.task != asked.task:
        raise DataError(f"The train part is of {taught.task.name}, but the questions are of {asked.task.name}.")
    features = Features(asked.task)
    owners = [*(taught.owners if taught else ()), *asked.owners]
    users = {owner: i for i, owner in enumerate(dict.fromkeys(owners))}
    rounds = (len(taught) if taught else 0) + len(asked)
    parts = [part for part in (taught, asked) if part is not None]
    most = max((len(question.profile) for part in parts for question in part.questions), default=1)
    agent.reset(_spec(features, max(most, 1), len(users), rounds), rng)
    for k, question in enumerate(taught.questions if taught else ()):
        if question.output is None:
            raise DataError(f"Question {question.id} of the train part has no answer: train_outputs.json is missing.")
        observation = observation_of(features, question, users[question.user], max(most, 1))
        answer = agent.act(observation)
        agent.update(observation, answer, score(asked.task, question.output, answer))
        if k % _STEP == 0:
            advance("learning", k + 1, len(taught or ()))
    predictions = {}
    for k, question in enumerate(asked.questions):
        predictions[question.id] = agent.act(observation_of(features, question, users[question.user], max(most, 1)))
        if k % _STEP == 0 or k == len(asked) - 1:
            advance("answering", k + 1, len(asked))
    return predictions


def observation_of(features: Features, question: Question, user: int, num_items: int) -> Observation:
    """What an agent sees of a question in ``write``, as in the environments."""
    import numpy as np

    from hare_gym.lamp.reading import as_seen, pool_text_of_profile

    seen = as_seen(features.task, question, TEXT_LENGTH)
    pool = np.zeros((num_items, features.query_dim))
    mask = np.zeros(num_items, dtype=np.int8)
    n = len(seen.profile)
    if n:
        pool[:n] = features.profile(seen)
        mask[:n] = 1
    return {
        "query": features.query(seen),
        "user": user,
        "query_text": seen.input,
        "pool": pool,
        "pool_mask": mask,
        "pool_text": pool_text_of_profile(features.task, seen.profile, TEXT_LENGTH),
    }


def _spec(features: Features, num_items: int, num_users: int, horizon: int) -> Any:
    from hare_gym.contract import TaskSpec
    from hare_gym.lamp.reading import task_name

    return TaskSpec(
        id=f"HareLaMP{features.task.number}-v0",
        action_mode="write",
        horizon=horizon,
        num_users=num_users,
        query_dim=features.query_dim,
        content_dim=features.query_dim,
        num_items=num_items,
        has_query_text=True,
        has_pool_text=True,
        text_length=TEXT_LENGTH,
        encoder=features.name,
        reward_version=f"1 {task_name(features.task)}",
    )


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each stage, on standard error."""
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
