"""Names and texts that strangers give: what a name may be, and which characters no text may hold."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

_LINES = "\n\t"


def is_name(text: str) -> bool:
    """Whether ``text`` can be the name of a submission, a track or a benchmark version, and so of a file."""
    return NAME.fullmatch(text) is not None


def strange_character(text: str, allowed: str = "") -> str | None:
    """The first character that is not seen or that turns its neighbours about, by its code point and name; or None.

    These are Unicode's categories C (controls, formats such as the bidirectional ones, surrogates, private use,
    unassigned) and Zl, Zp (separators of lines and paragraphs).
    """
    for character in text:
        category = unicodedata.category(character)
        if (category[0] == "C" or category in ("Zl", "Zp")) and character not in allowed:
            return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"
    return None


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(
            f"must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, not {text!r}"
        )
    return text


def _one_line(text: str) -> str:
    if found := strange_character(text):
        raise ValueError(f"must be one line of visible characters; it holds {found}")
    return text


def _text(text: str) -> str:
    if found := strange_character(text, _LINES):
        raise ValueError(f"must hold visible characters only, besides line ends; it holds {found}")
    return text


Name = Annotated[str, AfterValidator(_name)]
"""A name by :data:`NAME`."""

Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_one_line)]
"""One line of visible characters."""

Title = Annotated[str, StringConstraints(max_length=64), AfterValidator(_one_line)]
"""A line short enough for a table."""

Text = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_text)]
"""A paragraph of visible characters."""


def visible(text: str, length: int) -> str:
    """The last ``length`` characters of ``text``, with U+FFFD for each that :func:`strange_character` would name."""
    return "".join(c if strange_character(c, _LINES) is None else "\ufffd" for c in text[-length:])
