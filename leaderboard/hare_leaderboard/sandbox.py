"""A stranger's agent in a process of its own, apart from everything that is ours.

Three tiers, the best that works first. What works is found out by trying it (:func:`probe`), never by looking for a
program: a small process tries to read a file, to open a connection, to fork and to write, all of which the evaluator
itself can do at that moment, and must fail at each.

- ``bwrap``: bubblewrap makes new namespaces of mounts, processes, network, IPC and names. Only the interpreter, the
  packages and the submission are there, all read-only; ``/tmp`` is private and small. A root evaluator gives the
  agent a user id of its own; any other evaluator a user namespace.
- ``landlock``: where namespaces are forbidden. The kernel's Landlock leaves read access to the same places and no
  write access at all.
- ``process``: limits only. For trying things out; what it yields is never ranked.

In the first two a filter of system calls (:mod:`hare_leaderboard.confine`) refuses sockets, new processes, memory
that no limit counts, and signals to others.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from hare_evaluation.foundation import HareError, unknown_name
from hare_leaderboard import confine
from hare_leaderboard.channel import AgentProcess, Limits

Tier: TypeAlias = Literal["bwrap", "landlock", "process"]

TIERS: tuple[Tier, ...] = get_args(Tier)
ISOLATED: tuple[Tier, ...] = ("bwrap", "landlock")

_SUBMISSION = "/submission"
_CONFINE = "/confine.py"
_WORKER = ("-u", "-P", "-s", "-m", "hare_gym.worker")


class SandboxError(HareError):
    """No sandbox can be made here; the message has the reasons."""


@dataclass(frozen=True)
class Sandbox:
    """How agents are started: a tier and the limits."""

    tier: Tier
    limits: Limits = field(default_factory=Limits)

    def start(self, folder: Path | None = None) -> AgentProcess:
        """A worker that waits for its first question.

        Args:
            folder: The submission's code, which the agent's process sees read-only.
        """
        return AgentProcess(self.run(list(_WORKER), folder, stdin=subprocess.PIPE), self.limits)

    def folder(self, folder: Path | None) -> str:
        """What ``folder`` is called inside."""
        if folder is None:
            return ""
        return _SUBMISSION if self.tier == "bwrap" else str(folder.resolve())

    def run(
        self, arguments: list[str], folder: Path | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Starts the interpreter with ``arguments`` inside."""
        root = os.geteuid() == 0
        rules: dict[str, Any] = {
            "rlimits": self._rlimits(),
            "uid": 0,
            "drop_capabilities": self.tier == "landlock" and root,
            "seccomp": self.tier in ISOLATED,
            "landlock": None,
            "die_with": 0 if self.tier == "bwrap" else os.getpid(),
        }
        confine_file = str(Path(confine.__file__).resolve())
        outer: list[str] = []
        if self.tier == "bwrap":
            if root:
                rules["uid"] = 1_000_000_000 + secrets.randbelow(1_000_000_000)
            outer = _bwrap(folder, confine_file, self.limits)
            confine_file = _CONFINE
        elif self.tier == "landlock":
            own = [str(folder.resolve())] if folder else []
            rules["landlock"] = [*visible_paths(), _links(), confine_file, *own, *_DEVICES]
        python = os.path.realpath(sys.executable)
        command = [*outer, python, "-I", "-S", confine_file, json.dumps(rules), python, *arguments]
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_OUTER_ENVIRONMENT if outer else _inner_environment(),
            cwd="/",
            start_new_session=True,
        )

    def _rlimits(self) -> dict[str, int]:
        limits = self.limits
        rlimits = {
            "RLIMIT_AS": limits.memory_mb << 20,
            "RLIMIT_CPU": limits.cpu_seconds,
            "RLIMIT_FSIZE": 0 if self.tier == "landlock" else limits.file_mb << 20,
            "RLIMIT_NOFILE": 256,
            "RLIMIT_CORE": 0,
        }
        if self.tier == "bwrap":  # elsewhere it would count whatever the evaluator's user runs beside it
            rlimits["RLIMIT_NPROC"] = limits.threads
        return rlimits


def best_sandbox(wanted: Tier | None = None, limits: Limits | None = None) -> Sandbox:
    """A sandbox of the wanted tier, or of the best that isolates.

    Raises:
        UnknownNameError: No such tier.
        SandboxError: It does not work here, or none does; with the reasons, and what to do.
    """
    if wanted is not None and wanted not in TIERS:
        raise unknown_name("isolation", wanted, TIERS)
    reasons = []
    for tier in ISOLATED if wanted is None else (wanted,):
        reason = probe(tier)
        if reason is None:
            return Sandbox(tier, limits or Limits())
        reasons.append(f"{tier}: {reason}")
    raise SandboxError(
        f"A stranger's agent cannot be isolated here. {' '.join(reasons)} Install bubblewrap (apt-get install "
        "bubblewrap) on a Linux that allows user namespaces or as root. For a trial of code that you trust, "
        "--isolation process runs it with limits only; its result is marked unverified and never ranked."
    )


_PROBE = """
import json, mmap, os, socket, sys
canary, port, spot, parent = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
done = {}
def attempt(name, action):
    try:
        action()
        done[name] = "done"
    except BaseException as error:
        done[name] = type(error).__name__
def connect():
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
def fork():
    if os.fork() == 0:
        os._exit(0)
def grow():
    mmap.mmap(-1, 64 << 30)
def kill():
    os.kill(parent, 0)
attempt("read", lambda: open(canary).read())
attempt("write", lambda: open(spot, "w").write("x"))
attempt("connect", connect)
attempt("fork", fork)
attempt("grow", grow)
attempt("kill", kill)
attempt("import", lambda: __import__("hare_gym.worker"))
print(json.dumps(done))
"""

ATTEMPTS = ("read", "write", "connect", "fork", "grow", "kill")
"""What the probe tries. The evaluator can do all of it but ``grow``, which :func:`probe` makes sure of first."""


@cache
def probe(tier: Tier) -> str | None:
    """Why the tier does not isolate here, or ``None`` if it does.

    Every attempt is made by this process first, where it must succeed: a refusal says something only of what is
    possible otherwise.
    """
    if tier == "process":
        return None
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}."
    if platform.machine() not in confine.MACHINES:
        return f"its filter of system calls is not written for {platform.machine()}."
    try:
        with _targets() as (canary, port, spot):
            Path(canary).read_text()
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            Path(spot).write_text("x")
            os.kill(os.getpid(), 0)
            arguments = ["-P", "-s", "-c", _PROBE, canary, str(port), spot, str(os.getpid())]
            for _ in range(3):  # one that is killed by nobody known says nothing of the tier
                process = Sandbox(tier).run(arguments)
                try:
                    out, err = process.communicate(timeout=60)
                finally:
                    process.kill()
                if process.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
                    break
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it could not be started: {error}."
    if process.returncode != 0:
        said = err.decode("utf-8", "replace").strip().splitlines()
        return f"it could not be started: {said[-1] if said else f'exit code {process.returncode}'}."
    done = json.loads(out)
    possible = [name for name in ATTEMPTS if done.pop(name) == "done"]
    if possible:
        return f"it does not isolate: {', '.join(possible)} worked inside."
    if done["import"] != "done":
        return f"hare_gym cannot be imported inside ({done['import']}): are its files readable for everybody?"
    return None


@contextmanager
def _targets() -> Iterator[tuple[str, int, str]]:
    """Something of ours to read, a port that answers, and a place to write to."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        os.chmod(folder, 0o777)
        canary = Path(folder, "canary")
        canary.write_text("only for the evaluator")
        spot = Path(folder, "spot")
        spot.write_text("")
        spot.chmod(0o666)
        canary.chmod(0o666)
        yield str(canary), server.getsockname()[1], str(spot)


_OUTER_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_NUMERIC = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES")
"""Of the evaluator's environment an agent gets these alone: which kernels the libraries use decides the last bits."""

_PACKAGES = ("hare_gym", "hare_agents")


@cache
def visible_paths() -> tuple[str, ...]:
    """What of this machine an agent may read: the interpreter, libraries and installed packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", os.path.realpath(sys.executable)]
    library = sysconfig.get_config_var("INSTSONAME") or ""
    for prefix in {sys.base_prefix, sys.base_exec_prefix}:
        paths += [f"{prefix}/lib/{version}", f"{prefix}/lib/{library}"]
    paths += [path for path in sys.path if _holds_packages(path)]
    paths += [str(folder) for folder in _own_packages().values()]
    return tuple(dict.fromkeys(path for path in paths if os.path.exists(path)))


def _holds_packages(path: str) -> bool:
    return Path(path).name in ("site-packages", "dist-packages")


@cache
def _own_packages() -> dict[str, Path]:
    """The folders of ours that an agent needs, by package; editable installations have them elsewhere."""
    found = {}
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found[name] = Path(spec.origin).resolve().parent
    return found


@cache
def _links() -> str:
    """A folder of links to our packages and nothing else: Python must list the folder that it imports from."""
    folder = tempfile.mkdtemp(prefix="hare-packages-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chmod(folder, 0o755)
    for name, package in _own_packages().items():
        os.symlink(package, Path(folder, name))
    return folder


def _inner_environment() -> dict[str, str]:
    """All that an agent's process has for an environment."""
    places = [_links(), *(path for path in sys.path if _holds_packages(path))]
    return {
        "PATH": "/nowhere",
        "HOME": "/tmp",
        "USER": "agent",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "OMP_WAIT_POLICY": "PASSIVE",
        **{name: os.environ[name] for name in _NUMERIC if name in os.environ},
    }


def _bwrap(folder: Path | None, confine_file: str, limits: Limits) -> list[str]:
    """The command that makes the namespaces. Mount points below ``/tmp`` come after the ``/tmp`` that holds them."""
    command = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user"]
    command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    for name, value in _inner_environment().items():
        command += ["--setenv", name, value]
    command += ["--perms", "1777", "--size", str(limits.scratch_mb << 20), "--tmpfs", "/tmp"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    made = {"/tmp", "/"}
    for path in visible_paths():
        for parent in reversed(Path(path).parents):
            if str(parent) not in made:  # bubblewrap itself makes them 0700, and the agent is another user
                command += ["--perms", "0755", "--dir", str(parent)]
                made.add(str(parent))
        command += ["--ro-bind", path, path]
    command += ["--ro-bind", confine_file, _CONFINE, "--ro-bind", _links(), _links()]
    if folder is not None:
        command += ["--ro-bind", str(folder.resolve()), _SUBMISSION]
    # /dev holds a /dev/shm that no limit counts
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"]
