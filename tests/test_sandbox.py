"""What a stranger's agent can do to its evaluator: nothing. Every attempt is also made outside, where it works."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from _isolation import SUBMISSIONS, descendants, session, working

import hare_leaderboard.sandbox as sandbox_module
from hare_evaluation.foundation import UnknownNameError
from hare_leaderboard.channel import OUTPUT_BYTES
from hare_leaderboard.sandbox import Sandbox, SandboxError, best_sandbox, probe

sys.path.insert(0, str(SUBMISSIONS / "hostile"))
from hostile import ATTEMPTS, BEHAVIOURS

TIERS = ["bwrap", "landlock"]


@pytest.fixture(params=TIERS, scope="module")
def tier(request):
    return working(request.param)


def accept_all(listening):
    with contextlib.suppress(OSError):  # until it is closed
        while True:
            listening.accept()


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Things of the evaluator's that an agent might want: all of them are really there."""
    root = tmp_path_factory.mktemp("evaluator")
    home, outside = root / "home", root / "outside"
    home.mkdir()
    outside.mkdir()
    (home / "key").write_text("private")
    (root / "v1.secret").write_text("00" * 32)
    canary = b"the oracle's mean is 0.731"
    local = f"hare-test-{os.getpid()}"
    server, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + local)
    abstract.listen()
    for listening in (server, abstract):
        threading.Thread(target=accept_all, args=(listening,), daemon=True).start()
    import ctypes

    buffer = ctypes.create_string_buffer(canary)
    yield {
        "secret": str(root / "v1.secret"),
        "home": str(home),
        "outside": str(outside),
        "pid": os.getpid(),
        "address": ctypes.addressof(buffer),
        "canary": canary.decode(),
        "port": server.getsockname()[1],
        "local": local,
    }
    server.close()
    abstract.close()


@pytest.fixture(scope="module")
def possible(target, tmp_path_factory):
    """What came of each attempt in a plain process of this machine."""
    code = tmp_path_factory.mktemp("control") / "hostile.py"
    shutil.copy(SUBMISSIONS / "hostile/hostile.py", code)
    done = subprocess.run(
        [sys.executable, str(code), json.dumps(target)], capture_output=True, text=True, check=True, timeout=60
    )
    shutil.rmtree(target["outside"])
    os.mkdir(target["outside"])
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def inside(tier, target, possible):
    """What came of each attempt in the sandbox."""
    kwargs = {"behaviour": "attempt everything", "target": target}
    agent, process, _ = session(tier, kwargs=kwargs, scratch_mb=8, file_mb=4)
    assert agent.fault is None, (str(agent.fault), bytes(process.output))
    assert not os.listdir(target["outside"])
    text = process.output.decode()
    return json.loads(text[text.index("ATTEMPTED") + len("ATTEMPTED") :].splitlines()[0])


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_works_outside_is_refused_inside(attempt, inside, possible):
    if possible[attempt] != "done":
        pytest.skip(f"nobody can do this here, so that a refusal would tell nothing: {possible[attempt]}")
    assert inside[attempt] != "done"
    assert not inside[attempt].startswith("AssertionError")


def test_most_attempts_have_a_positive_control(possible):
    assert sum(done == "done" for done in possible.values()) >= (len(ATTEMPTS) if os.geteuid() == 0 else 17)


OUTCOMES = {
    "loop without end": ("TIMEOUT", "No answer within 1 s."),
    "sleep through the budget": ("TIMEOUT", "The 0.9 s of the whole session are used up."),
    "stop itself": ("TIMEOUT", "No answer within 1 s."),
    "flood the stream": ("PROTOCOL", "sent bytes that answer no question"),
    "corrupt the stream": ("PROTOCOL", "sent bytes that answer no question"),
    "announce four gigabytes": ("PROTOCOL", "has 4,294,967,295 bytes; at most 1,048,576 are taken"),
    "announce an empty frame": ("PROTOCOL", "has 8 bytes"),
    "answer twice": ("PROTOCOL", "The agent's process sent"),
    "answer early": ("PROTOCOL", "The agent's process sent"),  # before the question or while it is asked
    "answer another question": ("PROTOCOL", "sent bytes that answer no question"),
    "close the pipe": ("TIMEOUT", "No answer within 1 s."),
    "answer NaN": ("INVALID_ACTION", "must be an integer, not nan of type float"),
    "answer a float": ("INVALID_ACTION", "must be an integer, not 1.0 of type float"),
    "answer a bool": ("INVALID_ACTION", "must be an integer, not True of type bool"),
    "answer the wrong shape": ("INVALID_ACTION", "not an array of dtype float64 and shape (3, 3)"),
    "answer a huge number": ("INVALID_ACTION", "is not in the pool of 64"),
    "answer no item": ("INVALID_ACTION", "Item 64 is not in the pool of 64: use 0 to 63"),
    "answer 100 MB": ("PROTOCOL", "at most 1,048,576 are taken"),
    "answer a pickle": ("PROTOCOL", "holds the extension type 1; the protocol has none"),
    "answer an object": ("CRASH", "TypeError: A value of type object cannot be sent"),
    "exit": ("CRASH", "Its process ended with exit code 3."),
    "exit politely": ("CRASH", "Its process ended with exit code 0."),
    "crash": ("CRASH", "ZeroDivisionError: integer division or modulo by zero"),
    "end by a segmentation fault": ("CRASH", "Its process ended by SIGSEGV."),
    "abort": ("CRASH", "Its process ended by SIGABRT."),
    "kill itself": ("INFRA", "Its process was killed, and not by us"),
    "take memory bit by bit": ("CRASH", "MemoryError"),
    "print without end": ("OK", ""),
    "play along": ("OK", ""),
}
LIMITS = {
    "loop without end": {"act_seconds": 1.0},
    "stop itself": {"act_seconds": 1.0},
    "close the pipe": {"act_seconds": 1.0},
    "sleep through the budget": {"total_seconds": 0.9},
}


def test_every_behaviour_has_an_outcome():
    assert OUTCOMES.keys() == BEHAVIOURS.keys()


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_bad_behaviour_is_a_clear_status(behaviour):
    status, reason = OUTCOMES[behaviour]
    started = time.monotonic()
    knobs = {"horizon": 40} if behaviour == "answer early" else {}
    agent, process, played = session(
        working("bwrap"), kwargs={"behaviour": behaviour}, knobs=knobs, **LIMITS.get(behaviour, {})
    )
    found = ("OK", "") if agent.fault is None else (agent.fault.status, str(agent.fault))
    assert found[0] == status and reason in found[1], (found, bytes(process.output[-500:]))
    assert time.monotonic() - started < 60
    assert not process.running
    assert len(process.output) <= OUTPUT_BYTES
    totals = played.ledger.summary()["totals"]
    assert totals["rounds"] == played.env.unwrapped.task.horizon  # the session went on to its end
    if status != "OK":
        assert 3 <= agent.fault_round <= totals["rounds"]
        assert len(set(played.ledger.curves["reward"][agent.fault_round - 2 :])) <= 2


def test_processor_time_is_limited_as_well():
    agent, _, _ = session(working("bwrap"), kwargs={"behaviour": "loop without end"}, cpu_seconds=1)
    assert (agent.fault.status, str(agent.fault)) == ("TIMEOUT", "It used more than 1 s of processor time.")


def test_its_output_is_kept_and_harmless():
    agent, process, _ = session(working("bwrap"), kwargs={"behaviour": "print without end"})
    assert agent.fault is None and len(process.output) == OUTPUT_BYTES and set(process.output) == set(b"x\n")


def test_a_slow_start_has_a_limit_of_its_own():
    agent, process, _ = session(working("bwrap"), kwargs={"behaviour": "sleep in reset"}, start_seconds=2.0)
    assert (agent.fault.status, str(agent.fault)) == ("TIMEOUT", "It was not ready within 2 s.")
    assert agent.fault_round == 0 and b"ASLEEP" in process.output


def test_nothing_is_carried_from_one_session_to_the_next():
    def told(tier):
        return b"REMEMBERED" in session(tier, kwargs={"behaviour": "remember"})[1].output

    try:
        told("process")
        assert told("process")  # without isolation it remembers
    finally:
        Path("/tmp/hare-remembered").unlink()
    told(working("bwrap"))
    assert not told("bwrap")


def test_code_that_cannot_be_imported_is_the_agents_own_failure():
    agent, _, _ = session(working("bwrap"), entry_point="nowhere:Agent")
    assert agent.fault.status == "CRASH" and "there is no module 'nowhere'" in str(agent.fault)


def test_a_good_agent_plays_the_same_in_every_tier(tier):
    hashes = {
        session(each, "good", "good:Good", {"epsilon": 0.3}, knobs={"horizon": 300})[2].actions_hash.hexdigest()
        for each in (tier, "process")
    }
    assert len(hashes) == 1


def test_the_kernel_counts_the_processor_time():
    _, process, _ = session(working("bwrap"), "good", "good:Good", knobs={"horizon": 3000})
    assert 0.0 < process.cpu_seconds < 30.0


@pytest.mark.parametrize("tier_name", TIERS)
def test_when_the_evaluator_is_killed_the_agent_dies_too(tier_name, tmp_path):
    tier = working(tier_name)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from _isolation import session\n"
        "session(sys.argv[2], kwargs={'behaviour': 'sleep in reset', 'target': {'mark': sys.argv[3]}})\n"
    )
    here = str(Path(__file__).parent)
    mark = f"hare-test-mark-{os.getpid()}-{tier}"
    evaluator = subprocess.Popen([sys.executable, "-c", code, here, tier, mark])
    try:
        workers = waited_for(lambda: [c for c in descendants(evaluator.pid) if b"hare_gym.worker" in command(c)])
        os.kill(evaluator.pid, signal.SIGKILL)
        evaluator.wait()
        waited_for(lambda: not any(Path(f"/proc/{pid}").exists() and command(pid) for pid in workers))
    finally:
        evaluator.kill()
        evaluator.wait()


def waited_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- which tier, and what is said where none works ------------------------------------------------------------


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where the evaluator looks for bwrap: an empty folder."""
    monkeypatch.setattr(sandbox_module, "_OUTER_ENVIRONMENT", {"PATH": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    probe.cache_clear()
    yield tmp_path
    probe.cache_clear()


def test_a_program_called_bwrap_that_does_not_isolate_is_found_out(path):
    fake = path / "bwrap"  # runs the command, and nothing of what would confine it
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 6\nexec "$@"\n')
    fake.chmod(0o755)
    reason = probe("bwrap")
    assert reason is not None and "it does not isolate: read" in reason and "worked inside" in reason


def test_without_a_tier_the_run_is_refused_with_the_reasons(path, monkeypatch):
    monkeypatch.setattr(sandbox_module.confine, "MACHINES", ())
    with pytest.raises(SandboxError) as refused:
        best_sandbox()
    text = str(refused.value)
    assert "cannot be isolated here" in text and "bwrap: " in text and "landlock: " in text
    assert "apt-get install bubblewrap" in text and "--isolation process" in text and "never ranked" in text
    assert best_sandbox("process").tier == "process"


def test_a_trial_that_is_killed_is_made_again(monkeypatch):
    tier, started = working("bwrap"), []

    def killed_once(self, *arguments, run=Sandbox.run, **options):
        started.append(run(self, *arguments, **options))
        if len(started) == 1:
            started[0].kill()
        return started[-1]

    monkeypatch.setattr(Sandbox, "run", killed_once)
    probe.cache_clear()
    assert probe(tier) is None and len(started) == 2


def test_bwrap_that_is_missing_is_named(path):
    assert "bwrap" in probe("bwrap") and "No such file" in probe("bwrap")


def test_unknown_isolation_is_named():
    with pytest.raises(UnknownNameError, match=r"Unknown isolation 'bubblewrap'. Did you mean 'bwrap'"):
        best_sandbox("bubblewrap")


def test_the_filter_is_built_for_every_machine_it_names():
    from hare_leaderboard.confine import MACHINES, filter_program

    for machine in MACHINES:
        program = np.frombuffer(filter_program(machine, 1234), dtype=np.uint8).reshape(-1, 8)
        jumps = [(i, row[2], row[3]) for i, row in enumerate(program) if row[0] & 7 == 5]
        assert len(program) < 4096 and all(i + 1 + max(yes, no) < len(program) for i, yes, no in jumps)
        assert program[-1][0] == 6  # it ends in an answer


# -- the page ----------------------------------------------------------------------------------------------


def test_the_page_has_every_attack_with_its_outcome():
    page = Path(__file__).parents[1].joinpath("docs/security.md").read_text()
    table = page[page.index("<!-- attacks:begin -->") : page.index("<!-- attacks:end -->")]
    assert table == f"<!-- attacks:begin -->\n{attacks_table()}\n"


def attacks_table():
    rows = ["| attempt or behaviour | outcome |", "|---|---|"]
    rows += [f"| {attempt} | refused |" for attempt in ATTEMPTS]
    for behaviour, (status, reason) in OUTCOMES.items():
        rows.append(f"| {behaviour} | `{status}`{': ' if reason else ''}{reason} |")
    return "\n".join(rows)


def test_the_page_names_tests_that_exist():
    here = Path(__file__).parent
    named = set(re.findall(r"`(test_\w+)`", here.parent.joinpath("docs/security.md").read_text()))
    sources = "".join(path.read_text() for path in here.glob("test_*.py"))
    assert named and named <= set(re.findall(r"def (test_\w+)", sources))
