"""HARE's state as a file that a person may keep, and that a stranger may have made."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hare_agents.hare import HARE
from hare_agents.hare.model import FORMAT
from hare_evaluation.live.world import World
from hare_gym.errors import DataError, HareError

MOST_BYTES = 64 * 2**20


def written(hare: HARE) -> bytes:
    """What `HARE.save` writes, an npz file: `HARE.load` reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hare-state.npz"
        hare.save(path)
        return path.read_bytes()


def read(data: bytes, world: World) -> tuple[dict[str, Any], Any]:
    """The arrays and the generator's state in a file that `written` or `HARE.save` made, or a stranger.

    Raises:
        DataError: It is no such file, too large, or of another catalogue or version.
    """
    refusal = "This is no state that this page can load"
    if len(data) > MOST_BYTES:
        raise DataError(f"{refusal}: it has {len(data):,} bytes, and at most {MOST_BYTES:,} are read.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST_BYTES:
            raise DataError(f"{refusal}: unpacked it would have {unpacked:,} bytes.")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
        rng, config, form = about["rng"], dict(about["config"]), about["format"]
        np.random.Generator(np.random.PCG64()).bit_generator.state = rng
    except DataError:
        raise
    except Exception as error:  # whatever a stranger's bytes make these parsers raise
        raise DataError(f"{refusal}: choose a file that 'save my state' gave ({type(error).__name__}).") from error
    expected = asdict(world.hare(0.0, 1.0).config)
    names: set[str] = {*expected, *map(str, config)} - {"alpha", "posterior_bonus"}
    other = sorted(name for name in names if config.get(name) != expected.get(name))
    if form != FORMAT or other:
        raise DataError(f"{refusal}: it is of another version of HARE ({', '.join(other) or f'format {form}'}).")
    pool = arrays.get("pool.items")
    if pool is None or not np.array_equal(pool, world.base["pool.items"]):
        raise DataError(f"{refusal}: it is of another catalogue of skills.")
    try:
        world.hare(0.0, 1.0, arrays, rng)
    except HareError as error:
        raise DataError(f"{refusal}: {error}") from error
    except Exception as error:  # arrays of the right names with shapes that no HARE has
        raise DataError(f"{refusal}: its arrays do not fit together ({type(error).__name__}).") from error
    return arrays, rng
