"""Records, grouped for reading: by environment and agent, aligned by seed, with display labels.

A record is the dict that the runner writes, one a run. Nothing here computes a statistic.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hare_gym.errors import DataError, unknown_name

if TYPE_CHECKING:  # `hare --help` reads this module and should not wait for pandas
    import pandas as pd

Record = Mapping[str, Any]
Array = NDArray[np.float64]
Seed = tuple[str, int]

SCHEMAS = (1,)
QUANTITIES = ("reward", "regret", "expected_reward", "oracle_reward", "catalogue_oracle_reward", "observed")


@dataclass(frozen=True)
class Labels:
    """Display labels by canonical name; the order of the dicts is the order of display.

    What is absent gets an automatic label, such as ``linucb (alpha=2.0)``, and stands after the others.

    Attributes:
        environments: From :meth:`environment_key` to a label.
        agents: From :meth:`agent_key` to a label.
    """

    environments: dict[str, str] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def environment_key(env: str, env_kwargs: Mapping[str, Any]) -> str:
        """The canonical name of an environment: its id and knobs as JSON with sorted keys."""
        return json.dumps({"env": env, "env_kwargs": dict(env_kwargs)}, sort_keys=True)

    @staticmethod
    def agent_key(agent: str, agent_kwargs: Mapping[str, Any]) -> str:
        """The canonical name of an agent: its name and hyperparameters as JSON with sorted keys."""
        return json.dumps({"agent": agent, "agent_kwargs": dict(agent_kwargs)}, sort_keys=True)


@dataclass(frozen=True)
class Failure:
    """A run that ended in an error. ``round`` is ``None`` where it failed before the first."""

    environment: str
    agent: str
    seed: str
    round: int | None
    type: str
    message: str
    traceback: str
    key: str


@dataclass(frozen=True)
class Results:
    """All runs of a study.

    Attributes:
        environments: Labels in display order.
        agents: Labels in display order.
        runs: The finished records of an (environment, agent), by seed.
        failures: The runs that failed.
        notes: What a reader must know about the choice of records, in sentences.
    """

    environments: list[str]
    agents: list[str]
    runs: dict[tuple[str, str], dict[Seed, Record]]
    failures: list[Failure]
    notes: list[str]

    @classmethod
    def from_records(cls, records: Iterable[Record], labels: Labels | None = None) -> Results:
        """Groups records.

        Where several records tell of one specification under different versions of the software, the one of the
        newest version is kept, among equal versions (the code differs, its version number does not) the last one
        given; a note says so.

        Args:
            records: Whole records.
            labels: How to call environments and agents, and in which order.

        Raises:
            DataError: There are no records, or one has a schema that this version does not read.
        """
        labels = labels or Labels()
        kept, notes = _newest(records)
        if not kept:
            raise DataError("There are no records to report. Make some first, for instance with: hare run quick")
        environment_of = _label_all(
            [_environment_id(record["spec"]) for record in kept], labels.environments, _environment_label
        )
        agent_of = _label_all([_agent_id(record["spec"]) for record in kept], labels.agents, _agent_label)
        runs: dict[tuple[str, str], dict[Seed, Record]] = {}
        failures = []
        for record in kept:
            spec = record["spec"]
            environment = environment_of[_environment_id(spec)]
            agent = agent_of[_agent_id(spec)]
            finished = runs.setdefault((environment, agent), {})
            if record["status"] == "ok":
                finished[_seed(spec)] = record
            else:
                failures.append(_failure(environment, agent, record))
        runs = {pair: dict(sorted(finished.items())) for pair, finished in runs.items()}
        failures.sort(key=lambda failure: (failure.environment, failure.agent, failure.seed))
        return cls(list(environment_of.values()), list(agent_of.values()), runs, failures, notes)

    def agents_of(self, environment: str) -> list[str]:
        """The agents that were run on an environment, finished or not, in display order."""
        self._check(environment)
        return [agent for agent in self.agents if (environment, agent) in self.runs]

    def finished(self, environment: str, agent: str) -> dict[Seed, Record]:
        """The finished records of an agent on an environment, by seed."""
        return self.runs.get((environment, agent), {})

    def failed(self, environment: str, agent: str) -> int:
        """How many of an agent's runs on an environment failed."""
        return sum(failure.environment == environment and failure.agent == agent for failure in self.failures)

    def is_logged(self, environment: str) -> bool:
        """Whether an environment replays logged data, where regret has no meaning."""
        return any(
            record["estimates"] is not None or record["task"]["id"].startswith("HareReplay-")
            for agent in self.agents_of(environment)
            for record in self.finished(environment, agent).values()
        )

    def seeds(self, environment: str) -> list[Seed]:
        """Every seed that some agent finished on an environment, sorted."""
        return sorted({seed for agent in self.agents_of(environment) for seed in self.finished(environment, agent)})

    def scores(self, environment: str, quantity: str = "regret", at: float = 1.0) -> pd.DataFrame:
        """Cumulative values: a row an agent, a column a seed, NaN where there is no finished run.

        Args:
            environment: A label.
            quantity: A name in ``totals``, or ``"mean_reward"``, the reward per observed round.
            at: After which share of the session; before its end ``quantity`` must be a curve.
        """
        import pandas as pd

        seeds = self.seeds(environment)
        rows = {
            agent: [_value(self.finished(environment, agent).get(seed), quantity, at) for seed in seeds]
            for agent in self.agents_of(environment)
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=pd.Index(seeds, tupleize_cols=False), dtype=float)

    def normalised_regret(self, environment: str, reference: str) -> pd.DataFrame:
        """Final regret over the reference agent's on the same seed, shaped as :meth:`scores`."""
        regret = self.scores(environment)
        divisor = regret.loc[reference].where(lambda values: values > 0)
        return regret / divisor

    def curves(self, environment: str, agent: str, quantity: str = "regret") -> tuple[Array, Array]:
        """Cumulative curves of the finished seeds.

        Returns:
            The rounds at which all of them have a checkpoint, ``(C,)``, and the values, ``(n, C)``.
        """
        records = list(self.finished(environment, agent).values())
        if not records:
            return np.empty(0), np.empty((0, 0))
        rounds = np.array(records[0]["rounds"])
        for record in records[1:]:
            rounds = np.intersect1d(rounds, record["rounds"])
        values = [
            np.array(record["curves"][quantity], dtype=np.float64)[np.isin(record["rounds"], rounds)]
            for record in records
        ]
        return rounds.astype(np.float64), np.array(values)

    def agent_named(self, name: str) -> str | None:
        """The label of the agent with a registered name, such as ``"random"``; ``None`` if it was not run."""
        found = {
            agent
            for (_, agent), finished in self.runs.items()
            for record in finished.values()
            if record["spec"]["agent"] == name
        }
        return next((agent for agent in self.agents if agent in found), None)

    def runs_frame(self) -> pd.DataFrame:
        """One row a finished run: what was run, its final numbers, and the record's key."""
        import pandas as pd

        rows = []
        for environment, agent, seed, record in self._all():
            estimates = record["estimates"] or {}
            rows.append(
                {"environment": environment, "agent": agent, "seed_set": seed[0], "seed": seed[1]}
                | dict(record["totals"])
                | {"mean_reward": _total(record, "mean_reward")}
                | {f"{name}.{part}": value for name, parts in estimates.items() for part, value in parts.items()}
                | {"key": record["key"]}
            )
        return pd.DataFrame(rows)

    def curves_frame(self) -> pd.DataFrame:
        """One row a checkpoint of a finished run: cumulative values and diagnostics."""
        import pandas as pd

        frames = []
        for environment, agent, seed, record in self._all():
            names = {"environment": environment, "agent": agent, "seed_set": seed[0], "seed": seed[1]}
            diagnostics = {f"diagnostics.{name}": values for name, values in record["diagnostics"].items()}
            frames.append(pd.DataFrame(names | {"round": record["rounds"]} | dict(record["curves"]) | diagnostics))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def versions(self) -> dict[str, list[str]]:
        """What the finished runs were made with: each package and data file with its versions, oldest first.

        Fingerprints of code and files are cut to 12 digits; there may be one of code for each agent.
        """
        found: dict[str, set[str]] = {}
        for *_, record in self._all():
            for name, version in record["spec"]["versions"].items():
                if isinstance(version, Mapping):
                    for file, digest in version.items():
                        found.setdefault(f"{name}: {file}", set()).add(str(digest)[:12])
                else:
                    found.setdefault(name, set()).add(str(version)[:12])
        return {name: sorted(found[name], key=_version_order) for name in sorted(found)}

    def _all(self) -> Iterable[tuple[str, str, Seed, Record]]:
        for environment in self.environments:
            for agent in self.agents_of(environment):
                for seed, record in self.finished(environment, agent).items():
                    yield environment, agent, seed, record

    def _check(self, environment: str) -> None:
        if environment not in self.environments:
            raise unknown_name("environment label", environment, self.environments)


def _newest(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """One record a specification, its newest; and a note where others were put aside."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.get("schema") not in SCHEMAS:
            raise DataError(
                f"Record {record.get('key')!r} has schema {record.get('schema')!r}; this version of hare-gym reads "
                f"{', '.join(map(str, SCHEMAS))}. Report it with the version that made it, or a newer one."
            )
        identity = {name: value for name, value in record["spec"].items() if name != "versions"}
        groups.setdefault(json.dumps(identity, sort_keys=True), []).append(record)
    kept, aside, undecided = [], 0, 0
    for group in groups.values():
        newest = max(reversed(group), key=_age)
        kept.append(newest)
        others = {record["key"]: record for record in group if record["key"] != newest["key"]}
        aside += len(others)
        undecided += sum(_age(record) == _age(newest) for record in others.values())
    notes = []
    if aside:
        notes.append(
            f"Left out: {aside} of the records, because the same run exists under newer versions of the software."
        )
    if undecided:
        notes.append(
            f"Of these, {undecided} have the version numbers of the record that was kept, and other code: the "
            "last one read was kept. Run into a new folder to be sure which."
        )
    versions = {_age(record) for record in kept}
    if len(versions) > 1:
        notes.append(
            f"The runs were made under {len(versions)} different sets of versions; differences between agents may "
            "be differences between versions."
        )
    states: dict[str, set[str]] = {}
    for record in kept:
        spec = record["spec"]
        states.setdefault(str((_environment_id(spec), _agent_id(spec))), set()).add(str(spec["versions"].get("code")))
    mixed = sum(len(codes) > 1 for codes in states.values())
    if mixed:
        notes.append(
            f"The code changed between seeds of the same agent and environment, in {mixed} of {len(states)} "
            "such pairs: their means mix two programs. Run them again to put that right."
        )
    return kept, notes


def _age(record: Record) -> tuple[Any, ...]:
    """What can be ordered of a record's versions: numbers, ours first; not the fingerprints of code and files."""
    versions = {
        name: str(version)
        for name, version in record["spec"]["versions"].items()
        if isinstance(version, str) and name != "code"
    }
    names = sorted(versions, key=lambda name: (not name.startswith("hare"), name))
    return tuple((name, _version_order(versions[name])) for name in names)


def _version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """1.10 after 1.9, and by the mark at the end 1.0 after 1.0rc1 but before 1.0.1."""
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    return (*((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts), (1, -1, ""))


def _environment_id(spec: Mapping[str, Any]) -> tuple[str, int]:
    return Labels.environment_key(spec["env"], spec["env_kwargs"]), int(spec.get("lanes") or 1)


def _agent_id(spec: Mapping[str, Any]) -> tuple[str, int]:
    return Labels.agent_key(spec["agent"], spec["agent_kwargs"]), 1


def _seed(spec: Mapping[str, Any]) -> Seed:
    return str(spec["seed_set"]), int(spec["seed"])


def _environment_label(key: str) -> str:
    parts = json.loads(key)
    return _with_kwargs(parts["env"], parts["env_kwargs"])


def _agent_label(key: str) -> str:
    parts = json.loads(key)
    return _with_kwargs(parts["agent"], parts["agent_kwargs"])


def _with_kwargs(name: str, kwargs: Mapping[str, Any]) -> str:
    shown = ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in sorted(kwargs.items())
    )
    return f"{name} ({shown})" if shown else name


def _label_all(
    ids: Sequence[tuple[str, int]], given: Mapping[str, str], automatic: Any
) -> dict[tuple[str, int], str]:
    """A label for each (canonical name, lanes), the given ones first and in their order, no two alike."""
    order = {key: position for position, key in enumerate(given)}
    present = sorted(set(ids), key=lambda id: (order.get(id[0], len(order)), automatic(id[0]), id[1]))
    labels: dict[tuple[str, int], str] = {}
    for key, lanes in present:
        label = given.get(key, automatic(key))
        if lanes > 1:
            label += f" × {lanes} lanes"
        if label in labels.values():
            label += f" [{automatic(key)}]"
        labels[key, lanes] = label
    return labels


def _failure(environment: str, agent: str, record: Record) -> Failure:
    error = record["error"] or {}
    return Failure(
        environment,
        agent,
        "{}/{}".format(*_seed(record["spec"])),
        error.get("round"),
        str(error.get("type") or "unknown error"),
        str(error.get("message") or ""),
        str(error.get("traceback") or ""),
        str(record["key"]),
    )


def measures_of(record: Record) -> list[str]:
    """What the environment of a record measured beside the quantities that all have."""
    return [name for name in record["curves"] if name not in QUANTITIES]


def curve_at(record: Record, quantity: str, rounds: ArrayLike) -> Array:
    """A cumulative curve after ``rounds`` rounds, linear between checkpoints; every hundredth of a session is one."""
    x, y = [0.0, *record["rounds"]], [0.0, *record["curves"][quantity]]
    return np.asarray(np.interp(np.asarray(rounds, dtype=np.float64), x, y))


def _value(record: Record | None, quantity: str, at: float) -> float:
    if record is None or at == 1.0:
        return _total(record, quantity)
    return float(curve_at(record, quantity, at * record["rounds"][-1]))


def _total(record: Record | None, quantity: str) -> float:
    if record is None:
        return math.nan
    totals = record["totals"]
    if quantity == "mean_reward":
        return float(totals["reward"]) / totals["observed"] if totals["observed"] else math.nan
    return float(totals[quantity])
