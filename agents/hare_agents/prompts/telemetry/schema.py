"""The tables. No column holds a user, a session, a visitor, an address or a free text.

All counts are whole numbers (dwell in milliseconds, changes of entropy in millionths), so that sums are exact in any
order: whoever adds first, and whether live or in a rebuild, the result is the same.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, SmallInteger, String, Table, Uuid

metadata = MetaData()

prompts = Table(
    "prompts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("topic", String(64), nullable=False),
)
"""The prompts that events may speak of."""

contexts = Table("contexts", metadata, Column("key", String(400), primary_key=True))
"""The contexts that were met; their number is bounded by the configuration."""

events = Table(
    "events",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("prompt", String(64), ForeignKey("prompts.id"), nullable=False),
    Column("context", String(400), ForeignKey("contexts.key"), nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("value", BigInteger, nullable=False),
)
"""The log. ``kind`` is a place in ``hare_agents.prompts.events.KINDS``, ``at`` is in seconds since 1970."""

COUNTS = (
    "impressions",
    "selections",
    "completions",
    "abandoned",
    "dwell",
    "entropy_samples",
    "entropy_change",
)
"""What is added up for a prompt in a context; ``last_shown`` beside them is the largest."""

DAY_COUNTS = ("impressions", "selections", "completions")
"""What is added up for a prompt on a day."""

NEVER_SHOWN = -1


def _counts(names: tuple[str, ...]) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _pair() -> list[Column[str]]:
    return [
        Column("prompt", String(64), ForeignKey("prompts.id"), primary_key=True),
        Column("context", String(400), ForeignKey("contexts.key"), primary_key=True),
    ]


statistics = Table(
    "statistics",
    metadata,
    *_pair(),
    *_counts((*COUNTS, "last_shown")),
    Column("changed", BigInteger, nullable=False, index=True),
)
"""The live aggregates. ``changed`` is when the row was last written, for those who read what is new."""

folded = Table("folded", metadata, *_pair(), *_counts((*COUNTS, "last_shown")))
"""What events that are no longer in the log counted for."""

days = Table(
    "days",
    metadata,
    Column("prompt", String(64), ForeignKey("prompts.id"), primary_key=True),
    Column("day", Integer, primary_key=True),
    *_counts(DAY_COUNTS),
    Column("changed", BigInteger, nullable=False, index=True),
)
"""Aggregates by day since 1970, for as long as the day's events are in the log."""
