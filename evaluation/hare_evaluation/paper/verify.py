"""Whether a paper's records are what they say: hashes of all, a random part played again, verdicts judged again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hare_evaluation.judging import View
from hare_evaluation.paper.plan import Plan
from hare_evaluation.paper.run import MANIFEST, settings_of
from hare_evaluation.paper.verdicts import judge
from hare_evaluation.results import Results
from hare_evaluation.runner import run
from hare_evaluation.spec import RunSpec
from hare_evaluation.store import Record, Store, canonical_json
from hare_gym.errors import ConfigError, HareError

SHARE = 0.05


@dataclass(frozen=True)
class Checked:
    """What `verify` found.

    Attributes:
        records: How many the paper has.
        replayed: How many were played again.
        problems: Sentences; empty if all is as it should be.
    """

    records: int
    replayed: int
    problems: tuple[str, ...]


def load_manifest(folder: Path) -> dict[str, Any]:
    """What a paper says of its records.

    Raises:
        ConfigError: There is no paper in the folder.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} holds no paper that can be verified: {path.name} cannot be read ({error}). Give the folder "
            "that hare paper wrote its report to, such as: hare paper --verify report"
        ) from None
    if not isinstance(found, dict) or found.get("schema") != 1:
        raise ConfigError(
            f"{path} has a schema that this version does not read. Verify it with the one that made it."
        )
    return found


def verify(
    folder: Path,
    plan: Plan,
    share: float = SHARE,
    seed: int | None = None,
    jobs: int | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Checked:
    """Checks a paper.

    Every record's file must have the hash that the manifest has. A random ``share`` of the records, at least one, is
    played again and must be the same to the bit. The verdicts and effects are judged again from the records.

    Args:
        folder: The report's.
        plan: The plan that the paper was made from.
        share: Of the records.
        seed: Chooses which; by default nobody can know.
        jobs: Runs at once.
        say: Takes a line.
    """
    manifest = load_manifest(folder)
    store = Store(folder / manifest["store"])
    problems: list[str] = []
    records: dict[str, Record] = {}
    for key, digest in manifest["records"].items():
        record, flaw = store.read(key)
        if record is None:
            problems.append(f"{store.path(key)}: {flaw or 'the record is not there'}.")
        elif store.digest(key) != digest:
            problems.append(f"{store.path(key)}: the record was changed after the report was written.")
        else:
            records[key] = record
    say(f"{len(manifest['records']):,} records: {len(problems)} damaged, changed or missing.")
    keys = sorted(records)
    count = min(len(keys), max(1, math.ceil(share * len(keys))))
    chosen: list[int] = np.random.default_rng(seed).choice(len(keys), count, replace=False).tolist() if keys else []
    sample = [records[keys[i]] for i in sorted(chosen)]
    say(f"Playing {len(sample)} of them again.")
    problems += _replayed(sample, jobs)
    problems += _judged_again(manifest, plan, records)
    return Checked(len(manifest["records"]), len(sample), tuple(problems))


def _replayed(sample: list[Record], jobs: int | None) -> list[str]:
    from joblib import Parallel, delayed

    found = Parallel(n_jobs=min(jobs or -1, max(1, len(sample))))(delayed(difference)(dict(each)) for each in sample)
    return [problem for problem in found if problem]


def difference(record: Record) -> str:
    """How a record differs from the same run, played now; empty if it does not."""
    spec, key = record["spec"], record["key"]
    names = ("env", "agent", "seed_set", "seed", "env_kwargs", "agent_kwargs", "lanes", "trace_every")
    try:
        again = RunSpec(**{name: spec[name] for name in names if name in spec})
        if again.key != key:
            changed = [name for name, value in again.versions.items() if value != spec["versions"].get(name)]
            what = f"other versions of {', '.join(changed)}" if changed else "another specification"
            return f"{key}: made with {what} than are installed here, so it cannot be compared."
        fresh, _ = run(again)
    except HareError as error:
        return f"{key}: cannot be played again: {error}"
    fresh = json.loads(canonical_json(fresh))
    differing = sorted(name for name in record.keys() | fresh.keys() if record.get(name) != fresh.get(name))
    return f"{key}: played again, it differs in {', '.join(differing)}." if differing else ""


def _judged_again(manifest: Mapping[str, Any], plan: Plan, records: Mapping[str, Record]) -> list[str]:
    if manifest["plan"] != plan.digest:
        return ["The plan is not the one that the paper was made from, so its verdicts were not judged again."]
    if len(records) < len(manifest["records"]):
        return ["Verdicts were not judged again, because records are missing or changed."]
    views = {}
    for name, suite in plan.suites(manifest["scale"]).items():
        wanted = {canonical_json(spec.settings()) for _, _, specs in suite.specs() for spec in specs}
        own = [record for record in records.values() if settings_of(record) in wanted]
        if own:
            views[name] = View(suite.study, Results.from_records(own, suite.labels))
    problems = []
    for verdict in judge(plan, views):
        id = verdict.hypothesis.id
        if manifest["verdicts"].get(id) != verdict.verdict:
            problems.append(
                f"{id}: the records say {verdict.verdict!r}, the report {manifest['verdicts'].get(id)!r}."
            )
        for part in verdict.tested:
            told = manifest["effects"].get(f"{id}/{part.endpoint.id}")
            if told != part.found.value:
                problems.append(
                    f"{id}/{part.endpoint.id}: the records give {part.found.value!r}, the report {told!r}."
                )
    return problems
