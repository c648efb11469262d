"""What to run: one specification, and suites of them as data."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import hare_gym
from hare_evaluation.claims import CLAIMS, AnyClaim
from hare_evaluation.environments import make, registered
from hare_evaluation.figure_entries import FIGURES, AnyFigure, RewardTable
from hare_evaluation.judging import Role, Study
from hare_evaluation.results import Labels
from hare_evaluation.safe_yaml import load_yaml, read_capped
from hare_evaluation.store import canonical_json
from hare_gym.errors import ConfigError, HareError, unknown_name
from hare_gym.registry import agent_class, make_agent

PLAN_FILE = "hypotheses.yaml"
"""The file among the suites that is none: what ``hare paper`` composes of them, see `hare_evaluation.paper`."""

_SHARE = re.compile(r"T(?:/([0-9]{1,6}))?")

TUNING_SEEDS = "tuning"
"""The seed set that ``hare tune`` chooses hyperparameters on, and that tuned agents are never judged on."""


# What environments and estimates compute with; an agent names its own.
_LIBRARIES = ("scipy", "scikit-learn")
# Whose modules are followed by their imports.
_OURS = ("hare_gym", "hare_agents")


@dataclass(frozen=True)
class RunSpec:
    """One session of one agent in one environment on one seed.

    Attributes:
        env: An environment's id, or ``"package.module:Id-v0"`` to import its module first.
        agent: An agent's name, or ``"package.module:Class"``.
        seed_set: The name of a set of seeds: ``"tuning"`` and ``"final"`` share none.
        seed: Which one of the set, from 0.
        env_kwargs: The environment's knobs and ``action_mode``; plain JSON values.
        agent_kwargs: The agent's hyperparameters; plain JSON values.
        lanes: Users of the one world that are served at once; above 1 the environment needs a native vector form.
        trace_every: Rounds between two entries of the record's trace (who was served, and the agent's diagnostics);
            0 keeps none.
    """

    env: str
    agent: str
    seed_set: str
    seed: int
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    agent_kwargs: Mapping[str, Any] = field(default_factory=dict)
    lanes: int = 1
    trace_every: int = 0

    def __post_init__(self) -> None:
        for name in ("env_kwargs", "agent_kwargs"):
            try:
                canonical_json(dict(getattr(self, name)))
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigError(
                    f"{name} of {self.env} and {self.agent} must be plain JSON values: {error}."
                ) from error
        for name, low in (("seed", 0), ("lanes", 1), ("trace_every", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(f"{name} must be a whole number, at least {low}, not {value!r}.")
        if self.trace_every and self.lanes > 1:
            raise ConfigError(f"trace_every needs lanes=1, not {self.lanes}: a trace tells of one user at a time.")

    @cached_property
    def versions(self) -> dict[str, Any]:
        """The software, and the data files that the environment is told to read, that the result depends on."""
        return {
            "hare_gym": hare_gym.__version__,
            "numpy": np.__version__,
            "python": ".".join(platform.python_version_tuple()[:2]),
            "code": code_fingerprint(self.env, self.agent),
            "libraries": {name: _library_version(name) for name in (*_LIBRARIES, *agent_class(self.agent).libraries)},
            "files": {
                name: _file_hash(Path(value).expanduser())
                for name, value in sorted(self.env_kwargs.items())
                if isinstance(value, str) and os.path.exists(os.path.expanduser(value))
            },
        }

    def settings(self) -> dict[str, Any]:
        """What the user chose, as JSON values: all but the versions."""
        return {
            "env": self.env,
            "env_kwargs": dict(self.env_kwargs),
            "agent": self.agent,
            "agent_kwargs": dict(self.agent_kwargs),
            "seed_set": self.seed_set,
            "seed": self.seed,
            "lanes": self.lanes,
            **({"trace_every": self.trace_every} if self.trace_every else {}),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything that the key stands for: the settings and the versions."""
        return {**self.settings(), "versions": self.versions}

    @cached_property
    def key(self) -> str:
        """SHA-256 of :meth:`to_dict`: the run's name in the store."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()


@cache
def code_fingerprint(env: str, agent: str) -> str:
    """SHA-256 over the source files that decide a result, so that changed code runs anew.

    Of this project's packages they are the modules of the loop, the environment and the agent, and what those import
    in turn; of a stranger's package, all of it. The data files beside each module count too. Other libraries are not
    among them; their versions stand in the key by themselves.
    """
    entry_point = registered(env).entry_point
    module = entry_point.partition(":")[0] if isinstance(entry_point, str) else entry_point.__module__
    here = Path(__file__).parent
    found = {f"loop: {name}": _source_hash(here / name) for name in ("environments.py", "off_policy.py", "runner.py")}
    waiting = [module, *(base.__module__ for base in agent_class(agent).__mro__)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] in sys.stdlib_module_names:
            continue
        seen.add(name)
        if name.partition(".")[0] in _OURS:
            source = _module_file(name)
            files = (source, *_data_beside(source))
            found |= {f"{name}: {path.relative_to(source.parent).as_posix()}": _source_hash(path) for path in files}
            waiting += _imports(source)
        else:
            root = _source_root(name)
            found[root.name] = _source_hash(root)
            waiting += [inner for file in _python_files(root) for inner in _imports(file)]
    return hashlib.sha256(canonical_json(found).encode()).hexdigest()


def _module_file(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


def _data_beside(source: Path) -> list[Path]:
    """The files that are no code in a module's folder, and in folders within it that are no packages."""
    found, waiting = [], [source.parent]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
                waiting.append(path)
            elif path.is_file() and path.suffix not in (".py", ".pyc"):
                found.append(path)
    return found


def _python_files(root: Path) -> list[Path]:
    return [root] if root.is_file() else sorted(root.rglob("*.py"))


@cache
def _imports(source: Path) -> list[str]:
    """The modules of this project that a file imports, anywhere in it; a package where a name is taken from it."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in _OURS:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if _is_module(name)}
            names |= modules if len(modules) == len(inner) else {node.module, *modules}
    return sorted(name for name in names if name.partition(".")[0] in _OURS)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False


def _source_root(module_name: str) -> Path:
    """The folder of the module's top-level package, or the module's file if it has no package."""
    top = import_module(module_name.partition(".")[0])
    module = top if getattr(top, "__file__", None) else import_module(module_name)
    if not getattr(module, "__file__", None):
        raise ConfigError(
            f"Module {module_name!r} has no source file, so its runs could not be told apart from those of other "
            "code. Put the class into a file."
        )
    path = Path(str(module.__file__))
    return path.parent if module is not top or path.name == "__init__.py" else path


@cache
def _source_hash(root: Path) -> str:
    if root.is_file():
        return hashlib.sha256(root.read_bytes()).hexdigest()
    hashes = [
        (path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in _python_files(root)
    ]
    return hashlib.sha256(canonical_json(hashes).encode()).hexdigest()


@cache
def _library_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@cache
def _file_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_dir():
        inside = sorted(inner for inner in path.rglob("*") if inner.is_file())
        return hashlib.sha256(
            canonical_json([(inner.relative_to(path).as_posix(), _file_hash(inner)) for inner in inside]).encode()
        ).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Seeds(_Entry):
    """A named set of seeds, and how many of it to use."""

    set: str = Field(min_length=1)
    count: int = Field(ge=1, strict=True)


class EnvironmentEntry(_Entry):
    """An environment of a suite. ``label`` is what tables and figures call it; see `RunSpec` for ``trace_every``.

    A knob that is written ``T``, ``T/2``, ``T/3`` ... becomes that share of the ``horizon`` among ``kwargs``, rounded
    down, so that it follows ``--horizon``.
    """

    id: str
    label: str = ""
    kwargs: dict[str, Any] = {}
    trace_every: int = Field(default=0, ge=0, strict=True)

    def model_post_init(self, context: Any) -> None:
        """Fills in the label."""
        object.__setattr__(self, "label", self.label or self.id)

    @property
    def knobs(self) -> dict[str, Any]:
        """What the environment is made with: ``kwargs``, shares of the horizon worked out.

        Raises:
            ConfigError: A share without a horizon to be one of, or of which no round is left.
        """
        return {name: self._share(name, value) for name, value in self.kwargs.items()}

    def _share(self, name: str, value: Any) -> Any:
        found = _SHARE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return value
        horizon, parts = self.kwargs.get("horizon"), int(found[1] or 1)
        if isinstance(horizon, bool) or not isinstance(horizon, int) or not 1 <= parts <= horizon:
            raise ConfigError(
                f"{name} of {self.label!r} is {value!r}, a share of the horizon; the horizon among its kwargs must "
                f"be a whole number, at least {parts or 1}, not {horizon!r}."
            )
        return horizon // parts


class AgentEntry(_Entry):
    """An agent of a suite, and the labels of the environments it plays (all by default).

    ``tuned`` names the hyperparameters that ``hare tune`` found: ``"tuning"`` for this agent's among those that come
    with the package for the suite ``tuning``, ``"tuning/vw"`` for a certain file of them, or the path of a YAML file.
    ``kwargs`` override them. ``role`` is what claims take the agent for: a ``baseline`` to be beaten, the ``agent``
    that claims are made of, an ``ablation`` of it, or an ``oracle``, which knows what others have to learn.
    ``search`` replaces the space that the agent declares for ``hare tune``, where a suite's tasks ask for other knobs
    or scales; a knob of a knob is written ``agent_kwargs.ridge``.
    """

    name: str
    label: str = ""
    role: Role = "baseline"
    tuned: str = ""
    kwargs: dict[str, Any] = {}
    search: dict[str, dict[str, Any]] | None = None
    environments: list[str] | None = None

    def model_post_init(self, context: Any) -> None:
        """Fills in the label."""
        object.__setattr__(self, "label", self.label or self.name)

    @cached_property
    def tuned_kwargs(self) -> dict[str, Any]:
        """The hyperparameters of the file that ``tuned`` names; none without one.

        Raises:
            UnknownNameError: No such built-in file.
            ConfigError: A file that cannot be read, or is another agent's.
        """
        return dict(self.tuning["kwargs"]) if self.tuned else {}

    @cached_property
    def tuning(self) -> dict[str, Any]:
        """What the file that ``tuned`` names tells, and its name as ``source``; raises as `tuned_kwargs` does."""
        return load_tuned(self.tuned, self.name)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What the agent is made with: the tuned hyperparameters and, over them, ``kwargs``."""
        return merged(self.tuned_kwargs, self.kwargs)


@dataclass(frozen=True)
class Plan:
    """A suite made ready: what to run, how to call it, and what is left out and why."""

    specs: tuple[RunSpec, ...]
    labels: Labels
    notes: tuple[str, ...]


class Suite(_Entry):
    """Environments, agents and seeds, each agent to play each environment on each seed."""

    name: str = Field(min_length=1)
    title: str = ""
    seeds: Seeds
    environments: list[EnvironmentEntry] = Field(min_length=1)
    agents: list[AgentEntry] = Field(min_length=1)
    claims: list[Annotated[AnyClaim, Field(discriminator="kind")]] = []
    figures: list[Annotated[AnyFigure, Field(discriminator="kind")]] = []
    tables: list[RewardTable] = []

    def specs(self, lanes: int = 1) -> Iterator[tuple[EnvironmentEntry, AgentEntry, list[RunSpec]]]:
        """Every pair with its runs, one for each seed; nothing is made or looked up."""
        for environment in self.environments:
            for agent in self.agents:
                if agent.environments is None or environment.label in agent.environments:
                    yield (
                        environment,
                        agent,
                        [
                            RunSpec(
                                env=environment.id,
                                agent=agent.name,
                                seed_set=self.seeds.set,
                                seed=seed,
                                env_kwargs=environment.knobs,
                                agent_kwargs=agent.hyperparameters,
                                lanes=lanes,
                                trace_every=environment.trace_every,
                            )
                            for seed in range(self.seeds.count)
                        ],
                    )

    def overridden(
        self, env_kwargs: Mapping[str, Any], agent_kwargs: Mapping[str, Any], seeds: int | None = None
    ) -> Suite:
        """The suite with these knobs in every environment and agent, and another number of seeds."""
        return self.model_copy(
            update={
                "seeds": self.seeds.model_copy(update={"count": seeds or self.seeds.count}),
                "environments": [
                    e.model_copy(update={"kwargs": {**e.kwargs, **env_kwargs}}) for e in self.environments
                ],
                "agents": [a.model_copy(update={"kwargs": {**a.kwargs, **agent_kwargs}}) for a in self.agents],
            }
        )

    @property
    def labels(self) -> Labels:
        """How tables and figures call the environments and agents, in their order."""
        return Labels(
            environments={Labels.environment_key(e.id, e.knobs): e.label for e in self.environments},
            agents={Labels.agent_key(a.name, a.hyperparameters): a.label for a in self.agents},
        )

    @property
    def study(self) -> Study:
        """What claims and figures say of the results."""
        players: dict[str, tuple[str, ...]] = {}
        for environment, agent, _ in self.specs():
            players[environment.label] = (*players.get(environment.label, ()), agent.label)
        return Study(
            tuple(self.claims),
            tuple(self.figures),
            {entry.label: entry.role for entry in self.agents},
            {entry.label: frozenset(agent_class(entry.name).modes) for entry in self.agents},
            players,
            tuple(self.tables),
        )

    def plan(self, lanes: int = 1) -> Plan:
        """Makes every environment and agent once, so that a mistake is found before anything runs.

        Raises:
            UnknownNameError: An unknown environment, agent, knob or label.
            ConfigError: A knob out of range, a label given twice, nothing left to run, or tuned agents on the seeds
                that they were tuned on.
        """
        tuned = [entry.label for entry in self.agents if entry.tuned]
        if tuned and self.seeds.set == TUNING_SEEDS:
            raise ConfigError(
                f"The suite {self.name} uses tuned hyperparameters ({', '.join(tuned)}), so it cannot run on the "
                f"seed set {TUNING_SEEDS!r}, on which they were chosen. Use another, such as 'final'; to tune again, "
                "leave 'tuned' out."
            )
        _refuse_repeats("environments", [entry.label for entry in self.environments])
        _refuse_repeats("agents", [entry.label for entry in self.agents])
        _refuse_twins("environments", [(Labels.environment_key(e.id, e.knobs), e.label) for e in self.environments])
        _refuse_twins("agents", [(Labels.agent_key(a.name, a.hyperparameters), a.label) for a in self.agents])
        self._check_study()
        known = [entry.label for entry in self.environments]
        for agent in self.agents:
            for label in agent.environments or []:
                if label not in known:
                    raise unknown_name(f"environment of agent {agent.label!r}", label, known)
        modes = {entry.label: _mode_of(entry, lanes) for entry in self.environments}
        agents = {entry.label: make_agent(entry.name, **entry.hyperparameters) for entry in self.agents}
        specs: list[RunSpec] = []
        notes: list[str] = []
        for environment, entry, runs in self.specs(lanes):
            player, mode = agents[entry.label], modes[environment.label]
            if mode not in player.modes:
                played = ", ".join(sorted(player.modes))
                notes.append(
                    f"Left out: {entry.label} on {environment.label}, whose action mode is {mode!r}; "
                    f"the agent plays {played}."
                )
            elif player.privileged and lanes > 1:
                notes.append(f"Left out: {entry.label} on {environment.label}: it is privileged and plays 1 lane.")
            else:
                specs += runs
        if not specs:
            raise ConfigError(" ".join(["There is nothing to run.", *notes]))
        return Plan(tuple(specs), self.labels, tuple(notes))

    def _check_study(self) -> None:
        """Finds claims and figures that name what the suite does not have."""
        environments = {entry.label: entry for entry in self.environments}
        agents = [entry.label for entry in self.agents]
        _refuse_repeats("claims", [claim.id for claim in self.claims])
        _refuse_repeats("figures", [figure.id for figure in self.figures])
        _refuse_repeats("tables", [table.id for table in self.tables])
        parts = (("claim", self.claims), ("figure", self.figures), ("table", self.tables))
        for kind, entry in [(kind, entry) for kind, entries in parts for entry in entries]:
            for label in entry.environments:
                if label not in environments:
                    raise unknown_name(f"environment of the {kind} {entry.id!r}", label, environments)
            for label in entry.labels():
                if label not in agents:
                    raise unknown_name(f"agent of the {kind} {entry.id!r}", label, agents)
        for table in self.tables:
            for label in table.published:
                if label not in table.environments:
                    raise unknown_name(f"published environment of the table {table.id!r}", label, table.environments)
        for claim in self.claims:
            for label in claim.environments:
                claim.check(label, environments[label].knobs)


def suite_names() -> list[str]:
    """The built-in suites."""
    return sorted(path.stem for path in suite_folder().glob("*.yaml") if path.name != PLAN_FILE)


def load_suite(name_or_path: str) -> Suite:
    """A built-in suite by name, or any by the path of its YAML file.

    Raises:
        UnknownNameError: No such suite, or a key that suites do not have.
        ConfigError: A file that is too large, no YAML, or misses something.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and path.name == name_or_path:
        if name_or_path not in suite_names():
            raise unknown_name("suite", name_or_path, suite_names(), "List them with: hare list suites")
        path = suite_folder() / f"{name_or_path}.yaml"
    return parse_suite(read_capped(path, f"The suite {path}"), str(path))


def parse_suite(text: str, source: str) -> Suite:
    """A suite from its YAML text; ``source`` is what messages call it."""
    values = load_yaml(text, f"The suite {source}")
    if not isinstance(values, dict):
        raise ConfigError(f"The suite {source} must be a mapping with name, seeds, environments and agents.")
    try:
        return Suite.model_validate(values)
    except ValidationError as invalid:
        raise _explained(invalid, source) from None


def load_tuned(name_or_path: str, agent: str) -> dict[str, Any]:
    """What a file of ``hare tune`` tells: ``kwargs`` are the hyperparameters, ``source`` is its name.

    Args:
        name_or_path: As :class:`AgentEntry` has it.
        agent: The agent's name, which the file must be of.

    Raises:
        UnknownNameError: No such built-in file.
        ConfigError: A file that cannot be read, or is another agent's.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        folder = suite_folder() / "tuned"
        known = sorted(found.relative_to(folder).with_suffix("").as_posix() for found in folder.rglob("*.yaml"))
        own = f"{name_or_path}/{file_name(agent)}"
        name = own if own in known else name_or_path
        if name not in known:
            hint = "A file of your own is named by its path, with .yaml at its end."
            raise unknown_name("tuned hyperparameters", own if "/" not in name_or_path else name, known, hint)
        path, name_or_path = folder / f"{name}.yaml", name
    source = f"The tuned file {path}"
    values = load_yaml(read_capped(path, source), source)
    kwargs = values.get("kwargs") if isinstance(values, dict) else None
    if not isinstance(kwargs, dict) or not isinstance(values.get("agent"), str):
        raise ConfigError(f"{source} must be a mapping with agent and kwargs, as hare tune writes it.")
    if values["agent"] != agent:
        raise ConfigError(f"{source} is of agent {values['agent']!r}, not {agent!r}.")
    return {**values, "source": name_or_path}


def file_name(name: str) -> str:
    """``name`` with ``-`` for what a file's name should not hold: ``my_module:MyAgent`` is ``my_module-MyAgent``."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``under`` with the values of ``over``, mappings within them joined in the same way."""
    both = dict(under)
    for name, value in over.items():
        below = both.get(name)
        both[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def _explained(invalid: ValidationError, source: str) -> HareError:
    """The first mistake and where it is; a misspelt key comes before the key that it leaves missing."""
    error = min(invalid.errors(), key=lambda each: each["type"] != "extra_forbidden")
    *parents, last = (str(part) for part in error["loc"])
    kinds: dict[str, Mapping[str, type[BaseModel]]] = {"claims": CLAIMS, "figures": FIGURES}
    if error["type"] == "union_tag_invalid":
        of = f"kind in {parents[0]}.{last} of the suite {source}"
        return unknown_name(of, error["input"]["kind"], kinds[parents[0]])
    if error["type"] == "union_tag_not_found":
        return ConfigError(f"'kind' is missing in {parents[0]}.{last} of the suite {source}.")
    where = f"{'.'.join(parents)} of the suite {source}" if parents else f"the suite {source}"
    if error["type"] == "extra_forbidden":
        nested: dict[str, type[BaseModel]] = {
            "seeds": Seeds,
            "environments": EnvironmentEntry,
            "agents": AgentEntry,
            "tables": RewardTable,
        }
        known = kinds[parents[0]][parents[2]] if parents and parents[0] in kinds else None
        model = known or (nested[parents[0]] if parents else Suite)
        return unknown_name(f"key in {where}", last, model.model_fields)
    if error["type"] == "missing":
        return ConfigError(f"{last!r} is missing in {where}.")
    return ConfigError(f"{last!r} in {where}: {error['msg']}, not {error['input']!r}.")


def suite_folder() -> Path:
    """Where the built-in suites lie."""
    shipped = Path(__file__).parent / "suites"
    return shipped if shipped.is_dir() else Path(__file__).parents[1] / "suites"


def _mode_of(entry: EnvironmentEntry, lanes: int) -> str:
    env = make(entry.id, entry.knobs, lanes)
    try:
        return str(env.unwrapped.task.action_mode)
    finally:
        env.close()


def _refuse_repeats(kind: str, labels: list[str]) -> None:
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"Two {kind} are called {label!r}: give each a label of its own.")


def _refuse_twins(kind: str, entries: list[tuple[str, str]]) -> None:
    """Records are found by what was run, so one thing cannot have two labels."""
    labels: dict[str, str] = {}
    for key, label in entries:
        if key in labels:
            raise ConfigError(
                f"The {kind} {labels[key]!r} and {label!r} are the same: {key}. Leave one out; a claim or figure can "
                "use the other."
            )
        labels[key] = label
