"""The small sample of the Open Bandit Dataset, taken from the wheel that its authors publish."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

import pytest

VERSION = "0.4.1"
WHEEL = f"obp-{VERSION}-py3-none-any.whl"


def obd_folder(policy: str, campaign: str) -> str:
    """``.../obd/<policy>/<campaign>``; skips the test (fails it where CI=true) if the sample cannot be had."""
    found = _sample()
    if isinstance(found, Path):
        return str(found / policy / campaign)
    message = (
        f"The Open Bandit Dataset sample is not here: {found} Run 'pip download --no-deps obp=={VERSION}' "
        f"and set HARE_OBD_WHEEL to the path of {WHEEL}."
    )
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@lru_cache(maxsize=1)
def _sample() -> Path | str:
    """The unzipped sample's folder, kept between test sessions, or why there is none."""
    sample = Path(tempfile.gettempdir()) / f"hare-gym-tests-{os.getuid()}" / f"obd-{VERSION}"
    if not sample.is_dir():
        sample.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=sample.parent) as scratch:
            wheel = os.environ.get("HARE_OBD_WHEEL") or os.path.join(scratch, WHEEL)
            if "HARE_OBD_WHEEL" not in os.environ:
                pip = [sys.executable, "-m", "pip", "download", "--no-deps", f"obp=={VERSION}", "--dest", scratch]
                try:
                    subprocess.run(pip, check=True, capture_output=True, text=True, timeout=120)
                except (subprocess.SubprocessError, OSError) as error:
                    return f"pip could not download it ({type(error).__name__})."
            if not os.path.isfile(wheel):
                return f"there is no file {wheel}."
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch, [name for name in archive.namelist() if "/obd/" in name])
            try:
                os.rename(Path(scratch) / "obp/dataset/obd", sample)
            except OSError:  # another session was quicker
                if not sample.is_dir():
                    raise
    return sample
