"""The verified run: a submission's agent in the sandbox, environments, rewards, oracle and seeds on this side.

A session is one agent in one environment on one seed, in a process of its own. Each finished session is a record in
a store (:mod:`hare_evaluation.store`): a kill costs the sessions in progress, the same command goes on from there,
and a second evaluator on the same folder takes what the first has not. When all sessions of a track are there, they
become one file of the results folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import numpy as np

from hare_evaluation.environments import make
from hare_evaluation.foundation import ConfigError
from hare_evaluation.remote import VERSION, AgentFault, Forfeit, RemoteAgent
from hare_evaluation.runner import Session
from hare_evaluation.spec import code_fingerprint
from hare_evaluation.store import Record, Store, canonical_json
from hare_leaderboard.benchmark import Environment, Track
from hare_leaderboard.packages import prepare
from hare_leaderboard.results import Manifest, ResultStore, Run, RunSet, now, tail_of
from hare_leaderboard.sandbox import ISOLATED, Sandbox, SandboxError
from hare_leaderboard.season import Kind, Season
from hare_leaderboard.submission import Submission, load

SCHEMA = 1
ATTEMPTS = 3
"""How often a session is played whose agent was killed by nobody known; then it is the agent's own fault."""

_SHOWN = ("hare-gym", "numpy", "scipy", "gymnasium", "msgpack", "torch", "scikit-learn")


@dataclass(frozen=True)
class SessionSpec:
    """All that decides one session; its hash is the session's name in the store.

    Attributes:
        season: The benchmark version and its secret.
        track: The track's name.
        environment: One of the track's.
        kind: Whether the seed is hidden or public.
        index: Which one.
        submission: The submission's name.
        entry_point: Of the agent on this track.
        configuration: Its hyperparameters there.
        code_sha256: Of the submitted files; empty for an installed agent.
        folder: Where these are, prepared for the sandbox.
        sandbox: The tier and the limits.
    """

    season: Season
    track: str
    environment: Environment
    kind: Kind
    index: int
    submission: str
    entry_point: str
    configuration: dict[str, Any]
    code_sha256: str
    folder: Path | None
    sandbox: Sandbox

    def to_dict(self) -> dict[str, Any]:
        """What the key stands for. The secret is not among it, nor is any seed."""
        installed = self.entry_point if ":" not in self.entry_point else "random"  # strangers' code is never imported
        return {
            "schema": SCHEMA,
            "benchmark": self.season.benchmark.version,
            "commitment": self.season.commitment if self.kind == "hidden" else "",
            "track": self.track,
            "environment": self.environment.model_dump(mode="json", exclude={"hidden_seeds", "public_seeds"}),
            "seeds": self.kind,
            "index": self.index,
            "submission": self.submission,
            "entry_point": self.entry_point,
            "configuration": self.configuration,
            "code_sha256": self.code_sha256,
            "code": code_fingerprint(self.environment.id, installed),
            "isolation": self.sandbox.tier,
            "limits": asdict(self.sandbox.limits),
            "protocol": VERSION,
        }

    @property
    def key(self) -> str:
        """SHA-256 of :meth:`to_dict`."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()

    def seed(self, purpose: Any) -> int:
        """The session's seed for the environment or the agent."""
        return self.season.seed(self.track, self.environment.label, self.kind, self.index, purpose)


def verify(
    folder: Path,
    season: Season,
    sandbox: Sandbox,
    store: Store,
    results: ResultStore,
    tracks: Sequence[str] = (),
    kinds: Sequence[Kind] = ("hidden", "public"),
    jobs: int | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> list[Path]:
    """Runs a submission on the tracks that it entered, and writes a result for each.

    Args:
        folder: The submission's.
        season: Where the seeds come from.
        sandbox: How the agent is isolated.
        store: Where finished sessions are kept.
        results: Where the results go.
        tracks: Of those that were entered; all by default.
        kinds: Which seeds.
        jobs: Sessions at once; all processors by default.
        tell: Told of each finished session.

    Returns:
        The results' paths, in the order of the tracks.

    Raises:
        SubmissionError: The submission has mistakes.
        UnknownNameError: A track that the benchmark does not have.
        ConfigError: A track that was not entered, or nothing to run.
        SandboxError: The sandbox could not be set up.
        StoreError: A folder that cannot be written, or a full disk. What is finished is kept.
    """
    submission = load(folder)
    benchmark = season.benchmark
    for track in tracks:
        benchmark.track(track)
        if track not in submission.tracks:
            entered = ", ".join(submission.tracks)
            raise ConfigError(f"{submission.name!r} has not entered {track!r}. It has entered: {entered}.")
    chosen = [track for track in benchmark.tracks if track in (tracks or submission.tracks)]
    if not chosen:
        raise ConfigError(f"{submission.name!r} has entered no track of {benchmark.version}.")
    written = []
    with _code(folder, submission) as (code, code_sha256):
        for track in chosen:
            definition = benchmark.track(track)
            specs = list(_sessions(submission, track, definition, season, sandbox, kinds, code, code_sha256))
            started = now()
            records = _played(specs, store, jobs, tell)
            runs = [_run(spec, record, store.timing(spec.key) or {}) for spec, record in records]
            result = _result(submission, track, definition, season, sandbox, runs, code_sha256, started)
            written.append(_added(result, results))
    return written


@contextmanager
def _code(folder: Path, submission: Submission) -> Iterator[tuple[Path | None, str]]:
    """The submitted files in a folder of their own, which the agent's user can read, and their hash."""
    if not submission.has_code:
        yield None, ""
        return
    with tempfile.TemporaryDirectory(prefix="hare-submission-") as target:
        code = Path(target, "code")
        code.mkdir()
        digest = prepare(folder, submission, code)
        for path in [code, *code.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield code, digest


def _sessions(
    submission: Submission,
    track: str,
    definition: Track,
    season: Season,
    sandbox: Sandbox,
    kinds: Sequence[Kind],
    code: Path | None,
    code_sha256: str,
) -> Iterator[SessionSpec]:
    entry_point, configuration = submission.on(track)
    for environment in definition.environments:
        for kind in kinds:
            count = environment.hidden_seeds if kind == "hidden" else environment.public_seeds
            for index in range(count):
                yield SessionSpec(
                    season, track, environment, kind, index, submission.name, entry_point, configuration, code_sha256,
                    code, sandbox,
                )  # fmt: skip


def _played(
    specs: list[SessionSpec], store: Store, jobs: int | None, tell: Callable[[str], object]
) -> list[tuple[SessionSpec, Record]]:
    """The record of every session; those that the store does not have are played."""
    from joblib import Parallel, cpu_count, delayed

    store.clean()
    waiting = [spec for spec in specs if store.get(spec.key) is None]
    jobs = min(jobs or cpu_count(), len(waiting))
    # what another evaluator plays right now is left for last, and is probably there by then
    for blocking in (False, True):
        if jobs > 1:
            parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
            done = parallel(delayed(play_and_commit)(spec, store.root, blocking) for spec in waiting)
        else:
            done = (play_and_commit(spec, store.root, blocking) for spec in waiting)
        for line in done:
            if line:
                tell(line)
        waiting = [spec for spec in waiting if store.get(spec.key) is None]
        if not waiting:
            break
    return [(spec, _there(store, spec.key)) for spec in specs]


def _there(store: Store, key: str) -> Record:
    record = store.get(key)
    if record is None:
        raise ConfigError(f"The record of session {key} was removed or damaged meanwhile. Run again to make it.")
    return record


def play_and_commit(spec: SessionSpec, root: Path, blocking: bool = True) -> str:
    """Plays a session unless its record is there, or somebody else is at it and ``blocking`` is false.

    Returns:
        A line about the session; empty if it was not played here.
    """
    store = Store(root)
    with store.lease(spec.key, blocking) as held:
        if not held or store.get(spec.key) is not None:
            return ""
        record, timing = play(spec)
        store.commit(record, timing)
    where = f"{spec.track}, {spec.environment.label}, {spec.kind} seed {spec.index}"
    return f"{where}: {record['status']} {record['reason']}".rstrip()


def play(spec: SessionSpec) -> tuple[Record, Record]:
    """Plays a session; again if the agent's process was killed by nobody known.

    Returns:
        The record, and the timing, which is different every time.

    Raises:
        SandboxError: The sandbox could not be set up.
    """
    for attempt in range(1, ATTEMPTS + 1):
        record, timing = _play_once(spec)
        if record["status"] != "INFRA":
            break
        if attempt == ATTEMPTS:
            reason = f"Its process was killed in each of {ATTEMPTS} attempts, by nobody known."
            record = {**record, "status": "CRASH", "reason": reason}
    return record, timing


def _play_once(spec: SessionSpec) -> tuple[Record, Record]:
    environment = spec.environment
    env = make(environment.id, environment.kwargs)
    process = spec.sandbox.start(spec.folder)
    agent = RemoteAgent(process, spec.entry_point, spec.configuration, spec.sandbox.folder(spec.folder))
    try:
        session = Session(Forfeit(env, agent), agent, 1)
        session.play(spec.seed("environment"), np.random.default_rng(spec.seed("agent")))
        agent.finish()
    finally:
        process.kill()
        env.close()
    fault = agent.fault
    _refuse_broken_sandbox(fault)
    totals = session.ledger.summary()["totals"]
    curves = session.ledger.curves
    record = {
        "schema": SCHEMA,
        "key": spec.key,
        "spec": spec.to_dict(),
        "status": "OK" if fault is None else fault.status,
        "reason": "" if fault is None else str(fault),
        "output_tail": tail_of(bytes(process.output)),
        "rounds": session.round if fault is None else max(0, agent.fault_round - 1),
        "regret": totals["regret"],
        "worst": totals["regret"] + totals["expected_reward"],
        "reward": totals["reward"],
        "checkpoints": session.ledger.rounds,
        "curve": curves["regret"],
        "actions_sha256": session.actions_hash.hexdigest(),
    }
    act, _, update = session.seconds
    return record, {"act_seconds": act, "update_seconds": update, "cpu_seconds": process.cpu_seconds}


def _refuse_broken_sandbox(fault: AgentFault | None) -> None:
    if fault is not None and fault.status == "INFRA" and "could not be set up" in str(fault):
        raise SandboxError(str(fault))


def _run(spec: SessionSpec, record: Record, timing: Record) -> Run:
    return Run(
        environment=spec.environment.label,
        seed=spec.index,
        seeds=spec.kind,
        status=record["status"],
        reason=record["reason"],
        output_tail=record["output_tail"],
        rounds=record["rounds"],
        regret=record["regret"],
        worst=record["worst"],
        reward=record["reward"],
        oracle=record["worst"],
        curve=record["curve"],
        act_seconds=timing.get("act_seconds", 0.0),
        update_seconds=timing.get("update_seconds", 0.0),
        cpu_seconds=timing.get("cpu_seconds", 0.0),
        actions_sha256=record["actions_sha256"],
    )


def _result(
    submission: Submission,
    track: str,
    definition: Track,
    season: Season,
    sandbox: Sandbox,
    runs: list[Run],
    code_sha256: str,
    started: str,
) -> RunSet:
    isolated = sandbox.tier in ISOLATED
    hidden = any(run.seeds == "hidden" for run in runs)
    notes = [] if isolated else ["Unverified: the agent was not isolated."]
    return RunSet(
        benchmark=season.benchmark.version,
        track=track,
        track_sha256=definition.sha256,
        submission=submission.name,
        tier="verified" if isolated and hidden else "reproduced" if isolated else "self-reported",
        created=now(),
        entry=submission.entry(track, code_sha256),
        environments=[environment.as_result() for environment in definition.environments],
        runs=runs,
        manifest=Manifest(
            commit=commit_of_project(),
            python=platform.python_version(),
            dependencies={name: version(name) for name in _SHOWN},
            lock_sha256=_lock(),
            hardware=_hardware(),
            protocol=VERSION,
            isolation=sandbox.tier,
            limits=asdict(sandbox.limits),
            seed_commitment=season.commitment,
            started=started,
            finished=now(),
            notes=notes,
        ),
    )


def _added(result: RunSet, results: ResultStore) -> Path:
    """Writes the result, unless one with the same runs is there: sessions that were kept are no news."""
    for stored in results.load(result.benchmark).results:
        there = stored.runs
        same = (there.submission, there.track, there.tier) == (result.submission, result.track, result.tier)
        if same and there.runs == result.runs and there.entry == result.entry:
            return stored.path
    return results.add(result)


def commit_of_project() -> str:
    """The commit of the checkout that this file is in, ``+changes`` if files differ from it; empty outside of one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--untracked-files=no") if commit else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"{commit}+changes" if changes else commit


def _lock() -> str:
    installed = {f"{found.metadata['Name']}=={found.version}".lower() for found in distributions()}
    return hashlib.sha256("\n".join(sorted(installed)).encode()).hexdigest()


def _hardware() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} processors, {platform.machine()}, {memory:.0f} GiB of memory"
