"""Results: one immutable JSON file for each verified set of runs, and what removes one.

Layout below ``leaderboard/results/``::

    <benchmark version>/<submission>/<track>-<hash>.json           a set of runs
    <benchmark version>/<submission>/<track>-<hash>.removed.json   why it no longer counts

A file begins ``{"sha256":"...",`` and the hash is of all bytes after that line, so every edit shows; its first twelve
digits are part of the name. The hash tells that a file was changed, not who made it: whoever can write the folder can
make a new file with a new hash, and the history of the repository is what shows that.

Files are only ever added. A result stays when it is removed; the removal beside it keeps the reason. Every schema
version that was ever written is read for ever: ``tests/data/leaderboard`` holds a file of each.
"""

from __future__ import annotations

import hashlib
import json
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from hare_evaluation.foundation import DataError
from hare_evaluation.store import canonical_json, explained, make_folder, write_once
from hare_leaderboard.names import Line, Name, Text, visible

SCHEMA = 1
MAX_BYTES = 16_000_000
MAX_RUNS = 5_000
MAX_POINTS = 256
MAX_TAIL = 4_000

Status = Literal["OK", "TIMEOUT", "INVALID_ACTION", "PROTOCOL", "CRASH", "INFRA"]
Tier = Literal["self-reported", "reproduced", "verified"]
Isolation = Literal["bwrap", "landlock", "process", "in-process"]
TIERS: tuple[Tier, ...] = ("verified", "reproduced", "self-reported")
"""From the most to the least trusted."""

ISOLATED: tuple[Isolation, ...] = ("bwrap", "landlock")
"""What a verified result must have been run under."""

_HEAD = re.compile(rb'\{"sha256":"([0-9a-f]{64})",\n')
_FILE = re.compile(r"(?P<track>[A-Za-z0-9][A-Za-z0-9._-]{0,63})-(?P<hash>[0-9a-f]{12})(?P<removed>\.removed)?\.json")


def _moment(text: str) -> str:
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise ValueError(f"must look like 2026-11-30T17:30:00Z, not {text!r}") from None
    return text


Moment = Annotated[str, AfterValidator(_moment)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Run(_Part):
    """One session: one environment of the track on one seed.

    Attributes:
        environment: The label that the track gives to the environment.
        seed: Which one of its seeds, from 0; the seed itself is nowhere in the file.
        seeds: Whether anybody can compute it (``public``) or only who holds the secret (``hidden``).
        status: ``OK``, or the agent's fault. ``INFRA`` is nobody's, and leaves the entry incomplete.
        reason: What went wrong, in a sentence; empty for ``OK``.
        output_tail: The end of what the agent itself wrote to its output.
        rounds: Rounds that the agent played; the rest counts as the worst policy's.
        regret: Cumulative regret over the whole horizon, in the units of the reward.
        worst: What the worst policy's would have been on this seed; ``regret / worst`` is the normalised regret.
        reward: Cumulative reward over the whole horizon.
        oracle: Cumulative mean reward of the oracle.
        curve: Cumulative regret at the environment's checkpoints; the last equals ``regret``.
        act_seconds: Seconds the agent took to act, as measured from outside.
        update_seconds: The same, to learn.
        cpu_seconds: Processor seconds of the agent's process from its first round to its last, as the kernel counted
            them; 0 where it is not known. Unlike seconds of the clock they do not depend on the machine's load.
        actions_sha256: SHA-256 of the actions played, or empty.
    """

    environment: Line
    seed: int = Field(ge=0)
    seeds: Literal["hidden", "public"]
    status: Status
    reason: Text = ""
    output_tail: str = Field(default="", max_length=MAX_TAIL)
    rounds: int = Field(ge=0)
    regret: float
    worst: float = Field(gt=0)
    reward: float
    oracle: float
    curve: list[float] = Field(max_length=MAX_POINTS)
    act_seconds: float = Field(ge=0)
    update_seconds: float = Field(ge=0)
    cpu_seconds: float = Field(default=0.0, ge=0)
    actions_sha256: Sha256 | Literal[""] = ""


class Environment(_Part):
    """One environment of the track, as the runs were played in it.

    Attributes:
        label: How the track calls it.
        id: Its registered id.
        kwargs: Its knobs, the action mode among them.
        horizon: Rounds in a session.
        hidden_seeds: How many hidden seeds a complete entry has.
        public_seeds: How many public ones.
        checkpoints: The rounds of the curves.
    """

    label: Line
    id: Line
    kwargs: dict[str, JsonValue] = {}
    horizon: int = Field(gt=0)
    hidden_seeds: int = Field(ge=0)
    public_seeds: int = Field(ge=0)
    checkpoints: list[int] = Field(max_length=MAX_POINTS)


class Disclosure(_Part):
    """What an author says of the agent's making; it cannot be checked, and the site says so.

    Attributes:
        language_model: Which language model the agent uses, or "none".
        pretraining_data: What it learned from before the first round, or "none".
        tuning_budget: How its configuration was chosen, with the number of trials.
    """

    language_model: Line
    pretraining_data: Line
    tuning_budget: Line


class Entry(_Part):
    """The submission as it was when it was run.

    Attributes:
        version: The author's own version.
        title: How tables call it; the submission's name if empty.
        authors: Who made it.
        entry_point: ``"module:Class"``, or the name of an installed agent.
        configuration: Its hyperparameters.
        licence: An SPDX expression.
        description: What it does, in a few sentences.
        url: An https address, or empty.
        disclosure: See :class:`Disclosure`.
        code_sha256: The hash of the submitted files, or empty for an installed agent.
    """

    version: Line
    title: Line = ""
    authors: list[Line] = Field(default=[], max_length=50)
    entry_point: Line
    configuration: dict[str, JsonValue] = {}
    licence: Line
    description: Text = ""
    url: Line = ""
    disclosure: Disclosure
    code_sha256: Sha256 | Literal[""] = ""


class Manifest(_Part):
    """What the runs were made with.

    Attributes:
        commit: The commit of this project, with ``+changes`` where files differed from it; or empty.
        python: Python's version.
        dependencies: Each installed distribution that matters, and its version.
        lock_sha256: The hash of the complete list of installed distributions.
        hardware: Processors and memory, in words.
        protocol: The version of the protocol between runner and agent; 0 for none.
        isolation: How the agent was kept apart.
        limits: The limits that it ran under, by name.
        seed_commitment: The published commitment to the secret of the hidden seeds; or empty.
        started: When the first run began.
        finished: When the last one ended.
        notes: What else a reader must know.
    """

    commit: Line
    python: Line
    dependencies: dict[str, str]
    lock_sha256: Sha256 | Literal[""] = ""
    hardware: Line
    protocol: int = Field(ge=0)
    isolation: Isolation
    limits: dict[str, JsonValue] = {}
    seed_commitment: Line = ""
    started: Moment
    finished: Moment
    notes: list[Line] = []


class RunSet(_Part):
    """All runs of one submission on one track.

    Attributes:
        schema_version: Of the file.
        kind: Always ``"runs"``.
        benchmark: The benchmark version.
        track: A track of it.
        track_sha256: The hash of the track's definition: results with different ones are not comparable.
        submission: The submission's name.
        tier: ``verified``: we ran it, isolated, on hidden seeds; ``reproduced``: we ran it on public seeds;
            ``self-reported``: its author did.
        created: When the file was written.
        entry: The submission as it was then.
        environments: Of the track, in its order.
        runs: One a session.
        manifest: What they were made with.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    kind: Literal["runs"] = "runs"
    benchmark: Name
    track: Name
    track_sha256: Sha256
    submission: Name
    tier: Tier
    created: Moment
    entry: Entry
    environments: list[Environment] = Field(min_length=1, max_length=100)
    runs: list[Run] = Field(max_length=MAX_RUNS)
    manifest: Manifest

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @property
    def title(self) -> str:
        """How tables call the submission."""
        return self.entry.title or self.submission

    def check(self) -> None:
        """Whether the parts fit each other.

        Raises:
            DataError: A run of an environment that is not listed, or twice on one seed; a curve of another length
                than the checkpoints; a tier that the isolation does not allow.
        """
        checkpoints = {environment.label: len(environment.checkpoints) for environment in self.environments}
        if len(checkpoints) < len(self.environments):
            raise DataError(f"{self._called}: two environments have the same label.")
        seen = set()
        for run in self.runs:
            where = f"{self._called}: the run on {run.environment!r}, {run.seeds} seed {run.seed},"
            if run.environment not in checkpoints:
                raise DataError(f"{where} is of an environment that is not listed.")
            if (key := (run.environment, run.seeds, run.seed)) in seen:
                raise DataError(f"{where} is there twice.")
            seen.add(key)
            if len(run.curve) != checkpoints[run.environment]:
                raise DataError(
                    f"{where} has a curve of {len(run.curve)} points for {checkpoints[run.environment]} checkpoints."
                )
        if self.tier == "verified" and self.manifest.isolation not in ISOLATED:
            raise DataError(
                f"{self._called}: a verified result must be run under {' or '.join(ISOLATED)}, not "
                f"{self.manifest.isolation!r}. Use the tier 'reproduced'."
            )

    @property
    def _called(self) -> str:
        return f"The result of {self.submission!r} on {self.track!r}"


class Removal(_Part):
    """Why a result no longer counts."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    kind: Literal["removal"] = "removal"
    benchmark: Name
    track: Name
    submission: Name
    of: Sha256
    reason: Text = Field(min_length=1)
    created: Moment

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


@dataclass(frozen=True)
class Stored:
    """A set of runs as it lies in the folder."""

    runs: RunSet
    sha256: str
    path: Path
    removal: Removal | None = None


@dataclass(frozen=True)
class Flaw:
    """A file that does not count, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Folder:
    """What :meth:`ResultStore.load` found.

    Attributes:
        results: Those that count, sorted by path.
        removed: Those that were removed.
        lost: Removals whose result is not there.
        flaws: Files that are damaged, edited or in the wrong place.
    """

    results: list[Stored] = field(default_factory=list)
    removed: list[Stored] = field(default_factory=list)
    lost: list[Removal] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)


def now() -> str:
    """This moment as results write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tail_of(output: bytes) -> str:
    """The end of an agent's output as ``Run.output_tail`` takes it: text, without control characters.

    Where this machine keeps its packages is left out: warnings name it, and results are published.
    """
    text = output[-4 * MAX_TAIL :].decode("utf-8", "replace").replace("\r\n", "\n")
    for name in ("purelib", "platlib", "stdlib"):
        text = text.replace(f"{sysconfig.get_path(name)}/", "")
    return visible(text, MAX_TAIL)


class ResultStore:
    """The results folder. Any number of processes may add to it at once.

    Args:
        root: The folder, made on the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def add(self, result: RunSet) -> Path:
        """Writes a result for good; the same one again changes nothing.

        Returns:
            Its path.

        Raises:
            DataError: The parts do not fit each other, or the file would be larger than ``MAX_BYTES``.
            StoreError: The disk is full, or the folder cannot be written.
        """
        result.check()
        return self._write(result, result.benchmark, result.submission, result.track, "")

    def remove(self, stored: Stored, reason: str) -> Path:
        """Marks a result as removed; the file itself stays.

        Raises:
            DataError: No reason is given, or it was removed before with another one.
        """
        runs = stored.runs
        try:
            removal = Removal(
                benchmark=runs.benchmark,
                track=runs.track,
                submission=runs.submission,
                of=stored.sha256,
                reason=reason,
                created=now(),
            )
        except ValidationError as invalid:
            raise DataError(f"The removal of {stored.path.name}: {_first(invalid)}") from None
        return self._write(removal, runs.benchmark, runs.submission, runs.track, stored.sha256[:12])

    def load(self, benchmark: str | None = None) -> Folder:
        """Everything in the folder, or of one benchmark version. A file that cannot be trusted becomes a flaw."""
        found = Folder()
        removals: dict[str, Removal] = {}
        results: list[Stored] = []
        for path in sorted(self.root.glob("*/*/*.json") if benchmark is None else self._of(benchmark)):
            try:
                content, digest = read(path)
                self._check_place(path, content, digest)
            except DataError as error:
                found.flaws.append(Flaw(path, str(error)))
                continue
            if isinstance(content, Removal):
                removals[content.of] = content
            else:
                results.append(Stored(content, digest, path))
        for stored in results:
            removal = removals.pop(stored.sha256, None)
            if removal is None:
                found.results.append(stored)
            else:
                found.removed.append(Stored(stored.runs, stored.sha256, stored.path, removal))
        found.lost.extend(removals.values())
        return found

    def _of(self, benchmark: str) -> Iterator[Path]:
        return (self.root / benchmark).glob("*/*.json")

    def _write(self, content: RunSet | Removal, benchmark: str, submission: str, track: str, of: str) -> Path:
        body, digest = _body(content)
        if len(body) > MAX_BYTES:
            raise DataError(f"The result would have {len(body):,} bytes; at most {MAX_BYTES:,} are read again.")
        name = f"{track}-{of}.removed.json" if of else f"{track}-{digest[:12]}.json"
        path = self.root / benchmark / submission / name
        with explained(path, "--results"):
            make_folder(path.parent)
            if not write_once(path, body):
                _, there = read(path)
                if there != digest:
                    raise DataError(f"{path} is there with another content; it is kept, and nothing was written.")
        return path

    def _check_place(self, path: Path, content: RunSet | Removal, digest: str) -> None:
        name = _FILE.fullmatch(path.name)
        folders = (content.benchmark, content.submission)
        expected = content.of if isinstance(content, Removal) else digest
        if name is None or path.parts[-3:-1] != folders or name["track"] != content.track:
            raise DataError(f"{path} is in the wrong place: it is of {'/'.join(folders)}, track {content.track}.")
        if name["hash"] != expected[:12] or bool(name["removed"]) != isinstance(content, Removal):
            raise DataError(f"{path} has been edited or renamed: its content belongs to {expected[:12]}.")


def read(path: Path) -> tuple[RunSet | Removal, str]:
    """A file of the folder and the hash of its content.

    Raises:
        DataError: It cannot be read, is too large, a link or edited, or has a schema that this version does not know.
    """
    if path.is_symlink():
        raise DataError(f"{path} is a link, not a file.")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES:,} bytes.")
    head = _HEAD.match(data)
    if head is None:
        raise DataError(f"{path} does not begin with its sha256: it is no result file, or it was edited.")
    digest = hashlib.sha256(data[head.end() :]).hexdigest()
    if digest != head[1].decode():
        raise DataError(f"{path} was edited: its content does not match its sha256.")
    return _parsed(path, b"{" + data[head.end() :]), digest


def _parsed(path: Path, data: bytes) -> RunSet | Removal:
    try:
        values = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    version = values.get("schema")
    if not isinstance(version, int) or version not in _READERS:
        known = ", ".join(map(str, _READERS))
        raise DataError(f"{path} has schema {version!r}; this version of hare-gym reads {known}. Use a newer one.")
    try:
        content = _READERS[version](values)
    except ValidationError as invalid:
        raise DataError(f"{path}: {_first(invalid)}") from None
    if isinstance(content, RunSet):
        content.check()
    return content


def _read_1(values: dict[str, Any]) -> RunSet | Removal:
    return (Removal if values.get("kind") == "removal" else RunSet).model_validate(values)


_READERS = {1: _read_1}
"""How each schema version is read; one is added with every version, and none is ever taken away."""


def _body(content: RunSet | Removal) -> tuple[bytes, str]:
    """The file's bytes, a line for each run so that a person can look at it, and the hash of its content."""
    values = content.model_dump(mode="json", by_alias=True)
    runs = values.pop("runs", None)
    rest = canonical_json(values)[1:-1]
    if runs is not None:
        rest += ',\n"runs":[\n' + ",\n".join(canonical_json(run) for run in runs) + "\n]"
    body = (rest + "}\n").encode()
    digest = hashlib.sha256(body).hexdigest()
    return b'{"sha256":"' + digest.encode() + b'",\n' + body, digest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _first(invalid: ValidationError) -> str:
    error = invalid.errors()[0]
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else error["msg"]
