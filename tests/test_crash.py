"""What kills a run costs the run in progress and nothing else: the store ends as if nothing had happened."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_ray import contents
from test_store import small_disk

from hare_evaluation.store import Store

HERE = Path(__file__).parent
RUNS = 8


def start(store: Path, jobs: int = 2, pause: float = 0.1, seeds: int = RUNS) -> subprocess.Popen[str]:
    """`hare run` on small sessions that take ``pause`` seconds each, in a process group of its own."""
    command = [
        sys.executable, "-m", "hare_evaluation.cli", "run", "--env", "HareBilinear-v0", "--horizon", "50",
        "--agent", "_loop_fakes:Greedy", "--agent-arg", f"pause={pause}", "--seeds", str(seeds),
        "--jobs", str(jobs), "--store", str(store), "--no-report",
    ]  # fmt: skip
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # tests that a script runs in the background inherit that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finish(store: Path, **options) -> None:
    process = start(store, **options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err


def wait_for_records(store: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(Store(store).all_keys()) < number:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("undisturbed")
    finish(root)
    found = contents(root)
    assert len(found) == RUNS
    return found


def kill_and_resume(root: Path, kills: int, undisturbed: dict[str, bytes]) -> None:
    """Kills at random moments; whenever the runs get finished before their time, starts on an empty store."""
    chance = random.Random(kills)
    stores, killed_in_progress = 0, 0
    store = root / "0"
    for _ in range(kills):
        process = start(store)
        # half of them anywhere from the start of the interpreter on, half right after a record appeared
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0.0, 2.5))
        else:
            have = len(Store(store).all_keys())
            wait_for_records(store, min(RUNS, have + chance.randint(1, 3)))
            time.sleep(chance.uniform(0.0, 0.02))
        killed_in_progress += process.poll() is None
        kill_group(process)
        present = Store(store).all_keys()
        for key in present:  # nothing half-written has a record's name, at any moment
            assert Store(store).path(key).read_bytes() == undisturbed[key]
        if len(present) == RUNS:
            finish(store)
            assert contents(store) == undisturbed
            stores += 1
            store = root / str(stores)
    finish(store)
    assert contents(store) == undisturbed
    assert killed_in_progress >= kills / 2


def test_killed_5_times_and_resumed(tmp_path, undisturbed):
    kill_and_resume(tmp_path, 5, undisturbed)


@pytest.mark.slow
def test_killed_50_times_and_resumed(tmp_path, undisturbed):
    kill_and_resume(tmp_path, 50, undisturbed)


def test_parent_killed_and_its_workers_left_alone(tmp_path, undisturbed):
    process = start(tmp_path, pause=0.1)
    try:
        wait_for_records(tmp_path, 2)
        os.kill(process.pid, signal.SIGKILL)
        finish(tmp_path)
        assert contents(tmp_path) == undisturbed
    finally:
        kill_group(process)


def test_two_commands_at_once_on_one_store(tmp_path, undisturbed):
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    assert contents(tmp_path) == undisturbed


@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_resume(tmp_path, undisturbed, jobs, whole_group):
    process = start(tmp_path, jobs=jobs, pause=0.3)
    wait_for_records(tmp_path, 2)
    if whole_group:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    kill_group(process)
    assert process.returncode == 130, out + err
    done = len(Store(tmp_path).all_keys())
    assert 2 <= done < RUNS
    assert (
        f"Interrupted. {done} of 8 runs are finished and kept in {tmp_path}; run the same command again to resume."
        in err
    )
    assert "Traceback" not in err
    if jobs == 2 and whole_group:
        finish(tmp_path, pause=0.3)
        assert len(contents(tmp_path)) == RUNS


def test_full_disk_keeps_what_is_finished(tmp_path):
    with small_disk("180k") as root:
        process = start(root, pause=0.0, seeds=30)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 2, out + err
        assert "error: The disk is full: " in err and "Every finished run is kept" in err
        kill_group(process)  # a worker may still be at its run, and leave a lock that the next command removes
        Store(root).clean()
        finished = contents(root)
        assert 0 < len(finished) < 30
        assert len(list(Store(root).records())) == len(finished)


def test_damaged_records_are_made_again(tmp_path, undisturbed):
    finish(tmp_path)
    store = Store(tmp_path)
    truncated, flipped = (store.path(key) for key in store.all_keys()[:2])
    truncated.write_bytes(truncated.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 4
    flipped.write_bytes(data)
    finish(tmp_path)
    assert {key: store.path(key).read_bytes() for key in store.all_keys()} == undisturbed
    assert len(list((tmp_path / "quarantine").glob("*.reason.txt"))) == 2
