"""The tables. The log (``events``, with ``rounds`` and ``items``) is the truth; snapshots only save time.

Vectors are little-endian float64 bytes.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
_Counter = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up in INTEGER columns only

about = Table(
    "about", metadata, Column("name", String(64), primary_key=True), Column("value", LargeBinary, nullable=False)
)
"""What the first start fixed: the configuration, and the space of texts."""

users = Table(
    "users",
    metadata,
    Column("number", _Counter, primary_key=True, autoincrement=True),
    Column("key", String(128), unique=True, nullable=False),
    Column("since", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
"""Whom HARE knows by a number. The number of a deleted user is not given again."""

items = Table(
    "items",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key", String(128), unique=True),
    Column("vector", LargeBinary, nullable=False),
    Column("text", Text),
)
"""The pool, by HARE's own ids. An item that left keeps its vector, for rewards that come late, and loses its key."""

rounds = Table(
    "rounds",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user", BigInteger, ForeignKey("users.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("query", LargeBinary, nullable=False),
    Column("content", LargeBinary),
    Column("shown", Text, nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
)
"""What was recommended. ``shown`` is a JSON list of items' numbers; ``content`` is what was synthesized."""

ADDED, REMOVED, REWARDED = 0, 1, 2

events = Table(
    "events",
    metadata,
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("kind", SmallInteger, nullable=False),
    Column("item", Integer),
    Column("round", String(32), ForeignKey("rounds.id", ondelete="CASCADE")),
    Column("reward", Float),
    Column("at", BigInteger, nullable=False),
    UniqueConstraint("round", "item"),
    Index("events_by_kind", "kind"),
    sqlite_autoincrement=True,
)
"""The log, in the order in which HARE learned it."""

snapshots = Table(
    "snapshots",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("version", String(64), nullable=False),
    Column("state", LargeBinary, nullable=False),
)
"""HARE after event ``seq``, as `HARE.save` writes it. Deleting a user deletes them."""
