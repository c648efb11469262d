"""The first tables: prompts, contexts, the log, its aggregates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None

_COUNTS = ("impressions", "selections", "completions", "abandoned", "dwell", "entropy_samples", "entropy_change")


def upgrade() -> None:
    """Makes them. A published migration is never edited: it must go on making what version 1 had."""
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("topic", sa.String(64), nullable=False),
    )
    op.create_table("contexts", sa.Column("key", sa.String(400), primary_key=True))
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("prompt", sa.String(64), sa.ForeignKey("prompts.id"), nullable=False),
        sa.Column("context", sa.String(400), sa.ForeignKey("contexts.key"), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    for name in ("statistics", "folded"):
        changed = [sa.Column("changed", sa.BigInteger, nullable=False, index=True)] if name == "statistics" else []
        op.create_table(
            name,
            sa.Column("prompt", sa.String(64), sa.ForeignKey("prompts.id"), primary_key=True),
            sa.Column("context", sa.String(400), sa.ForeignKey("contexts.key"), primary_key=True),
            *[sa.Column(count, sa.BigInteger, nullable=False) for count in (*_COUNTS, "last_shown")],
            *changed,
        )
    op.create_table(
        "days",
        sa.Column("prompt", sa.String(64), sa.ForeignKey("prompts.id"), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        *[sa.Column(count, sa.BigInteger, nullable=False) for count in _COUNTS[:3]],
        sa.Column("changed", sa.BigInteger, nullable=False, index=True),
    )


def downgrade() -> None:
    """Drops them, and all that was recorded."""
    for name in ("days", "folded", "statistics", "events", "contexts", "prompts"):
        op.drop_table(name)
