"""The part of ``hare leaderboard check`` that runs the agent, in a process of its own.

``python -m hare_leaderboard.trial FOLDER`` reads what to do from its standard input as JSON and writes what it found
to its standard output, a line of JSON for each step. What the agent prints goes to the standard error stream. This is
for authors and their own code; strangers' code runs in the sandbox.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

ROUNDS = 300


def main() -> None:
    """Does every step, and tells of each how it went."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.path.insert(0, sys.argv[1])
    for step in json.load(sys.stdin):
        started = time.process_time()
        outcome = _done(_STEPS[step["do"]], {name: value for name, value in step.items() if name != "do"})
        print(json.dumps({"seconds": time.process_time() - started, **outcome}), file=report, flush=True)


def _done(step: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    from hare_evaluation.foundation import HareError

    try:
        return {"ok": True, **step(**arguments)}
    except HareError as error:
        return {"ok": False, "error": str(error), "trace": ""}
    except Exception as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}", "trace": _of_the_agent(error)}


def _of_the_agent(error: BaseException) -> str:
    """The last line of the traceback that lies in the submission's folder."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(sys.argv[1]):
            return f"{os.path.relpath(frame.filename, sys.argv[1])}, line {frame.lineno}: {frame.line}"
    return ""


def contract(agent: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """Makes the agent and checks it on small tasks."""
    from hare_evaluation.foundation import check_agent, make_agent

    made = make_agent(agent, **configuration)
    check_agent(made)
    return {"modes": sorted(made.modes)}


def play(agent: str, configuration: dict[str, Any], env: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """A short session of the agent, with the random agent beside it where that can play."""
    from hare_evaluation.foundation import ConfigError, DataError
    from hare_evaluation.runner import run
    from hare_evaluation.spec import RunSpec

    def session(name: str, knobs: dict[str, Any]) -> tuple[Any, Any]:
        for horizon in ({"horizon": min(ROUNDS, kwargs.get("horizon", ROUNDS))}, {}):
            spec = RunSpec(
                env=env, agent=name, seed_set="check", seed=0, env_kwargs=kwargs | horizon, agent_kwargs=knobs
            )
            try:
                return run(spec)
            except ConfigError:  # an environment without a horizon of choice
                if not horizon:
                    raise
        raise AssertionError

    record, timing = session(agent, configuration)
    if record["status"] != "ok":
        error = record["error"]
        raise DataError(f"round {error['round']}: {error['type']}: {error['message']}")
    rounds = record["totals"]["rounds"]
    found = {
        "rounds": rounds,
        "reward": record["totals"]["reward"] / max(1, record["totals"]["observed"]),
        "act": timing["act_seconds"] / rounds,
        "update": timing["update_seconds"] / rounds,
    }
    other, _ = session("random", {})
    if other["status"] == "ok":
        found["random"] = other["totals"]["reward"] / max(1, other["totals"]["observed"])
    return found


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {"contract": contract, "play": play}

if __name__ == "__main__":
    main()
