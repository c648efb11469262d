"""Characters that a reader does not see, and letters that look like others."""

from __future__ import annotations

import re
import unicodedata

# Zero-width and filler characters: joiners, word joiner and invisible operators, Hangul and Mongolian fillers, the
# blank Braille cell, the byte-order mark, interlinear annotation.
ZERO_WIDTH = (
    "\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2060-\u2064\u2800\u3164\ufeff\uffa0\ufff9-\ufffb"
)
BIDIRECTIONAL = "\u202a-\u202e\u2066-\u2069"
# Deprecated format characters, tag characters, variation selectors beyond the sixteen of the basic plane.
SMUGGLERS = "\u206a-\u206f\U000e0000-\U000e007f\U000e0100-\U000e01ef"
CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff"

INVISIBLE = re.compile(f"[{ZERO_WIDTH}{BIDIRECTIONAL}{SMUGGLERS}{CONTROL}]")
ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# U+200C and U+200D join letters in these scripts: Arabic, Syriac, the scripts of India, Sinhala, Khmer, Mongolian.
_JOINED_SCRIPTS = re.compile("[\u0600-\u08ff\u0900-\u0dff\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefe]")
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,6}\U000e007f")

# Cyrillic, Greek and Armenian letters, and a few Latin ones, that print like Latin letters.
HOMOGLYPHS = dict(
    zip(
        map(
            ord,
            "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝӏгвкмнтΑΒΕΖΗΙΚΜΝΟΡΤΥΧαβεικνορτυχγօսոհոѵѡɑɡıɩʏɪ",
        ),
        "ABESIJKMHOPCTYXaesijopcyxhdqwlrbkmhtABEZHIKMNOPTYXabeikvoptuxyounhnvwagiiyi",
        strict=True,
    )
)


def invisible(text: str) -> list[tuple[int, str]]:
    """The characters of ``text`` that nobody sees, with their positions.

    Tabs and line ends are not among them, nor are joiners inside an emoji, a flag or a script that writes with them.

    Args:
        text: Any text.

    Returns:
        ``(position, character)`` pairs in the order of the text.
    """
    if text.isascii():
        return [(found.start(), found[0]) for found in ASCII_CONTROL.finditer(text)]
    found = [(match.start(), match[0]) for match in INVISIBLE.finditer(text)]
    if not found:
        return found
    flags = {position for match in _FLAG.finditer(text) for position in range(*match.span())}
    return [(i, char) for i, char in found if i not in flags and not _joins(text, i, char)]


def _joins(text: str, i: int, char: str) -> bool:
    if char not in "\u200c\u200d" or not 0 < i < len(text) - 1:
        return False
    before, after = text[i - 1], text[i + 1]
    if _JOINED_SCRIPTS.match(before) or _JOINED_SCRIPTS.match(after):
        return True
    return char == "\u200d" and _pictures(before) and _pictures(after)


def _pictures(char: str) -> bool:
    return char == "\ufe0f" or unicodedata.category(char) in ("So", "Sk")


def character_name(char: str) -> str:
    """``U+200B ZERO WIDTH SPACE``, for messages."""
    return f"U+{ord(char):04X} {unicodedata.name(char, 'control character')}"
