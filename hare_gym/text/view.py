"""A round of a text environment as a person reads it: the need, who asked, what was shown, and how it was judged."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import TaskSpec
from hare_gym.rendering import History

Array = NDArray[np.float64]

_WIDTH = 96
_BAR = 20
# Lines of a text that are shown, and rows for each.
_LINES, _ROWS = 14, 2


@dataclass(frozen=True, eq=False)
class Round:
    """What a picture of a round needs beside its `info`.

    Attributes:
        query: What was said, in words.
        query_vector: The same as agents see it, ``(query_dim,)``.
        need: The need's number.
        user: Who asked.
        hidden: What the user is.
        item: The item's number, in ``select``.
        best: The best item, measured.
        best_title: Its title.
        read: The item or text that was shown, measured; None for a content vector.
        title: Its title.
        content: The content vector that was shown, or that the text measures, ``(content_dim,)``.
    """

    query: str
    query_vector: Array
    need: int
    user: int
    hidden: Any
    item: int | None
    best: Any
    best_title: str
    read: Any
    title: str
    content: Array


def round_text(
    task: TaskSpec,
    history: History,
    last: Mapping[str, Any],
    shown: Round,
    parts: Sequence[str],
    user_words: str,
    why: Mapping[str, str],
) -> str:
    """The round on a page of text, 96 columns wide.

    Args:
        task: What is played.
        history: Rewards and regrets so far.
        last: The last round's `info`, with its reward.
        shown: The round.
        parts: Names of the reward's parts.
        user_words: The hidden user in one line.
        why: By part, what was measured, in words.
    """
    rewards, regrets = np.array(history).T
    best = last["catalogue_oracle_reward"] if task.action_mode == "select" else last["oracle_reward"]
    limit = {"select": "the best item", "synthesize": "the best content"}.get(task.action_mode, "no text above")
    rows = [
        f"{task.id} [{task.action_mode}] round {len(history)}/{task.horizon}",
        "",
        *wrapped(f"User {shown.user} asks:  {shown.query}", 4),
        *wrapped(f"who is  {user_words}   (hidden from the agent)", 3),
        "",
        *_what(shown),
        "",
        *(f"  {name:<13}{bar(last[name])} {last[name]:.2f}   {plain(why.get(name, ''))}".rstrip() for name in parts),
        "",
        f"  {'reward':<13}{bar(last['reward'])} {last['reward']:.2f}   "
        f"expected {last['expected_reward']:.2f}, {limit} {best:.2f}",
        f"  best item    {plain(shown.best_title)} ({last['catalogue_oracle_reward']:.2f})",
        f"  so far       mean reward {rewards.mean():.3f}, cumulative regret {regrets.sum():.2f}",
    ]
    if problems := last.get("problems"):
        rows += ["", *(row for problem in str(problems).split("; ")[:4] for row in wrapped(f"! {problem}", 2))]
    return "\n".join(rows) + "\n"


def bar(value: float) -> str:
    """A bar of 20 cells for a value in [0, 1]."""
    full = round(_BAR * min(max(value, 0.0), 1.0))
    return "█" * full + "░" * (_BAR - full)


def plain(text: str) -> str:
    """Text that cannot move a terminal's cursor or colours."""
    return "".join(c if c.isprintable() else " " for c in text)


def wrapped(text: str, rows: int) -> list[str]:
    """At most so many rows of plain text, indented by two."""
    return textwrap.wrap(
        plain(text), _WIDTH, max_lines=rows, placeholder=" ...", initial_indent="  ", subsequent_indent="    "
    )


def _what(shown: Round) -> list[str]:
    """The text that was shown, its first lines."""
    if shown.read is None:
        return ["  Shown:  content of the agent's own, which no text has yet"]
    name = "" if shown.item is None else f"item {shown.item}, "
    rows = [f"  Shown:  {name}{plain(shown.title)}"]
    lines = [line for line in shown.read.text[:4096].split("\n") if line.strip()]
    rows += [f"    | {row.strip()}" for line in lines[:_LINES] for row in wrapped(line, _ROWS)]
    more = len(lines) - _LINES
    return rows + ([f"    | ... and {more} more line{'s' * (more > 1)}"] if more > 0 else [])
