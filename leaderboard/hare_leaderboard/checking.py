"""``hare leaderboard check``: schema, size, licence, contract and a short run, with every mistake and its fix."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hare_evaluation.foundation import HareError, unknown_name
from hare_leaderboard.packages import prepare
from hare_leaderboard.submission import FILE, Finding, Submission, SubmissionError, load, refused

TIMEOUT = 900.0

Tracks = Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]
"""Of each track the ids and knobs of its environments."""

_LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING")


def check(folder: Path, tracks: Tracks, tell: Callable[[str], object] = lambda line: None) -> list[Finding]:
    """Checks a submission step by step; what cannot be judged after a mistake is left out.

    Args:
        folder: The submission's folder.
        tracks: What can be entered.
        tell: Told of each step that went well.

    Returns:
        The mistakes; none for a submission that can be handed in.
    """
    try:
        submission = load(folder)
    except SubmissionError as error:
        return list(error.findings)
    tell(f"{FILE}: {submission.name} {submission.version}, licence {submission.licence}")
    findings = [*_unknown_tracks(folder, submission, tracks), *_missing_packages(folder, submission)]
    with tempfile.TemporaryDirectory() as target:
        try:
            prepare(folder, submission, Path(target))
        except SubmissionError as error:
            return [*findings, *error.findings]
        files = [path for path in Path(target).rglob("*") if path.is_file()]
        findings += _wrong_code(folder, submission, files)
        if findings:
            return findings
        size = sum(path.stat().st_size for path in files)
        tell(f"code: {len(files)} files, {size:,} bytes" if submission.has_code else "code: an installed agent")
        try:
            for line in _tried(submission, tracks, folder, target):
                tell(line)
        except SubmissionError as error:
            findings += error.findings
    return findings


def _unknown_tracks(folder: Path, submission: Submission, tracks: Tracks) -> Iterator[Finding]:
    for track in submission.tracks:
        if track not in tracks:
            error = unknown_name("track", track, tracks)
            yield Finding(f"{folder / FILE}, tracks", str(error), "List them with: hare leaderboard tracks")


def _missing_packages(folder: Path, submission: Submission) -> Iterator[Finding]:
    for name in submission.requires:
        try:
            version(name)
        except PackageNotFoundError:
            fix = "Install it here to check the submission; verification has what hare-gym's extras name."
            yield Finding(f"{folder / FILE}, requires", f"{name!r} is not installed.", fix)


def _wrong_code(folder: Path, submission: Submission, files: Sequence[Path]) -> Iterator[Finding]:
    if submission.wheel is None and submission.has_code:
        if not any(path.suffix == ".py" for path in files):
            yield Finding(str(folder), "There is no code.", f"Put the module of {submission.entry_point!r} here.")
        names = {path.stem.upper() for path in files}
        if not names.intersection(_LICENCE_NAMES):
            fix = f"Add the text of {submission.licence} as the file LICENSE."
            yield Finding(str(folder), "The licence's text is missing.", fix)


def _tried(submission: Submission, tracks: Tracks, folder: Path, target: str) -> Iterator[str]:
    """Runs the agent in a process of its own; yields a line for each step that went well."""
    steps: list[dict[str, Any]] = []
    titles: list[str] = []
    checked: list[Any] = []
    for track in submission.tracks:
        agent, configuration = submission.on(track)
        if (agent, configuration) not in checked:
            checked.append((agent, configuration))
            steps.append({"do": "contract", "agent": agent, "configuration": configuration})
            titles.append(f"contract, {agent}")
        for env, kwargs in tracks[track]:
            steps.append(
                {"do": "play", "agent": agent, "configuration": configuration, "env": env, "kwargs": dict(kwargs)}
            )
            titles.append(f"{track}, {env}")
    command = [sys.executable, "-m", "hare_leaderboard.trial", target]
    try:
        done = subprocess.run(
            command, input=json.dumps(steps).encode(), capture_output=True, timeout=TIMEOUT, check=False
        )
        status, lines, output = done.returncode, done.stdout.splitlines(), done.stderr
    except subprocess.TimeoutExpired as error:
        status, lines, output = None, (error.stdout or b"").splitlines(), error.stderr or b""
    for title, line in zip(titles, lines, strict=False):
        outcome = json.loads(line)
        if not outcome["ok"]:
            what = outcome["error"] if outcome["error"].endswith((".", "?", "!")) else f"{outcome['error']}."
            place = f"{folder}: {title}" + (f", at {outcome['trace']}" if outcome["trace"] else "")
            raise refused([Finding(place, what, "")])
        yield _told(title, outcome)
    if len(lines) < len(titles):
        raise refused([Finding(f"{folder}: {titles[len(lines)]}", _death(status), _end_of(output))])


def _told(title: str, outcome: Mapping[str, Any]) -> str:
    if "rounds" not in outcome:
        return f"{title}: kept, plays {', '.join(outcome['modes'])}"
    beside = f" (random: {outcome['random']:.3f})" if "random" in outcome else ""
    return (
        f"{title}: {outcome['rounds']} rounds, mean reward {outcome['reward']:.3f}{beside}, "
        f"{1e6 * outcome['act']:,.0f} µs to act and {1e6 * outcome['update']:,.0f} µs to learn"
    )


def _death(status: int | None) -> str:
    if status is None:
        return f"The agent did not finish within {TIMEOUT:.0f} seconds."
    if status < 0:
        return f"The agent's process was ended by {signal.Signals(-status).name}."
    return f"The agent's process ended with status {status}."


def _end_of(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return "Its last output: " + " / ".join(lines[-3:]) if lines else "It printed nothing."


def new(name: str, parent: Path, tracks: Sequence[str]) -> Path:
    """Writes a submission that passes :func:`check`, to be changed into one's own.

    Raises:
        SubmissionError: The name cannot be one, or the folder is there already.
    """
    from hare_leaderboard.names import is_name

    if not is_name(name):
        what = f"{name!r} cannot be a submission's name."
        fix = "Use 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or digit."
        raise refused([Finding("name", what, fix)])
    if parent.is_dir() and name.casefold() in {path.name.casefold() for path in parent.iterdir()}:
        raise refused([Finding(str(parent / name), "It is there already.", "Choose another name.")])
    folder = parent / name
    module = "agent_" + "".join(c if c.isalnum() else "_" for c in name).lower()
    source = Path(__file__).parent / "templates/new"
    try:
        folder.mkdir(parents=True)
        for template, target in (("submission.yaml", FILE), ("agent.py.txt", f"{module}.py"), ("LICENSE", "LICENSE")):
            text = (source / template).read_text(encoding="utf-8")
            text = text.replace("@NAME@", name).replace("@MODULE@", module).replace("@TRACKS@", ", ".join(tracks))
            (folder / target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise HareError(f"{folder} cannot be written: {error.strerror}.") from error
    return folder
