"""A database: its URL, SQLite's settings, migrations, and what goes wrong in a way that can be mended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from hare_gym.errors import ConfigError, HareError, MissingPackageError

_PATIENCE = 120.0
_LOCK = 0x48415245


class StorageError(HareError):
    """The database could not be written or read; whatever was asked for was not done."""


class Database:
    """One database, migrated to this version's tables.

    Args:
        url: ``sqlite:///path`` (WAL, and every commit on the disk before it returns) or
            ``postgresql+psycopg://user@host/name``; ``postgresql://`` means the same.
        migrations: The folder of Alembic's migrations.
        kind: A word that names the table of their versions, so that two kinds of tables may share a database.
        what: What is kept there, as errors call it.

    Raises:
        ConfigError: A URL that is none, or of another kind of database.
        MissingPackageError: PostgreSQL's driver is not installed.
        StorageError: The database cannot be opened, or a newer version of this package has migrated it.
    """

    def __init__(self, url: str, migrations: Path, kind: str, what: str) -> None:
        self.url = _checked(url, what)
        self._migrations = migrations
        self._versions = f"hare_{kind}_version"
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._opened()
        self._owner = os.getpid()
        self._migrate()

    def _opened(self) -> Engine:
        try:
            engine = sa.create_engine(
                self.url, connect_args={"timeout": _PATIENCE} if self.is_sqlite else {}, hide_parameters=True
            )
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                "psycopg (the driver of PostgreSQL) is not installed. Install it with: "
                "pip install 'hare-gym[postgres]'"
            ) from error
        if self.is_sqlite:
            sa.event.listen(engine, "connect", _set_up_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is kept whole when the block ends, and not at all when it raises.

        Raises:
            StorageError: It was not done: the disk is full, the database cannot be reached, another writer was waited
                for in vain.
        """
        with self._transaction(reading=False) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, and waits for no writer; raises as :meth:`writing` does."""
        with self._transaction(reading=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, reading: bool) -> Iterator[Connection]:
        if os.getpid() != self._owner:  # a connection cannot be shared with a parent process
            self.engine.dispose(close=False)
            self._owner = os.getpid()
        try:
            with self.engine.connect().execution_options(reading=reading) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(self._told(error)) from error

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    def _told(self, error: SQLAlchemyError) -> str:
        where = self.url.render_as_string(hide_password=True)
        reason = str(error.orig).strip() if isinstance(error, DBAPIError) else str(error)
        sqlstate = getattr(getattr(error, "orig", None), "sqlstate", None)
        if "disk is full" in reason or "disk I/O" in reason or sqlstate == "53100":
            fix = "The disk is full or cannot be written: make room"
        elif "locked" in reason:
            fix = "Another process kept it locked: end that one"
        elif "readonly" in reason or "unable to open" in reason:
            fix = "Look whether its folder exists and may be written"
        else:
            fix = "Look whether it runs and can be reached"
        return f"{where} refused: {reason}. Nothing of this call was recorded. {fix}, and call again."

    def now(self, connection: Connection) -> int:
        """Seconds since 1970 by the one clock that all writers of this database share."""
        if self.is_sqlite:
            return int(time.time())
        return int(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(self._migrations).replace("%", "%%"))
        known = ScriptDirectory.from_config(config)
        head = known.get_current_head()
        with self.reading() as connection:
            if self._revision(connection) == head:
                return
        with self.writing() as connection:  # one process migrates, the others wait and find it done
            if not self.is_sqlite:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            found = self._revision(connection)
            if found == head:
                return
            if found is not None and found not in {script.revision for script in known.walk_revisions()}:
                raise StorageError(
                    f"{self.url.render_as_string(hide_password=True)} has the tables of version {found!r}, which "
                    "this version of hare-gym does not know. Install a newer one."
                )
            config.attributes |= {"connection": connection, "versions": self._versions}
            command.upgrade(config, "head")

    def _revision(self, connection: Connection) -> str | None:
        from alembic.runtime.migration import MigrationContext

        return MigrationContext.configure(connection, opts={"version_table": self._versions}).get_current_revision()


def _checked(url: str, what: str) -> sa.URL:
    try:
        made = sa.make_url(url)
        backend = made.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"{url!r} is no database URL. Write sqlite:///path or postgresql+psycopg://user@host/name."
        ) from error
    if backend == "postgresql":
        return made.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"{what} is kept in SQLite or PostgreSQL, not in {backend}. Give the URL of one.")
    if not made.database or made.database == ":memory:":
        raise ConfigError(f"{what} in memory would be lost with the process. Write sqlite:///path.")
    return made


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # NORMAL would lose commits in a power cut that were acknowledged
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # a writer that began by reading could not wait for another one, and would fail
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
