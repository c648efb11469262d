"""Serial, on processes, and on a Ray cluster of two worker processes: the same files, byte for byte."""

import importlib.util
import os
from pathlib import Path

import pytest

from hare_evaluation.parallel import WorkerError, run_all
from hare_evaluation.spec import RunSpec
from hare_evaluation.store import NonDeterminismError, Store
from hare_gym.errors import ConfigError, UnknownNameError


def specs() -> list[RunSpec]:
    greedy = [RunSpec("HareBilinear-v0", "_loop_fakes:Greedy", "quick", seed, {"horizon": 100}) for seed in range(4)]
    return [*greedy, RunSpec("HareBilinear-v0", "_loop_fakes:Fails", "quick", 0, {"horizon": 30}, {"round": 20})]


def contents(root: Path) -> dict[str, bytes]:
    """Every record file; their timings differ, and there must be nothing else."""
    store = Store(root)
    names = {path.name for path in root.rglob("*") if path.is_file() and ".time." not in path.name}
    assert names == {f"{key}.json" for key in store.all_keys()}
    return {key: store.path(key).read_bytes() for key in store.all_keys()}


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("serial")
    records = run_all(specs(), Store(root), backend="serial")
    assert [record["key"] for record in records] == [spec.key for spec in specs()]
    assert [record["status"] for record in records] == ["ok"] * 4 + ["failed"]
    return contents(root)


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_processes_change_nothing(jobs, serial, tmp_path):
    told = []
    run_all(specs(), Store(tmp_path), jobs=jobs, progress=lambda: told.append(1))
    assert contents(tmp_path) == serial
    assert len(told) == 5


def test_ray_cluster_of_two_worker_processes_changes_nothing(serial, tmp_path, monkeypatch):
    if importlib.util.find_spec("ray") is None:
        message = "Ray is not installed (pip install ray); in continuous integration it must be"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])))
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        told = []
        records = run_all(specs(), Store(tmp_path), jobs=2, backend="ray", progress=lambda: told.append(1))
        assert contents(tmp_path) == serial
        assert len(told) == 5 and [record["key"] for record in records] == [spec.key for spec in specs()]
        assert ray.is_initialized(), "a cluster that was running must be left running"

        foreign = specs()[0]
        foreign.__dict__["versions"] = foreign.versions | {"numpy": "1.0"}
        with pytest.raises(
            WorkerError, match=r"runs other software than this machine: numpy '\S+' instead of '1\.0'"
        ):
            run_all([foreign, *specs()[1:3]], Store(tmp_path / "other"), jobs=2, backend="ray")
    finally:
        ray.shutdown()


def test_ray_address_where_nobody_answers(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(WorkerError, match=r"^No Ray cluster answers at '127\.0\.0\.1:1': Connection refused\.$"):
        run_all(specs(), Store(tmp_path), backend="ray", address="127.0.0.1:1")


def test_finished_runs_are_not_repeated_and_a_repeated_one_is_run_once(tmp_path, monkeypatch):
    store = Store(tmp_path)
    one = specs()[0]
    first = run_all([one, one], store, backend="serial")
    assert first[0] == first[1] and len(store.all_keys()) == 1
    monkeypatch.setattr("hare_evaluation.parallel.run", lambda spec: pytest.fail("it ran again"))
    told = []
    assert run_all([one, one], store, backend="serial", progress=lambda: told.append(1)) == first
    assert len(told) == 2


def test_failed_runs_stay_unless_they_are_to_be_retried(tmp_path):
    store, failing = Store(tmp_path), specs()[-1]
    run_all([failing], store, backend="serial")
    path = store.path(failing.key)
    before = path.stat().st_mtime_ns
    run_all([failing], store, backend="serial")
    assert path.stat().st_mtime_ns == before
    run_all([failing], store, backend="serial", retry_failed=True)
    assert path.stat().st_mtime_ns > before
    assert (tmp_path / "superseded" / f"{failing.key}.1.json").exists()


def test_damaged_record_is_run_again(serial, tmp_path):
    store = Store(tmp_path)
    run_all(specs(), store, backend="serial")
    store.path(specs()[1].key).write_bytes(b"")
    store.path(specs()[2].key).write_bytes(store.path(specs()[2].key).read_bytes()[:-9])
    with pytest.warns(UserWarning, match="is damaged"):
        run_all(specs(), store, backend="serial")
    assert {key: store.path(key).read_bytes() for key in store.all_keys()} == serial


def test_agent_with_randomness_of_its_own_is_caught(tmp_path):
    store, unclean = Store(tmp_path), RunSpec("HareBilinear-v0", "_loop_fakes:Unclean", "quick", 0, {"horizon": 50})
    run_all([unclean], store, backend="serial")
    from hare_evaluation.runner import run

    with pytest.raises(NonDeterminismError, match="differ in: actions_sha256, curves, totals"):
        store.commit(*run(unclean))


def test_killed_worker_is_explained_and_costs_only_its_own_run(tmp_path):
    killer = RunSpec("HareBilinear-v0", "_loop_fakes:KillsItsProcess", "quick", 0, {"horizon": 30})
    with pytest.raises(WorkerError, match=r"^A worker process was killed, perhaps because the machine ran out of"):
        run_all([specs()[0], killer], Store(tmp_path), jobs=2)
    assert killer.key not in Store(tmp_path).all_keys()
    run_all(specs(), Store(tmp_path), jobs=2)
    assert len(contents(tmp_path)) == 5


def test_what_run_all_refuses(tmp_path):
    with pytest.raises(UnknownNameError, match=r"^Unknown backend 'lokky'\. Did you mean 'loky'\?$"):
        run_all(specs(), Store(tmp_path), backend="lokky")
    with pytest.raises(ConfigError, match=r"^jobs must be at least 1, not 0\.$"):
        run_all(specs(), Store(tmp_path), jobs=0)
