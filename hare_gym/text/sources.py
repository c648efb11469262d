"""Readers of collections: folders of SKILL.md files, act/prompt tables, JSONL.

A broken file, row or line becomes a :class:`Problem` that names it, and the rest is read.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hare_gym.errors import DataError
from hare_gym.text.skills import (
    MAX_BYTES,
    MAX_DESCRIPTION,
    Skill,
    SkillError,
    parse,
    sections,
    seen,
    shortened,
    slug,
    validate,
)

JSONL_ENDINGS = (".jsonl", ".jsonl.gz")
CSV_ENDINGS = (".csv", ".csv.gz")
SKILL_FILE = "SKILL.md"
_MAX_LICENCE_BYTES = 100_000


@dataclass(frozen=True)
class Problem:
    """Something that could not be read.

    Attributes:
        place: The file, with the line where it has lines: ``skills.jsonl:17``.
        message: What is wrong.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Item:
    """A text of a collection, as it was found and as a skill.

    Attributes:
        skill: The text as a valid skill, mended where its format was wrong.
        raw: What stood there, for screening and for the hash.
        source: The collection: a repository ``owner/name``, or the name of a folder or file.
        path: Where in it: a path, or ``prompts.csv#ROW`` with rows from 1.
        license: An SPDX identifier, or empty when it is not known.
        kind: ``"skill"`` or ``"prompt"``.
        commit: The repository's commit, where it is known.
        format_errors: The breaches of the format that were mended.
        facts: What else the collection says of the text (``label``, ``category``, ...).
    """

    skill: Skill
    raw: str
    source: str
    path: str
    license: str = ""
    kind: str = "skill"
    commit: str = ""
    format_errors: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def id(self) -> str:
        """``sk_`` and twelve hexadecimal digits of the hash of source and path."""
        return "sk_" + hashlib.sha256(f"{self.source}\n{self.path}".encode()).hexdigest()[:12]


def read_collection(path: str | Path, source: str = "", commit: str = "") -> Iterator[Item | Problem]:
    """Reads a folder of SKILL.md files, an act/prompt CSV or a JSONL file, in a fixed order.

    Args:
        path: A folder, one SKILL.md, or a file ending in .csv, .csv.gz, .jsonl or .jsonl.gz.
        source: What to call the collection; its own name when empty.
        commit: The commit of a repository's checkout.

    Returns:
        The items, and the problems where they occurred.

    Raises:
        DataError: There is nothing at ``path``, or it is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"There is no file or folder {str(path)!r}.")
    source = source or path.resolve().name
    if path.is_dir():
        return _read_folder(path, source, commit)
    if path.name.endswith(JSONL_ENDINGS):
        return _read_jsonl(path, source)
    if path.name.endswith(CSV_ENDINGS):
        return _read_csv(path, path.name, source, commit)
    if path.suffix.lower() == ".md":
        return iter([_read_skill(path, path.parent, source, commit)])
    raise DataError(
        f"{path}: give a folder of {SKILL_FILE} files, a .csv, a .jsonl or a .jsonl.gz, or one {SKILL_FILE}."
    )


def skill_files(folder: Path) -> list[Path]:
    """The SKILL.md files under a folder, sorted; nothing hidden, and no symbolic link is followed."""
    found = [
        path
        for path in folder.rglob(SKILL_FILE)
        if not any(part.startswith(".git") for part in path.relative_to(folder).parts)
    ]
    return sorted(
        path
        for path in found
        if path.is_file() and not any(p.is_symlink() for p in (path, *path.parents) if folder in p.parents)
    )


def _read_folder(folder: Path, source: str, commit: str) -> Iterator[Item | Problem]:
    files = skill_files(folder)
    table = folder / "prompts.csv"
    lines = sorted(path for path in folder.iterdir() if path.name.endswith(JSONL_ENDINGS) and not path.is_symlink())
    if not files and not table.is_file() and not lines:
        raise DataError(f"{folder}: there is no {SKILL_FILE} below it, and no prompts.csv and no .jsonl in it.")
    for path in files:
        yield _read_skill(path, folder, source, commit)
    if table.is_file() and not table.is_symlink():
        yield from _read_csv(table, table.name, source, commit)
    for path in lines:
        yield from _read_jsonl(path, source)


def _read_skill(path: Path, root: Path, source: str, commit: str) -> Item | Problem:
    place = path.relative_to(root).as_posix()
    folder = path.parent.name if path.parent != root else None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:  # the message must give the real size
            raise DataError(
                f"The file has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read. "
                "Move material to files of its own."
            )
        skill = parse(data, place, folder=folder, lenient=True)
    except SkillError as error:
        return Problem(place, "; ".join(map(str, error.violations)))
    except (DataError, OSError) as error:
        return Problem(place, str(error))
    errors = tuple(str(v) for v in validate(data, folder) if v.severity == "error")
    licence = spdx(skill.license) or _nearest_licence(path.parent, root)
    return Item(skill, data.decode(), source, place, licence, "skill", commit, errors)


def _opened(path: Path) -> io.TextIOBase:
    raw = gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_csv(path: Path, place: str, source: str, commit: str) -> Iterator[Item | Problem]:
    licence = _nearest_licence(path.parent, path.parent)
    previous = csv.field_size_limit(MAX_BYTES)
    try:
        with _opened(path) as file:
            rows = csv.reader(file, strict=True)
            header = [cell.strip().lower() for cell in next(rows, [])]
            if "act" not in header or "prompt" not in header:
                raise DataError(f"{path}: the first line must name the columns act and prompt, not {header[:6]}.")
            act, prompt, number = header.index("act"), header.index("prompt"), 0
            while True:
                number, line = number + 1, rows.line_num + 1
                try:
                    row = next(rows)
                except StopIteration:
                    break
                except csv.Error as error:
                    yield Problem(f"{place}:{line}", f"not a row of CSV: {error}")
                    if "end of data" in str(error):
                        break
                    continue
                if not row:
                    continue
                if len(row) != len(header):
                    message = f"{len(row)} cells, and the header has {len(header)}. Put a cell with commas in quotes."
                    yield Problem(f"{place}:{line}", message)
                    continue
                facts = dict(zip(header, row, strict=True))
                try:
                    found = _prompt(row[act], row[prompt])
                except DataError as error:
                    yield Problem(f"{place}:{line}", str(error))
                    continue
                yield Item(
                    found,
                    f"{row[act]}\n\n{row[prompt]}",
                    source,
                    f"{place}#{number}",
                    licence,
                    "prompt",
                    commit,
                    facts=facts,
                )
    except (OSError, EOFError) as error:
        yield Problem(place, f"could not be read to its end: {error}")
    finally:
        csv.field_size_limit(previous)


def _prompt(act: str, prompt: str) -> Skill:
    """A prompt as a skill: the act is its title, the first sentence its description."""
    _need_utf8(act + prompt)
    title, body = " ".join(seen(act).split()), seen(prompt).strip()
    if not title or not body:
        raise DataError("act or prompt is empty.")
    first = re.match(r".*?[.!?](?=\s|$)", " ".join(body.split()))
    description = shortened(first[0] if first else " ".join(body.split()), MAX_DESCRIPTION)
    return Skill(slug(title, "prompt"), description, f"# {title}\n\n{body}")


def _need_utf8(text: str) -> None:
    bad = re.search("[\ud800-\udfff]", text)
    if bad:
        byte = ord(bad[0]) - 0xDC00
        what = f"the byte 0x{byte:02x} is" if 0x80 <= byte <= 0xFF else "half of a surrogate pair is"
        raise DataError(f"{what} not UTF-8 (character {bad.start()}). Save the file as UTF-8.")


def _read_jsonl(path: Path, source: str) -> Iterator[Item | Problem]:
    try:
        with _opened(path) as file:
            number = 0
            while True:
                line = file.readline(4 * MAX_BYTES + 1)
                number += 1
                if not line:
                    return
                if len(line) > 4 * MAX_BYTES:
                    yield Problem(f"{path.name}:{number}", f"longer than {4 * MAX_BYTES:,} characters.")
                    while line and not line.endswith("\n"):
                        line = file.readline(MAX_BYTES)
                elif line.strip():
                    try:
                        yield _record(line, number, path.name, source)
                    except RecursionError:
                        yield Problem(f"{path.name}:{number}", "not JSON: nested too deeply.")
                    except ValueError as error:  # a JSON error or one of ours
                        what = "not JSON: " if isinstance(error, json.JSONDecodeError) else ""
                        yield Problem(f"{path.name}:{number}", f"{what}{error}")
    except (OSError, EOFError) as error:
        yield Problem(path.name, f"could not be read to its end: {error}")


def _record(line: str, number: int, place: str, source: str) -> Item:
    _need_utf8(line)
    record = json.loads(line)
    if not isinstance(record, dict):
        raise DataError("a line must hold one JSON object.")
    texts = {}
    for name in ("name", "title", "description", "instructions", "license", "kind", "source_repo", "source_path"):
        value = record.get(name) or ""
        if not isinstance(value, str):
            raise DataError(f"{name!r} must be a string, not {type(value).__name__}.")
        _need_utf8(value)
        texts[name] = value
    if not texts["instructions"].strip():
        raise DataError("'instructions' is missing or empty.")
    if not (texts["name"].strip() or texts["title"].strip()):
        raise DataError("'name' and 'title' are missing; one of them is needed.")
    title = " ".join(seen(texts["title"] or texts["name"]).split())
    body = seen(texts["instructions"])
    if not any(section.level == 1 for section in sections(body)):
        body = f"# {title}\n\n{body}"
    description = shortened(seen(texts["description"]).strip() or title, MAX_DESCRIPTION)
    name, license = slug(texts["name"] or title), seen(texts["license"])
    skill = Skill(name, description, body, license=license)
    # what a record tells of a text that was cut is put back where the text itself has none
    triggers = [f"- {' '.join(seen(text).split())}" for text in _strings(record, "triggers")]
    examples = [seen(text).strip() for text in _strings(record, "examples")]
    added: list[str] = []
    if triggers and not skill.triggers:
        body += "\n\n## When to use\n\n" + "\n".join(triggers)
        added += _strings(record, "triggers")
    if examples and not skill.examples:
        body += "\n\n## Examples\n\n" + "\n\n".join(examples)
        added += _strings(record, "examples")
    return Item(
        Skill(name, description, body, license=license),
        raw="\n\n".join(filter(None, (texts["title"], texts["description"], texts["instructions"], *added))),
        source=texts["source_repo"] or source,
        path=texts["source_path"] or f"{place}:{number}",
        license=spdx(texts["license"]),
        kind=texts["kind"] or "skill",
        commit=str(record.get("source_commit") or ""),
        format_errors=tuple(map(str, record.get("format_errors") or ())),
        facts=record,
    )


def _strings(record: dict[str, Any], name: str) -> list[str]:
    """A list of texts of a record, those that say something."""
    found = record.get(name) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise DataError(f"{name!r} must be a list of strings.")
    for text in found:
        _need_utf8(text)
    return [text for text in found if seen(text).strip()]


# Licences

_SPDX = {
    "mit": "MIT",
    "mit license": "MIT",
    "apache-2.0": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "cc0-1.0": "CC0-1.0",
    "cc0": "CC0-1.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "isc": "ISC",
    "unlicense": "Unlicense",
    "mpl-2.0": "MPL-2.0",
    "gpl-2.0-only": "GPL-2.0-only",
    "gpl-2.0-or-later": "GPL-2.0-or-later",
    "gpl-3.0-only": "GPL-3.0-only",
    "gpl-3.0-or-later": "GPL-3.0-or-later",
    "lgpl-3.0-only": "LGPL-3.0-only",
    "lgpl-3.0-or-later": "LGPL-3.0-or-later",
    "agpl-3.0-only": "AGPL-3.0-only",
    "agpl-3.0-or-later": "AGPL-3.0-or-later",
}

# What only this licence's text says, in the order in which to look.
_LICENCE_TEXTS = (
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("Apache-2.0", ("apache license", "version 2.0", "grant of copyright license")),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    ("MPL-2.0", ("mozilla public license version 2.0",)),
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3, 19 november 2007")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3, 29 june 2007")),
    ("GPL-3.0-only", ("gnu general public license", "version 3, 29 june 2007")),
    ("GPL-2.0-only", ("gnu general public license", "version 2, june 1991")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software for any purpose",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("MIT", ("permission is hereby granted, free of charge", 'the software is provided "as is"')),
)


def spdx(text: str) -> str:
    """The SPDX identifier that a licence field means, or ``""`` when it names none that is known."""
    return _SPDX.get(" ".join(text.lower().split()).rstrip("."), "")


def licence_of_text(text: str) -> str:
    """The SPDX identifier of a licence file's text, or ``""``."""
    words = " ".join(text.lower().split())
    found = (name for name, marks in _LICENCE_TEXTS if all(mark in words for mark in marks))
    return next(found, "")


def _nearest_licence(folder: Path, root: Path) -> str:
    """The licence of the nearest licence file at or above ``folder``, not above ``root``."""
    while True:
        name = _licence_in(folder)
        if name is not None:
            return name
        if folder == root or root not in folder.parents:
            return ""
        folder = folder.parent


@lru_cache(maxsize=4096)
def _licence_in(folder: Path) -> str | None:
    for path in sorted(folder.iterdir()):
        if re.fullmatch(r"(?:licen[cs]e|copying|unlicense)(?:[.-].*)?", path.name, re.IGNORECASE) and path.is_file():
            with path.open("rb") as file:
                return licence_of_text(file.read(_MAX_LICENCE_BYTES).decode("utf-8", "replace"))
    return None
