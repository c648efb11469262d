"""Made-up results for the tests of the leaderboard and its benchmark."""

import numpy as np

from hare_leaderboard.results import Disclosure, Entry, Environment, Manifest, Run, RunSet

CHECKPOINTS = [10, 30, 100, 300, 600, 1000]
TRACK_SHA = "7" * 64


def environment(label="HareBilinear-v0", hidden=5, public=2, checkpoints=CHECKPOINTS, **changes):
    return Environment(
        label=label,
        id="HareBilinear-v0",
        kwargs={"action_mode": "select"},
        horizon=checkpoints[-1],
        hidden_seeds=hidden,
        public_seeds=public,
        checkpoints=checkpoints,
        **changes,
    )


def run(
    label="HareBilinear-v0", seed=0, seeds="hidden", regret=100.0, worst=500.0, checkpoints=CHECKPOINTS, **changes
):
    curve = [round(float(regret * np.sqrt(t / checkpoints[-1])), 3) for t in checkpoints]
    values = {
        "environment": label,
        "seed": seed,
        "seeds": seeds,
        "status": "OK",
        "rounds": checkpoints[-1],
        "regret": regret,
        "worst": worst,
        "reward": 700.0 - regret,
        "oracle": 700.0,
        "curve": curve,
        "act_seconds": 0.2,
        "update_seconds": 0.1,
        "actions_sha256": "a" * 64,
    }
    return Run(**values | changes)


def entry(**changes):
    values = {
        "version": "1.0.0",
        "authors": ["A. Author"],
        "entry_point": "agent:Agent",
        "configuration": {"alpha": 0.3},
        "licence": "Apache-2.0",
        "description": "Learns.",
        "disclosure": Disclosure(language_model="none", pretraining_data="none", tuning_budget="24 trials"),
    }
    return Entry(**values | changes)


def manifest(**changes):
    values = {
        "commit": "0" * 40,
        "python": "3.11.9",
        "dependencies": {"numpy": "2.4.6"},
        "hardware": "2 processors, x86_64",
        "protocol": 1,
        "isolation": "bwrap",
        "limits": {"memory_bytes": 2_000_000_000},
        "seed_commitment": "c" * 64,
        "started": "2026-11-30T17:00:00Z",
        "finished": "2026-11-30T17:05:00Z",
    }
    return Manifest(**values | changes)


def run_set(submission="linucb", track="bilinear-select", level=100.0, hidden=5, public=2, seed=0, **changes):
    """A complete result whose regrets lie around ``level``; a seed's luck is the same for all submissions."""
    luck = np.random.default_rng(3).normal(0.0, 20.0, hidden + public)
    own = np.random.default_rng([seed, *submission.encode()]).normal(0.0, 3.0, hidden + public)
    regrets = level + luck + own
    runs = [run(seed=i, regret=float(regrets[i])) for i in range(hidden)]
    runs += [run(seed=i, seeds="public", regret=float(regrets[hidden + i])) for i in range(public)]
    values = {
        "benchmark": "2026.1",
        "track": track,
        "track_sha256": TRACK_SHA,
        "submission": submission,
        "tier": "verified",
        "created": "2026-11-30T17:06:00Z",
        "entry": entry(),
        "environments": [environment(hidden=hidden, public=public)],
        "runs": runs,
        "manifest": manifest(),
    }
    return RunSet(**values | changes)
