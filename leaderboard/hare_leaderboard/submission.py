"""Submissions: ``leaderboard/submissions/<name>/submission.yaml`` and the code beside it, or a pinned wheel.

Everything is read as a stranger's: sizes are capped before anything is parsed, YAML gives plain values only, and
nothing of a submission is imported here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from hare_evaluation.foundation import ConfigError, HareError
from hare_evaluation.safe_yaml import load_yaml, read_capped
from hare_leaderboard.names import Line, Name, Text, Title, is_name
from hare_leaderboard.results import Disclosure, Entry

FILE = "submission.yaml"
MAX_YAML = 64_000
MAX_CONFIGURATION = 16_000

# Only for suggesting one; every SPDX identifier is accepted.
_LICENCES = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "ISC",
    "MIT",
]
_LICENCES += ["AGPL-3.0-or-later", "LGPL-3.0-or-later", "MPL-2.0", "Unlicense"]
_ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*|[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_URL = re.compile(
    r"https://[A-Za-z0-9.-]+(:\d{1,5})?(/[\w.~%!$&'()*+,;=:@/-]*)?(\?[\w.~%!$&'()*+,;=:@/?-]*)?", re.ASCII
)
_WHEEL = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+-any\.whl", re.ASCII)


@dataclass(frozen=True)
class Finding:
    """One mistake in a submission.

    Attributes:
        where: The file, and the field or place in it.
        what: What is wrong.
        fix: What to do.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.fix}".rstrip()


class SubmissionError(HareError):
    """A submission with mistakes; ``findings`` has them one by one."""

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


def refused(findings: Sequence[Finding]) -> SubmissionError:
    """The error that tells all findings, a line each."""
    return SubmissionError("\n".join(map(str, findings)), findings)


def _licence(text: str) -> str:
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        near = difflib.get_close_matches(text, _LICENCES, n=1, cutoff=0.4)
        raise ValueError(
            f"{text!r} is no SPDX licence expression. "
            + (
                f"Did you mean {near[0]!r}?"
                if near
                else "Use an identifier of spdx.org/licenses, such as 'Apache-2.0'."
            )
        ) from None


def _entry_point(text: str) -> str:
    if not _ENTRY_POINT.fullmatch(text):
        raise ValueError(f"must look like 'module:Class', or be an installed agent's name, not {text!r}")
    return text


def _url(text: str) -> str:
    if text and not is_link(text):
        raise ValueError(f"must be an https address, not {text!r}")
    return text


def is_link(text: str) -> bool:
    """Whether a text can be the address of a link."""
    return _URL.fullmatch(text) is not None


def _plain(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(repr(values)) > MAX_CONFIGURATION:
        raise ValueError(f"must have at most {MAX_CONFIGURATION:,} characters")
    return values


EntryPoint = Annotated[str, AfterValidator(_entry_point)]
Configuration = Annotated[dict[str, JsonValue], AfterValidator(_plain)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrackEntry(_Part):
    """What is different on one track.

    Attributes:
        entry_point: Instead of the submission's.
        configuration: Hyperparameters over the submission's.
    """

    entry_point: EntryPoint | None = None
    configuration: Configuration = {}


class Wheel(_Part):
    """A wheel beside ``submission.yaml`` that holds the code.

    Attributes:
        file: Its name.
        sha256: The hash of its bytes.
    """

    file: Annotated[str, StringConstraints(pattern=_WHEEL.pattern, max_length=200)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Submission(_Part):
    """What ``submission.yaml`` says.

    Attributes:
        schema_version: Of the file: 1.
        name: The submission's name, which is also its folder's.
        version: The author's own version; a new one with every change of the code or the configuration.
        title: How tables call it; its name if empty.
        authors: Who made it.
        description: What it does, in a few sentences.
        url: An https address of a paper or repository, or empty.
        licence: An SPDX expression.
        entry_point: ``"module:Class"`` in the code beside the file or in the wheel, or an installed agent's name.
        wheel: Where the code is, if it is not beside the file.
        requires: Distributions that the agent imports, besides hare-gym, by their names on the package index.
        configuration: Hyperparameters, as keyword arguments of the class.
        tracks: The tracks entered, and what is different there.
        disclosure: See :class:`hare_leaderboard.results.Disclosure`.
    """

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    version: Line = Field(min_length=1)
    title: Title = ""
    authors: list[Line] = Field(min_length=1, max_length=50)
    description: Text = Field(min_length=1)
    url: Annotated[Line, AfterValidator(_url)] = ""
    licence: Annotated[Line, AfterValidator(_licence)]
    entry_point: EntryPoint
    wheel: Wheel | None = None
    requires: list[Name] = Field(default=[], max_length=50)
    configuration: Configuration = {}
    tracks: dict[Name, TrackEntry] = Field(min_length=1, max_length=50)
    disclosure: Disclosure

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    def on(self, track: str) -> tuple[str, dict[str, Any]]:
        """The entry point and the hyperparameters on a track that was entered."""
        own = self.tracks[track]
        return own.entry_point or self.entry_point, {**self.configuration, **own.configuration}

    def entry(self, track: str, code_sha256: str = "") -> Entry:
        """What a result keeps of the submission."""
        entry_point, configuration = self.on(track)
        return Entry(
            version=self.version,
            title=self.title,
            authors=self.authors,
            entry_point=entry_point,
            configuration=configuration,
            licence=self.licence,
            description=self.description,
            url=self.url,
            disclosure=self.disclosure,
            code_sha256=code_sha256,
        )

    @property
    def has_code(self) -> bool:
        """Whether code comes with it; otherwise all its entry points are installed agents."""
        points = [self.entry_point, *(entry.entry_point for entry in self.tracks.values() if entry.entry_point)]
        return self.wheel is not None or any(":" in point for point in points)


def load(folder: Path) -> Submission:
    """Reads a submission's ``submission.yaml``.

    Raises:
        SubmissionError: With everything that is wrong with the file; nothing else of the folder is looked at.
    """
    path = folder / FILE
    if path.is_symlink():
        raise refused([Finding(str(path), "It is a link.", "Put the file itself there.")])
    if not path.is_file():
        hint = f"Make a template with: hare leaderboard new {folder.name if is_name(folder.name) else 'NAME'}"
        raise refused([Finding(str(path), "There is no such file.", hint)])
    try:
        values = load_yaml(read_capped(path, FILE, MAX_YAML), FILE)
    except ConfigError as error:
        raise refused([Finding(str(path), str(error), "")]) from None
    if not isinstance(values, dict):
        fix = "Begin with the template of: hare leaderboard new NAME"
        raise refused([Finding(str(path), "It must be a mapping of fields.", fix)])
    try:
        submission = Submission.model_validate(_nothing_as_empty(values))
    except ValidationError as invalid:
        raise refused([_finding(error, path) for error in invalid.errors()]) from None
    if submission.name != folder.resolve().name:
        what = f"The name is {submission.name!r}, but the folder is called {folder.resolve().name!r}."
        raise refused([Finding(f"{path}, name", what, "Give both the same name.")])
    return submission


def _nothing_as_empty(values: dict[str, Any]) -> dict[str, Any]:
    """``tracks: {a: }`` means nothing is different there, as a person writes it."""
    tracks = values.get("tracks")
    if isinstance(tracks, list):
        tracks = dict.fromkeys(track for track in tracks if isinstance(track, str))
    if isinstance(tracks, dict):
        values = {**values, "tracks": {name: {} if entry is None else entry for name, entry in tracks.items()}}
    return values


_MODELS: dict[str, type[BaseModel]] = {"disclosure": Disclosure, "wheel": Wheel, "tracks": TrackEntry}


def _finding(error: Any, path: Path) -> Finding:
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    where = f"{path}, {'.'.join(parts)}"
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        model = _MODELS.get(parts[0], Submission) if len(parts) > 1 else Submission
        known = [item.alias or name for name, item in model.model_fields.items()]
        near = difflib.get_close_matches(parts[-1], known, n=1)
        fix = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
        return Finding(where, "There is no such field.", fix)
    if kind == "missing":
        return Finding(where, "It is missing.", _HOW.get(parts[-1], "Add it."))
    text = message.removeprefix("Value error, ")
    given = "" if kind == "value_error" else f"; given was {_brief(error['input'])}"
    return Finding(where, f"{text[:1].upper()}{text[1:]}{given}{'' if text.endswith(('?', '.')) else '.'}", "")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_HOW = {
    "schema": "Add: schema: 1",
    "name": "Add the folder's name.",
    "version": "Add, for instance: version: 1.0.0",
    "authors": "Add a list of names.",
    "description": "Add a few sentences on what the agent does.",
    "licence": "Add an SPDX identifier, for instance: licence: Apache-2.0",
    "entry_point": "Add, for instance: entry_point: my_agent:MyAgent",
    "tracks": "Add the tracks that you enter, for instance: tracks: [bilinear-select]",
    "disclosure": "Add language_model, pretraining_data and tuning_budget below it; 'none' is an answer.",
    "language_model": "Name the language model that the agent uses, or write: none",
    "pretraining_data": "Say what the agent learned from before its first round, or write: none",
    "tuning_budget": "Say how the configuration was chosen, or write: none",
    "file": "Name the wheel.",
    "sha256": "Add the wheel's hash, as printed by: sha256sum FILE",
}
