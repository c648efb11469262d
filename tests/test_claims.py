"""What the project says of its agents and oracles, run for real."""

import numpy as np
import pytest

import hare_gym
from hare_evaluation.runner import run
from hare_evaluation.spec import RunSpec
from hare_evaluation.statistics import log_log_slope
from hare_gym.errors import MissingPackageError

WORLDS = {
    "bilinear": ("HareBilinear-v0", {"horizon": 250}),
    "bilinear, synthesize": ("HareBilinear-v0", {"horizon": 250, "action_mode": "synthesize"}),
    "linear": ("HareLinear-v0", {"horizon": 250}),
    "linear, synthesize": ("HareLinear-v0", {"horizon": 250, "action_mode": "synthesize"}),
    "efficacy": ("HareBilinear-v0", {"horizon": 250, "efficacy": 0.4}),
    "efficacy, synthesize": ("HareBilinear-v0", {"horizon": 250, "efficacy": 0.4, "action_mode": "synthesize"}),
    "moving": ("HareBilinear-v0", {"horizon": 250, "drift": 0.1, "late_users": 0.5, "catalogue_gap": 0.5}),
    "digits": ("HareClassification-v0", {"horizon": 250}),
    "noisy wine": ("HareClassification-v0", {"table": "wine", "noise": 0.2}),
}


def test_linucb_s_regret_bends_on_the_linear_world():
    """Log-log slope below 0.6 at T = 10,000, on every one of four seeds."""
    for seed in range(4):
        record, _ = run(RunSpec("HareLinear-v0", "linucb", "claims", seed, {"horizon": 10_000}))
        assert record["status"] == "ok"
        assert log_log_slope(record["rounds"], record["curves"]["regret"]) < 0.6


def test_the_random_agent_s_regret_does_not_bend():
    record, _ = run(RunSpec("HareLinear-v0", "random", "claims", 0, {"horizon": 10_000}))
    assert log_log_slope(record["rounds"], record["curves"]["regret"]) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("world", WORLDS)
def test_no_agent_beats_the_oracle(world):
    env, kwargs = WORLDS[world]
    mode = kwargs.get("action_mode", "select")
    played = 0
    for name in hare_gym.agent_names():
        try:
            agent = hare_gym.make_agent(name)
        except MissingPackageError as missing:
            pytest.skip(str(missing))
        if mode not in agent.modes:
            continue
        for seed in range(2):
            record, _ = run(RunSpec(env, name, "claims", seed, kwargs))
            error = record["error"]
            if error and error["round"] is None and error["type"] == "ConfigError":
                break  # it says that it cannot play this task
            assert record["status"] == "ok", error
            steps = np.diff([0.0, *record["curves"]["regret"]])
            assert (steps >= -1e-9 * np.diff([0, *record["rounds"]])).all(), (name, seed)
        else:
            played += 1
    assert played >= 5
