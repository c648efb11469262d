"""The first tables: what was fixed, users, items, rounds, the log, snapshots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None


def _counter() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Makes them. A published migration is never edited: it must go on making what version 1 had."""
    op.create_table(
        "about",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "users",
        sa.Column("number", _counter(), primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(128), unique=True, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "items",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(128), unique=True),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("text", sa.Text),
    )
    op.create_table(
        "rounds",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column(
            "user", sa.BigInteger, sa.ForeignKey("users.number", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("query", sa.LargeBinary, nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "events",
        sa.Column("seq", _counter(), primary_key=True, autoincrement=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("item", sa.Integer),
        sa.Column("round", sa.String(32), sa.ForeignKey("rounds.id", ondelete="CASCADE")),
        sa.Column("reward", sa.Float),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("round", "item"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_kind", "events", ["kind"])
    op.create_table(
        "snapshots",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drops them, and all that was learned."""
    for name in ("snapshots", "events", "rounds", "items", "users", "about"):
        op.drop_table(name)
