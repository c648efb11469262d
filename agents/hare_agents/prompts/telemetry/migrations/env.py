"""Run by Alembic: applies migrations on the connection that it is given."""

from __future__ import annotations

from alembic import context

from hare_agents.prompts.telemetry.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
