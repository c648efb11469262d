"""A recorded session of texts, played again: records hold no texts, so whoever wants them watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hare_evaluation.environments import make
from hare_evaluation.results import Record
from hare_evaluation.runner import Session, seeds
from hare_gym.contract import Agent
from hare_gym.errors import DataError
from hare_gym.registry import make_agent

W = TypeVar("W")


def replayed(
    record: Record,
    watch: Callable[[Any, Agent], W],
    what: str = "Texts can be measured",
    remedy: str = "Run it again.",
) -> W:
    """Plays a record's session again.

    Args:
        record: Of a session of one lane in which texts are written.
        watch: Makes, of environment and agent, the environment to play, which keeps what is wanted.
        what: What the session is wanted for, as the error says it.
        remedy: What to do where the code has changed, as the error says it.

    Returns:
        What ``watch`` made, at the session's end.

    Raises:
        DataError: It is no such session, or the code has changed since: the session went another way.
    """
    spec, task = record["spec"], record["task"]
    if record["status"] != "ok" or task["action_mode"] != "write" or int(spec.get("lanes") or 1) != 1:
        raise DataError(f"{what} of finished sessions in the action mode 'write' with one lane.")
    agent = make_agent(spec["agent"], **spec["agent_kwargs"])
    watching = watch(make(spec["env"], spec["env_kwargs"]), agent)
    session = Session(watching, agent, 1)
    session.play(*seeds(spec["seed_set"], spec["seed"]))
    if session.actions_hash.hexdigest() != record["actions_sha256"]:
        raise DataError(
            f"Played again, the session of {spec['agent']} on seed {spec['seed']} went another way: the code has "
            f"changed since it was recorded. {remedy}"
        )
    return watching
