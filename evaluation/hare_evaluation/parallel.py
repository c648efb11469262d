"""Many runs at once: joblib on this machine, or on a Ray cluster through Ray's own joblib backend.

A run's seed is part of its specification, so how many workers there are, and which one plays it, changes nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hare_evaluation.runner import run
from hare_evaluation.spec import RunSpec
from hare_evaluation.store import Record, Store
from hare_gym.errors import ConfigError, HareError, MissingPackageError, unknown_name

Backend: TypeAlias = Literal["loky", "ray", "serial"]
Play: TypeAlias = Callable[[RunSpec], tuple[Record, Record]]

BACKENDS: tuple[Backend, ...] = ("loky", "ray", "serial")


class WorkerError(HareError):
    """A worker process ended before its run did, or is not fit to run it."""


def run_all(
    specs: Sequence[RunSpec],
    store: Store,
    jobs: int | None = None,
    backend: Backend = "loky",
    address: str | None = None,
    progress: Callable[[], object] | None = None,
    retry_failed: bool = False,
    play: Play = run,
) -> list[Record]:
    """Runs what the store does not have yet.

    Each run is committed as soon as it ends, so whatever stops this function costs only the runs in progress.

    Args:
        specs: What to run; one that occurs twice is run once.
        store: Where the records go.
        jobs: How many at once; all processors by default (of the whole cluster for ``"ray"``).
        backend: ``"loky"`` for processes on this machine, ``"ray"`` for a cluster, ``"serial"`` for this process.
        address: The Ray cluster's address; without one, Ray starts on this machine.
        progress: Called once for each of ``specs`` whose record is there.
        retry_failed: Whether failed records are superseded and run again.
        play: Plays one run on this machine: `hare_evaluation.runner.run`, or what gives the same and does more.

    Returns:
        The records of ``specs``, in order.

    Raises:
        WorkerError: A worker was killed.
        StoreError: The store cannot be written.
        NonDeterminismError: A specification has another record already.
    """
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs must be at least 1, not {jobs}.")
    tell = progress or (lambda: None)
    store.clean()
    todo: dict[str, RunSpec] = {}
    times = Counter(spec.key for spec in specs)
    for spec in specs:
        record = store.get(spec.key)
        if record is not None and record["status"] == "failed" and retry_failed:
            store.supersede(spec.key)
            record = None
        if record is None:
            todo[spec.key] = spec
        else:
            tell()
    for key in _finished(list(todo.values()), store, jobs, backend, address, play):
        for _ in range(times[key]):
            tell()
    return [_committed(store, spec.key) for spec in specs]


def _committed(store: Store, key: str) -> Record:
    record = store.get(key)
    if record is None:
        raise WorkerError(f"The record of run {key} was removed or damaged while others ran. Run again to make it.")
    return record


def _finished(
    specs: list[RunSpec], store: Store, jobs: int | None, backend: Backend, address: str | None, play: Play
) -> Iterator[str]:
    """Runs ``specs`` and gives the key of each as it is committed."""
    if not specs:
        return
    if backend == "ray":
        yield from _on_ray(specs, store, jobs, address)
        return
    from joblib import cpu_count

    jobs = min(jobs or cpu_count(), len(specs))
    # what another process is running right now is left for last, and is probably there by then
    busy = []
    for spec, held in _on_this_machine(specs, store.root, jobs if backend == "loky" else 1, False, play):
        if held:
            yield spec.key
        else:
            busy.append(spec)
    for spec, _ in _on_this_machine(busy, store.root, jobs if backend == "loky" else 1, True, play):
        yield spec.key


def _on_this_machine(
    specs: list[RunSpec], root: Path, jobs: int, blocking: bool, play: Play
) -> Iterator[tuple[RunSpec, bool]]:
    if jobs == 1 or len(specs) < 2:
        store = Store(root)
        for spec in specs:
            yield spec, run_and_commit(spec, store, blocking, play)
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        try:
            yield from parallel(delayed(_local_worker)(spec, root, blocking, play) for spec in specs)
        except TerminatedWorkerError as error:
            raise WorkerError(
                "A worker process was killed, perhaps because the machine ran out of memory. Every finished run is "
                "kept; run the same command again to resume, with fewer --jobs if memory was short."
            ) from error


def run_and_commit(spec: RunSpec, store: Store, blocking: bool = True, play: Play = run) -> bool:
    """Runs ``spec`` unless its record is there.

    Returns:
        False if another process is running it; always true if ``blocking``.
    """
    with store.lease(spec.key, blocking) as held:
        if held and store.get(spec.key) is None:
            store.commit(*play(spec))
        return held


def _local_worker(spec: RunSpec, root: Path, blocking: bool, play: Play) -> tuple[RunSpec, bool]:
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C in a terminal reaches every process; the parent answers it for all
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return spec, run_and_commit(spec, Store(root), blocking, play)


def _on_ray(specs: list[RunSpec], store: Store, jobs: int | None, address: str | None) -> Iterator[str]:
    """The workers may not share a file system with us, so they send the records and we commit them."""
    from joblib import Parallel, delayed, parallel_config

    with _ray(address), parallel_config(backend="hare-ray"):
        parallel = Parallel(n_jobs=jobs or -1, return_as="generator_unordered", batch_size=1)
        for record, timing in parallel(delayed(_remote_worker)(spec) for spec in specs):
            with store.lease(record["key"]):
                store.commit(record, timing)
            yield record["key"]


def _remote_worker(spec: RunSpec) -> tuple[Record, Record]:
    # the specification came with its versions; the same one made here has this machine's
    here = RunSpec(**{name: getattr(spec, name) for name in spec.__dataclass_fields__})
    if here.versions != spec.versions:
        differing = ", ".join(
            f"{name} {here.versions[name]!r} instead of {spec.versions[name]!r}"
            for name in spec.versions
            if here.versions[name] != spec.versions[name]
        )
        raise WorkerError(f"A worker of the cluster runs other software than this machine: {differing}.")
    return run(spec)


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """A Ray cluster, known to joblib as ``hare-ray``; ours is stopped afterwards, one that was running is not."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.util.joblib.ray_backend import RayBackend
    except ImportError as error:
        raise MissingPackageError('The ray backend needs Ray: pip install "hare-gym[ray]"') from error
    from joblib import register_parallel_backend

    class Streaming(RayBackend):
        # its pool calls back for each result, which is all that joblib needs to hand them out one by one
        supports_return_generator = True

    register_parallel_backend("hare-ray", Streaming)
    ours = not ray.is_initialized()
    if ours:
        _knock(address)
        options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
        try:
            ray.init(log_to_driver=False, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise WorkerError(f"Ray could not be reached or started: {error}") from error
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Refuses an address that nobody listens on; Ray itself would try it for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise WorkerError(f"No Ray cluster answers at {address!r}: {error.strerror or error}.") from error
