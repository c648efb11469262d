"""What events add up to: once in Python, for those that just came, and once in SQL, for all that are in the log.

Both must say the same; a test holds the live aggregates to a rebuild.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Select, Table
from sqlalchemy.dialects import postgresql, sqlite

from hare_agents.prompts.events import KINDS
from hare_agents.prompts.statistics import DAY
from hare_agents.prompts.telemetry.schema import COUNTS, DAY_COUNTS, NEVER_SHOWN, events, folded

IMPRESSION, SELECTION, COMPLETION, ENTROPY = range(len(KINDS))

Row = dict[str, Any]


def added(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """What rows of the log add to ``statistics`` and to ``days``, in the order of their keys.

    The order is the same for all writers, so that two of them never wait for each other in a circle.
    """
    pairs: dict[tuple[str, str], Row] = {}
    days: dict[tuple[str, int], Row] = {}
    for row in rows:
        prompt, context, kind, at, value = (row[name] for name in ("prompt", "context", "kind", "at", "value"))
        pair = pairs.setdefault(
            (prompt, context),
            {"prompt": prompt, "context": context, **dict.fromkeys(COUNTS, 0), "last_shown": NEVER_SHOWN},
        )
        day = days.setdefault(
            (prompt, at // DAY), {"prompt": prompt, "day": at // DAY, **dict.fromkeys(DAY_COUNTS, 0)}
        )
        if kind == IMPRESSION:
            pair["impressions"] += 1
            day["impressions"] += 1
            pair["last_shown"] = max(pair["last_shown"], at)
        elif kind == SELECTION:
            pair["selections"] += 1
            day["selections"] += 1
            pair["dwell"] += value
        elif kind == COMPLETION:
            pair["completions"] += value
            day["completions"] += value
            pair["abandoned"] += 1 - value
        else:
            pair["entropy_samples"] += 1
            pair["entropy_change"] += value
    return [pairs[key] for key in sorted(pairs)], [days[key] for key in sorted(days)]


def _of(kind: int, value: Any) -> ColumnElement[int]:
    return sa.case((events.c.kind == kind, value), else_=0)


_EACH = {
    "impressions": _of(IMPRESSION, 1),
    "selections": _of(SELECTION, 1),
    "completions": _of(COMPLETION, events.c.value),
    "abandoned": _of(COMPLETION, 1 - events.c.value),
    "dwell": _of(SELECTION, events.c.value),
    "entropy_samples": _of(ENTROPY, 1),
    "entropy_change": _of(ENTROPY, events.c.value),
}


def _whole(expression: ColumnElement[Any], name: str) -> ColumnElement[int]:
    return sa.cast(expression, sa.BigInteger).label(name)  # PostgreSQL sums whole numbers to decimals


def log_sums(condition: ColumnElement[bool] | None = None) -> Select[Any]:
    """The sums of the log by prompt and context, with the columns of ``folded``."""
    last = sa.func.max(sa.case((events.c.kind == IMPRESSION, events.c.at), else_=NEVER_SHOWN))
    return (
        sa.select(
            events.c.prompt,
            events.c.context,
            *[_whole(sa.func.sum(_EACH[name]), name) for name in COUNTS],
            _whole(last, "last_shown"),
        )
        .where(sa.true() if condition is None else condition)
        .group_by(events.c.prompt, events.c.context)
    )


def all_sums() -> Select[Any]:
    """The sums of the log and of what was folded away: what ``statistics`` must hold."""
    both = sa.union_all(log_sums(), sa.select(folded).where(sa.true())).subquery()
    return sa.select(
        both.c.prompt,
        both.c.context,
        *[_whole(sa.func.sum(both.c[name]), name) for name in COUNTS],
        _whole(sa.func.max(both.c.last_shown), "last_shown"),
    ).group_by(both.c.prompt, both.c.context)


def day_sums() -> Select[Any]:
    """The sums of the log by prompt and day: what ``days`` must hold."""
    each = sa.select(
        events.c.prompt,
        sa.cast((events.c.at - events.c.at % DAY) / DAY, sa.Integer).label("day"),
        *[_EACH[name].label(name) for name in DAY_COUNTS],
    ).subquery()
    return sa.select(
        each.c.prompt, each.c.day, *[_whole(sa.func.sum(each.c[name]), name) for name in DAY_COUNTS]
    ).group_by(each.c.prompt, each.c.day)


def insert_into(table: Table, is_sqlite: bool) -> Any:
    """An insert of the database's own dialect, which can say what to do about a row that is there already."""
    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)


def adding(statement: Any, table: Table, keys: Sequence[str]) -> Any:
    """The insert, adding to the counts of a row that is there already, in one atomic statement."""
    new = statement.excluded
    changes: dict[str, Any] = {}
    for column in table.columns:
        if column.name == "last_shown":
            changes["last_shown"] = sa.case((new.last_shown > column, new.last_shown), else_=column)
        elif column.name == "changed":
            changes["changed"] = new.changed
        elif column.name not in keys:
            changes[column.name] = column + new[column.name]
    return statement.on_conflict_do_update(index_elements=list(keys), set_=changes)
