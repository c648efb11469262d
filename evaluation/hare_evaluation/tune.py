"""Equal tuning: random search over what each agent declares, with the same number of trials for every agent.

Trial 0 is always the agent's defaults. All trials play the seed set ``tuning``, which nothing is judged on, and are
runs like any other: they go through the store, so that a tuning resumes where it stopped and repeats nothing.

The score of a trial is its final regret over the Random agent's on the same seed, as the mean over environments of
the mean over seeds: 0 is the oracle, 1 is random play. The best of many scores flatters its configuration, whose luck
was chosen with it: a score serves to choose and not to report.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hare_evaluation.environments import make
from hare_evaluation.results import Record
from hare_evaluation.safe_yaml import dump_yaml
from hare_evaluation.spec import TUNING_SEEDS, AgentEntry, EnvironmentEntry, RunSpec, Seeds, Suite, file_name, merged
from hare_evaluation.statistics import Interval, mean_interval
from hare_evaluation.store import canonical_json
from hare_gym.contract import SearchSpace
from hare_gym.errors import ConfigError, ContractError, DataError
from hare_gym.registry import agent_class, make_agent

if TYPE_CHECKING:
    from rich.console import RenderableType

TRIALS = 24
SEEDS = 3
REFERENCE = "random"

_HEADER = """\
# Written by `hare tune`. A suite's agent takes these hyperparameters with the key `tuned`.
# The score is of the tuning seeds and the best of several: it served to choose. Report fresh seeds.
"""


@dataclass(frozen=True)
class Trial:
    """One configuration of an agent.

    Attributes:
        kwargs: All that the agent is made with.
        runs: By environment's label, one run a seed; none if the agent refused the configuration.
        refusal: What the agent said then.
    """

    kwargs: dict[str, Any]
    runs: dict[str, list[RunSpec]]
    refusal: str = ""


@dataclass(frozen=True)
class Score:
    """What a trial came to: its score, or the error that it ended in."""

    kwargs: dict[str, Any]
    interval: Interval | None
    error: str = ""

    @property
    def rank(self) -> float:
        """What trials are compared by; a failed one is behind all others."""
        return math.inf if self.interval is None else self.interval.value


@dataclass(frozen=True)
class Outcome:
    """The scores of an agent's trials, in their order.

    Attributes:
        entry: The agent as its suite has it.
        space: What was searched; empty for an agent that declares nothing, or nothing that its suite left open.
        scores: One a trial; the first is of the defaults.
        environments: The environments that it played.
        horizons: By environment's label.
        runs: How many different runs the trials took.
        versions: Of the software, as in the runs' keys.
    """

    entry: AgentEntry
    space: SearchSpace
    scores: list[Score]
    environments: list[EnvironmentEntry]
    horizons: dict[str, int]
    runs: int
    versions: dict[str, Any]

    @property
    def best(self) -> int | None:
        """The trial of the lowest score, the earliest of equal ones; ``None`` if all failed."""
        best = min(range(len(self.scores)), key=lambda i: self.scores[i].rank)
        return None if self.scores[best].interval is None else best

    @property
    def distinct(self) -> int:
        """How many of the trials differ; a small space gives some twice, and each is run once."""
        return len({canonical_json(score.kwargs) for score in self.scores})


@dataclass(frozen=True)
class Tuning:
    """A tuning made ready by :func:`plan_tuning`.

    Attributes:
        suite: The agents and environments, with the tuning seeds.
        reference: The Random agent's runs, by environment's label.
        contenders: Each agent, its space and its trials.
        notes: What is left out and why.
    """

    suite: Suite
    reference: dict[str, list[RunSpec]]
    contenders: list[tuple[AgentEntry, SearchSpace, list[Trial]]]
    notes: tuple[str, ...]

    @property
    def specs(self) -> list[RunSpec]:
        """All that must be run, the reference first."""
        groups = [self.reference, *(trial.runs for _, _, trials in self.contenders for trial in trials)]
        return [spec for group in groups for runs in group.values() for spec in runs]

    def judge(self, records: Iterable[Record]) -> list[Outcome]:
        """The outcome for each agent.

        Args:
            records: Those of :attr:`specs`, in any order.

        Raises:
            DataError: The Random agent failed, or had no regret to normalise by.
        """
        found = {record["key"]: record for record in records}
        scale = {label: _reference_regret(label, runs, found) for label, runs in self.reference.items()}
        horizons = {label: int(found[runs[0].key]["task"]["horizon"]) for label, runs in self.reference.items()}
        outcomes = []
        for entry, space, trials in self.contenders:
            played = trials[0].runs
            outcomes.append(
                Outcome(
                    entry,
                    space,
                    [_score(trial, scale, found) for trial in trials],
                    [environment for environment in self.suite.environments if environment.label in played],
                    {label: horizons[label] for label in played},
                    len({spec.key for trial in trials for specs in trial.runs.values() for spec in specs}),
                    next(iter(played.values()))[0].versions,
                )
            )
        return outcomes


def plan_tuning(suite: Suite, trials: int = TRIALS, seeds: int = SEEDS) -> Tuning:
    """Draws every agent's trials, and finds mistakes before anything runs.

    Args:
        suite: Environments and agents; its own seeds are replaced by the tuning seeds. What an agent's entry gives as
            ``kwargs`` is the same in all of its trials and is not searched.
        trials: Configurations an agent, the defaults included.
        seeds: How many tuning seeds each of them plays.

    Raises:
        UnknownNameError: An unknown agent, environment or knob.
        ConfigError: Fewer than one trial or seed; no agent with anything to tune; tuned agents in the suite; an
            environment that replays logged data.
        ContractError: A search space that cannot be read.
    """
    for name, value in (("trials", trials), ("seeds", seeds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number, at least 1, not {value!r}.")
    suite = suite.model_copy(update={"seeds": Seeds(set=TUNING_SEEDS, count=seeds)})
    plan = suite.plan()
    for environment in suite.environments:
        _refuse_logged(environment)
    runs: dict[str, dict[str, list[RunSpec]]] = {}
    for environment, entry, specs in suite.specs():
        if specs[0] in plan.specs:
            runs.setdefault(entry.label, {})[environment.label] = specs
    entries = [entry for entry in suite.agents if entry.label in runs]
    contenders = [(entry, *_trials(entry, runs[entry.label], trials)) for entry in entries]
    if not any(space for _, space, _ in contenders):
        names = ", ".join(sorted({entry.name for entry in entries}))
        raise ConfigError(
            f"There is nothing to tune: {names} declares no search_space, or the suite fixes all of it. "
            "Declare one as a class attribute of the agent: see hare_gym.contract.SearchSpace."
        )
    reference = {
        label: [replace(spec, agent=REFERENCE, agent_kwargs={}) for spec in specs]
        for played in runs.values()
        for label, specs in played.items()
    }
    return Tuning(suite, reference, contenders, plan.notes)


def draw_trials(agent: str, space: SearchSpace, count: int) -> list[dict[str, Any]]:
    """Random configurations, as values by the names of ``space``.

    Each hyperparameter is drawn by a generator seeded with the agent's name and its own. So other agents, other
    hyperparameters and a larger count leave what was drawn as it is.

    Args:
        agent: The agent's name.
        space: What to draw from.
        count: How many.

    Raises:
        ContractError: A search space that cannot be read.
    """
    columns = {}
    for knob, options in space.items():
        _check_options(agent, knob, options)
        digest = hashlib.sha256(f"hare tune\n{agent}\n{knob}".encode()).digest()
        rng = np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest, "big")))
        columns[knob] = [_value(options, float(u)) for u in rng.random(count)]
    return [{knob: values[i] for knob, values in columns.items()} for i in range(count)]


def write_tuned(tuning: Tuning, outcomes: Sequence[Outcome], folder: Path, command: str) -> list[Path]:
    """Writes ``folder/<suite>/<agent>.yaml`` for each agent with a winner, the same bytes for the same tuning.

    A file is called after its agent; where the suite has an agent more than once, after its label.

    Args:
        tuning: What was run.
        outcomes: What :meth:`Tuning.judge` found.
        folder: Where the suite's folder is, or is to be.
        command: The command that found this, for the reader.

    Raises:
        ConfigError: The files cannot be written, or two of them would have one name.
    """
    folder = folder / file_name(tuning.suite.name)
    names = [outcome.entry.name for outcome in outcomes]
    texts: dict[Path, str] = {}
    for outcome in outcomes:
        if outcome.best is None:
            continue
        entry = outcome.entry
        path = folder / f"{file_name(entry.name if names.count(entry.name) == 1 else entry.label)}.yaml"
        if path in texts:
            raise ConfigError(f"Two agents would be written to {path}: give them labels that differ in letters.")
        texts[path] = _HEADER + _dump(_content(tuning, outcome, outcome.best, command))
    for path, text in texts.items():
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            reason = f"{path} cannot be written: {error.strerror}."
            raise ConfigError(f"{reason} Choose another folder with --out.") from error
    return list(texts)


def outcome_table(outcomes: Sequence[Outcome]) -> RenderableType:
    """A row an agent for a terminal: score of the defaults, score of the winner, budget; failed trials below."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text("Regret over Random's, on the tuning seeds"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for head in ("agent", "default", "tuned", "trial", "trials", "runs"):
        table.add_column(Text(head), justify="left" if head == "agent" else "right", overflow="fold")
    failures = []
    for outcome in outcomes:
        label, scores, best = outcome.entry.label, outcome.scores, outcome.best
        failed = [(i, score) for i, score in enumerate(scores) if score.interval is None]
        failures += [Text(f"FAILED: {label}, trial {i}: {score.error}", style="red") for i, score in failed]
        counted = f"{len(scores)}" + (f" ({len(failed)} failed)" if failed else "")
        row = (
            label,
            _shown(scores[0].interval),
            "failed" if best is None else _shown(scores[best].interval) if outcome.space else "nothing to tune",
            "–" if best is None else str(best),
            counted,
            str(outcome.runs),
        )
        table.add_row(*map(Text, row))
    return Group(table, *failures)


def _trials(entry: AgentEntry, runs: dict[str, list[RunSpec]], count: int) -> tuple[SearchSpace, list[Trial]]:
    declared: SearchSpace = agent_class(entry.name).search_space if entry.search is None else entry.search
    space = {
        knob: options for knob, options in declared.items() if not _holds(entry.hyperparameters, knob.split("."))
    }
    found = [Trial(entry.hyperparameters, runs)]
    for values in draw_trials(entry.name, space, count - 1) if space else []:
        kwargs = merged(_nested(values), entry.hyperparameters)
        try:
            make_agent(entry.name, **kwargs)
        except ConfigError as error:
            found.append(Trial(kwargs, {}, f"{type(error).__name__}: {error}"))
            continue
        changed = {label: [replace(spec, agent_kwargs=kwargs) for spec in specs] for label, specs in runs.items()}
        found.append(Trial(kwargs, changed))
    return space, found


def _check_options(agent: str, knob: str, options: Mapping[str, Any]) -> None:
    """Raises ContractError for what :func:`_value` could not read."""
    kind = options.get("type")
    if kind == "choice":
        wrong = "" if options.get("values") else "a choice needs a list of values"
    elif kind in ("float", "int"):
        low, high = options.get("low"), options.get("high")
        wrong = (
            "low and high must be numbers, low below high"
            if not isinstance(low, int | float) or not isinstance(high, int | float) or not low < high
            else "a logarithmic scale needs low above 0"
            if options.get("log") and low <= 0
            else ""
        )
    else:
        wrong = f"type must be float, int or choice, not {kind!r}"
    unknown = sorted(options.keys() - {"type", "values", "low", "high", "log"})
    if wrong or unknown:
        wrong = wrong or f"it has {', '.join(unknown)}, which means nothing"
        raise ContractError(f"Agent {agent!r}: search_space[{knob!r}] is {dict(options)}: {wrong}.")


def _value(options: Mapping[str, Any], u: float) -> Any:
    """The value at the share ``u``, in [0, 1), of what ``options`` admit."""
    if options["type"] == "choice":
        return options["values"][int(u * len(options["values"]))]
    low, high = options["low"], options["high"]
    whole = options["type"] == "int"
    end = high + 1 if whole else high
    value = low * (end / low) ** u if options.get("log") else low + u * (end - low)
    # four digits are all that matters, and the same on machines whose powers differ in the last bit
    return min(int(value), high) if whole else min(max(float(f"{value:.4g}"), low), high)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """``{"kwargs.n_steps": 64}`` as ``{"kwargs": {"n_steps": 64}}``."""
    found: dict[str, Any] = {}
    for knob, value in values.items():
        for part in reversed(knob.split(".")):
            value = {part: value}
        found = merged(found, value)
    return found


def _holds(kwargs: Any, parts: list[str]) -> bool:
    for part in parts:
        if not isinstance(kwargs, Mapping) or part not in kwargs:
            return False
        kwargs = kwargs[part]
    return True


def _refuse_logged(environment: EnvironmentEntry) -> None:
    env = make(environment.id, environment.knobs)
    try:
        logged = getattr(env.unwrapped, "log", None) is not None
    finally:
        env.close()
    if logged:
        raise ConfigError(
            f"{environment.label} replays logged data, where regret has no meaning: agents cannot be tuned on it."
        )


def _reference_regret(label: str, runs: list[RunSpec], found: Mapping[str, Record]) -> list[float]:
    for spec in runs:
        error = _error(label, spec, found[spec.key])
        if error:
            raise DataError(f"The Random agent failed, so nothing can be compared with it. {error}")
    regret = [float(found[spec.key]["totals"]["regret"]) for spec in runs]
    for spec, value in zip(runs, regret, strict=True):
        if not value > 0:
            raise DataError(
                f"The Random agent's regret on {label}, seed {spec.seed}, is {value}: nothing can be divided by it. "
                "Tune on environments where random play loses something."
            )
    return regret


def _score(trial: Trial, scale: Mapping[str, list[float]], found: Mapping[str, Record]) -> Score:
    errors = [_error(label, spec, found[spec.key]) for label, specs in trial.runs.items() for spec in specs]
    error = trial.refusal or next(filter(None, errors), "")
    if error:
        return Score(trial.kwargs, None, error)
    strata = [
        [found[spec.key]["totals"]["regret"] / unit for spec, unit in zip(specs, scale[label], strict=True)]
        for label, specs in trial.runs.items()
    ]
    return Score(trial.kwargs, mean_interval(strata))


def _error(label: str, spec: RunSpec, record: Record) -> str:
    error = record["error"]
    if record["status"] == "ok":
        return ""
    where = "" if error["round"] is None else f", round {error['round']}"
    return f"{error['type']} on {label}, seed {spec.seed}{where}: {error['message']}"


def _content(tuning: Tuning, outcome: Outcome, best: int, command: str) -> dict[str, Any]:
    """What the file of one agent says."""
    entry = outcome.entry
    note = {} if outcome.space else {"note": "There was nothing to tune: the score is of the defaults."}
    return {
        "agent": entry.name,
        "kwargs": outcome.scores[best].kwargs,
        **note,
        "command": command,
        "trial": best,
        "score": _numbers(outcome.scores[best].interval),
        "default_score": _numbers(outcome.scores[0].interval),
        "trials": len(outcome.scores),
        "distinct_trials": outcome.distinct,
        "failed_trials": sum(score.interval is None for score in outcome.scores),
        "runs": outcome.runs,
        "seeds": {"set": tuning.suite.seeds.set, "count": tuning.suite.seeds.count},
        "environments": [
            {"label": each.label, "id": each.id, "kwargs": each.kwargs, "horizon": outcome.horizons[each.label]}
            for each in outcome.environments
        ],
        "fixed": entry.hyperparameters,
        "search_space": {knob: dict(options) for knob, options in outcome.space.items()},
        "versions": outcome.versions,
        "all_trials": [
            {"kwargs": score.kwargs, "score": _numbers(score.interval)}
            | ({"error": score.error} if score.error else {})
            for score in outcome.scores
        ],
    }


def _numbers(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    parts = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: round(part, 6) if math.isfinite(part) else None for name, part in parts.items()}


def _dump(content: dict[str, Any]) -> str:
    # through JSON, because YAML would write an object that occurs twice as an alias
    return dump_yaml(json.loads(json.dumps(content)))


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return "failed"
    ends = "" if math.isnan(interval.low) else f"\n[{interval.low:.3f}, {interval.high:.3f}]"
    return f"{interval.value:.3f}{ends}"
