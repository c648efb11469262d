"""Migrations of the telemetry tables, applied by Alembic when a database is opened."""
