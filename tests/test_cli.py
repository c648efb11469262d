"""The command line: what it prints, writes and returns."""

# ruff: noqa: E501 (whole messages stand on one line)

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hare_evaluation import cli
from hare_evaluation.store import Store

HERE = Path(__file__).parent
SEARCH_PATH = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
ENVIRONMENT = {**os.environ, "PYTHONPATH": SEARCH_PATH, "COLUMNS": "200", "NO_COLOR": "1"}


def hare(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hare_evaluation.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120)


SMALL = ("--env", "HareBilinear-v0", "--agent", "_loop_fakes:Greedy", "--horizon", 40, "--backend", "serial")


def test_run_prints_a_table_writes_the_report_and_resumes(tmp_path):
    arguments = ("run", *SMALL, "--seeds", 2, "--out", "here")
    first = hare(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "_loop_fakes:Greedy" in first.stdout and "HareBilinear-v0" in first.stdout
    assert f"Report: {Path('here') / 'index.html'}" in first.stdout
    assert (tmp_path / "here" / "index.html").stat().st_size > 1000
    assert "2/2" in first.stderr
    store = Store(tmp_path / "runs")
    before = {key: store.path(key).stat().st_mtime_ns for key in store.all_keys()}
    again = hare(*arguments, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert {key: store.path(key).stat().st_mtime_ns for key in store.all_keys()} == before
    assert len(before) == 2


def test_help_is_fast_because_it_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['hare', '--help']\nfrom hare_evaluation.cli import main\n"
        "try: main()\nfinally: print(sorted({'numpy', 'pandas', 'torch', 'gymnasium', 'pydantic', 'sklearn'} & {*sys.modules}))"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]") and "report" in done.stdout


def test_threads_are_limited_before_numpy_is_imported():
    code = "import hare_evaluation.cli, sys, os; print('numpy' in sys.modules, os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "OPENBLAS", "MKL"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    assert done.stdout.split() == ["False", "1", "PASSIVE"]
    mine = {**clean, "OMP_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=mine)
    assert done.stdout.split() == ["False", "3", "PASSIVE"]


def test_knobs_reach_the_runs(in_process, tmp_path):
    status, _, _ = in_process(
        "run", *SMALL, "--seeds", 1, "--no-report", "--env-arg", "num_users=3", "--env-arg", "nonlinearity=0.25",
        "--agent-arg", "epsilon=0.5", "--mode", "select", "--lanes", 2, "--store", "elsewhere",
    )  # fmt: skip
    assert status == 0
    (record,) = Store(tmp_path / "elsewhere").records()
    assert record["spec"]["env_kwargs"] == {
        "num_users": 3,
        "nonlinearity": 0.25,
        "horizon": 40,
        "action_mode": "select",
    }
    assert record["spec"]["agent_kwargs"] == {"epsilon": 0.5}
    assert record["spec"]["lanes"] == 2 and record["totals"]["rounds"] == 80
    assert not (tmp_path / "report").exists() and not (tmp_path / "runs").exists()


def test_failed_run_is_named_others_go_on_and_the_status_says_so(in_process, tmp_path):
    agents = "_loop_fakes:Fails,_loop_fakes:Greedy"
    arguments = ("run", *SMALL[:2], "--agent", agents, "--horizon", 800, "--seeds", 1, "--no-report")
    status, out, err = in_process(*arguments, "--backend", "serial")
    assert status == 1
    assert "_loop_fakes:Fails on HareBilinear-v0, seed quick/0 in round 700: ValueError: I am <object" in out
    assert "1 of 2 runs failed. Their tracebacks are in:" in err
    (path,) = [line.strip() for line in err.splitlines() if line.startswith("  runs/")]
    record = json.loads((tmp_path / path).read_text().split("\n", 1)[1])
    assert "_fail_in" in record["error"]["traceback"]
    assert sorted(each["status"] for each in Store(tmp_path / "runs").records()) == ["failed", "ok"]
    written = (tmp_path / path).stat().st_mtime_ns
    assert in_process(*arguments, "--backend", "serial")[0] == 1
    assert (tmp_path / path).stat().st_mtime_ns == written
    assert in_process(*arguments, "--backend", "serial", "--retry-failed")[0] == 1
    assert (tmp_path / path).stat().st_mtime_ns > written


def test_report_is_rebuilt_from_records_alone(in_process, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: My study\nseeds: {set: quick, count: 2}\n"
        "environments: [{id: HareBilinear-v0, label: curved, kwargs: {horizon: 40}}]\n"
        "agents: [{name: '_loop_fakes:Greedy', label: greedy}]\n"
    )
    status, out, _ = in_process("run", "mine.yaml", "--backend", "serial", "--out", "one")
    assert status == 0 and "curved" in out and "greedy" in out
    status, again, err = in_process("report", "mine.yaml", "--out", "two")
    assert status == 0 and err == ""
    assert again.replace("two", "one") == out
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*"))
    assert names == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*"))
    assert (tmp_path / "one" / "index.html").read_bytes() == (tmp_path / "two" / "index.html").read_bytes()
    (key, _) = Store(tmp_path / "runs").all_keys()
    Store(tmp_path / "runs").supersede(key)
    status, _, err = in_process("report", "mine.yaml")
    assert status == 0 and err == "greedy on curved: 1 of 2 runs are there.\n"
    assert in_process("report")[0] == 0


def test_report_of_several_versions_takes_the_installed_code(in_process, tmp_path, monkeypatch):
    assert in_process("run", *SMALL, "--seeds", 1, "--no-report")[0] == 0
    store = Store(tmp_path / "runs")
    (new,) = store.records()
    import hashlib

    from hare_evaluation.store import canonical_json

    old = json.loads(json.dumps(new))
    old["spec"]["versions"]["code"] = "0" * 64
    old["key"] = hashlib.sha256(canonical_json(old["spec"]).encode()).hexdigest()
    store.commit(old)  # written later, by other code
    records, _ = cli._stored_records(store, None)
    assert [record["key"] for record in records] == [old["key"], new["key"]]
    from hare_evaluation.results import Results

    (runs,) = Results.from_records(records).runs.values()
    assert [record["key"] for record in runs.values()] == [new["key"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "error: Name either a suite (hare run quick; hare list suites) or both --env and --agent"),
        (("run", "quick", "--env", "X"), "error: Name either a suite"),
        (("run", "--env", "HareBilinear-v0"), "error: Name either a suite"),
        (("run", "quik"), "error: Unknown suite 'quik'. Did you mean 'quick'? List them with: hare list suites"),
        (("run", "none.yaml"), "error: The suite none.yaml cannot be read: No such file or directory."),
        (("run", *SMALL[:3], "linucbb"), "error: Unknown agent 'linucbb'. Did you mean 'linucb'?"),
        (("run", "--env", "HareBilinaer-v0", *SMALL[2:4]), "error: Unknown environment 'HareBilinaer-v0'. Did you mean"),
        (("run", *SMALL, "--env-arg", "horizn=4"), "error: Unknown knob of HareBilinear 'horizn'. Did you mean"),
        (("run", *SMALL, "--env-arg", "horizon"), "error: --env-arg must look like name=value, not 'horizon'."),
        (("run", *SMALL, "--agent-arg", "a=[1"), "error: The value of --agent-arg 'a=[1' is not YAML"),
        (("run", *SMALL, "--mode", "selct"), "error: Unknown action_mode of HareBilinear 'selct'. Did you mean 'select'?"),
        (("run", *SMALL, "--mode", "synthesize"), "error: There is nothing to run. Left out: _loop_fakes:Greedy on"),
        (("run", *SMALL[:-1], "rai"), "error: Unknown backend 'rai'. Did you mean 'ray'?"),
        (("run", *SMALL, "--store", "/dev/null/x"), "error: /dev/null/x"),
        (("report",), "error: There are no such records in runs. Make some first: hare run quick --store runs"),
        (("report", "smoke"), "error: There are no such records in runs. Make some first: hare run smoke --store runs"),
        (("check", "env", "HareLinaer-v0"), "error: Unknown environment 'HareLinaer-v0'. Did you mean 'HareLinear-v0'?"),
        (("check", "agent", "randm"), "error: Unknown agent 'randm'. Did you mean 'random'?"),
    ],
)  # fmt: skip
def test_mistakes_end_with_a_sentence_and_status_2(in_process, arguments, message):
    status, _, err = in_process(*arguments)
    assert status == 2
    assert err.startswith(message) or f"\n{message}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("option", [("--seeds", 0), ("--jobs", 0), ("--horizon", -1), ("--lanes", 0)])
def test_numbers_below_one(in_process, option):
    status, _, err = in_process("run", *SMALL, *option)
    assert status == 2 and f"Invalid value for '{option[0]}'" in err


def test_lists(in_process):
    _, environments, _ = in_process("list", "envs")
    assert "HareBilinear-v0" in environments.split()
    assert in_process("list", "environments")[1] == environments
    assert {"random", "linucb"} <= {*in_process("list", "agents")[1].split()}
    assert "quick        Quick look: synthetic bandits and a real table" in in_process("list", "suites")[1]


def test_checks(in_process):
    status, out, _ = in_process("check", "env", "HareBilinear-v0", "--env-arg", "horizon=50")
    assert status == 0 and "HareBilinear-v0" in out
    status, out, err = in_process("check", "agent", "_loop_fakes:Clean", "--agent-arg", "epsilon=0.3")
    assert (status, out) == (0, "_loop_fakes:Clean keeps the contract.\n"), err


def test_check_names_what_is_wrong(in_process):
    status, _, err = in_process("check", "agent", "_loop_fakes:Unclean")
    assert status == 2 and err.startswith("error: ")


def test_another_package_adds_a_command(in_process, monkeypatch):
    entry = importlib.metadata.EntryPoint("extra", "_loop_fakes:commands", cli.COMMAND_GROUP)
    broken = importlib.metadata.EntryPoint("broken", "nowhere:commands", cli.COMMAND_GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken, entry])
    registered = list(cli.app.registered_groups)
    with pytest.warns(UserWarning, match="The command 'broken' of 'nowhere:commands' was not added"):
        status, out, _ = in_process("extra", "hello")
    cli.app.registered_groups[:] = registered
    assert (status, out) == (0, "hello from extra\n")
    assert isinstance(cli.app, typer.Typer)


def test_a_knob_in_scientific_notation_is_a_number():
    given = ["a=5e-4", "b=1E3", "c=-1.5e3", "d=.5e+1", "e='5e-4'", "f=e4", "g=1e", "h=0x1e4", "i=[1e-3, two]"]
    assert cli.assignments("--agent-arg", given) == {
        "a": 0.0005, "b": 1000.0, "c": -1500.0, "d": 5.0, "e": "5e-4", "f": "e4", "g": "1e", "h": 0x1E4, "i": [0.001, "two"],
    }  # fmt: skip


def test_a_knob_in_scientific_notation_reaches_its_agent(in_process, tmp_path):
    knob = ("--agent-arg", "alpha=5e-1")
    status, _, err = in_process("run", *SMALL[:3], "linucb", *SMALL[4:], "--seeds", 1, "--no-report", *knob)
    assert status == 0, err
    (record,) = Store(tmp_path / "runs").records()
    assert record["spec"]["agent_kwargs"] == {"alpha": 0.5}
