"""The store: one immutable file per run, which a kill, a power cut or a second writer cannot spoil.

Layout below the root (``runs/`` by default)::

    ab/<key>.json          sha256 of the rest, a newline, the record as canonical JSON
    ab/<key>.time.json     how long it took: beside the record, so that a repeated run is byte-identical
    ab/<key>.lock          the lease of whoever is running it now; it dies with its holder
    quarantine/            records that could not be read back, each with the reason beside it
    superseded/            failed records that were run again on request
    index.parquet          a table of all records, rebuilt on demand

A record is written to a temporary file, flushed to the disk, and then linked to its name: the name appears with
all of its bytes or not at all, and never replaces another.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hare_gym.errors import HareError

if TYPE_CHECKING:
    import pandas as pd

Record: TypeAlias = dict[str, Any]

_RECORD_NAME = re.compile(r"[0-9a-f]{64}\.json")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class StoreError(HareError):
    """The store cannot be read or written; the message names the path and what to do."""


class NonDeterminismError(HareError):
    """One specification gave two different records."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII only, and floats that read back to the same bits.

    Raises:
        ValueError: NaN or infinity.
        TypeError: Something that is no JSON value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Store:
    """Records by key below ``root``, which is made on the first write.

    One object belongs to one thread; any number of processes may use one root at once.

    Args:
        root: The folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._held: set[str] = set()

    def path(self, key: str) -> Path:
        """Where the record of ``key`` is, or would be."""
        return self.root / key[:2] / f"{key}.json"

    def get(self, key: str) -> Record | None:
        """The record of ``key``, or ``None`` if there is none that can be trusted.

        A record that does not match its hash is moved to ``quarantine/``, with a warning.
        """
        record, flaw = self.read(key)
        if flaw:
            try:
                with self.lease(key):
                    record, flaw = self.read(key)  # somebody else may have mended it meanwhile
                    if flaw:
                        self._quarantine(key, flaw)
            except StoreError as error:
                warnings.warn(f"{self.path(key)} is damaged ({flaw}) and was left out. {error}")
        return record

    def commit(self, record: Record, timing: Record | None = None) -> None:
        """Writes a record for good. Writing the same one again changes nothing.

        Args:
            record: With ``record["key"]``.
            timing: What differs between two runs of one specification; kept beside the record.

        Raises:
            NonDeterminismError: The key has another record already, which is kept.
            StoreError: The disk is full, or the folder cannot be written.
        """
        key = record["key"]
        body = canonical_json(record).encode() + b"\n"
        data = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        path = self.path(key)
        with explained(path):
            make_folder(path.parent)
            while not write_once(path, data):
                other, flaw = self.read(key)
                if other is not None:
                    _compare(other, record, path)
                    return
                if flaw:
                    self.get(key)
        if timing is not None:
            self._write_timing(key, timing)

    def timing(self, key: str) -> Record | None:
        """What ``commit`` was given as ``timing``, if it is still there."""
        with suppress(OSError, ValueError):
            timing: Record = json.loads(self.path(key).with_suffix(".time.json").read_text())
            return timing
        return None

    @contextmanager
    def lease(self, key: str, blocking: bool = True) -> Iterator[bool]:
        """Holds the right to run ``key``. The kernel takes it back when the holder dies, however it dies.

        Whoever had to wait must look again whether the record is there now.

        Args:
            key: The run.
            blocking: Whether to wait for another holder.

        Yields:
            Whether the lease is held; always true if ``blocking``.
        """
        if key in self._held:
            yield True
            return
        lock = self.path(key).with_suffix(".lock")
        with explained(lock):
            descriptor = _lock(lock, blocking)
        if descriptor is None:
            yield False
            return
        self._held.add(key)
        try:
            yield True
        finally:
            self._held.discard(key)
            with suppress(OSError):  # unlinked while locked: `_lock` looks whether its file still has the name
                lock.unlink()
            os.close(descriptor)

    def supersede(self, key: str) -> None:
        """Moves a record to ``superseded/``, so that ``key`` runs again."""
        with self.lease(key):
            if self.path(key).exists():
                self._move(key, "superseded")

    def all_keys(self) -> list[str]:
        """The key of every record file, sorted."""
        return sorted(path.stem for path in self.root.glob("??/*.json") if _RECORD_NAME.fullmatch(path.name))

    def records(self) -> Iterator[Record]:
        """Every good record, sorted by key."""
        for key in self.all_keys():
            record = self.get(key)
            if record is not None:
                yield record

    def clean(self) -> None:
        """Removes temporary files and locks whose process is gone; those of living ones stay."""
        for path in [*self.root.glob("??/.*.tmp"), *self.root.glob("??/*.lock")]:
            with suppress(OSError):
                descriptor = _lock(path, blocking=False)
                if descriptor is not None:
                    path.unlink()
                    os.close(descriptor)

    def index(self) -> pd.DataFrame:
        """One row per record: its specification, status and totals. Made from the records alone."""
        import pandas as pd

        rows = []
        for record in self.records():
            spec, error = record["spec"], record["error"] or {}
            rows.append(
                {
                    "key": record["key"],
                    "env": spec["env"],
                    "env_kwargs": canonical_json(spec["env_kwargs"]),
                    "agent": spec["agent"],
                    "agent_kwargs": canonical_json(spec["agent_kwargs"]),
                    "seed_set": spec["seed_set"],
                    "seed": spec["seed"],
                    "lanes": spec["lanes"],
                    "code": spec["versions"]["code"],
                    "status": record["status"],
                    "error": error.get("type"),
                    **record["totals"],
                }
            )
        return pd.DataFrame(rows)

    def write_index(self) -> Path:
        """Writes :meth:`index` to ``index.parquet`` and gives its path."""
        path = self.root / "index.parquet"
        temporary = self.root / f".index.{os.getpid()}.tmp"
        table = self.index()
        with explained(path):
            try:
                make_folder(self.root)
                table.to_parquet(temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return path

    def digest(self, key: str) -> str:
        """The SHA-256 that the file of a record states of it; empty where there is no file."""
        try:
            with self.path(key).open("rb") as file:
                return file.readline().decode("ascii", "replace").strip()
        except OSError:
            return ""

    def read(self, key: str) -> tuple[Record | None, str | None]:
        """The record, or what is wrong with its file; neither where there is no file. Nothing is moved."""
        try:
            data = self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        except OSError as error:
            if error.errno == errno.EIO:
                return None, "the disk cannot read it"
            raise StoreError(f"{self.path(key)} cannot be read: {error.strerror}.") from error
        digest, _, body = data.partition(b"\n")
        if not data:
            return None, "the file is empty"
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None, "its content does not match its sha256"
        record: Record = json.loads(body)
        if record.get("key") != key:
            return None, f"it is the record of {record.get('key')}"
        return record, None

    def _quarantine(self, key: str, reason: str) -> None:
        moved = self._move(key, "quarantine")
        with suppress(OSError):
            moved.with_suffix(".reason.txt").write_text(f"{reason}\n")
        warnings.warn(f"{self.path(key)} is damaged ({reason}); it was moved to {moved}.")

    def _move(self, key: str, folder: str) -> Path:
        with explained(self.root / folder):
            make_folder(self.root / folder)
            number = 1
            while (target := self.root / folder / f"{key}.{number}.json").exists():
                number += 1
            os.rename(self.path(key), target)
            _sync_folder(target.parent)
            _sync_folder(self.path(key).parent)
        return target

    def _write_timing(self, key: str, timing: Record) -> None:
        path = self.path(key).with_suffix(".time.json")
        with suppress(OSError), _temporary(path) as (descriptor, temporary):
            _write_all(descriptor, canonical_json(timing).encode() + b"\n")
            os.replace(temporary, path)


def write_once(path: Path, data: bytes) -> bool:
    """Makes the file ``path`` with ``data`` in it, whole or not at all, and never replaces one.

    It is flushed to the disk before it has its name. The folder must be there.

    Returns:
        Whether it was made; false if the name is taken.
    """
    while True:
        with suppress(FileNotFoundError), _temporary(path) as (descriptor, temporary):
            _write_all(descriptor, data)
            os.fsync(descriptor)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            _sync_folder(path.parent)
            return True
        # `clean` took the temporary file in the instant between its making and its locking


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, Path]]:
    """A new file beside ``path``, locked while its writer lives, and gone afterwards."""
    temporary = path.parent / f".{path.stem}.{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor, temporary
    finally:
        with suppress(OSError):
            temporary.unlink()
        os.close(descriptor)


def _lock(path: Path, blocking: bool) -> int | None:
    """A descriptor that holds the lock of the file now at ``path``; ``None`` if another holds it."""
    while True:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder before us removed the file that we have locked


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def make_folder(path: Path) -> None:
    """``mkdir -p`` whose entries survive a power cut."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _compare(old: Record, new: Record, path: Path) -> None:
    new = json.loads(canonical_json(new))
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if differing:
        raise NonDeterminismError(
            f"One specification gave two records, which differ in: {', '.join(differing)}. The first is kept in "
            f"{path}. The agent or the environment uses randomness other than the generator it was given."
        )


@contextmanager
def explained(path: Path, option: str = "--store") -> Iterator[None]:
    """Turns an OSError into a StoreError that says what to do; ``option`` is how the folder was chosen."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            text = (
                f"The disk is full: {path} could not be written. Every finished run is kept; "
                "free some space and run the same command again."
            )
        elif error.errno in _FORBIDDEN:
            text = f"{path} cannot be written: {error.strerror}. Choose another folder with {option}."
        else:
            text = f"{path} cannot be written: {error.strerror or error}."
        raise StoreError(text) from error
