"""The code of a submission: looked at file by file, measured, and copied to a folder of its own; never imported.

Links, special files, pickles and everything that would leave its folder are refused. Sizes are counted while bytes
are read, because a zip file's own statement of them may be false.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from hare_leaderboard.names import strange_character
from hare_leaderboard.submission import FILE, Finding, Submission, SubmissionError, refused

MAX_FILES = 500
MAX_FILE = 50_000_000
MAX_TOTAL = 100_000_000
MAX_DEPTH = 12

_CHUNK = 1 << 20
_MAX_DIRECTORY = 1 << 20
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill", ".ckpt")
_SKIPPED = ("__pycache__",)
_TAKEN = {"hare_gym", "hare_agents", "hare_evaluation", "hare_leaderboard", "numpy", "scipy", "gymnasium", "msgpack"}


def prepare(folder: Path, submission: Submission, target: Path) -> str:
    """Copies a submission's code to ``target``, an empty folder, as the agent's process will see it.

    Args:
        folder: The submission's folder.
        submission: What its file says.
        target: Where the modules go.

    Returns:
        A hash of the names and contents of all files.

    Raises:
        SubmissionError: With the first thing that is wrong.
    """
    source = _files_of_wheel(folder, submission) if submission.wheel else _files_of_folder(folder)
    hashes: list[str] = []
    total = 0
    seen: set[str] = set()
    for name, where, opened in source:
        _check_name(name, where, seen)
        if len(hashes) >= MAX_FILES:
            raise refused(
                [Finding(where, f"There are more than {MAX_FILES} files.", "Leave out what is not needed.")]
            )
        path = target.joinpath(*name.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with opened as file, path.open("xb") as copy:
                size, digest = _copy(file, copy, min(MAX_FILE, MAX_TOTAL - total), where)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise refused([Finding(where, f"It cannot be unpacked: {error}.", "Build the wheel anew.")]) from None
        path.chmod(0o644)
        total += size
        hashes.append(f"{digest}  {name}\n")
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


_Source = Iterator[tuple[PurePosixPath, str, IO[bytes]]]


def _files_of_folder(folder: Path) -> _Source:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _skipped(name))
        for name in [*folders, *sorted(names)]:
            path = Path(root, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise refused([Finding(str(path), "It is a link.", "Put the file itself there.")])
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise refused([Finding(str(path), "It is no plain file.", "Leave it out.")])
        for name in sorted(names):
            path = Path(root, name)
            relative = PurePosixPath(path.relative_to(folder).as_posix())
            if not _skipped(name) and str(relative) != FILE:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                yield relative, str(path), os.fdopen(descriptor, "rb")


def _files_of_wheel(folder: Path, submission: Submission) -> _Source:
    assert submission.wheel is not None
    path = folder / submission.wheel.file
    if path.is_symlink() or not path.is_file():
        what = "There is no such file." if not path.exists() else "It is no plain file."
        raise refused([Finding(str(path), what, "Put the wheel beside submission.yaml.")])
    if path.stat().st_size > MAX_TOTAL:
        raise _too_large(str(path), MAX_TOTAL)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != submission.wheel.sha256:
            what = f"The wheel's sha256 is {digest}, but submission.yaml says {submission.wheel.sha256}."
            raise refused([Finding(str(path), what, "Write the right one into wheel.sha256.")])
        _check_directory(file, str(path))
        try:
            with zipfile.ZipFile(file) as archive:
                yield from _members(archive, path)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError) as error:
            raise refused(
                [Finding(str(path), f"It is no zip file that can be read: {error}.", "Build it anew.")]
            ) from None


def _check_directory(file: IO[bytes], where: str) -> None:
    """Refuses a table of contents so long that reading it alone would take the memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 64))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    if length > _MAX_DIRECTORY or b"PK\x06\x07" in tail:
        raise refused([Finding(where, "Its table of contents is too long.", f"At most {MAX_FILES} files are read.")])


def _members(archive: zipfile.ZipFile, path: Path) -> _Source:
    members = archive.infolist()
    if len(members) > 2 * MAX_FILES:
        raise refused(
            [Finding(str(path), f"It has {len(members):,} entries.", f"At most {MAX_FILES} files are read.")]
        )
    for member in members:
        where = f"{path}, {member.filename!r}"
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise refused([Finding(where, "It is a link or a special file.", "Build the wheel without it.")])
        if member.flag_bits & 0x1:
            raise refused([Finding(where, "It is encrypted.", "Build the wheel without a password.")])
        if member.orig_filename != member.filename or "\\" in member.orig_filename:
            raise refused([Finding(where, "The name holds a zero byte or a backslash.", "Build the wheel anew.")])
        if member.is_dir():
            continue
        first = member.filename.split("/")[0]
        if first.endswith(".dist-info"):
            continue
        if first.endswith(".data"):
            fix = "Build a wheel of plain modules; nothing is installed, the files are only put on Python's path."
            raise refused([Finding(where, "A wheel with a .data folder needs installing.", fix)])
        yield PurePosixPath(member.filename), where, archive.open(member)


def _check_name(name: PurePosixPath, where: str, seen: set[str]) -> None:
    text = str(name)
    if name.is_absolute() or ".." in name.parts or not name.parts or ":" in text:
        raise refused([Finding(where, "The name leads out of the folder.", "Use names below the folder.")])
    if len(name.parts) > MAX_DEPTH or len(text) > 200:
        raise refused([Finding(where, "The name is too long or too deep.", "Use at most 200 characters.")])
    if strange := strange_character(text):
        raise refused([Finding(where, f"The name holds {strange}.", "Rename the file.")])
    if name.suffix.lower() in _PICKLES:
        fix = "Store arrays as .npz (without objects) or .safetensors."
        raise refused([Finding(where, "Pickles run code when they are read, and are not accepted.", fix)])
    if text.casefold() in seen:
        raise refused([Finding(where, "There are two files of this name.", "Names must differ by more than case.")])
    seen.add(text.casefold())
    top = name.parts[0].removesuffix(".py")
    if (len(name.parts) > 1 or name.suffix == ".py") and (top in sys.stdlib_module_names or top in _TAKEN):
        raise refused(
            [Finding(where, f"It would stand before the module {top!r}.", "Give your module another name.")]
        )


def _copy(file: IO[bytes], copy: IO[bytes], limit: int, where: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(min(_CHUNK, limit - size + 1)):
        size += len(chunk)
        if size > limit:
            raise _too_large(where, limit)
        digest.update(chunk)
        copy.write(chunk)
    return size, digest.hexdigest()


def _too_large(where: str, limit: int) -> SubmissionError:
    rule = f"A file may have {MAX_FILE:,} bytes and all together {MAX_TOTAL:,}."
    return refused([Finding(where, f"It has more than the {limit:,} bytes that are left.", rule)])


def _skipped(name: str) -> bool:
    return name in _SKIPPED or name.startswith(".")
