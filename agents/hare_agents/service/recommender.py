"""HARE with a memory on disk: recommendations, feedback, users and the pool, from any number of threads.

Whatever changes goes through one thread, `Recommender._work`: it writes what has been asked for since its last turn
in one transaction, lets HARE learn it in the order of the log, and only then answers. So an answer means that the
disk has it, and HARE after a restart has learned the same rounds in the same order.
"""

from __future__ import annotations

import json
import queue
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from hare_agents.database import Database, StorageError
from hare_agents.hare import HARE
from hare_agents.hare.model import FORMAT
from hare_agents.service import schema
from hare_agents.service.config import ServiceConfig
from hare_agents.service.errors import ConflictError, MissingError
from hare_agents.service.holder import Holder
from hare_agents.service.schema import ADDED, REMOVED, REWARDED
from hare_agents.service.space import TextSpace
from hare_gym.errors import ConfigError, DataError
from hare_gym.text.encoders import load_encoder

Array = NDArray[np.float64]
_BATCH = 256
_STRIPES = 256
_DAY = 86_400


@dataclass(frozen=True)
class NewItem:
    """An item to take into the pool: a vector ``(d,)``, a text, or both."""

    key: str
    vector: Sequence[float] | None = None
    text: str | None = None


@dataclass(frozen=True)
class Recommendation:
    """What was recommended.

    Attributes:
        round: Its id, for `Recommender.feedback`.
        items: Keys of the items, best first; in ``synthesize`` those that were attended to most.
        texts: Their texts, None where there are none.
        weights: How much of the attention each of them got.
        content: What was synthesized, ``(d,)``; None otherwise.
    """

    round: str
    items: list[str]
    texts: list[str | None]
    weights: list[float]
    content: list[float] | None


@dataclass
class _Job:
    write: Callable[[Connection], Any]  # returns (answer, what HARE is to learn)
    done: Future[Any]


@dataclass(frozen=True)
class Learned:
    """One event of the log, with what HARE needs of it."""

    seq: int
    kind: int
    item: int | None = None
    user: int = 0
    query: bytes = b""
    content: bytes | None = None
    reward: float = 0.0
    vector: bytes = b""


class Recommender:
    """One HARE on one database. Threads may share it; two processes may not serve one database.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://user@host/name``.
        config: See `ServiceConfig`. On a database that was begun with other values of ``dim``, ``encoder``, ``hare``
            or ``seed`` it is refused.
        pool: The first items; needed by the first start, and ignored later.

    Raises:
        ConfigError: Settings that differ from the first start's, or a first start without a pool.
        DataError: Items that are not finite, not of ``dim`` numbers, or twice the same.
        StorageError: The database cannot be used, or another process serves it.
    """

    def __init__(self, url: str, config: ServiceConfig, pool: Sequence[NewItem] = ()) -> None:
        self.config = config
        self.database = Database(url, Path(__file__).parent / "migrations", "service", "The service's state")
        self._holder = Holder(self.database)
        try:
            self._encoder = load_encoder(config.encoder) if config.encoder else None
            self._begin(pool)
            self.hare, self._seq = self._recovered()
        except BaseException:
            self._holder.release()
            self.database.close()
            raise
        self._since_snapshot = 0
        self._numbers: dict[str, int] = {}
        self._unlearn = False  # whether HARE still knows what the log has forgotten, which no snapshot may keep
        self._door = threading.Lock()
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._closing = False
        self.broken: str | None = None
        self._thread = threading.Thread(target=self._work, name="hare-learns", daemon=True)
        self._thread.start()

    # -- what clients ask for ----------------------------------------------------------------------------------

    def recommend(
        self,
        user: str,
        query: Sequence[float] | None = None,
        text: str | None = None,
        size: int = 1,
        synthesize: bool = False,
    ) -> Recommendation:
        """Recommends ``size`` items to a user, or synthesizes content; remembers the round before it answers.

        Raises:
            DataError: Not exactly one of query and text, or a query that is not ``dim`` finite numbers.
            ConflictError: The pool has fewer items.
        """
        x = self._vector("The query", query, text)
        with self._user(user):
            number = self._number(user)
            ids, A = self._attended(x, number)
            if size > len(ids):
                raise ConflictError(f"{size} items were asked for, and the pool has {len(ids)}. Ask for fewer.")
            content: Array | None = None
            if synthesize:
                content = self.hare.synthesize(x, number)
                shown = ids[np.argsort(-A, kind="stable")[:size]].tolist()
            elif size == 1:
                shown = [self.hare.act(x, number)]
            else:
                shown = self.hare.act_slate(x, number, size).tolist()
            weight = dict(zip(ids.tolist(), A.tolist(), strict=True))
            round = uuid.uuid4().hex
            row = {
                "id": round,
                "user": number,
                "query": x.tobytes(),
                "content": None if content is None else np.asarray(content, dtype="<f8").tobytes(),
                "shown": json.dumps(shown),
                "at": int(time.time()),
            }

            def write(connection: Connection) -> tuple[list[tuple[str | None, str | None]], None]:
                connection.execute(sa.insert(schema.rounds).values(row))
                named = connection.execute(
                    sa.select(schema.items.c.number, schema.items.c.key, schema.items.c.text).where(
                        schema.items.c.number.in_(shown)
                    )
                ).all()
                told = {number: (key, text) for number, key, text in named}
                return [told[number] for number in shown], None

            named = self._do(write)
        kept = [(key, text, weight.get(item, 0.0)) for (key, text), item in zip(named, shown, strict=True) if key]
        return Recommendation(
            round,
            [key for key, _, _ in kept],
            [text for _, text, _ in kept],
            [weight for _, _, weight in kept],
            None if content is None else [float(value) for value in content],
        )

    def feedback(self, round: str, reward: float, item: str | None = None) -> bool:
        """Learns what a recommended item, or synthesized content, was worth.

        Args:
            round: As `recommend` told.
            reward: In [0, 1].
            item: Which of the round's items; the first by default. Not for synthesized content.

        Returns:
            Whether it is new; False when the very same was said before, which changes nothing.

        Raises:
            MissingError: There is no such round, or it did not show this item.
            ConflictError: Another reward was given before.
            DataError: A reward outside [0, 1].
        """
        if not 0.0 <= reward <= 1.0:
            raise DataError(f"The reward is {reward}: it must lie in [0, 1].")

        def write(connection: Connection) -> tuple[bool, Learned | None]:
            rounds, events = schema.rounds, schema.events
            found = connection.execute(sa.select(rounds).where(rounds.c.id == round)).first()
            if found is None:
                raise MissingError(
                    f"There is no round {round!r}. It was never recommended, or is older than "
                    f"{self.config.keep_days:g} days, or its user was deleted."
                )
            number = self._judged(connection, found, item)
            known = connection.execute(
                sa.select(events.c.reward).where(
                    events.c.round == round, events.c.item == number, events.c.kind == REWARDED
                )
            ).scalar_one_or_none()
            if known is not None:
                if known != reward:
                    raise ConflictError(f"Round {round!r} got the reward {known} before; it cannot become {reward}.")
                return False, None
            seq = connection.execute(
                sa.insert(events).values(kind=REWARDED, item=number, round=round, reward=reward, at=int(time.time()))
            ).inserted_primary_key[0]  # type: ignore[index]
            item_number = None if found.content is not None else number
            return True, Learned(seq, REWARDED, item_number, found.user, found.query, found.content, reward)

        return bool(self._do(write))

    def user(self, user: str) -> dict[str, Any]:
        """What is known of a user: counts, and the mean and standard deviations of u_t (for unit noise).

        Raises:
            MissingError: Nobody of this name was ever recommended anything.
        """
        with self.database.reading() as connection:
            found = self._found_user(connection, user)
            rounds, events = schema.rounds, schema.events
            of_user = rounds.c.user == found.number
            counts = connection.execute(
                sa.select(
                    sa.select(sa.func.count()).select_from(rounds).where(of_user).scalar_subquery(),
                    sa.select(sa.func.count())
                    .select_from(events.join(rounds, events.c.round == rounds.c.id))
                    .where(of_user)
                    .scalar_subquery(),
                )
            ).one()
        mean, Sigma = self.hare.user_state(found.number)
        return {
            "user": user,
            "since": found.since,
            "rounds": counts[0],
            "rewards": counts[1],
            "state": mean.tolist(),
            "deviation": np.sqrt(np.maximum(np.diag(Sigma), 0.0)).tolist(),
        }

    def delete_user(self, user: str) -> dict[str, int]:
        """Deletes a user's rounds and rewards; whoever comes by this name again is new.

        What the rewards taught about everybody is unlearned by the next start, which learns the log anew.

        Raises:
            MissingError: As for `user`.
        """
        with self._user(user):

            def write(connection: Connection) -> tuple[dict[str, int], int]:
                found = self._found_user(connection, user)
                mine = sa.select(schema.rounds.c.id).where(schema.rounds.c.user == found.number)
                rewards = connection.execute(sa.delete(schema.events).where(schema.events.c.round.in_(mine))).rowcount
                rounds = connection.execute(
                    sa.delete(schema.rounds).where(schema.rounds.c.user == found.number)
                ).rowcount
                connection.execute(sa.delete(schema.users).where(schema.users.c.number == found.number))
                connection.execute(sa.delete(schema.snapshots))
                return {"rounds": rounds, "rewards": rewards}, found.number

            deleted: dict[str, int] = self._do(write)
            self._numbers.pop(user, None)
            return deleted

    def add_items(self, items: Sequence[NewItem]) -> int:
        """Takes items into the pool, all or none; returns how many there are then.

        Raises:
            DataError: As for the first pool.
            ConflictError: An item of this key is in the pool, or there would be too many.
        """
        vectors = self._vectors(items)

        def write(connection: Connection) -> tuple[None, list[Learned]]:
            return None, self._insert(connection, items, vectors)

        self._do(write)
        return len(self.hare.pool.ids)

    def remove_item(self, key: str) -> None:
        """Lets an item leave the pool.

        Raises:
            MissingError: There is no such item.
            ConflictError: It is the last one.
        """

        def write(connection: Connection) -> tuple[None, Learned]:
            table = schema.items
            number = connection.execute(sa.select(table.c.number).where(table.c.key == key)).scalar_one_or_none()
            if number is None:
                raise MissingError(f"There is no item {key!r} in the pool.")
            present = connection.execute(
                sa.select(sa.func.count()).select_from(table).where(table.c.key.is_not(None))
            )
            if present.scalar_one() == 1:
                raise ConflictError(f"{key!r} is the pool's last item. Add another one first.")
            connection.execute(sa.update(table).where(table.c.number == number).values(key=None, text=None))
            seq = connection.execute(
                sa.insert(schema.events).values(kind=REMOVED, item=number, at=int(time.time()))
            ).inserted_primary_key[0]  # type: ignore[index]
            return None, Learned(seq, REMOVED, number)

        self._do(write)

    def pool(self, after: str = "", size: int = 100) -> list[dict[str, Any]]:
        """Items of the pool in the order of their keys, ``size`` of them after a key."""
        table = schema.items
        with self.database.reading() as connection:
            found = connection.execute(
                sa.select(table.c.key, table.c.text)
                .where(table.c.key.is_not(None), table.c.key > after)
                .order_by(table.c.key)
                .limit(size)
            )
            return [{"id": key, "text": text} for key, text in found]

    def counts(self) -> dict[str, int]:
        """Users, items in the pool and rewards learned."""
        with self.database.reading() as connection:
            users = connection.execute(sa.select(sa.func.count()).select_from(schema.users)).scalar_one()
        return {"users": users, "items": len(self.hare.pool.ids), "rewards": self.hare.t}

    def close(self) -> None:
        """Finishes what was asked for, takes a snapshot, and lets the database go."""
        with self._door:
            if self._closing:
                return
            self._closing = True
            self._jobs.put(None)
        self._thread.join()
        self._snapshot()
        self._holder.release()
        self.database.close()

    # -- the one thread that writes and learns ------------------------------------------------------------------

    def _do(self, write: Callable[[Connection], Any]) -> Any:
        job = _Job(write, Future())
        with self._door:
            if self.broken or self._closing:
                raise StorageError(f"The service {self.broken or 'is shutting down'}. Nothing was recorded.")
            self._jobs.put(job)
        return job.done.result()

    def _work(self) -> None:
        while True:
            first = self._jobs.get()
            if first is None:
                return
            jobs = [first]
            ending = False
            while len(jobs) < _BATCH:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ending = True
                    break
                jobs.append(following)
            self._serve(jobs)
            if ending:
                return

    def _serve(self, jobs: list[_Job]) -> None:
        """One transaction for all; a job that fails is taken back alone."""
        answers: list[tuple[_Job, Any, Any]] = []
        failed: list[tuple[_Job, Exception]] = []
        try:
            with self.database.writing() as connection:
                for job in jobs:
                    try:
                        with connection.begin_nested():
                            answers.append((job, *job.write(connection)))
                    except (MissingError, ConflictError, DataError) as error:
                        failed.append((job, error))
                    except IntegrityError as error:
                        failed.append((job, ConflictError(f"It contradicts what is recorded: {error.orig}.")))
        except Exception as error:  # nothing was written, and every asker is told so
            for job in jobs:
                job.done.set_exception(error)
            return
        try:
            for _, _, learned in answers:
                self._learn(learned)
        except Exception as failure:
            # the log has it and HARE has not: only a new start brings them together
            self.broken = f"must be started again, it could not learn what it recorded ({failure!r})"
        for job, answer, _ in answers:
            job.done.set_result(answer)
        for job, refusal in failed:
            job.done.set_exception(refusal)
        if self._since_snapshot >= self.config.snapshot_every:
            self._snapshot()

    def _learn(self, learned: Learned | list[Learned] | int | None) -> None:
        if isinstance(learned, int):  # a user who was deleted
            self.hare.restart(learned)
            self._unlearn = True
        elif isinstance(learned, list):
            for event in learned:
                self._learn(event)
        elif learned is not None:
            apply(self.hare, learned)
            self._seq = learned.seq
            self._since_snapshot += learned.kind == REWARDED

    def _snapshot(self) -> None:
        self._since_snapshot = 0
        if self.broken is not None or self._unlearn:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hare.npz"
            self.hare.save(path)
            state = path.read_bytes()
        # without one the log is learned anew
        with suppress(StorageError), self.database.writing() as connection:
            connection.execute(sa.delete(schema.snapshots))
            connection.execute(sa.insert(schema.snapshots).values(seq=self._seq, version=_version(), state=state))

    # -- the first start, and later ones ------------------------------------------------------------------------

    def _begin(self, pool: Sequence[NewItem]) -> None:
        fixed = self.config.model_dump(mode="json", include={"dim", "encoder", "hare", "seed"})
        with self.database.reading() as connection:
            found = connection.execute(sa.select(schema.about.c.name, schema.about.c.value))
            stored = {row.name: row.value for row in found}
        if stored:
            begun = json.loads(stored["config"])
            differing = [name for name in fixed if fixed[name] != begun[name]]
            if differing:
                raise ConfigError(
                    f"This database was begun with {', '.join(f'{name} = {begun[name]!r}' for name in differing)}. "
                    "Use the same, or another database."
                )
            self._space = TextSpace.from_bytes(self._encoder, stored["space"]) if "space" in stored else None
            self._forget_old()
            return
        if not pool:
            raise ConfigError("The first start on a database needs a pool of items. Give --pool FILE.")
        texts = [item.text for item in pool if item.text is not None]
        self._space = None if self._encoder is None else TextSpace.fitted(self._encoder, texts, self.config.dim)
        vectors = self._vectors(pool)
        with self.database.writing() as connection:
            rows = [{"name": "config", "value": json.dumps(fixed).encode()}]
            if self._space is not None:
                rows.append({"name": "space", "value": self._space.to_bytes()})
            connection.execute(sa.insert(schema.about), rows)
            self._insert(connection, pool, vectors)
            first = connection.execute(sa.select(sa.func.max(schema.events.c.seq))).scalar_one()
            connection.execute(sa.insert(schema.about).values(name="first", value=str(first).encode()))

    def _recovered(self) -> tuple[HARE, int]:
        """HARE as the log left it: the last snapshot, and what came after it."""
        with self.database.reading() as connection:
            first = int(
                connection.execute(sa.select(schema.about.c.value).where(schema.about.c.name == "first")).scalar_one()
            )
            snapshot = connection.execute(sa.select(schema.snapshots)).first()
            if snapshot is not None and snapshot.version == _version():
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "hare.npz"
                    path.write_bytes(snapshot.state)
                    hare, seq = HARE.load(path), snapshot.seq
            else:
                pool = [
                    np.frombuffer(row.vector, dtype="<f8")
                    for row in connection.execute(_events(-1).where(schema.events.c.seq <= first))
                ]
                hare, seq = HARE(np.stack(pool), self.config.dim, self.config.seed, **self.config.hare_knobs()), first
            for row in connection.execution_options(yield_per=1000).execute(_events(seq)):
                apply(
                    hare,
                    Learned(
                        row.seq,
                        row.kind,
                        None if row.content is not None else row.item,
                        row.user or 0,
                        row.query or b"",
                        row.content,
                        row.reward or 0.0,
                        row.vector or b"",
                    ),
                )
                seq = row.seq
        return hare, seq

    def _forget_old(self) -> None:
        rounds, events = schema.rounds, schema.events
        with self.database.writing() as connection:
            connection.execute(
                sa.delete(rounds).where(
                    rounds.c.at < time.time() - self.config.keep_days * _DAY,
                    ~sa.exists().where(events.c.round == rounds.c.id),
                )
            )

    # -- small things -------------------------------------------------------------------------------------------

    def _insert(self, connection: Connection, items: Sequence[NewItem], vectors: Array) -> list[Learned]:
        table, now = schema.items, int(time.time())
        keys = [item.key for item in items]
        known = connection.execute(sa.select(table.c.key).where(table.c.key.in_(keys))).scalars().first()
        if known is not None:
            raise ConflictError(f"An item {known!r} is in the pool already. Remove it first, or give another id.")
        start, present = connection.execute(
            sa.select(sa.func.coalesce(sa.func.max(table.c.number), -1), sa.func.count(table.c.key))
        ).one()
        if present + len(items) > self.config.limits.items:
            raise ConflictError(f"The pool may hold {self.config.limits.items} items, and has {present}.")
        rows = [
            {"number": number, "key": item.key, "vector": vector.astype("<f8").tobytes(), "text": item.text}
            for number, (item, vector) in enumerate(zip(items, vectors, strict=True), start + 1)
        ]
        connection.execute(sa.insert(table), rows)
        events = schema.events
        connection.execute(sa.insert(events), [{"kind": ADDED, "item": row["number"], "at": now} for row in rows])
        added = connection.execute(
            sa.select(events.c.seq, events.c.item)
            .where(events.c.kind == ADDED, events.c.item > start)
            .order_by(events.c.seq)
        )
        vector_of = {row["number"]: row["vector"] for row in rows}
        return [Learned(seq, ADDED, number, vector=vector_of[number]) for seq, number in added]

    def _vectors(self, items: Sequence[NewItem]) -> Array:
        keys = [item.key for item in items]
        twice = {key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else set()
        if twice:
            raise DataError(f"The item {min(twice)!r} was given twice.")
        texts = [item.text for item in items if item.vector is None and item.text is not None]
        embedded = iter(self._space.vectors(texts)) if texts and self._space is not None else iter(())
        rows = [
            next(embedded)
            if item.vector is None and item.text is not None and self._space is not None
            else self._vector(f"Item {item.key!r}", item.vector, None)
            for item in items
        ]
        return np.stack(rows)

    def _vector(self, what: str, vector: Sequence[float] | None, text: str | None) -> Array:
        if (vector is None) == (text is None):
            raise DataError(f"{what} needs either a vector or a text{'' if vector is None else ', not both'}.")
        if text is not None:
            if self._space is None:
                raise DataError(f"{what} is a text, and this service was started without an encoder. Send a vector.")
            return np.asarray(self._space.vectors([text])[0])
        x = np.asarray(vector, dtype="<f8")
        if x.shape != (self.config.dim,):
            raise DataError(f"{what} must have {self.config.dim} numbers, not {x.size}.")
        if not np.isfinite(x).all():
            raise DataError(f"{what} must be of finite numbers.")
        return x

    def _attended(self, x: Array, number: int) -> tuple[NDArray[np.intp], Array]:
        ids, A = self.hare.attention(x, number)
        present = self.hare.pool.alive[ids]
        return ids[present], A[present]

    def _number(self, user: str) -> int:
        if user in self._numbers:
            return self._numbers[user]
        table = schema.users
        with self.database.reading() as connection:
            known = connection.execute(sa.select(table.c.number).where(table.c.key == user)).scalar_one_or_none()
        if known is None:

            def write(connection: Connection) -> tuple[int, None]:
                made = connection.execute(sa.insert(table).values(key=user, since=int(time.time())))
                return made.inserted_primary_key[0], None  # type: ignore[index]

            known = self._do(write)
        self._numbers[user] = int(known)
        return int(known)

    def _found_user(self, connection: Connection, user: str) -> Any:
        found = connection.execute(sa.select(schema.users).where(schema.users.c.key == user)).first()
        if found is None:
            raise MissingError(
                f"There is no user {user!r}: nothing was ever recommended to them, or they were deleted."
            )
        return found

    def _judged(self, connection: Connection, round: Any, key: str | None) -> int:
        shown: list[int] = json.loads(round.shown)
        if round.content is not None:
            if key is not None:
                raise DataError("The round's content was synthesized; its feedback names no item.")
            return -1
        if key is None:
            return shown[0]
        number = connection.execute(
            sa.select(schema.items.c.number).where(schema.items.c.key == key)
        ).scalar_one_or_none()
        if number not in shown:
            raise MissingError(f"Round {round.id!r} did not show the item {key!r}, or it has left the pool since.")
        return int(number)

    @contextmanager
    def _user(self, user: str) -> Iterator[None]:
        """What is done for one user is done one after the other."""
        with self._stripes[hash(user) % _STRIPES]:
            yield


def apply(hare: HARE, event: Learned) -> None:
    """Lets HARE learn one event of the log."""
    if event.kind == ADDED:
        ids = hare.add_items(np.frombuffer(event.vector, dtype="<f8")[None])
        assert ids.tolist() == [event.item]
    elif event.kind == REMOVED:
        assert event.item is not None
        hare.remove_items([event.item])
    else:
        action: Any = event.item
        if event.content is not None:
            action = np.frombuffer(event.content, dtype="<f8").copy()
        hare.update(np.frombuffer(event.query, dtype="<f8"), event.user, action, event.reward)


def _events(after: int) -> sa.Select[Any]:
    events, rounds, items = schema.events, schema.rounds, schema.items
    joined = events.outerjoin(rounds, events.c.round == rounds.c.id).outerjoin(items, events.c.item == items.c.number)
    return (
        sa.select(
            events.c.seq,
            events.c.kind,
            events.c.item,
            events.c.reward,
            rounds.c.user,
            rounds.c.query,
            rounds.c.content,
            items.c.vector,
        )
        .select_from(joined)
        .where(events.c.seq > after)
        .order_by(events.c.seq)
    )


def _version() -> str:
    return f"{version('hare-gym')}/{FORMAT}"
