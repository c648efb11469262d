"""Starts the page: `start` is what ``hare demo`` does."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from hare_gym.errors import ConfigError, MissingPackageError


def start(port: int, host: str, browser: bool, store: Path | None) -> None:
    """Serves the page until Ctrl-C.

    Args:
        port: The port; 0 for any free one.
        host: The address.
        browser: Whether a browser is opened.
        store: The file of the sessions; None for the one in the user's data folder.

    Raises:
        MissingPackageError: NiceGUI is not installed.
        ConfigError: The port is taken.
        DataError: The file cannot hold sessions.
    """
    if find_spec("nicegui") is None:
        raise MissingPackageError("The page needs NiceGUI: pip install 'hare-gym[demo]'.")
    port = free_port(host, port)
    print("HARE meets its first users (some ten seconds when it is the first time) ...", file=sys.stderr, flush=True)
    from hare_evaluation.live.page import serve
    from hare_evaluation.live.store import Sessions, default_path
    from hare_evaluation.live.world import World

    sessions = Sessions(World(), store or default_path())
    shown = f"[{host}]" if ":" in host else host

    def ready() -> None:
        print(f"HARE, live: http://{shown}:{port}  (sessions: {sessions.path}; stop with Ctrl-C)", flush=True)

    serve(sessions, host, port, browser, ready)


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        ConfigError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} of {host} cannot be had ({error.strerror}): name another, for instance with --port 0."
            ) from error
        return int(probe.getsockname()[1])
