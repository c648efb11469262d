"""A benchmark version: tracks, their environments, how many seeds of each, and the limits; all of it data."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from hare_evaluation.environments import make
from hare_evaluation.foundation import ConfigError, unknown_name
from hare_evaluation.runner import checkpoints
from hare_evaluation.safe_yaml import load_yaml, read_capped
from hare_evaluation.store import canonical_json
from hare_leaderboard import results
from hare_leaderboard.channel import Limits
from hare_leaderboard.names import Line, Name, Text

MAX_BYTES = 200_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Environment(_Part):
    """One environment of a track.

    Attributes:
        label: How the track calls it; part of what its seeds are made from.
        id: Its registered id.
        kwargs: Its knobs, the action mode among them.
        hidden_seeds: How many seeds only the holder of the secret can compute.
        public_seeds: How many anybody can.
    """

    label: Line
    id: Line
    kwargs: dict[str, JsonValue] = {}
    hidden_seeds: int = Field(ge=1)
    public_seeds: int = Field(ge=1)

    def as_result(self) -> results.Environment:
        """What a result keeps of it."""
        horizon = int(make(self.id, self.kwargs).unwrapped.task.horizon)
        return results.Environment(**self.model_dump(), horizon=horizon, checkpoints=checkpoints(horizon))


class Track(_Part):
    """Environments whose results are ranked together.

    Attributes:
        title: How pages call it.
        description: What an agent has to do, in a sentence or two.
        environments: In the order of the pages.
    """

    title: Line
    description: Text = ""
    environments: list[Environment] = Field(min_length=1, max_length=20)

    @cached_property
    def sha256(self) -> str:
        """The hash of what decides results: everything but title and description."""
        values = [environment.model_dump(mode="json") for environment in self.environments]
        return hashlib.sha256(canonical_json(values).encode()).hexdigest()


class Benchmark(_Part):
    """A version of the benchmark.

    Attributes:
        version: Its name.
        limits: What an agent may use in a session.
        tracks: By name, in the order of the pages.
    """

    version: Name
    limits: dict[str, int | float]
    tracks: dict[Name, Track] = Field(min_length=1)

    @property
    def session_limits(self) -> Limits:
        """The limits as the sandbox takes them."""
        return Limits(**self.limits)  # type: ignore[arg-type]  # whole numbers stay whole: checked when it was read

    @cached_property
    def sha256(self) -> str:
        """The hash of the whole definition, which the commitment of a season names."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()

    def track(self, name: str) -> Track:
        """A track by name.

        Raises:
            UnknownNameError: No such track.
        """
        if name not in self.tracks:
            raise unknown_name("track", name, self.tracks)
        return self.tracks[name]


def benchmarks_folder() -> Path:
    """Where the definitions are: inside an installed package, or beside it in a checkout."""
    shipped = Path(__file__).parent / "benchmarks"
    return shipped if shipped.is_dir() else Path(__file__).parents[1] / "benchmarks"


def load_benchmark(name_or_path: str = "v1") -> Benchmark:
    """A benchmark version by name, or any by the path of its YAML file.

    Raises:
        UnknownNameError: No such version.
        ConfigError: A file that cannot be read, or is none.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        known = sorted(found.stem for found in benchmarks_folder().glob("*.yaml"))
        if name_or_path not in known:
            raise unknown_name("benchmark", name_or_path, known)
        path = benchmarks_folder() / f"{name_or_path}.yaml"
    source = f"The benchmark {path}"
    values: Any = load_yaml(read_capped(path, source, MAX_BYTES), source)
    try:
        benchmark = Benchmark.model_validate(values)
        unknown = benchmark.limits.keys() - Limits.__dataclass_fields__.keys()
        if unknown:
            raise unknown_name("limit", min(unknown), Limits.__dataclass_fields__)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        raise ConfigError(f"{source}, {'.'.join(map(str, error['loc']))}: {error['msg']}.") from None
    if benchmark.version != path.stem:
        raise ConfigError(f"{source} is of version {benchmark.version!r}: give file and version the same name.")
    return benchmark
