"""Keeps what a language model writes in the shape of a skill, token by token: `Skeleton`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hare_gym.text.skills import NAME

if TYPE_CHECKING:
    import torch

OPENING = "---\nname:"


@dataclass(frozen=True)
class Line:
    """One line of a skill: what may stand in it, how long it is, and what follows it.

    Attributes:
        kind: Of the tokens: ``name``, ``plain`` (safe in YAML) or ``line``.
        first: Pattern of the first token.
        low: Characters before it may end.
        high: Characters after which it ends with the next word.
        after: What follows; empty for the end of the text.
    """

    kind: str
    first: str
    low: int
    high: int
    after: str


_STEP_MARK, _WORD = r"-|[1-9]", r" [ -~]+"
FRONT = (
    Line("name", r" [a-z0-9]+", 3, 40, "\ndescription:"),
    Line("plain", r" [A-Z][A-Za-z]*", 40, 220, "\n---\n\n#"),
)
TRIGGERS, STEPS = 3, 4
_SHORT = (
    *FRONT,
    Line("line", r" [A-Z][A-Za-z]*", 8, 60, "\n\n## When to use\n\n-"),
    *[Line("line", _WORD, 20, 110, "\n-")] * (TRIGGERS - 1),
    Line("line", _WORD, 20, 110, "\n\n## Instructions\n\n"),
    *[Line("line", _STEP_MARK, 40, 190, "\n")] * (STEPS - 1),
    Line("line", _STEP_MARK, 40, 190, "\n\n## Examples\n\n**Request:**"),
    Line("line", r" [A-Z]\w*", 30, 130, "\n\n**Response:**"),
    Line("line", r" [A-Z]\w*", 60, 280, ""),
)
SKELETONS: dict[str, tuple[Line, ...]] = {"none": (), "frontmatter": FRONT, "short": _SHORT}
_KINDS = {
    "name": r"-?[a-z0-9]+|-",
    # a plain YAML scalar: no colon, number sign, backslash or line end
    "plain": r"[A-Za-z0-9 ,.;()/'+-]+",
    "line": r"[ -~]+",
}
_NOTHING, _ANYTHING = 0, 1


class Vocabulary:
    """Which tokens may stand where.

    Args:
        tokenizer: Of transformers.
        ids: Turns a text into token ids, without special ones.
        end: The end token.
    """

    def __init__(self, tokenizer: Any, ids: Callable[[str], list[int]], end: int) -> None:
        import torch

        special = set(tokenizer.all_special_ids)
        self.texts = ["" if i in special else tokenizer.decode([i]) for i in range(len(tokenizer))]
        self.ids, self.end = lru_cache(maxsize=64)(ids), end
        self.masks = torch.zeros((2, len(self.texts)), dtype=torch.bool)
        self.masks[_ANYTHING] = True
        self._places: dict[str, int] = {}
        # what a model that wants to end a line would write
        closing = self._where(r"\n[\s\S]*")
        closing[end] = True
        self.closing = closing.nonzero()[:, 0]

    def mask(self, pattern: str) -> int:
        """The place of a pattern's mask in ``masks``."""
        import torch

        if pattern not in self._places:
            self._places[pattern] = len(self.masks)
            self.masks = torch.cat([self.masks, self._where(pattern)[None]])
        return self._places[pattern]

    def _where(self, pattern: str) -> torch.Tensor:
        import torch

        return torch.tensor([bool(re.fullmatch(pattern, text)) for text in self.texts])


class Skeleton:
    """Limits the next tokens of B texts to those that keep them on the lines of a skill.

    Args:
        vocabulary: Of the tokenizer.
        lines: One of `SKELETONS`.
        count: B.
    """

    def __init__(self, vocabulary: Vocabulary, lines: tuple[Line, ...], count: int) -> None:
        self.v = vocabulary
        self.rows = [_Row(vocabulary, lines) for _ in range(count)]

    def limit(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores ``(B, vocabulary)`` with -inf where a token would break the shape."""
        import torch

        v = self.v
        wishes = scores[:, v.closing.to(scores.device)].logsumexp(1)
        choices = [row.choice() for row in self.rows]
        masks = v.masks[torch.tensor([mask for mask, _ in choices])].to(scores.device)
        if masks.shape[1] < scores.shape[1]:  # models pad their output to a round number
            masks = torch.nn.functional.pad(masks, (0, scores.shape[1] - masks.shape[1]))
        limited = scores.masked_fill(~masks, -math.inf)
        for place, (mask, token) in enumerate(choices):
            if mask == _NOTHING:
                limited[place, token] = 0.0
            elif token >= 0:
                limited[place, token] = wishes[place]
        return limited

    def take(self, tokens: Sequence[int]) -> None:
        """Notes the tokens that were drawn, one for each text."""
        for row, token in zip(self.rows, tokens, strict=True):
            row.take(token)

    def keep(self, places: Sequence[int]) -> None:
        """Forgets all texts but those at some places."""
        self.rows = [self.rows[place] for place in places]


class _Row:
    def __init__(self, v: Vocabulary, lines: tuple[Line, ...]) -> None:
        self.v, self.lines = v, lines
        self.at, self.text, self.forced = 0, "", list[int]()

    def take(self, token: int) -> None:
        """Notes the token that was drawn."""
        if self.at >= len(self.lines):
            return
        after = self.v.ids(self.lines[self.at].after) or [self.v.end]
        if self.forced:
            self.forced.pop(0)
        elif token == after[0] and self.text:
            self.forced = list(after[1:])
        else:
            self.text += self.v.texts[token] if token < len(self.v.texts) else ""
            return
        if not self.forced:
            self.at, self.text = self.at + 1, ""

    def choice(self) -> tuple[int, int]:
        """Which mask of tokens holds now, and the token that would end the line, or is the only one; -1 for none."""
        if self.at >= len(self.lines):
            return _ANYTHING, -1
        if self.forced:
            return _NOTHING, self.forced[0]
        line, text = self.lines[self.at], self.text.strip()
        close = (self.v.ids(line.after) or [self.v.end])[0]
        if line.kind == "name":
            may_close = len(text) >= line.low and bool(NAME.fullmatch(text))
        else:
            may_close = len(text) >= line.low and (text[-1].isalnum() or text[-1] in '.?!")')
        if may_close and len(text) > line.high:
            return _NOTHING, close
        if not text:
            pattern = line.first
        elif line.first == _STEP_MARK and re.fullmatch(r"-|[1-9]\.?", text):
            pattern = r"\." if text.isdigit() else _WORD
        else:
            pattern = r"[a-z0-9]+" if line.kind == "name" and text[-1:] in ("", "-") else _KINDS[line.kind]
        return self.v.mask(pattern), close if may_close else -1
