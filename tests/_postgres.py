"""A PostgreSQL server of one's own: in a temporary folder, on a loopback port, run by somebody who is not root."""

import getpass
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
BINARIES = _FOUND[-1].parent if _FOUND else None
WHY_NOT = "No PostgreSQL to write to. Install it, for instance with: apt-get install postgresql"


def _somebody():
    """Who runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def postgres():
    """The URL of a running server, which is stopped and deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hare-postgres-", dir="/tmp"))
    user, port, password = _somebody(), _free_port(), secrets.token_urlsafe(16)
    as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    server = None
    try:
        if as_user:
            shutil.chown(folder, user, as_user["group"])
        data = folder / "data"
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)  # its folder is closed to others
        made = [BINARIES / "initdb", "-D", data, "-U", "hare", "-A", "scram-sha-256", "--pwfile", folder / "password"]
        subprocess.run([*made, "-E", "UTF8", "--locale=C"], cwd=folder, check=True, capture_output=True, **as_user)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 40,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            command = [BINARIES / "postgres", "-D", data, *options]
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **as_user)
        end = time.monotonic() + 60
        ready = [BINARIES / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, check=False).returncode:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield f"postgresql+psycopg://hare:{password}@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)  # at once: nobody wants its files any more
            server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
