"""The tutorials do what they say: their blocks are saved, run in a shell, or executed, in the order of the page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))
SLOW = {"run_a_study", "scale_out_on_ray", "train_the_decoder"}
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.stem in SLOW else (), id=page.stem) for page in PAGES],
)
def test_a_tutorial_runs_from_its_first_block_to_its_last(page, tmp_path):
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": ".",
    }
    script = []  # one Python session for the page, which lets the shell's blocks run in between
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        code = block["code"]
        if block["language"] == "shell":
            script.append(f"import subprocess; subprocess.run({code!r}, shell=True, check=True)")
        elif block["language"] == "python":
            script.append(code)
        elif block["language"] == "yaml":
            name = re.search(r"[Ss]ave this as `([\w.]+)`", block["before"])
            assert name, f"nothing says as what to save: {code[:60]!r}"
            (tmp_path / name[1]).write_text(code, encoding="utf-8")
        else:
            assert block["language"] == "text"  # what cannot run here: a GPU's command, an installation
    (tmp_path / "page.py").write_text("\n".join(script), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_block_of_a_tutorial_is_seen():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(BLOCK.findall(text)) == len(re.findall(r"^```\w+$", text, re.MULTILINE)), page
