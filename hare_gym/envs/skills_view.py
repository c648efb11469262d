"""A round of `HareSkills` as a person reads it: the need, who asked, what was shown, and how it was judged."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import TaskSpec
from hare_gym.rendering import History
from hare_gym.text.corpus import DOMAINS, LEVELS, SPECIFICITIES, STYLES, TOPICS
from hare_gym.text.measure import Measured, measures, query_topics
from hare_gym.text.reward import PARTS
from hare_gym.text.users import Users

Array = NDArray[np.float64]

_WIDTH = 96
_BAR = 20
# Lines of the instructions that are shown, and rows for each.
_LINES, _ROWS = 5, 2
_GUARD_TOLD = 0.95


@dataclass(frozen=True, eq=False)
class Round:
    """What a picture of a round needs beside its `info`.

    Attributes:
        query: The need in words.
        query_vector: The need as agents see it, ``(17,)``.
        user: Who asked.
        hidden: What the user is.
        item: The item's number, in ``select``.
        best_item: The title of the best item.
        shown: The item or text that was shown; None for a content vector.
        content: The content vector that was shown, or that the text measures, ``(17,)``.
    """

    query: str
    query_vector: Array
    user: int
    hidden: Users
    item: int | None
    best_item: str
    shown: Measured | None
    content: Array


def round_text(task: TaskSpec, history: History, last: Mapping[str, Any], shown: Round) -> str:
    """The round on a page of text, 96 columns wide but for a long need."""
    rewards, regrets = np.array(history).T
    best = last["catalogue_oracle_reward"] if task.action_mode == "select" else last["oracle_reward"]
    limit = {"select": "the best item", "synthesize": "the best content"}.get(task.action_mode, "no text above")
    why = _why(shown, last)
    rows = [
        f"{task.id} [{task.action_mode}] round {len(history)}/{task.horizon}",
        "",
        f"  User {shown.user} asks:  {shown.query}",
        f"  who is       {hidden_words(shown.hidden)}   (hidden from the agent)",
        "",
        *_what(shown),
        "",
        *(f"  {name:<13}{bar(last[name])} {last[name]:.2f}   {why.get(name, '')}".rstrip() for name in PARTS),
        "",
        f"  {'reward':<13}{bar(last['reward'])} {last['reward']:.2f}   "
        f"expected {last['expected_reward']:.2f}, {limit} {best:.2f}",
        f"  best item    {shown.best_item} ({last['catalogue_oracle_reward']:.2f})",
        f"  so far       mean reward {rewards.mean():.3f}, cumulative regret {regrets.sum():.2f}",
    ]
    return "\n".join(rows) + "\n"


def hidden_words(user: Users) -> str:
    """A user in a line: ``75% security + 25% science, advanced (0.71), specific (0.90), coach (64%)``."""
    return (
        f"{mix(user.domains, DOMAINS)}, {_nearest(user.expertise, LEVELS)}, "
        f"{_nearest(user.specificity, SPECIFICITIES)}, {mix(user.styles, STYLES, 1)}"
    )


def mix(shares: Array, names: tuple[str, ...], most: int = 2) -> str:
    """The largest shares in words: ``75% security + 25% science``."""
    order = np.argsort(-shares, kind="stable")[:most]
    return " + ".join(f"{shares[k]:.0%} {names[k]}" for k in order if shares[k] >= 0.05 or k == order[0])


def bar(value: float) -> str:
    """A bar of 20 cells for a value in [0, 1]."""
    full = round(_BAR * min(max(value, 0.0), 1.0))
    return "█" * full + "░" * (_BAR - full)


def headline(shown: Measured) -> str:
    """A text's title in one plain line."""
    if shown.skill is None:
        return "a text that is no skill"
    title = "".join(c if c.isprintable() and c != "$" else " " for c in shown.skill.title)
    return textwrap.shorten(title, 60, placeholder="...") or "a skill without a title"


def _nearest(value: Any, names: tuple[str, ...]) -> str:
    return f"{names[round(float(value) * (len(names) - 1))]} ({float(value):.2f})"


def _what(shown: Round) -> list[str]:
    """The text that was shown, its first lines."""
    if shown.shown is None:
        return ["  Shown:  content of the agent's own, which no text has yet"]
    name = "" if shown.item is None else f"item {shown.item}, "
    rows = [f"  Shown:  {name}{headline(shown.shown)}"]
    skill = shown.shown.skill
    if skill is not None:
        rows += [f"    | {row}" for row in _wrapped(skill.description)]
        lines = [line for line in skill.instructions.split("\n") if line.strip()]
        rows += ["    |", *(f"    | {row}" for line in lines[:_LINES] for row in _wrapped(line))]
        more = len(lines) - _LINES
        rows += [f"    | ... and {more} more line{'s' * (more > 1)}"] if more > 0 else []
    return rows + [f"    ! {row}" for problem in shown.shown.problems[:3] for row in _wrapped(problem)]


def _why(shown: Round, last: Mapping[str, Any]) -> dict[str, str]:
    """What was measured, beside each part of the reward: the text's own, to be held against the user's."""
    text = shown.shown
    if text is not None and text.skill is None:
        return {}
    m = measures(shown.content)
    told = {
        "relevance": f"about {mix(m.topic, TOPICS)}; asked for {mix(query_topics(shown.query_vector), TOPICS)}",
        "domain": mix(m.domain, DOMAINS),
        "level": _nearest(m.level, LEVELS),
        "specificity": _nearest(m.specificity, SPECIFICITIES),
        "style": mix(m.style, STYLES),
    }
    if text is not None:
        guards = dict(text.guards)
        if text.guard > 0.0:  # the one that depends on the query
            guards["echo"] = last["guard"] / text.guard
        found = [f"{name} {value:.2f}" for name, value in sorted(guards.items()) if value < _GUARD_TOLD]
        told["guard"] = ", ".join(found)
    return told


def _wrapped(text: str) -> list[str]:
    """At most two rows that cannot move a terminal's cursor or colours."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return textwrap.wrap(plain, _WIDTH - 6, max_lines=_ROWS, placeholder=" ...", subsequent_indent="  ")
