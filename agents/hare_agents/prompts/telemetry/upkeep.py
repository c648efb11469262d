"""Keeping the store small, checking it, and taking it elsewhere."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy import Connection, Select, Table

from hare_agents.database import Database
from hare_agents.prompts.events import KINDS
from hare_agents.prompts.statistics import DAY
from hare_agents.prompts.telemetry.aggregation import adding, all_sums, day_sums, insert_into, log_sums
from hare_agents.prompts.telemetry.schema import contexts, days, events, folded, prompts, statistics
from hare_gym.errors import ConfigError, unknown_name

What = Literal["events", "statistics", "days"]

_ROWS_AT_ONCE = 1_000


def retain(database: Database, retention_days: int, now: float | None = None) -> int:
    """Deletes events older than so many whole days, having kept what they counted for.

    Their sums move into the table ``folded``, from which, together with the log, the aggregates can be rebuilt for
    ever; the aggregates do not change. Aggregates by day go with their events. An id that was deleted is no longer
    recognised as a duplicate.

    Args:
        database: The store's.
        retention_days: At least 7: freshness looks back so far.
        now: Seconds since 1970; the database's clock by default.

    Returns:
        How many events were deleted.

    Raises:
        ConfigError: Fewer than 7 days.
        StorageError: Nothing was deleted.
    """
    if retention_days < 7:
        raise ConfigError(
            f"Events are kept for at least 7 days, because freshness looks back so far: {retention_days}."
        )
    with database.writing() as connection:
        _alone(database, connection)
        today = int(database.now(connection) if now is None else now) // DAY
        cutoff = (today - retention_days) * DAY
        old = log_sums(events.c.at < cutoff)
        insert = insert_into(folded, database.is_sqlite)
        insert = insert.from_select([column.name for column in folded.columns], old)
        connection.execute(adding(insert, folded, ("prompt", "context")))
        deleted = connection.execute(sa.delete(events).where(events.c.at < cutoff)).rowcount
        connection.execute(sa.delete(days).where(days.c.day < today - retention_days))
    return deleted


def rebuild(database: Database) -> int:
    """Makes the aggregates anew from the log and from what was folded away.

    Returns:
        How many rows were different before; 0 unless somebody wrote to the tables by hand.

    Raises:
        StorageError: Nothing was changed.
    """
    with database.writing() as connection:
        _alone(database, connection)
        different = _differences(connection)
        changed = sa.literal(database.now(connection)).label("changed")
        for table, sums in _truths():
            connection.execute(sa.delete(table))
            names = [column.name for column in table.columns]
            source = sums.subquery()
            connection.execute(table.insert().from_select(names, sa.select(*source.columns, changed)))
    return different


def differences(database: Database) -> int:
    """How many rows of the aggregates are not what the log and what was folded away add up to."""
    with database.writing() as connection:
        _alone(database, connection)
        return _differences(connection)


def _alone(database: Database, connection: Connection) -> None:
    """Waits for writers and keeps others out until the transaction ends. SQLite has one writer anyway."""
    if not database.is_sqlite:
        # in the order in which writers take them; what they only refer to is left to them
        connection.execute(sa.text("LOCK TABLE events, statistics, days IN EXCLUSIVE MODE"))


def _truths() -> list[tuple[Table, Select[Any]]]:
    return [(statistics, all_sums()), (days, day_sums())]


def _differences(connection: Connection) -> int:
    total = 0
    for table, sums in _truths():
        live = sa.select(*[column for column in table.columns if column.name != "changed"])
        source = sums.subquery()
        truth = sa.select(*source.columns)
        one_sided = [sa.except_(*pair).subquery() for pair in ((live, truth), (truth, live))]
        keys = sa.union(*[sa.select(*list(rows.columns)[:2]) for rows in one_sided]).subquery()
        total += int(connection.execute(sa.select(sa.func.count()).select_from(keys)).scalar_one())
    return total


def overview(database: Database) -> dict[str, int | float | None]:
    """How many prompts, contexts, events and pairs there are, and the times of the first and the last event."""
    with database.reading() as connection:
        counted: dict[str, int | float | None] = {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (prompts, contexts, events, statistics)
        }
        first, last = connection.execute(sa.select(sa.func.min(events.c.at), sa.func.max(events.c.at))).one()
    return {**counted, "first": first, "last": last}


def export(database: Database, what: str, path: Path) -> int:
    """Writes a table to a ``.csv`` or ``.jsonl`` file, row by row; the file appears whole or not at all.

    Args:
        database: The store's.
        what: ``events``, ``statistics`` or ``days``.
        path: The file; one that exists is replaced.

    Returns:
        How many rows were written.

    Raises:
        UnknownNameError: Another table.
        ConfigError: Another kind of file, or one that cannot be written.
        StorageError: The database cannot be read.
    """
    if what not in get_args(What):
        raise unknown_name("table", what, get_args(What))
    if path.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"{path}: exports are .csv or .jsonl files. Give the name such an ending.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            written = _written(file, _rows(database, what), as_csv=path.suffix == ".csv")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}. Nothing was exported.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _written(file: IO[str], rows: Iterator[dict[str, Any]], as_csv: bool) -> int:
    writer: Any = None
    written = 0
    for row in rows:
        if not as_csv:
            file.write(json.dumps(row) + "\n")
        else:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
        written += 1
    return written


def _rows(database: Database, what: str) -> Iterator[dict[str, Any]]:
    """The rows of a table in the order of their keys, with kinds as words."""
    table = {"events": events, "statistics": statistics, "days": days}[what]
    order = [events.c.at, events.c.id] if what == "events" else list(table.primary_key)
    with database.reading() as connection:
        read = connection.execution_options(yield_per=_ROWS_AT_ONCE)
        for row in read.execute(sa.select(table).order_by(*order)).mappings():
            found = {name: value for name, value in row.items() if name != "changed"}
            if what == "events":
                found["kind"] = KINDS[found["kind"]]
            yield found
