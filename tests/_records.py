"""Records of imagined runs, in the runner's format: regret a·t^b with a seed's own luck."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from hare_evaluation.results import Labels

AGENTS = {  # regret per round^exponent, exponent
    "random": (0.40, 1.0),
    "epsilon-greedy": (2.6, 0.62),
    "linucb": (2.0, 0.55),
    "linucb-disjoint": (0.9, 0.86),
    "linucb-hybrid": (2.1, 0.56),
    "lints": (2.05, 0.55),
    "lints-disjoint": (1.0, 0.88),
    "sb3": (0.55, 0.96),
}
ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "HareBilinear-v0": {"horizon": 2000},
    "HareLinear-v0": {"horizon": 2000},
    "HareClassification-v0": {"table": "digits"},
}
LABELS = Labels(
    {
        Labels.environment_key(env, kwargs): label
        for (env, kwargs), label in zip(
            ENVIRONMENTS.items(), ["HareBilinear-v0", "HareLinear-v0", "digits"], strict=True
        )
    },
    {
        Labels.agent_key(agent, {}): label
        for agent, label in zip(
            AGENTS,
            [
                "Random",
                "ε-greedy (ridge)",
                "LinUCB (joint)",
                "LinUCB (disjoint)",
                "LinUCB (hybrid)",
                "Thompson (joint)",
                "Thompson (disjoint)",
                "SB3 PPO",
            ],
            strict=True,
        )
    },
)


def make_record(
    env: str = "HareBilinear-v0",
    agent: str = "linucb",
    seed: int = 0,
    *,
    env_kwargs: dict[str, Any] | None = None,
    agent_kwargs: dict[str, Any] | None = None,
    horizon: int = 2000,
    versions: dict[str, Any] | None = None,
    lanes: int = 1,
    final_regret: float | None = None,
    estimates: dict[str, Any] | None = None,
    observed_share: float = 1.0,
) -> dict[str, Any]:
    """A finished run. The world's difficulty is the seed's, so agents share it as under common random numbers."""
    env_kwargs = ENVIRONMENTS.get(env, {}) if env_kwargs is None else env_kwargs
    spec = {
        "env": env,
        "env_kwargs": env_kwargs,
        "agent": agent,
        "agent_kwargs": agent_kwargs or {},
        "seed_set": "quick",
        "seed": seed,
        "lanes": lanes,
        "versions": versions
        or {"hare_gym": "0.1.0", "numpy": "2.4.6", "python": "3.11", "code": "c0de", "files": {}},
    }
    key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    world = np.random.default_rng([seed, *env.encode()]).lognormal(0, 0.15)
    luck = np.random.default_rng(int(key[:8], 16))
    scale, exponent = AGENTS.get(agent, (1.0, 0.7))
    rounds = sorted(
        {*range(horizon // 100, horizon + 1, horizon // 100), *np.geomspace(1, horizon, 100).astype(int).tolist()}
    )
    t = np.array(rounds, dtype=float)
    regret = scale * t**exponent * world * luck.lognormal(0, 0.08)
    regret = regret * (1 + 0.3 * np.cumsum(luck.normal(size=t.size)) / np.sqrt(t.size) / np.sqrt(t))
    if final_regret is not None:
        regret = regret * final_regret / regret[-1]
    observed = np.maximum(0, np.floor(t * observed_share)).astype(int)
    curves = {
        "reward": (0.75 * observed - 0.5 * regret * observed_share).tolist(),
        "regret": regret.tolist(),
        "expected_reward": (0.75 * t - 0.5 * regret).tolist(),
        "oracle_reward": (0.9 * t).tolist(),
        "catalogue_oracle_reward": (0.8 * t).tolist(),
        "observed": observed.tolist(),
    }
    return {
        "schema": 1,
        "key": key,
        "spec": spec,
        "status": "ok",
        "task": {
            "id": env,
            "action_mode": "select",
            "horizon": horizon,
            "num_users": 20,
            "num_items": 64,
            "digest": "0" * 64,
        },
        "rounds": rounds,
        "curves": curves,
        "diagnostics": {"width": [None, *np.linspace(1, 0.1, len(rounds) - 1).tolist()]},
        "totals": {name: values[-1] for name, values in curves.items()} | {"rounds": rounds[-1]},
        "estimates": estimates,
        "actions_sha256": "0" * 64,
        "error": None,
    }


def fail(record: dict[str, Any], message: str = "matrix is singular") -> dict[str, Any]:
    """The same run, failed in round 700."""
    cut = sum(t < 700 for t in record["rounds"])
    curves = {name: values[:cut] for name, values in record["curves"].items()}
    return record | {
        "status": "failed",
        "rounds": record["rounds"][:cut],
        "curves": curves,
        "totals": {name: values[-1] for name, values in curves.items()} | {"rounds": record["rounds"][cut - 1]},
        "error": {
            "round": 700,
            "type": "LinAlgError",
            "message": message,
            "traceback": f'Traceback (most recent call last):\n  File "agent.py", line 7\nLinAlgError: {message}\n',
        },
    }


def study(seeds: int = 5) -> list[dict[str, Any]]:
    """Three environments, eight agents."""
    return [make_record(env, agent, seed) for env in ENVIRONMENTS for agent in AGENTS for seed in range(seeds)]


def logged_study(seeds: int = 3) -> list[dict[str, Any]]:
    """Two agents on logged data with a click rate of 0.4 %."""
    found = []
    for agent, rate in (("random", 0.0040), ("linucb", 0.0052)):
        for seed in range(seeds):
            shift = 0.0002 * seed
            estimates = {
                name: {
                    "value": rate + shift,
                    "low": rate + shift - width,
                    "high": rate + shift + width,
                    "n": 10000,
                }
                for name, width in (
                    ("replay", 0.004),
                    ("ips", 0.003),
                    ("snips", 0.0028),
                    ("dm", 0.001),
                    ("dr", 0.002),
                )
            }
            record = make_record(
                "HareReplay-v0", agent, seed, horizon=10000, estimates=estimates, observed_share=0.0125
            )
            record["curves"]["reward"] = [rate * seen for seen in record["curves"]["observed"]]
            record["totals"]["reward"] = record["curves"]["reward"][-1]
            found.append(record)
    return found
