"""What was measured of runs' texts, kept by the key of the run's record.

Measuring plays a session again (`hare_evaluation.metrics.probe`), so it is done once: results lie in the user's cache
folder, as JSON, by the record's key and a fingerprint of the code that measures.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_evaluation.metrics.learning import recovery
from hare_evaluation.results import Record
from hare_gym.text.encoders import cache_folder

Array = NDArray[np.float64]
Measured = Mapping[str, Any]

SEEDS = 5
"""How many of an agent's runs are played again and measured: the first ones of the set."""

RECOVERED_AT = 20
"""At which visit of a user `recovery_*` reads the user state."""

ATTRIBUTES = ("domain", "expertise", "specificity", "style")


def path_of(record: Record) -> Path:
    """Where the measurements of a record's run lie, or would."""
    return cache_folder() / "generation" / f"{record['key']}-{_code()[:16]}.json"


def load(record: Record) -> Measured | None:
    """What was measured of a run; None if nothing was, or a file is broken."""
    try:
        found = json.loads(path_of(record).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "metrics" in found else None


def save(record: Record, measured: Measured) -> None:
    """Keeps measurements; whole, or not at all."""
    path = path_of(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(measured, allow_nan=False), encoding="utf-8")
    partial.replace(path)


def by_seed(measured: Sequence[Measured], metric: str) -> Array:
    """One metric of several runs of an agent, ``(n,)``; NaN where it does not apply.

    Args:
        measured: Of the runs.
        metric: A name in `hare_evaluation.definitions.TEXTS`. ``recovery_*`` is of all runs together, each read by
            the others.
    """
    if metric.startswith("recovery_"):
        return recovered(measured, metric.removeprefix("recovery_"), RECOVERED_AT)
    return np.array([each["metrics"].get(metric) for each in measured], dtype=np.float64)


def recovered(measured: Sequence[Measured], attribute: str, visit: int) -> Array:
    """R² of a hidden attribute from the user state after so many visits, ``(n,)``; NaN without states."""
    states = [each["states"].get(str(visit)) for each in measured]
    if not all(states):
        return np.full(len(measured), np.nan)
    # a user who came less often has no state at that visit
    seen = [[k for k, row in enumerate(rows) if row is not None] for rows in states]
    if not all(seen):
        return np.full(len(measured), np.nan)
    X = [[rows[k] for k in there] for rows, there in zip(states, seen, strict=True)]
    Y = [[each["attributes"][attribute][k] for k in there] for each, there in zip(measured, seen, strict=True)]
    return recovery(X, Y)


def why_not(measured: Sequence[Measured], metric: str) -> str:
    """Why `by_seed` has no value at all of a metric, in words that end a sentence, and what to do about it."""
    if not metric.startswith("recovery_"):
        return "it does not apply to such texts"
    if len(measured) < 2:
        return "a session's users are read by what the others taught, so it needs 2 sessions: set --seeds 2 or more"
    if not any(each["states"] for each in measured):
        return "the agent keeps no state of its users"
    return f"no user came {RECOVERED_AT} times: set a longer horizon or fewer users"


@cache
def _code() -> str:
    """SHA-256 of the modules that measure, and of the version of the library that they count n-grams with."""
    digest = hashlib.sha256(version("sacrebleu").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
