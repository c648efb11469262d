"""Run by Alembic: applies migrations on the connection that it is given."""

from __future__ import annotations

from alembic import context

from hare_agents.service.schema import metadata

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["versions"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
