"""Recording events, each once and all of a call or none, and reading the aggregates back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from hare_agents.database import Database
from hare_agents.prompts.config import PromptsConfig
from hare_agents.prompts.engine import PromptEngine
from hare_agents.prompts.events import KINDS, ClockError, Event, EventError, checked
from hare_agents.prompts.library import Library
from hare_agents.prompts.statistics import COLUMNS, DAY, DAYS, NEVER, Tally
from hare_agents.prompts.telemetry.aggregation import added, adding, insert_into
from hare_agents.prompts.telemetry.schema import NEVER_SHOWN, contexts, days, events, prompts, statistics
from hare_gym.errors import HareError, unknown_name

# A row that was written before a reading may become visible after it, if its transaction lasted as long.
_OVERLAP = 300
_SHOWN_IDS = 5
_IDS_AT_ONCE = 500
_ROWS_AT_ONCE = 1_000


class DuplicateEventError(EventError):
    """Events that were recorded before.

    Attributes:
        ids: Their ids.
    """

    def __init__(self, message: str, ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class Telemetry:
    """The store of events and of what they add up to.

    What :meth:`record` and :meth:`record_many` have returned from is on the disk, and survives the end of the process
    and of the power. What they raised for was not recorded at all. Any number of threads and processes may write.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://user@host/name``. Its tables are made or migrated.
        config: Buckets and limits; the published ones by default.

    Raises:
        ConfigError: A URL that is none.
        StorageError: The database cannot be opened.
    """

    def __init__(self, url: str, config: PromptsConfig | None = None) -> None:
        self.config = config or PromptsConfig()
        self.database = Database(url, Path(__file__).parent / "migrations", "prompts", "Telemetry")
        self._prompts: set[str] = set()
        self._contexts: set[str] = set()
        with self.database.reading() as connection:
            self._newest = int(connection.execute(sa.select(sa.func.max(events.c.at))).scalar() or 0)
            self._prompts.update(connection.execute(sa.select(prompts.c.id)).scalars())

    def close(self) -> None:
        """Closes the connections."""
        self.database.close()

    def register(self, library: Library) -> None:
        """Makes prompts known, so that events may speak of them. What was recorded of others stays.

        Raises:
            StorageError: Nothing was written.
        """
        rows = [{"id": prompt.id, "topic": prompt.topic} for prompt in library.prompts]
        statement = insert_into(prompts, self.database.is_sqlite)
        statement = statement.on_conflict_do_update(index_elements=["id"], set_={"topic": statement.excluded.topic})
        if rows:
            with self.database.writing() as connection:
                connection.execute(statement, rows)
            self._prompts.update(library.ids)

    def record(self, event: Event, *, late: bool = False) -> None:
        """Records one event; see :meth:`record_many`."""
        self.record_many([event], late=late)

    def record_many(
        self, batch: Sequence[Event], *, duplicates: Literal["refuse", "skip"] = "refuse", late: bool = False
    ) -> int:
        """Records events in one transaction: all of them, or, if it raises, none.

        Args:
            batch: What happened, in any order. A few hundred at once are many times as fast as one by one.
            duplicates: Whether an id that was recorded before is an error, or is left out. ``"skip"`` is for sending
                again what may have arrived.
            late: Whether events may be older than the newest one recorded by more than ``max_clock_step``.

        Returns:
            How many events were recorded.

        Raises:
            DuplicateEventError: An id was recorded before, or stands twice in the batch.
            ClockError: An event from the future, or from before the newest one.
            EventError: An event that cannot be true; see :func:`hare_agents.prompts.events.checked`.
            UnknownNameError: A prompt that is not registered; a lens or topic that the configuration does not list.
            StorageError: The database did not take it (full disk, no connection).
        """
        rows = [self._row(event, late) for event in batch]
        if not rows:
            return 0
        rows.sort(key=lambda row: str(row["id"]))
        rows = self._once(rows, duplicates)
        while rows:
            try:
                with self.database.writing() as connection:
                    self._write(connection, rows)
            except _AlreadyThere:
                there = self.recorded([row["id"] for row in rows])
                if duplicates == "refuse":
                    raise _duplicates(there, "recorded before") from None
                rows = [row for row in rows if row["id"] not in there]
                continue
            self._contexts.update(row["context"] for row in rows)
            self._newest = max(self._newest, *(row["at"] for row in rows))
            break
        return len(rows)

    def _row(self, event: Event, late: bool) -> dict[str, Any]:
        """The event as a row of the log."""
        checked(self.config, event)
        self._know_prompt(event.prompt)
        at = self._placed(time.time() if event.at is None else event.at, late)
        return {
            "id": event.id,
            "kind": KINDS.index(event.kind),
            "prompt": event.prompt,
            "context": event.context,
            "at": at - at % self.config.telemetry.time_resolution,
            "value": event.value(),
        }

    def _know_prompt(self, id: str) -> None:
        if id in self._prompts:
            return
        with self.database.reading() as connection:
            found = connection.execute(sa.select(prompts.c.id).where(prompts.c.id == str(id)[:80])).scalar()
        if found is not None and found == id:
            self._prompts.add(found)
        else:
            raise unknown_name(
                "prompt", str(id)[:200], self._prompts, "Register it first: Telemetry.register or hare prompts init."
            )

    def _placed(self, at: float, late: bool) -> int:
        """The time in whole seconds, if it can be true."""
        step, now = self.config.telemetry.max_clock_step, time.time()
        if at > now + step:
            raise ClockError(
                f"The event is of {_utc(at)}, but here it is {_utc(now)}. Nothing was recorded. Set the clock of "
                "whichever is wrong, or leave out at for the time of recording."
            )
        if at < self._newest - step and not late:
            raise ClockError(
                f"The event is of {_utc(at)}, but events of {_utc(self._newest)} are recorded: did a clock go "
                "backwards? Nothing was recorded. Set the clock, or, if the event is late, record it with late=True."
            )
        return int(at)

    def _once(self, rows: list[dict[str, Any]], duplicates: str) -> list[dict[str, Any]]:
        """The rows, each id once."""
        once = list({row["id"]: row for row in rows}.values())
        if len(once) < len(rows) and duplicates == "refuse":
            counts = Counter(row["id"] for row in rows)
            raise _duplicates([id for id, count in counts.items() if count > 1], "twice in this batch")
        return once

    def _write(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Log and aggregates, in an order that is the same for all writers."""
        is_sqlite = self.database.is_sqlite
        self._make_contexts(connection, sorted({row["context"] for row in rows} - self._contexts))
        log = insert_into(events, is_sqlite).on_conflict_do_nothing().returning(events.c.id)
        if len(connection.execute(log, rows).all()) != len(rows):
            raise _AlreadyThere
        changed = self.database.now(connection)
        pairs, shows = added(rows)
        for table, keys, parts in ((statistics, ("prompt", "context"), pairs), (days, ("prompt", "day"), shows)):
            statement = adding(insert_into(table, is_sqlite), table, keys)
            connection.execute(statement, [{**part, "changed": changed} for part in parts])

    def _make_contexts(self, connection: Connection, keys: list[str]) -> None:
        """Makes contexts that are not known to be there; their number is bounded."""
        if not keys:
            return
        statement = insert_into(contexts, self.database.is_sqlite).on_conflict_do_nothing()
        made = connection.execute(statement.returning(contexts.c.key), [{"key": key} for key in keys]).all()
        most = self.config.context.max_contexts
        if made and connection.execute(sa.select(sa.func.count()).select_from(contexts)).scalar_one() > most:
            raise EventError(
                f"There are {most:,} contexts already, and {keys[0]!r} would be one more. Nothing was recorded. List "
                "the lenses and topics that exist under context in the configuration, or raise context.max_contexts."
            )

    def recorded(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are in the log.

        Raises:
            StorageError: The database cannot be read.
        """
        found: set[str] = set()
        with self.database.reading() as connection:
            for i in range(0, len(ids), _IDS_AT_ONCE):
                part = sa.select(events.c.id).where(events.c.id.in_(ids[i : i + _IDS_AT_ONCE]))
                found.update(connection.execute(part).scalars())
        return found

    def refresh(self, engine: PromptEngine, since: int | None = None) -> int:
        """Brings an engine's statistics up to date.

        Args:
            engine: It takes the rows that changed; prompts that it does not have, and contexts that its configuration
                does not know, are left out.
            since: What the last call gave back, or None for all rows.

        Returns:
            The time to give to the next call.

        Raises:
            StorageError: The engine has what was read until then, and goes on working with it.
        """
        with self.database.reading() as connection:
            now = self.database.now(connection)
            if since is not None and now < since:  # the clock went backwards: times do not tell what is new
                since = None
            after = -1 if since is None else since - _OVERLAP
            read = connection.execution_options(yield_per=_ROWS_AT_ONCE)
            for row in read.execute(sa.select(statistics).where(statistics.c.changed >= after)).mappings():
                self._put(engine, row)
            recent = sa.and_(days.c.changed >= after, days.c.day > now // DAY - DAYS)
            for shows in read.execute(sa.select(days).where(recent)).mappings():
                place = engine.library.rows.get(shows["prompt"])
                if place is not None:
                    engine.statistics.put_shows(place, shows["day"], shows["impressions"])
        return now

    def _put(self, engine: PromptEngine, row: Any) -> None:
        place = engine.library.rows.get(row["prompt"])
        if place is None:
            return
        last = NEVER if row["last_shown"] == NEVER_SHOWN else float(row["last_shown"])
        try:
            engine.statistics.put(
                place, row["context"], Tally(**{name: row[name] for name in COLUMNS}, last_shown=last)
            )
        except HareError:  # a context of an earlier configuration
            return


class _AlreadyThere(Exception):
    """Some events of the batch are in the log; the transaction is undone."""


def _duplicates(ids: Iterable[str], where: str) -> DuplicateEventError:
    ids = sorted(ids)
    shown = ", ".join(ids[:_SHOWN_IDS]) + (", ..." if len(ids) > _SHOWN_IDS else "")
    return DuplicateEventError(
        f"{len(ids)} event{'s are' if len(ids) > 1 else ' is'} {where}: {shown}. Nothing of this call was recorded, "
        "and nothing counts twice. If you sent it again because no answer came, all is well; new "
        "events need new ids.",
        ids,
    )


def _utc(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} s after 1970"
