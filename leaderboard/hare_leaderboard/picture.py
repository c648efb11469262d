"""A picture of a page of the site, taken by a Chromium that is installed on the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hare_evaluation.foundation import ConfigError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = "--headless --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"


def take(page: Path, out: Path, width: int = 1280, height: int = 900, scale: float = 1.5) -> Path:
    """Writes ``out``, a PNG of the upper part of a page.

    Args:
        page: The page's file.
        out: The picture.
        width: Of the window, in CSS pixels.
        height: Of the window.
        scale: Pixels of the picture for one of the page.

    Raises:
        ConfigError: No Chromium is installed, or it took no picture.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise ConfigError("A picture needs Chromium. Install it, for instance with: apt-get install chromium")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *_OPTIONS.split(), f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        command += [f"--force-device-scale-factor={scale}", f"--screenshot={out.resolve()}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    if done.returncode or not out.exists():
        raise ConfigError(f"{browser} took no picture of {page}: {done.stderr.decode('utf-8', 'replace')[-300:]}")
    return out
