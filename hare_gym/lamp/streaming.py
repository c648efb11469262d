"""JSON files that are too large to hold: their objects one at a time, each with its place in the file.

The places are what a streaming library (ijson) does not tell; by them a question is read again when it is asked.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from hare_gym.errors import DataError

_CHUNK = 1 << 22
# A value of more characters than this is taken for a string whose end is missing.
_LONGEST = 1 << 28
# Python's decoder finds fault with a cut text at most this far before its end, but for a string: there at its start.
_CUT = 16
_HEAD = 4096
_WRAPPING = re.compile(rb'\s*\{\s*"(?:task|golds)"\s*:')
# Files above this many bytes show how far they are, at a terminal.
_WITH_BAR = 50_000_000


class Place(NamedTuple):
    """Where an object stands in its file, in bytes."""

    start: int
    size: int


def objects_of(path: Path, *, progress: bool | None = None) -> Iterator[tuple[Place, Any]]:
    """The elements of a JSON file, in order: of a list, of the list in a wrapping object, or of JSON lines.

    A wrapping object is what task 6 has around its test questions, ``{"task": "LaMP_6", "golds": [...]}``. No more
    than a chunk of the file and one element are in memory.

    Args:
        path: The file.
        progress: Whether to show a bar; None for where it is long and standard error is a terminal.

    Yields:
        The place and the value of each element.

    Raises:
        DataError: The file is not JSON, is cut off, or holds no list.
    """
    with path.open("rb") as file, _bar(path, progress) as advance:
        wrapped = _WRAPPING.match(file.read(_HEAD))
        file.seek(0)
        reader = _Reader(file, path, advance)
        if not reader.peek():
            raise DataError(f"{path} is empty. Download it again.")
        if reader.peek() == "{":
            if not wrapped:
                while reader.peek():
                    yield reader.element()
                return
            _enter_wrapping(reader)
        if reader.peek() != "[":
            raise reader.broken("a list of objects was expected")
        reader.take()
        while (found := reader.peek()) != "]":
            if not found:
                raise reader.cut()
            yield reader.element()
            if reader.peek() == ",":
                reader.take()
            elif reader.peek() not in ("]", ""):
                raise reader.broken("a comma or the end of the list was expected")


def read_at(file: BinaryIO, place: Place) -> Any:
    """The object at a place that `objects_of` told.

    Raises:
        ValueError: The file holds something else there by now.
    """
    file.seek(place.start)
    return json.loads(file.read(place.size))


def _enter_wrapping(reader: _Reader) -> None:
    """Moves to the list that an object calls its golds."""
    reader.take()
    while (found := reader.peek()) == '"':
        _, name = reader.element()
        if reader.peek() != ":":
            raise reader.broken("a colon was expected")
        reader.take()
        if name == "golds" and reader.peek() == "[":
            return
        reader.element()
        if reader.peek() == ",":
            reader.take()
        elif reader.peek() not in ("}", ""):
            raise reader.broken("a comma or the end of the object was expected")
    if not found:
        raise reader.cut()
    raise reader.broken('the object that it is has no list "golds"')


class _Reader:
    """A window on a file. Its text begins at byte ``base``, and what stands before ``at`` has been dealt with."""

    def __init__(self, file: BinaryIO, path: Path, advance: Callable[[int], None]) -> None:
        self.file, self.path, self.advance = file, path, advance
        self.decode = codecs.getincrementaldecoder("utf-8")().decode
        self.parse = json.JSONDecoder().raw_decode
        self.text, self.at, self.base = "", 0, 0
        self.chunk = _CHUNK

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            text, at = self.text, self.at
            while at < len(text) and text[at] in " \t\r\n":
                at += 1
            self._move(at)
            if at < len(text):
                return text[at]
            if not self._more():
                return ""

    def take(self) -> None:
        """Passes the character that `peek` has shown."""
        self._move(self.at + 1)

    def element(self) -> tuple[Place, Any]:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self.parse(self.text, self.at)
                break
            except json.JSONDecodeError as error:
                inside = error.pos < len(self.text) - _CUT and not error.msg.startswith("Unterminated string")
                if inside or len(self.text) - self.at > _LONGEST:
                    raise self.broken(error.msg, error.pos) from None
                place = error.pos - self.at
                if not self._more():
                    whole = place < len(self.text.rstrip()) and not error.msg.startswith("Unterminated string")
                    raise (self.broken(error.msg, place) if whole else self.cut()) from None
        self.chunk = _CHUNK
        start = self.base
        self._move(end)
        return Place(start, self.base - start), value

    def broken(self, why: str, at: int | None = None) -> DataError:
        """What is wrong at a character of the window."""
        if self.base == 0 and self.text.lstrip()[:1] == "<":
            return DataError(f"{self.path} is a web page and no JSON: its address was wrong. Download it again.")
        place = self.base + len(self.text[self.at : self.at if at is None else at].encode())
        return DataError(f"{self.path} is no proper JSON: at byte {place}, {why[:1].lower()}{why[1:]}.")

    def cut(self) -> DataError:
        """The file ends too early."""
        return DataError(f"{self.path} breaks off in the middle, after byte {self.base}. Download it again.")

    def _move(self, at: int) -> None:
        passed = self.text[self.at : at]
        self.base += len(passed) if passed.isascii() else len(passed.encode())
        self.at = at

    def _more(self) -> bool:
        raw = self.file.read(self.chunk)
        # Twice as much each time that an element is not whole, so that a long one is not parsed over and over.
        self.chunk *= 2
        try:
            text = self.decode(raw, not raw)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path} is not in UTF-8: {error.reason}, after byte {self.base}.") from None
        self.text = self.text[self.at :] + text
        self.at = 0
        self.advance(len(raw))
        return bool(raw)


@contextmanager
def _bar(path: Path, progress: bool | None) -> Iterator[Callable[[int], None]]:
    size = os.path.getsize(path)
    if progress is None:
        progress = size > _WITH_BAR and sys.stderr.isatty()
    if not progress:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(f"Reading {path.name}", total=size)
        yield lambda count: bars.advance(task, count)
