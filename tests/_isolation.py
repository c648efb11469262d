"""What the tests of the sandbox share: tiers that work here, and one session of one submission."""

import os
from pathlib import Path

import pytest

from hare_evaluation.environments import make
from hare_evaluation.remote import Forfeit, RemoteAgent
from hare_evaluation.runner import Session
from hare_gym.worker import generator
from hare_leaderboard.channel import Limits
from hare_leaderboard.sandbox import Sandbox, probe

SUBMISSIONS = Path(__file__).parent / "submissions"
INSTALL = "apt-get install bubblewrap, on a Linux that allows user namespaces or as root"


def working(tier: str) -> str:
    """``tier`` if it isolates here; else the test is skipped, or fails where nothing may be skipped."""
    reason = probe(tier)
    if reason is not None:
        if os.environ.get("CI") == "true" and tier == "bwrap":
            pytest.fail(f"bwrap does not work here: {reason} ({INSTALL})")
        pytest.skip(f"{tier} does not work here: {reason} ({INSTALL})")
    return tier


def session(
    tier,
    name="hostile",
    entry_point="hostile:Hostile",
    kwargs=None,
    env="HareBilinear-v0",
    knobs=None,
    **limits,
):
    """Plays one session; gives the agent as the loop saw it, the process and the session."""
    knobs = {"horizon": 12, "num_items": 64, "num_users": 4, **(knobs or {})}
    sandbox = Sandbox(tier, Limits(**{"memory_mb": 1024, "act_seconds": 10.0, **limits}))
    folder = SUBMISSIONS / name
    process = sandbox.start(folder)
    agent = RemoteAgent(process, entry_point, kwargs or {}, sandbox.folder(folder))
    try:
        played = Session(Forfeit(make(env, knobs), agent), agent, 1)
        played.play(2**100 + 7, generator(b"agent"))
        agent.finish()
    finally:
        process.kill()
    return agent, process, played


def descendants(pid):
    """The processes below ``pid``, its children first."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(below for child in children for below in descendants(child))]
