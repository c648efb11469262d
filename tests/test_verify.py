"""The verified run: what is finished is kept, and whatever becomes of the agent is a clear record."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _isolation import SUBMISSIONS, descendants, working
from test_season import SMALL
from test_store import small_disk
from typer.testing import CliRunner

from hare_evaluation.foundation import ConfigError, HareError
from hare_evaluation.store import Store, StoreError
from hare_leaderboard.benchmark import load_benchmark
from hare_leaderboard.cli import app
from hare_leaderboard.results import ResultStore
from hare_leaderboard.sandbox import Sandbox
from hare_leaderboard.season import load_season, open_season
from hare_leaderboard.verify import verify


class Board:
    """A benchmark with an open season, a store and a results folder; all of them empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "small.yaml").write_text(SMALL)
        self.benchmark = load_benchmark(str(root / "small.yaml"))
        self.secret = root / "keys/small.secret"
        if not self.secret.exists():
            open_season(self.benchmark, self.secret, root)
        self.season = load_season(self.benchmark, self.secret, root)
        self.store, self.results = Store(root / "store"), ResultStore(root / "results")

    def run(self, folder=SUBMISSIONS / "good", tier="bwrap", **options):
        options = {"jobs": 1, **options}
        sandbox = Sandbox(working(tier), self.benchmark.session_limits)
        return verify(folder, self.season, sandbox, self.store, self.results, **options)

    def command(self, folder=SUBMISSIONS / "good", *more):
        return [
            sys.executable, "-m", "hare_evaluation.cli", "leaderboard", "run", str(folder), "--benchmark",
            str(self.root / "small.yaml"), "--secret", str(self.secret), "--store", str(self.root / "store"),
            "--results", str(self.root / "results"), *more,
        ]  # fmt: skip

    def played(self):
        return {key: self.store.path(key).read_bytes() for key in self.store.all_keys()}


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path / "board")


def variant(tmp_path, **configuration):
    """The hostile submission with another configuration."""
    folder = tmp_path / "hostile"
    shutil.copytree(SUBMISSIONS / "hostile", folder)
    path = folder / "submission.yaml"
    path.write_text(path.read_text().replace("{behaviour: exit}", json.dumps(configuration)))
    return folder


def test_a_good_agent_gets_a_verified_result(board):
    told = []
    (path,) = board.run(tell=told.append)
    assert len(told) == 4 and told[0] == "bilinear-select, non-linear, hidden seed 0: OK"
    (stored,) = board.results.load().results
    result = stored.runs
    assert stored.path == path and result.tier == "verified" and result.submission == "good"
    assert [(run.seeds, run.seed, run.status, run.rounds) for run in result.runs] == [
        ("hidden", 0, "OK", 60), ("hidden", 1, "OK", 60), ("hidden", 2, "OK", 60), ("public", 0, "OK", 60)
    ]  # fmt: skip
    assert all(0 < run.regret < run.worst and run.curve[-1] == run.regret for run in result.runs)
    assert len({run.regret for run in result.runs}) == 4
    manifest = result.manifest
    assert manifest.isolation == "bwrap" and manifest.protocol == 1 and manifest.limits["memory_mb"] == 1024
    assert manifest.seed_commitment == board.season.commitment and manifest.lock_sha256
    written = path.read_text() + "".join(data.decode() for data in board.played().values())
    seeds = [board.season.seed("bilinear-select", "non-linear", "hidden", 0, p) for p in ("environment", "agent")]
    for secret in (board.season.secret.hex(), *map(str, seeds), *(f"{seed:x}" for seed in seeds)):
        assert secret not in written
    assert board.run(tell=told.append) == [path]  # the same again is no news, and plays nothing
    assert len(told) == 4 and len(board.results.load().results) == 1


def test_a_hostile_agent_harms_only_itself(board, tmp_path):
    board.run()
    good = board.results.load().results[0].path.read_bytes()
    (path,) = board.run(variant(tmp_path, behaviour="exit"))
    found = {stored.runs.submission: stored.runs for stored in board.results.load().results}
    for run in found["hostile"].runs:
        assert (run.status, run.reason, run.rounds) == ("CRASH", "Its process ended with exit code 3.", 2)
        assert run.regret > 0.95 * run.worst
    assert board.results.load().flaws == [] and path.exists()
    assert board.results.load("small").results[0].path.read_bytes() == good


def test_its_last_words_are_kept_without_what_could_harm_a_page(board, tmp_path):
    folder = variant(tmp_path, behaviour="print without end")
    code = folder / "hostile.py"
    code.write_text(code.read_text().replace('print("x" * 50_000)', 'print("\\x1b[31m\\u202e\\x00<b>")'))
    board.run(folder, kinds=("public",))
    tail = board.results.load().results[0].runs.runs[0].output_tail
    assert 0 < len(tail) <= 4000 and "<b>" in tail
    assert not {"\x1b", "\u202e", "\x00"} & set(tail)


def test_an_unexplained_kill_is_tried_again_and_then_the_agents_own(board, tmp_path, monkeypatch):
    started = []
    start = Sandbox.start
    monkeypatch.setattr(Sandbox, "start", lambda self, folder: started.append(1) or start(self, folder))
    board.run(variant(tmp_path, behaviour="kill itself"), kinds=("public",))
    (run,) = board.results.load().results[0].runs.runs
    assert (run.status, run.reason) == ("CRASH", "Its process was killed in each of 3 attempts, by nobody known.")
    assert len(started) == 3


def test_without_isolation_a_result_is_never_verified(board):
    board.run(tier="process")
    (stored,) = board.results.load().results
    assert stored.runs.tier == "self-reported" and stored.runs.manifest.isolation == "process"
    assert stored.runs.manifest.notes == ["Unverified: the agent was not isolated."]


def test_public_seeds_need_no_secret(board):
    board.season = load_season(board.benchmark, None)
    board.run(kinds=("public",))
    (stored,) = board.results.load().results
    assert stored.runs.tier == "reproduced" and [run.seeds for run in stored.runs.runs] == ["public"]
    with pytest.raises(ConfigError, match="Hidden seeds need the season's secret"):
        board.run()


def test_a_changed_agent_is_run_again_and_an_unchanged_one_is_not(board, tmp_path):
    folder = tmp_path / "good"
    shutil.copytree(SUBMISSIONS / "good", folder)
    board.run(folder, kinds=("public",))
    code = folder / "good.py"
    code.write_text(code.read_text() + "\n# another version\n")
    board.run(folder, kinds=("public",))
    assert len(board.played()) == 2 and len(board.results.load().results) == 2


def test_two_evaluators_on_one_folder_share_the_work(board):
    both = [subprocess.Popen(board.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = []
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said += out.decode().splitlines()
    assert sum(": OK" in line for line in said) == 4 == len(board.played())
    assert (
        len({json.dumps([run.model_dump() for run in stored.runs.runs]) for stored in board.results.load().results})
        == 1
    )
    assert board.results.load().flaws == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    working("bwrap")
    board = Board(tmp_path_factory.mktemp("undisturbed") / "board")
    board.run()
    return board


def kill_and_resume(root, kills, undisturbed):
    """Kills the evaluator or its worker at random moments; ends with what an undisturbed run ends with."""
    chance = random.Random(kills)
    board, boards = None, 0
    killed = {"evaluator": 0, "worker": 0}
    for i in range(kills):
        if board is None:
            boards += 1
            shutil.copytree(undisturbed.root, root / str(boards), ignore=shutil.ignore_patterns("store", "results"))
            board = Board(root / str(boards))
        process = subprocess.Popen(board.command(SUBMISSIONS / "good", "--jobs", "1"), stderr=subprocess.PIPE)
        victim = "worker" if i % 2 else "evaluator"
        time.sleep(chance.uniform(0.0, 2.5) if victim == "evaluator" else chance.uniform(1.0, 2.5))
        if victim == "evaluator":
            killed[victim] += process.poll() is None
            process.kill()
            process.communicate()
        else:
            below = descendants(process.pid)
            if below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(below), signal.SIGKILL)
                    killed[victim] += 1
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
        for key, data in board.played().items():
            assert data == undisturbed.played()[key]
        assert board.results.load().flaws == []
        if len(board.played()) == 4:
            check_finished(board, undisturbed)
            board = None
    if board is not None:
        check_finished(board, undisturbed)
    assert killed["evaluator"] + killed["worker"] >= kills / 2, killed


def check_finished(board, undisturbed):
    board.run()
    assert board.played() == undisturbed.played()
    (found,), (wanted,) = board.results.load().results, undisturbed.results.load().results
    times = {"act_seconds", "update_seconds", "cpu_seconds"}
    assert [run.model_dump(exclude=times) for run in found.runs.runs] == [
        run.model_dump(exclude=times) for run in wanted.runs.runs
    ]


def test_killed_and_resumed(tmp_path, undisturbed):
    kill_and_resume(tmp_path, 2, undisturbed)


@pytest.mark.slow
def test_killed_50_times_and_resumed(tmp_path, undisturbed):
    kill_and_resume(tmp_path, 50, undisturbed)


def test_a_full_disk_costs_nothing_that_was_finished(board):
    with small_disk("12k") as disk:
        board.store = Store(disk)
        with pytest.raises(StoreError, match=r"The disk is full: .* Every finished run is kept"):
            board.run()
        kept = board.played()
        assert 0 < len(kept) < 4
        assert board.results.load().results == []
        for key, data in kept.items():
            assert board.store.get(key) is not None, data


def test_of_several_submissions_the_good_ones_are_run(board, tmp_path):
    working("bwrap")
    command = board.command(tmp_path / "nothing", str(SUBMISSIONS / "good"), "--jobs", "1")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"left out {tmp_path / 'nothing'}: " in done.stderr
    assert [stored.runs.submission for stored in board.results.load().results] == ["good"]


def test_mistakes_are_named(board, tmp_path):
    def said(*arguments):
        result = CliRunner().invoke(app, ["run", *map(str, arguments)])
        assert result.exit_code == 1 and isinstance(result.exception, HareError), result.exception
        return str(result.exception)

    good, small = SUBMISSIONS / "good", ("--benchmark", board.root / "small.yaml", "--secret", board.secret)
    assert "Unknown track 'bilinear-selct'. Did you mean 'bilinear-select'?" in said(
        good, *small, "--track", "bilinear-selct"
    )
    assert "Unknown isolation 'docker'. Known: bwrap, landlock, process." in said(
        good, *small, "--isolation", "docker"
    )
    assert "jobs must be at least 1, not 0" in said(good, *small, "--jobs", 0)
    assert "There is no such file." in said(tmp_path, *small)
    assert "cannot be read: No such file or directory" in said(good, *small[:2], "--secret", tmp_path / "none")
    other = tmp_path / "other"
    shutil.copytree(good, other)
    path = other / "submission.yaml"
    path.write_text(path.read_text().replace("name: good", "name: other").replace("bilinear-select", "lamp"))
    assert "'other' has entered no track of small." in said(other, *small)
    assert "'other' has not entered 'bilinear-select'. It has entered: lamp." in said(
        other, *small, "--track", "bilinear-select"
    )
