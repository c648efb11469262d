"""Seasons: hidden seeds from a secret that is committed to before anybody runs, and published afterwards.

The seed of a session is HMAC-SHA256(secret, benchmark version, track/environment, kind, index, purpose), 128 bits of
it, one for the environment and another for the agent: neither can be guessed (a seed of 17 bits is found by trial in
seconds), and knowing one tells nothing of the others. Beside the definition of a benchmark version lie

- ``<version>.season.json``: the commitment SHA-256(secret) and the hash of the definition, published before;
- ``<version>.revealed.json``: the secret, published after, by which everybody can compute the seeds and run again.

The secret itself is a file outside the project that only its owner may read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hare_evaluation.foundation import ConfigError, DataError
from hare_evaluation.store import explained, write_once
from hare_leaderboard.benchmark import Benchmark, benchmarks_folder
from hare_leaderboard.results import now

Kind: TypeAlias = Literal["hidden", "public"]
Purpose: TypeAlias = Literal["environment", "agent"]

PUBLIC_SECRET = b"hare-gym public seeds"
"""The key of public seeds, which everybody knows."""

_SECRET_BYTES = 32
_MAX_BYTES = 10_000


@dataclass(frozen=True)
class Season:
    """A benchmark version with a secret.

    Attributes:
        benchmark: The version.
        secret: The key of hidden seeds; ``None`` where only public seeds can be computed.
        commitment: SHA-256 of the secret, as it was published; empty without one.
    """

    benchmark: Benchmark
    secret: bytes | None
    commitment: str

    def seed(self, track: str, environment: str, kind: Kind, index: int, purpose: Purpose) -> int:
        """128 bits.

        Raises:
            ConfigError: A hidden seed without the secret.
        """
        key = PUBLIC_SECRET if kind == "public" else self.secret
        if key is None:
            raise ConfigError("Hidden seeds need the season's secret: give its file with --secret.")
        parts = [self.benchmark.version, f"{track}/{environment}", kind, str(index), purpose]
        digest = hmac.new(key, "\n".join(parts).encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:16], "little")


def default_secret_path(version: str) -> Path:
    """Where the secret of a version is looked for: in the user's configuration, outside every checkout."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base, "hare-gym", "seasons", f"{version}.secret")


def open_season(benchmark: Benchmark, secret_path: Path, folder: Path | None = None) -> Path:
    """Draws a secret and writes the commitment that is to be published before the first run.

    Returns:
        The commitment's path.

    Raises:
        DataError: The season is open already, or the secret's file is there.
    """
    public = _season_path(benchmark, folder)
    if public.exists():
        raise DataError(f"The season of {benchmark.version} is open already: {public}.")
    secret = secrets.token_bytes(_SECRET_BYTES)
    with explained(secret_path, "--secret"):
        secret_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(secret_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise DataError(f"{secret_path} is there already, and no secret is ever overwritten.") from None
        with os.fdopen(descriptor, "w") as file:
            file.write(secret.hex() + "\n")
    _publish(
        public,
        {
            "benchmark": benchmark.version,
            "definition_sha256": benchmark.sha256,
            "commitment": hashlib.sha256(secret).hexdigest(),
            "scheme": "commitment = SHA-256(secret); seeds = HMAC-SHA256(secret, ...): hare_leaderboard/season.py",
            "opened": now(),
        },
    )
    return public


def reveal_season(benchmark: Benchmark, secret_path: Path, folder: Path | None = None) -> Path:
    """Publishes the secret of a season that is over; its hidden seeds are public from then on.

    Returns:
        The path of the published secret.

    Raises:
        ConfigError: As :func:`load_season`.
    """
    season = load_season(benchmark, secret_path, folder)
    assert season.secret is not None
    path = _season_path(benchmark, folder).with_name(f"{benchmark.version}.revealed.json")
    _publish(path, {"benchmark": benchmark.version, "secret": season.secret.hex(), "revealed": now()})
    return path


def load_season(benchmark: Benchmark, secret_path: Path | None, folder: Path | None = None) -> Season:
    """The season of a benchmark version; without a secret's path, one of public seeds alone.

    Raises:
        ConfigError: The secret cannot be read, others may read it, it is not the one committed to, or the definition
            was changed after the commitment.
    """
    if secret_path is None:
        return Season(benchmark, None, "")
    public = _season_path(benchmark, folder)
    if not public.is_file():
        raise ConfigError(
            f"No commitment was published for {benchmark.version}: {public} is missing. Open the season first, with: "
            f"hare leaderboard season open {benchmark.version}"
        )
    published = json.loads(public.read_bytes()[:_MAX_BYTES])
    secret = _read_secret(secret_path)
    if hashlib.sha256(secret).hexdigest() != published["commitment"]:
        raise ConfigError(f"{secret_path} is not the secret that {public} commits to.")
    if benchmark.sha256 != published["definition_sha256"]:
        raise ConfigError(
            f"The definition of {benchmark.version} was changed after {public} was published. Undo the change, or "
            "make it a new version."
        )
    return Season(benchmark, secret, published["commitment"])


def _read_secret(path: Path) -> bytes:
    try:
        status = path.stat()
        text = path.read_text()[:_MAX_BYTES].strip()
    except OSError as error:
        raise ConfigError(
            f"The secret {path} cannot be read: {error.strerror}. Only who opened the season has it; anybody else "
            "can run on public seeds with --public."
        ) from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(f"Others may read the secret {path}: chmod 600 {path}")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"The secret {path} must be {2 * _SECRET_BYTES} hexadecimal digits.") from None
    if len(secret) != _SECRET_BYTES:
        raise ConfigError(f"The secret {path} must be {2 * _SECRET_BYTES} hexadecimal digits.")
    return secret


def _season_path(benchmark: Benchmark, folder: Path | None) -> Path:
    return (folder or benchmarks_folder()) / f"{benchmark.version}.season.json"


def _publish(path: Path, values: dict[str, Any]) -> None:
    with explained(path, "--folder"):
        if not write_once(path, (json.dumps(values, indent=2) + "\n").encode()):
            raise DataError(f"{path} is there already, and is never overwritten.")
