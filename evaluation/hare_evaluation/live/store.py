"""Sessions on disk: one SQLite file, written after every step, so that neither a reload nor a restart loses anything.

The file holds the SHA-256 of a session's id and not the id itself: who can read the file cannot take over a session.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from threading import RLock
from typing import Any

from hare_evaluation.live.session import LiveSession
from hare_evaluation.live.world import World
from hare_gym.errors import DataError

SCHEMA = 1
IN_MEMORY = 32
"""Sessions whose HARE (about 12 MB) is kept at hand; the others are taught again when they come back."""
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, settings TEXT NOT NULL, base BLOB, count INTEGER NOT NULL, seen REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS turns (
    id TEXT NOT NULL, number INTEGER NOT NULL, turn TEXT NOT NULL, PRIMARY KEY (id, number)
) WITHOUT ROWID;
"""


def default_path() -> Path:
    """``hare-gym/demo.sqlite`` in the user's data folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "hare-gym" / "demo.sqlite"


class Sessions:
    """The sessions of a server, by id; a file, and the latest of them in memory.

    Args:
        world: What they share.
        path: The file; made when it is missing, readable by its owner alone.

    Raises:
        DataError: The file cannot be used: it is no database, or of another version.
    """

    def __init__(self, world: World, path: Path) -> None:
        self.world, self.path = world, path
        self._lock = RLock()
        self._open: OrderedDict[str, LiveSession] = OrderedDict()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        try:
            with closing(self._connect()) as connection, connection:
                connection.executescript(_TABLES)
                known = dict(connection.execute("SELECT name, value FROM about"))
                if not known:
                    facts = {"schema": str(SCHEMA), "secret": secrets.token_hex(32)}
                    connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", facts.items())
                    known = dict(connection.execute("SELECT name, value FROM about"))
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{str(path)!r} cannot hold sessions ({error}): name another file, or delete it."
            ) from error
        if known.get("schema") != str(SCHEMA):
            raise DataError(
                f"{str(path)!r} is of version {known.get('schema')} of the demonstration, and this is {SCHEMA}: name "
                "another file."
            )
        self.secret = known["secret"]

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30.0)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def get(self, id: str) -> LiveSession:
        """The session of an id: from memory, from the file, or a new one."""
        key = hashlib.sha256(id.encode()).hexdigest()
        with self._lock:
            session = self._open.get(key)
            if session is None:
                session = self._open[key] = self._restored(key)
            self._open.move_to_end(key)
            while len(self._open) > IN_MEMORY:
                self._open.popitem(last=False)
            return session

    def _restored(self, key: str) -> LiveSession:
        session = LiveSession(self.world, lambda kind, value: self._kept(key, session, kind, value))
        with closing(self._connect()) as connection:
            row = connection.execute("SELECT settings, base, count FROM sessions WHERE id = ?", (key,)).fetchone()
            turns = connection.execute("SELECT turn FROM turns WHERE id = ? ORDER BY number", (key,)).fetchall()
        if row is not None:
            session.restore(json.loads(row[0]), [json.loads(turn) for (turn,) in turns], row[1], row[2])
        return session

    def _kept(self, key: str, session: LiveSession, kind: str, value: Any) -> None:
        """Writes one step; the row of the session comes with its first."""
        with closing(self._connect()) as connection, connection:
            settings = json.dumps(session.export_settings())
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, NULL, ?, ?) "
                "ON CONFLICT (id) DO UPDATE "
                "SET settings = excluded.settings, count = excluded.count, seen = excluded.seen",
                (key, settings, session.count, time.time()),
            )
            if kind == "turn":
                connection.execute(
                    "INSERT OR REPLACE INTO turns VALUES (?, ?, ?)", (key, value["number"], json.dumps(value))
                )
            elif kind == "forget":
                connection.executemany("DELETE FROM turns WHERE id = ? AND number = ?", [(key, n) for n in value])
            elif kind == "base":
                connection.execute("UPDATE sessions SET base = ? WHERE id = ?", (value, key))
