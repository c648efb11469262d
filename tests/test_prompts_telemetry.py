"""The store of events: each counts once, nothing is lost, nobody is in it. On SQLite and on PostgreSQL."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from _prompts import bench
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from hare_agents.prompts import (
    Completion,
    Context,
    EntropyChange,
    Impression,
    Library,
    Prompt,
    PromptEngine,
    PromptsConfig,
    Selection,
    encode,
)
from hare_agents.prompts.events import ClockError, EventError, new_id
from hare_agents.prompts.telemetry import DuplicateEventError, PromptService, StorageError, Telemetry, upkeep
from hare_agents.prompts.telemetry.schema import metadata
from hare_evaluation.prompts_cli import app
from hare_gym.errors import ConfigError, HareError, UnknownNameError

DAY = 86_400.0
LIBRARY = Library([Prompt(id=f"p{i}", topic=f"t{i % 3}") for i in range(8)])
VISIT = Context("skeptic", "ai-safety", 0.8, 1, 19)
KEY = encode(PromptsConfig().context, VISIT)
ON = {"prompt": "p0", "context": KEY}


@pytest.fixture
def url(database_url):
    return database_url


@pytest.fixture
def telemetry(url):
    made = Telemetry(url)
    made.register(LIBRARY)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path):
    """One on SQLite, where the database makes no difference."""
    made = Telemetry(f"sqlite:///{tmp_path}/prompts.db")
    made.register(LIBRARY)
    yield made
    made.close()


def some_events(count, seed=0, at=None):
    """Of all kinds, for the prompts of `LIBRARY`, now or within the ten days before ``at``."""
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(count):
        visit = Context(("skeptic", "builder")[rng.integers(2)], "climate", float(rng.random()), int(rng.integers(9)))
        told = {"prompt": LIBRARY.ids[rng.integers(8)], "context": encode(PromptsConfig().context, visit)}
        told["at"] = None if at is None else at - float(rng.uniform(0, 10 * DAY))
        made = [
            Impression(**told),
            Selection(**told, dwell=float(rng.exponential(30))),
            Completion(**told, completed=bool(rng.random() < 0.5)),
            EntropyChange(**told, before=visit.entropy, after=float(rng.random())),
        ]
        events.append(made[rng.integers(4)])
    return events


def rows(made, table):
    with made.database.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(metadata.tables[table])).mappings()]


def counted(made):
    """The aggregates without the time of writing, in order."""
    return [
        sorted(tuple(value for name, value in row.items() if name != "changed") for row in rows(made, table))
        for table in ("statistics", "days")
    ]


# -- nobody is in it --------------------------------------------------------------------------------------------

COLUMNS = {
    "prompts": {"id", "topic"},
    "contexts": {"key"},
    "events": {"id", "kind", "prompt", "context", "at", "value"},
    "statistics": {"prompt", "context", "impressions", "selections", "completions", "abandoned", "dwell"}
    | {"entropy_samples", "entropy_change", "last_shown", "changed"},
    "days": {"prompt", "day", "impressions", "selections", "completions", "changed"},
}
COLUMNS["folded"] = COLUMNS["statistics"] - {"changed"}


def test_the_schema_has_no_place_for_a_person(telemetry):
    found = sa.inspect(telemetry.database.engine)
    tables = set(found.get_table_names()) - {"hare_prompts_version"}
    assert {table: {column["name"] for column in found.get_columns(table)} for table in tables} == COLUMNS


def test_the_rows_name_no_person(telemetry):
    telemetry.record_many(some_events(300))
    words = {
        "id": r"p\d|[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "prompt": r"p\d",
        "topic": r"t\d",
        "context|key": r"lens:\w+\|topic:\w+\|entropy:(low|medium|high)\|depth:(shallow|medium|deep)\|time:\w+",
    }
    for table in COLUMNS:
        for row in rows(telemetry, table):
            for name, value in row.items():
                if isinstance(value, int):
                    continue
                pattern = next(pattern for names, pattern in words.items() if name in names.split("|"))
                assert re.fullmatch(pattern, str(value)), (table, name, value)
    assert all(row["at"] % 60 == 0 for row in rows(telemetry, "events"))  # to the minute, not the moment


@pytest.mark.parametrize(
    "id", ["user-42", "f45b5c9e-ecf2-11f1-8c21-02fc00000001", str(uuid.uuid5(uuid.NAMESPACE_DNS, "anna")), None, 7]
)
def test_an_id_that_could_name_somebody_is_refused(store, id):
    with pytest.raises(EventError, match=r"is no random UUID .*uuid\.uuid4\(\)"):
        store.record(Impression(**ON, id=id))
    assert not rows(store, "events")


# -- migrations -------------------------------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_code_uses(telemetry):
    with telemetry.database.reading() as connection:
        made = MigrationContext.configure(connection, opts={"version_table": "hare_prompts_version"})
        assert compare_metadata(made, metadata) == []


def test_tables_of_a_newer_version_are_left_alone(store):
    store.record(Impression(**ON))
    with store.database.writing() as connection:
        connection.execute(sa.text("UPDATE hare_prompts_version SET version_num = '99'"))
    with pytest.raises(StorageError, match=r"tables of version '99', which .*Install a newer one"):
        Telemetry(str(store.database.url))
    assert len(rows(store, "events")) == 1


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("prompts.db", ConfigError, r"'prompts\.db' is no database URL\. Write sqlite:///path"),
        ("mysql://a/b", ConfigError, r"kept in SQLite or PostgreSQL, not in mysql"),
        ("sqlite://", ConfigError, r"in memory would be lost"),
        ("sqlite:////no/such/folder/a.db", StorageError, r"unable to open .*Look whether its folder exists"),
        ("postgresql://nobody:secret@127.0.0.1:9/x", StorageError, r"Look whether it runs and can be reached"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told(bad, error, message):
    with pytest.raises(error, match=message) as told:
        Telemetry(bad)
    assert "secret" not in str(told.value)


# -- each once --------------------------------------------------------------------------------------------------


def test_events_add_up(telemetry):
    telemetry.record_many(
        [
            Impression(**ON),
            Impression(**ON),
            Impression(prompt="p1", context=KEY),
            Selection(**ON, dwell=12.3456),
            Completion(**ON),
            Completion(**ON, completed=False),
            EntropyChange(**ON, before=0.8, after=0.55),
        ]
    )
    first = next(row for row in rows(telemetry, "statistics") if row["prompt"] == "p0")
    assert abs(first.pop("last_shown") - time.time()) < 120
    assert abs(first.pop("changed") - time.time()) < 120
    assert first == {
        **ON,
        "impressions": 2,
        "selections": 1,
        "completions": 1,
        "abandoned": 1,
        "dwell": 12346,
        "entropy_samples": 1,
        "entropy_change": -250_000,
    }
    assert [row["impressions"] for row in rows(telemetry, "days")] == [2, 1]
    assert upkeep.differences(telemetry.database) == 0


def test_a_duplicate_is_refused_and_counts_once(telemetry):
    event = Selection(**ON, dwell=3.0)
    telemetry.record(event)
    before = counted(telemetry)
    with pytest.raises(
        DuplicateEventError, match=rf"1 event is recorded before: {event.id}\. .*nothing counts twice"
    ) as told:
        telemetry.record(event)
    assert told.value.ids == (event.id,)
    with pytest.raises(DuplicateEventError, match="twice in this batch"):
        telemetry.record_many([twice := Impression(**ON), twice])
    assert counted(telemetry) == before


def test_a_batch_is_recorded_whole_or_not_at_all(telemetry):
    known = some_events(50)
    telemetry.record_many(known)
    before = counted(telemetry)
    fresh = some_events(20, seed=1)
    with pytest.raises(DuplicateEventError, match="2 events are recorded before"):
        telemetry.record_many([*fresh, *known[:2]])
    with pytest.raises(UnknownNameError):
        telemetry.record_many([*fresh, Impression(prompt="p9", context=KEY)])
    assert counted(telemetry) == before
    assert telemetry.record_many([*fresh, *known, *fresh], duplicates="skip") == 20
    assert telemetry.record_many(known, duplicates="skip") == 0
    assert len(rows(telemetry, "events")) == 70
    assert upkeep.differences(telemetry.database) == 0


def test_batches_and_single_events_come_to_the_same(tmp_path):
    events = some_events(40)
    stores = [Telemetry(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "many")]
    for made in stores:
        made.register(LIBRARY)
    for event in reversed(events):
        stores[0].record(event)
    stores[1].record_many(events)
    assert counted(stores[0]) == counted(stores[1])


BAD = [
    (Selection(**ON, dwell=-0.5), EventError, r"Selection of 'p0' was not recorded: dwell must be .* not -0\.5"),
    (EntropyChange(**ON, before=0.8, after=1.5), EventError, r"entropy after must be a number from 0 to 1, not 1\.5"),
    (
        Impression(prompt="p11", context=KEY),
        UnknownNameError,
        r"Unknown prompt 'p11'\. Did you mean 'p1'\? Register it",
    ),
    (Impression(prompt="p0", context="x"), EventError, r"'x' is no context"),
    (Impression(**ON, at=float("nan")), EventError, r"A time must be a number of seconds since 1970"),
]


@pytest.mark.parametrize(("event", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_an_event_that_cannot_be_true_is_told_and_nothing_is_lost(store, event, error, message):
    store.record_many(some_events(10))
    before = counted(store)
    with pytest.raises(error, match=message):
        store.record_many([Impression(**ON), event])
    assert counted(store) == before
    store.record(Impression(**ON))
    assert len(rows(store, "events")) == 11


def test_a_clock_that_went_backwards_is_told(store, monkeypatch):
    store.record(Impression(**ON))
    with pytest.raises(
        ClockError, match=r"The event is of 1970-01-01 .*did a clock go backwards\? Nothing was recorded"
    ):
        store.record(Impression(**ON, at=1.0))
    with pytest.raises(ClockError, match=r"but here it is .*Set the clock"):
        store.record(Impression(**ON, at=time.time() + 3_600))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 7_200)
    with pytest.raises(ClockError, match="did a clock go backwards"):
        store.record(lost := Impression(**ON))
    again = Telemetry(str(store.database.url))  # and a process that starts then knows as well
    with pytest.raises(ClockError, match="did a clock go backwards"):
        again.record(Impression(**ON))
    assert len(rows(store, "events")) == 1
    store.record(lost, late=True)
    assert len(rows(store, "events")) == 2
    assert upkeep.differences(store.database) == 0


def test_contexts_are_bounded(tmp_path):
    made = Telemetry(f"sqlite:///{tmp_path}/a.db", PromptsConfig.of({"context": {"max_contexts": 2}}))
    made.register(LIBRARY)
    for lens in ("a", "b", "a"):
        made.record(Impression(prompt="p0", context=KEY.replace("skeptic", lens)))
    with pytest.raises(EventError, match=r"There are 2 contexts already, .*Nothing was recorded\. List the lenses"):
        made.record(Impression(prompt="p0", context=KEY.replace("skeptic", "c")))
    assert len(rows(made, "contexts")) == 2
    made.record(Impression(prompt="p0", context=KEY.replace("skeptic", "b")))


# -- keeping it -------------------------------------------------------------------------------------------------


def test_a_rebuild_from_the_log_equals_what_is_live(telemetry):
    for i in range(5):
        telemetry.record_many(some_events(100, seed=i, at=time.time()), late=True)
    live = counted(telemetry)
    assert upkeep.rebuild(telemetry.database) == 0
    assert counted(telemetry) == live
    with telemetry.database.writing() as connection:
        connection.execute(sa.text("UPDATE statistics SET selections = selections + 1 WHERE prompt = 'p0'"))
        connection.execute(sa.text("DELETE FROM days WHERE prompt = 'p1'"))
    wrong = upkeep.differences(telemetry.database)
    assert wrong >= 2
    assert upkeep.rebuild(telemetry.database) == wrong
    assert counted(telemetry) == live


def test_what_is_deleted_goes_on_counting(telemetry):
    now = time.time()
    events = some_events(400, at=now)
    telemetry.record_many(events, late=True)
    statistics, _ = counted(telemetry)
    cutoff = (int(now) // 86_400 - 7) * 86_400
    old = sum(row["at"] < cutoff for row in rows(telemetry, "events"))
    assert 0 < upkeep.retain(telemetry.database, 7) == old < 400
    assert upkeep.retain(telemetry.database, 7) == 0
    assert min(row["at"] for row in rows(telemetry, "events")) >= cutoff
    assert min(row["day"] for row in rows(telemetry, "days")) >= cutoff // 86_400
    assert counted(telemetry)[0] == statistics
    assert upkeep.rebuild(telemetry.database) == 0
    telemetry.record_many(some_events(50, seed=9), late=True)
    assert upkeep.retain(telemetry.database, 7, now=now + 30 * DAY) == 450 - old
    assert upkeep.rebuild(telemetry.database) == 0
    assert sum(row["impressions"] for row in rows(telemetry, "statistics")) == sum(
        event.kind == "impression" for event in [*events, *some_events(50, seed=9)]
    )


def test_a_late_event_from_before_the_log_counts_all_the_same(telemetry):
    telemetry.record_many(some_events(50, at=time.time()), late=True)
    upkeep.retain(telemetry.database, 7)
    telemetry.record(Impression(**ON, at=time.time() - 20 * DAY), late=True)
    assert upkeep.differences(telemetry.database) == 0
    assert upkeep.rebuild(telemetry.database) == 0


def test_events_are_kept_for_a_week_at_least(store):
    with pytest.raises(ConfigError, match="kept for at least 7 days"):
        upkeep.retain(store.database, 6)


# -- engines ----------------------------------------------------------------------------------------------------


def test_an_engine_reads_what_another_would_have_counted(telemetry):
    config = PromptsConfig.of({"back_off": {"enabled": True}})
    events = some_events(300)
    now = time.time()
    counting, reading = PromptEngine(LIBRARY, config), PromptEngine(LIBRARY, config)
    since = None
    for i in range(0, 300, 100):
        telemetry.record_many(events[i : i + 100])
        since = telemetry.refresh(reading, since)
        assert telemetry.refresh(reading, since + 10**9)  # as if the clock had gone backwards: all is read anew
    for event in events:
        counting.observe(event, now - now % 60)
    for entropy in (0.1, 0.5, 0.9):
        for lens in ("skeptic", "builder", "nobody-yet"):
            slates = [
                [(one.prompt, round(one.score, 1)) for one in made.recommend(Context(lens, "climate", entropy), now)]
                for made in (counting, reading)
            ]
            assert slates[0] == slates[1]
    assert (counting.statistics.impressions == reading.statistics.impressions).all()
    assert (counting.statistics.change == reading.statistics.change).all()


def test_services_learn_from_each_other(url):
    one, two = (PromptService(LIBRARY, url, refresh=0.0) for _ in range(2))
    first = one.recommend(VISIT)[0]
    assert one.record([Impression(prompt=first.prompt, context=first.context)]) == 1
    assert "shown anywhere" in two.explain(VISIT, first.prompt)
    assert two.recommend(VISIT)[0].prompt != first.prompt


def test_recommendations_go_on_without_the_store(tmp_path):
    path = tmp_path / "prompts.db"
    made = PromptService(LIBRARY, f"sqlite:///{path}", refresh=0.0)
    made.recommend(VISIT)
    assert made.trouble is None
    made.telemetry.close()
    for file in tmp_path.iterdir():
        file.unlink()
    path.mkdir()
    assert len(made.recommend(VISIT)) == 3
    assert isinstance(made.trouble, StorageError)


def test_contexts_of_an_earlier_configuration_are_left_out(store):
    store.record_many([Impression(**ON), Impression(prompt="p0", context=KEY.replace("evening", "night"))])
    made = PromptEngine(LIBRARY, PromptsConfig.of({"context": {"times": {"day": 6, "night": 20}}}))
    store.refresh(made)
    assert list(made.statistics.contexts) == [KEY.replace("evening", "night")]


# -- trouble ----------------------------------------------------------------------------------------------------

FILL = """
import resource, signal, sys
from hare_agents.prompts import Impression
from hare_agents.prompts.telemetry import StorageError, Telemetry, upkeep
url, context, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
telemetry = Telemetry(url)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
acknowledged = 0
while True:
    batch = [Impression(prompt="p0", context=context) for _ in range(200)]
    try:
        acknowledged += telemetry.record_many(batch)
    except StorageError as error:
        print(error)
        break
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    import pathlib
    pathlib.Path(sys.argv[4]).unlink()
print(acknowledged, telemetry.record_many(batch), upkeep.overview(telemetry.database)["events"])
"""


def fill(store, limit, *more):
    command = [sys.executable, "-c", FILL, str(store.database.url), KEY, str(limit), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    error, figures = done.stdout.strip().splitlines()
    acknowledged, again, events = map(int, figures.split())
    assert re.search(r"Nothing of this call was recorded\. The disk is full .*make room, and call again", error)
    assert again == 200  # the same batch, once there is room: none of it had been recorded
    assert events == acknowledged + 200 == len(rows(store, "events"))
    assert upkeep.differences(store.database) == 0
    return acknowledged


@pytest.mark.skipif(sys.platform != "linux", reason="limits of files behave otherwise elsewhere")
def test_a_file_that_may_not_grow_loses_nothing(store):
    assert fill(store, 600_000) > 0


def test_a_full_disk_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk to fill; a limit on files is tested instead")
    try:
        (disk / "room").write_bytes(bytes(800_000))
        made = Telemetry(f"sqlite:///{disk}/prompts.db")
        made.register(LIBRARY)
        assert fill(made, 0, disk / "room") > 0
        made.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(("writers", "count"), [(3, 400), pytest.param(8, 4_000, marks=pytest.mark.slow)])
def test_writers_at_once_lose_and_double_nothing(url, writers, count):
    done, found = threading.Event(), []

    def keep_up():
        """Rebuilds and retains while others write."""
        made = Telemetry(url)
        while not done.wait(0.2):
            found.append(upkeep.rebuild(made.database))
            found.append(upkeep.retain(made.database, 7))
        made.close()

    with ThreadPoolExecutor(1) as pool:
        keeping = pool.submit(keep_up)
        try:
            wrong, _ = bench.load(url, writers, count, batch=100)
        finally:
            done.set()
        keeping.result(60)
    assert wrong == dict.fromkeys(wrong, 0)
    assert found
    assert not any(found)


def test_a_killed_writer_loses_only_what_was_not_acknowledged(url):
    process = bench.writer(url, seed=3, count=100_000, batch=50)
    said = [process.stdout.readline() for _ in range(8)]
    os.kill(process.pid, signal.SIGKILL)
    said += process.communicate()[0].splitlines()
    acknowledged = max(int(line) for line in said[1:] if line.strip().isdigit())
    made = Telemetry(url)
    ids = [event.id for event in bench.written(3, acknowledged + 100, made.config, bench.LOADED)]
    there = made.recorded(ids)
    assert set(ids[:acknowledged]) <= there
    assert len(rows(made, "events")) in (acknowledged, acknowledged + 50)  # the batch under way: whole, or not at all
    assert upkeep.differences(made.database) == 0


def test_a_child_process_opens_connections_of_its_own(store):
    store.record(Impression(**ON))
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            store.record(Impression(**ON))
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    store.record(Impression(**ON))
    assert len(rows(store, "events")) == 3


def test_the_message_names_the_extra_and_only_telemetry_needs_it():
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import hare_agents.prompts\n"
        "try:\n    import hare_agents.prompts.telemetry\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Install it with: pip install 'hare-gym[prompts]'" in done.stdout


# -- the command line -------------------------------------------------------------------------------------------


def hare(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "prompts.yaml").write_text(
        "prompts:\n- {id: p0, topic: t0}\n- {id: p1, topic: t1, affinity: {'lens:skeptic': 90}}\n"
    )
    (tmp_path / "config.yaml").write_text("slate_size: 1\n")
    return tmp_path


def test_the_command_line_keeps_the_store(files):
    db = f"sqlite:///{files}/prompts.db"
    told = hare("check", "--prompts", files / "prompts.yaml", "--config", files / "config.yaml").output
    assert "2 prompts on 2 topics" in told
    assert "valid" in told
    assert "2 prompts are registered" in hare("init", "--prompts", files / "prompts.yaml", "--db", db).output
    made = Telemetry(db)
    made.record(Impression(prompt="p1", context=KEY, at=time.time() - 200 * DAY), late=True)
    made.record_many([Impression(prompt="p1", context=KEY) for _ in range(4)])
    assert re.search(r"events +5\n", hare("status", "--db", db).output)
    asked = ["--config", files / "config.yaml", "--lens", "skeptic", "--topic", "ai-safety", "--entropy", 0.8]
    told = hare("recommend", "--prompts", files / "prompts.yaml", "--db", db, *asked, "--hour", 19).output
    assert told.startswith("p0: ")  # p1 was shown a moment ago
    told = hare("recommend", "--prompts", files / "prompts.yaml", "--db", db, *asked, "--hour", 19, "-k", 2).output
    assert "freshness 0.50: shown anywhere 0.0 hours ago" in told
    assert "1 events older than 90 days were deleted" in hare("retain", "--db", db).output
    assert "0 rows" in hare("rebuild", "--db", db).output
    with made.database.writing() as connection:
        connection.execute(sa.text("UPDATE statistics SET dwell = 7"))
    assert hare("rebuild", "--check", "--db", db).exit_code == 1
    assert "1 rows of the aggregates were not" in hare("rebuild", "--db", db).output
    assert hare("rebuild", "--check", "--db", db).exit_code == 0


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_tables_are_exported(store, tmp_path, ending):
    store.record_many(some_events(30))
    out = tmp_path / f"events.{ending}"
    assert hare("export", "events", out, "--db", store.database.url).output.startswith("30 rows are in")
    text = out.read_text().splitlines()
    assert len(text) == 30 + (ending == "csv")
    assert any("impression" in line for line in text)
    with pytest.raises(HareError, match=r"Unknown table 'event'\. Did you mean 'events'\?"):
        hare("export", "event", out, "--db", store.database.url)
    with pytest.raises(ConfigError, match=r"exports are \.csv or \.jsonl files"):
        hare("export", "days", tmp_path / "days.xlsx", "--db", store.database.url)
    with pytest.raises(ConfigError, match=r"cannot be written: .*Nothing was exported"):
        hare("export", "days", tmp_path / "nowhere/days.csv", "--db", store.database.url)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".db", ".db-wal", ".db-shm", f".{ending}"}


# -- behind a web handler ---------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path, monkeypatch):
    """The page's own handler."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs/adaptive_prompts.md").read_text(encoding="utf-8")
    first, handler = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len([line for line in handler.splitlines() if line.strip()]) <= 30
    namespace = {"__name__": "page"}
    exec(compile(first, "first", "exec"), namespace)
    exec(compile(handler, "handler", "exec"), namespace)
    namespace["service"]._refresh = 0.0
    with TestClient(namespace["app"]) as client:
        client.service = namespace["service"]
        yield client


def event(**values):
    return {"id": str(uuid.uuid4()), "prompt": "where-to-begin", "context": KEY, **values}


def test_the_pages_handler_recommends_and_records(web):
    asked = {"lens": "skeptic", "topic": "ai-safety", "entropy": 0.8, "depth": 1, "hour": 19}
    slate = web.get("/prompts", params=asked).json()
    assert slate[0]["id"] == "what-would-change-my-mind"
    assert slate[0]["text"] == "What would change my mind about this?"
    assert slate[0]["context"] == KEY
    batch = [
        event(kind="impression", prompt="what-would-change-my-mind"),
        event(kind="selection", dwell=31.5),
        event(kind="completion", completed=True),
        event(kind="entropy", before=0.8, after=0.6),
    ]
    assert web.post("/events", json=batch).json() == {"recorded": 4}
    again = web.post("/events", json=batch)
    assert again.status_code == 409
    assert "4 events are recorded before" in again.json()["error"]
    assert web.get("/prompts", params=asked).json()[0]["id"] != "what-would-change-my-mind"
    assert len(rows(web.service.telemetry, "events")) == 4


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"kind": "selection", "dwell": -1}, "dwell must be a number of seconds from 0, not -1"),
        ({"kind": "entropy", "before": 0.8, "after": 7}, "entropy after must be a number from 0 to 1, not 7"),
        ({"kind": "entropy", "before": 0.8}, "An event of the kind entropy needs after"),
        ({"kind": "impresion"}, "Unknown kind of event 'impresion'. Did you mean 'impression'?"),
        ({"kind": "impression", "user": "anna"}, "Unknown field of impression 'user'"),
        ({"kind": "impression", "prompt": "nothing"}, "Unknown prompt 'nothing'"),
        ({"kind": "impression", "prompt": 3}, "prompt of an event must be a text, not '3'"),
        ({"kind": "impression", "id": "anna"}, "is no random UUID"),
    ],
)
def test_the_pages_handler_tells_what_is_wrong(web, bad, message):
    answer = web.post("/events", json=[event(kind="impression"), event(**bad)])
    assert answer.status_code == 422
    assert message in answer.json()["error"]
    assert (
        web.get("/prompts", params={"lens": "a", "topic": "b", "entropy": 2, "depth": 0, "hour": 1}).status_code
        == 422
    )
    assert not rows(web.service.telemetry, "events")


def test_the_pages_handler_goes_on_when_the_store_is_locked(web, monkeypatch):
    def refuse(*_):
        raise StorageError("locked")

    monkeypatch.setattr(web.service.telemetry.database, "writing", refuse)
    monkeypatch.setattr(web.service.telemetry.database, "reading", refuse)
    assert web.post("/events", json=[event(kind="impression")]).status_code == 503
    asked = {"lens": "skeptic", "topic": "ai-safety", "entropy": 0.8, "depth": 1, "hour": 19}
    assert len(web.get("/prompts", params=asked).json()) == 3


def test_ids_of_events_are_new_each_time():
    assert len({new_id() for _ in range(100)}) == 100
