"""One process serves a database: a lock that the kernel or PostgreSQL takes back when its holder dies."""

from __future__ import annotations

import fcntl
import os

import sqlalchemy as sa

from hare_agents.database import Database, StorageError

_LOCK = 0x48415246


class Holder:
    """Holds a database for as long as it is not released.

    Raises:
        StorageError: Another process holds it.
    """

    def __init__(self, database: Database) -> None:
        self._file: int | None = None
        self._connection: sa.Connection | None = None
        if database.is_sqlite:
            self._file = os.open(f"{database.url.database}.serving", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                held = False
        else:
            self._connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            held = bool(self._connection.execute(sa.text("SELECT pg_try_advisory_lock(:k)"), {"k": _LOCK}).scalar())
        if not held:
            self.release()
            raise StorageError(
                f"{database.url.render_as_string(hide_password=True)} is served by another process. End it, or give "
                "this one another database."
            )

    def release(self) -> None:
        """Lets it go."""
        if self._file is not None:
            os.close(self._file)
        if self._connection is not None:
            self._connection.close()
        self._file = self._connection = None
