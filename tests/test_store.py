"""The store: nothing lost, nothing doubled, and every refusal says what to do."""

import errno
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hare_evaluation.store import NonDeterminismError, Store, StoreError, canonical_json


def record(name: str = "a", **changes) -> dict:
    key = hashlib.sha256(name.encode()).hexdigest()
    spec = {
        "env": "E-v0",
        "env_kwargs": {"horizon": 3},
        "agent": "x",
        "agent_kwargs": {},
        "seed_set": "quick",
        "seed": 0,
        "lanes": 1,
        "versions": {"code": "c"},
    }
    base = {
        "schema": 1,
        "key": key,
        "spec": spec,
        "status": "ok",
        "error": None,
        "totals": {"regret": 0.1, "rounds": 3},
    }
    return {**base, **changes}


def temporary_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.endswith((".tmp", ".lock"))]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(json_values)
def test_canonical_json_reads_back_to_the_same_value_and_bytes(value):
    import json

    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii() and "\n" not in text


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [{"x": -float("inf")}]])
def test_canonical_json_refuses_what_is_not_json(bad):
    with pytest.raises(ValueError):
        canonical_json(bad)


def test_layout_of_a_record(tmp_path):
    store = Store(tmp_path)
    one = record()
    store.commit(one, {"wall_seconds": 1.5})
    path = tmp_path / one["key"][:2] / f"{one['key']}.json"
    digest, body = path.read_bytes().split(b"\n", 1)
    assert hashlib.sha256(body).hexdigest().encode() == digest
    assert body == canonical_json(one).encode() + b"\n"
    assert store.get(one["key"]) == one
    assert store.timing(one["key"]) == {"wall_seconds": 1.5}
    assert temporary_files(tmp_path) == []


def test_what_is_not_there(tmp_path):
    store = Store(tmp_path / "none")
    assert store.get("0" * 64) is None
    assert store.timing("0" * 64) is None
    assert list(store.records()) == []
    assert not (tmp_path / "none").exists()


def test_records_come_sorted_and_without_timings(tmp_path):
    store = Store(tmp_path)
    for name in "dcba":
        store.commit(record(name), {"wall_seconds": 1})
    keys = [each["key"] for each in store.records()]
    assert len(keys) == 4 and keys == sorted(keys) == store.all_keys()


def test_same_record_twice_is_written_once(tmp_path):
    store = Store(tmp_path)
    store.commit(record())
    path = store.path(record()["key"])
    before = path.stat().st_ino
    store.commit(record())
    assert path.stat().st_ino == before


def test_another_record_of_one_key_is_reported_and_the_first_kept(tmp_path):
    store = Store(tmp_path)
    store.commit(record())
    with pytest.raises(NonDeterminismError) as caught:
        store.commit(record(totals={"regret": 0.2, "rounds": 3}, status="failed"))
    assert str(caught.value) == (
        "One specification gave two records, which differ in: status, totals. The first is kept in "
        f"{store.path(record()['key'])}. The agent or the environment uses randomness other than the generator it "
        "was given."
    )
    assert store.get(record()["key"]) == record()
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: data[:40], "its content does not match its sha256"),
        (lambda data: data[:-1], "its content does not match its sha256"),
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "its content does not match its sha256"),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "its content does not match its sha256"),
        (lambda data: data + b"x", "its content does not match its sha256"),
    ],
)
def test_damaged_record_goes_to_quarantine_with_the_reason(tmp_path, spoil, reason):
    store = Store(tmp_path)
    one = record()
    store.commit(one)
    path = store.path(one["key"])
    spoiled = spoil(path.read_bytes())
    path.write_bytes(spoiled)
    with pytest.warns(UserWarning, match="is damaged") as caught:
        assert store.get(one["key"]) is None
    moved = tmp_path / "quarantine" / f"{one['key']}.1.json"
    assert str(caught[0].message) == f"{path} is damaged ({reason}); it was moved to {moved}."
    assert moved.read_bytes() == spoiled
    assert moved.with_suffix(".reason.txt").read_text() == f"{reason}\n"
    assert not path.exists()
    store.commit(one)
    assert store.get(one["key"]) == one
    path.write_bytes(b"")
    with pytest.warns(UserWarning):
        assert list(store.records()) == []
    assert (tmp_path / "quarantine" / f"{one['key']}.2.json").exists()


def test_every_flipped_bit_is_noticed(tmp_path):
    store = Store(tmp_path)
    store.commit(record())
    path = store.path(record()["key"])
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        for bit in (1, 32):
            flipped = bytearray(data)
            flipped[position] ^= bit
            path.write_bytes(flipped)
            assert store.read(record()["key"])[0] is None, (position, bit)


def test_record_under_another_name_is_not_believed(tmp_path):
    store = Store(tmp_path)
    store.commit(record("a"))
    wrong = store.path(record("b")["key"])
    wrong.parent.mkdir(exist_ok=True)
    shutil.copy(store.path(record("a")["key"]), wrong)
    with pytest.warns(UserWarning, match=f"it is the record of {record('a')['key']}"):
        assert store.get(record("b")["key"]) is None
    assert store.get(record("a")["key"]) == record("a")


def test_commit_over_a_damaged_record_replaces_it(tmp_path):
    store = Store(tmp_path)
    store.commit(record())
    store.path(record()["key"]).write_bytes(b"half a rec")
    with pytest.warns(UserWarning, match="is damaged"):
        store.commit(record())
    assert store.get(record()["key"]) == record()


def test_superseded_record_is_kept_aside(tmp_path):
    store = Store(tmp_path)
    failed = record(status="failed")
    for number in (1, 2):
        store.commit(failed)
        store.supersede(failed["key"])
        assert store.get(failed["key"]) is None
        assert (tmp_path / "superseded" / f"{failed['key']}.{number}.json").exists()
    store.supersede(failed["key"])  # nothing there: nothing happens


def test_index_has_a_row_per_record_and_can_be_rebuilt(tmp_path):
    store = Store(tmp_path)
    store.commit(record("a"))
    store.commit(
        record("b", status="failed", error={"round": 2, "type": "ValueError", "message": "", "traceback": ""})
    )
    table = store.index()
    assert set(table["status"]) == {"ok", "failed"}
    assert table.set_index("key").loc[record("b")["key"], "error"] == "ValueError"
    assert table["env_kwargs"].unique().tolist() == ['{"horizon":3}']
    path = store.write_index()
    assert path == tmp_path / "index.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
    path.unlink()
    pd.testing.assert_frame_equal(pd.read_parquet(store.write_index()), table)


# -- leases ---------------------------------------------------------------------------------------------------


def test_lease_has_one_holder_and_is_reentrant(tmp_path):
    one, other = Store(tmp_path), Store(tmp_path)
    with one.lease("ab") as held, one.lease("ab") as again, other.lease("ab", blocking=False) as refused:
        assert (held, again, refused) == (True, True, False)
    with other.lease("ab", blocking=False) as held:
        assert held
    assert temporary_files(tmp_path) == []


def test_waiting_for_a_lease_ends_when_it_is_given_back(tmp_path):
    order = []

    def wait():
        with Store(tmp_path).lease("ab"):
            order.append("second")

    with Store(tmp_path).lease("ab"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def hold(root, ready):
    with Store(root).lease("ab"):
        ready.set()
        time.sleep(60)


def test_lease_dies_with_its_holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(30)
    with Store(tmp_path).lease("ab", blocking=False) as held:
        assert not held
    holder.kill()
    holder.join()
    with Store(tmp_path).lease("ab") as held:
        assert held


def count_alone(root, rounds):
    store, counter = Store(root), Path(root) / "counter"
    for _ in range(rounds):
        with store.lease("ab"):
            value = int(counter.read_text())
            counter.write_text(str(value + 1))


def test_leases_exclude_each_other_under_contention(tmp_path):
    (tmp_path / "counter").write_text("0")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=count_alone, args=(tmp_path, 300)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "counter").read_text() == "900"


def test_clean_removes_what_the_dead_left_and_nothing_of_the_living(tmp_path):
    store = Store(tmp_path)
    folder = tmp_path / "ab"
    folder.mkdir()
    (folder / ".dead.0123.tmp").write_text("half")
    (folder / "dead.lock").touch()
    with Store(tmp_path).lease("abcd"):
        from hare_evaluation.store import _temporary

        with _temporary(folder / "living.json") as (_, living):
            store.clean()
            assert sorted(path.name for path in temporary_files(tmp_path)) == sorted([living.name, "abcd.lock"])


def test_writer_whose_temporary_file_was_taken_away_writes_again(tmp_path, monkeypatch):
    link, calls = os.link, []

    def taken_once(source, target):
        calls.append(source)
        if len(calls) == 1:
            os.unlink(source)
        link(source, target)

    monkeypatch.setattr(os, "link", taken_once)
    Store(tmp_path).commit(record())
    assert len(calls) == 2 and Store(tmp_path).get(record()["key"]) == record()


# -- disks ----------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(size: str, options: str = ""):
    """A tmpfs of its own; skips where it cannot be mounted."""
    folder = tempfile.mkdtemp()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "none", folder], capture_output=True
    )
    if mounted.returncode:
        os.rmdir(folder)
        pytest.skip("a small disk cannot be mounted here; the same is tested by a limit on the size of files")
    try:
        yield Path(folder)
    finally:
        subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)


def full_disk_message(path) -> str:
    return (
        f"The disk is full: {path} could not be written. Every finished run is kept; free some space and run the "
        "same command again."
    )


def test_full_disk(tmp_path):
    with small_disk("64k") as root:
        store, written = Store(root), []
        with pytest.raises(StoreError) as caught:
            for number in range(40):
                store.commit(record(str(number), padding="x" * 5000))
                written.append(record(str(number))["key"])
        refused = record(str(len(written)))["key"]
        assert str(caught.value).startswith("The disk is full: ") and refused[:2] in str(caught.value)
        assert written and store.all_keys() == sorted(written)
        assert len(list(store.records())) == len(written)
        assert temporary_files(root) == []


def test_limit_on_the_size_of_files(tmp_path):
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from test_store import Store, record, StoreError\n"
        "store = Store(sys.argv[1]); store.commit(record('small'))\n"
        "try: store.commit(record('large', padding='x' * 20000))\n"
        "except StoreError as error: print(error)\n"
    )
    command = [os.sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == full_disk_message(Store(tmp_path).path(record("large")["key"]))
    assert Store(tmp_path).all_keys() == [record("small")["key"]]
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("call", ["write", "fsync", "link", "open", "mkdir"])
def test_disk_that_is_full_at_any_step(tmp_path, monkeypatch, call):
    Store(tmp_path).commit(record("before"))
    one = record("one")
    real = getattr(os, call)
    asked = []

    def full(*args, **kwargs):
        asked.append(args)
        if call == "write" and len(asked) == 1:
            return real(args[0], bytes(args[1])[:10])  # a disk fills up in the middle of a file
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError) as caught:
        Store(tmp_path).commit(one)
    monkeypatch.undo()
    assert asked
    assert str(caught.value) == full_disk_message(Store(tmp_path).path(one["key"]))
    assert temporary_files(tmp_path) == []
    assert [each["key"] for each in Store(tmp_path).records()] == [record("before")["key"]]


def test_timing_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    Store(tmp_path).commit(record(), {"wall_seconds": 1})
    assert Store(tmp_path).get(record()["key"]) == record()
    assert temporary_files(tmp_path) == []


@contextmanager
def read_only(root: Path):
    """``root`` as somebody sees it who may not write there, which root always may."""
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_read_only_folder_can_be_read_and_not_written():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "runs"
        store = Store(root)
        store.commit(record("good"))
        store.commit(record("bad"))
        store.path(record("bad")["key"]).write_bytes(b"")
        with read_only(root):
            with pytest.warns(UserWarning, match="is damaged .the file is empty. and was left out"):
                assert list(store.records()) == [record("good")]
            with pytest.raises(StoreError) as caught:
                store.commit(record("new"))
            with pytest.raises(StoreError, match=r"\.lock cannot be written: Permission denied"), store.lease("ab"):
                pass
            store.clean()
        path = store.path(record("new")["key"])
        assert (
            str(caught.value) == f"{path} cannot be written: Permission denied. Choose another folder with --store."
        )


def test_store_where_a_file_is(tmp_path):
    (tmp_path / "runs").write_text("")
    store = Store(tmp_path / "runs")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        store.commit(record())


def test_record_that_may_not_be_read_is_no_damaged_record():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = Store(Path(folder) / "runs")
        store.commit(record())
        path = store.path(record()["key"])
        with read_only(store.root):
            os.seteuid(os.getuid())
            path.chmod(0)
            if os.getuid() == 0:
                os.seteuid(65534)
            with pytest.raises(StoreError) as caught:
                list(store.records())
        assert str(caught.value) == f"{path} cannot be read: Permission denied."
        assert store.get(record()["key"]) == record()
