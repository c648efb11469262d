import errno
import hashlib
import json
import os
import sysconfig
from pathlib import Path

import pytest
from _board import environment, manifest, run, run_set
from pydantic import ValidationError

from hare_evaluation.foundation import DataError
from hare_evaluation.store import StoreError
from hare_leaderboard import results
from hare_leaderboard.results import _READERS, ResultStore, read, tail_of

OLD = Path(__file__).parent / "data/leaderboard"


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")


def test_what_was_written_is_read_back_and_lies_where_it_should(store):
    written = run_set()
    path = store.add(written)
    assert path.relative_to(store.root).parts[:2] == ("2026.1", "linucb")
    found, digest = read(path)
    assert found == written
    assert path.name == f"bilinear-select-{digest[:12]}.json"
    assert json.loads(path.read_text())["sha256"] == digest  # the whole file is JSON
    (stored,) = store.load().results
    assert stored.runs == written and stored.sha256 == digest


def test_writing_again_changes_nothing_and_another_result_stands_beside_the_first(store):
    path = store.add(run_set())
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert store.add(run_set()) == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    other = store.add(run_set(level=90.0))
    assert other != path and path.read_bytes() == before[0]
    assert len(store.load("2026.1").results) == 2
    assert not store.load("2027.1").results


def edited(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"regret":', b'"regret": '), (b'"tier":"verified"', b'"tier":"reproduced"'), (b'"seed":3', b'"seed":9')],
)
def test_an_edited_file_does_not_count(store, old, new):
    path = store.add(run_set())
    good = store.add(run_set("lints"))
    edited(path, old, new)
    found = store.load()
    assert [stored.path for stored in found.results] == [good]
    (flaw,) = found.flaws
    assert flaw.path == path and "was edited: its content does not match its sha256" in flaw.reason


def test_a_new_hash_for_an_edited_file_does_not_help_without_a_new_name(store):
    path = store.add(run_set())
    body = path.read_bytes().split(b"\n", 1)[1].replace(b'"seed":3', b'"seed":9', 1)
    path.write_bytes(b'{"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'",\n' + body)
    read(path)
    (flaw,) = store.load().flaws
    assert "has been edited or renamed" in flaw.reason


def test_a_result_in_another_submissions_folder_does_not_count(store):
    path = store.add(run_set())
    target = store.root / "2026.1" / "somebody" / path.name
    target.parent.mkdir()
    path.rename(target)
    (flaw,) = store.load().flaws
    assert "is in the wrong place: it is of 2026.1/linucb" in flaw.reason


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "does not begin with its sha256"),
        (b"{}", "does not begin with its sha256"),
        (b"[" * 100_000, "does not begin with its sha256"),
        (b'"schema":1}\n', "Field required"),
        (b'"schema":99}\n', "has schema 99; this version of hare-gym reads 1. Use a newer one."),
        (b'"schema":[1]}\n', r"has schema \[1\]"),
        (b'"schema":NaN}\n', "NaN is no number"),
        (b'"schema":' + b"[" * 200_000 + b"}\n", "is not JSON"),
        (b'"schema":' + b"9" * 5000 + b"}\n", "is not JSON"),
    ],
)
def test_what_is_no_result_is_named(tmp_path, data, text):
    path = tmp_path / "x.json"
    if data.startswith(b'"'):
        data = b'{"sha256":"' + hashlib.sha256(data).hexdigest().encode() + b'",\n' + data
    path.write_bytes(data)
    with pytest.raises(DataError, match=text):
        read(path)


def test_files_are_capped_and_links_are_not_followed(store, tmp_path, monkeypatch):
    path = store.add(run_set())
    link = path.with_name("link.json")
    link.symlink_to(path)
    assert "is a link" in store.load().flaws[0].reason
    link.unlink()
    monkeypatch.setattr(results, "MAX_BYTES", 1000)
    assert "is larger than 1,000 bytes" in store.load().flaws[0].reason
    with pytest.raises(DataError, match="at most 1,000 are read again"):
        store.add(run_set("lints"))


def test_a_removal_keeps_its_reason_and_the_result(store):
    path = store.add(run_set())
    store.add(run_set("lints"))
    stored = next(s for s in store.load().results if s.path == path)
    with pytest.raises(DataError, match="reason"):
        store.remove(stored, "")
    removal = store.remove(stored, "Read the catalogue's oracle.")
    assert removal.name == path.name.replace(".json", ".removed.json")
    found = store.load()
    assert [s.runs.submission for s in found.results] == ["lints"]
    assert [s.removal.reason for s in found.removed] == ["Read the catalogue's oracle."]
    assert path.exists() and not found.flaws
    path.unlink()
    assert [lost.reason for lost in store.load().lost] == ["Read the catalogue's oracle."]


def test_parts_must_fit_each_other(store):
    good = run_set()
    cases = [
        ({"runs": [run("Elsewhere-v0")]}, "is of an environment that is not listed"),
        ({"runs": [run(), run(regret=1.0)]}, "hidden seed 0, is there twice"),
        ({"runs": [run(curve=[1.0])]}, "has a curve of 1 points for 6 checkpoints"),
        ({"environments": [environment(), environment()]}, "two environments have the same label"),
        ({"manifest": manifest(isolation="process")}, "must be run under bwrap or landlock, not 'process'"),
    ]
    for change, text in cases:
        with pytest.raises(DataError, match=text):
            store.add(good.model_copy(update=change))
    assert not store.root.exists()
    store.add(run_set(tier="reproduced", manifest=manifest(isolation="process")))


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".x", "-x", "a" * 65, "é", "a b", "<b>", "a\u202eb", "a\x00", "a\n"]
)
def test_names_that_could_be_a_path_or_a_tag_are_refused(name):
    for part in ("submission", "track", "benchmark"):
        with pytest.raises(ValidationError, match="must be 1 to 64"):
            run_set(**{part: name})


def test_numbers_must_be_finite_and_texts_visible():
    for change in ({"regret": float("nan")}, {"worst": 0.0}, {"curve": [float("inf")]}, {"reason": "a\u202eb"}):
        with pytest.raises(ValidationError):
            run(**change)
    assert tail_of(f"{sysconfig.get_path('purelib')}/joblib/x.py:4".encode()) == "joblib/x.py:4"
    assert tail_of(b"\x1b[31mred\xff\r\n" + b"x" * 10_000) == "x" * 4000
    assert run(output_tail=tail_of("a\u202eb\x00".encode())).output_tail == "a\ufffdb\ufffd"


def test_a_full_disk_is_told_and_spoils_nothing(store, monkeypatch):
    good = store.add(run_set())

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hare_evaluation.store._write_all", full)
    with pytest.raises(StoreError, match="The disk is full"):
        store.add(run_set("lints"))
    monkeypatch.undo()
    assert [path for path in store.root.rglob("*") if path.is_file()] == [good]
    store.add(run_set("lints"))


@pytest.mark.parametrize("version", _READERS)
def test_every_schema_version_that_was_ever_written_is_still_read(version):
    """A stored file of each version. When the schema changes, add a file; never touch an old one."""
    content, digest = read(OLD / f"schema-{version}.json")
    assert content.submission == "linucb" and content.tier == "verified"
    assert [run.status for run in content.runs] == ["OK"] * 7
    assert content.runs[3].regret == 89.4007 and content.runs[3].curve[-1] == 89.401
    removal, _ = read(OLD / f"schema-{version}.removed.json")
    assert removal.of == digest and removal.reason == "An example of a removal."
