import json
import math
import re

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from obd import obd_folder

from hare_evaluation import off_policy
from hare_evaluation.off_policy import estimate, estimates_for_run, reward_model
from hare_gym.envs.replay import LoggedData
from hare_gym.errors import ConfigError, DataError

# the pool of 3 kinds of contexts and 4 items that most tests use
MU = np.array([[0.9, 0.1, 0.3, 0.5], [0.2, 0.8, 0.4, 0.1], [0.3, 0.5, 0.05, 0.7]])
UNIFORM = np.full((3, 4), 0.25)
SKEWED = np.array([[0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.5, 0.4], [0.2, 0.2, 0.3, 0.3]])
POLICY = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
WRONG_MODEL = np.array([[0.2, 0.9, 0.3, 0.4], [0.7, 0.1, 0.5, 0.3], [0.9, 0.2, 0.3, 0.1]])
TRUTH = float((POLICY * MU).sum(axis=1).mean())


def draw(p, rng):
    """One item a row from the rows of ``p``."""
    return (rng.random(len(p))[:, None] > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)


def simulate(n, rng, logging=UNIFORM, mu=MU):
    """A log, and the kind of each event's context."""
    kind = rng.integers(3, size=n)
    actions = draw(logging[kind], rng)
    rewards = (rng.random(n) < mu[kind, actions]).astype(float)
    log = LoggedData(
        contexts=np.eye(3)[kind],
        users=np.zeros(n, dtype=np.int64),
        actions=actions,
        rewards=rewards,
        propensities=logging[kind, actions],
        pool=np.eye(mu.shape[1]),
    )
    return log, kind


def coverage(found, truth):
    """For each estimate, the share of intervals that hold the truth, and their mean width."""
    names = found[0].keys()
    truths = np.broadcast_to(truth, len(found))
    shares = {
        name: np.mean([one[name].low <= t <= one[name].high for one, t in zip(found, truths, strict=True)])
        for name in names
    }
    widths = {name: np.mean([one[name].high - one[name].low for one in found]) for name in names}
    return shares, widths


def least(level, runs):
    """What a coverage of ``level`` may look like in so many runs."""
    return level - 3.0 * math.sqrt(level * (1.0 - level) / runs)


@pytest.fixture
def tiny():
    return LoggedData(
        contexts=np.ones((4, 1)),
        users=np.zeros(4, dtype=np.int64),
        actions=np.array([0, 1, 1, 0]),
        rewards=np.array([1.0, 0.0, 1.0, 0.5]),
        propensities=np.array([0.5, 0.25, 0.8, 0.4]),
        pool=np.eye(2),
    )


def test_values_by_hand(tiny):
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
    q_hat = np.array([[0.8, 0.2], [0.6, 0.4], [0.0, 1.0], [np.nan, np.nan]])
    # weights 1/2, 2, 1, 5/2
    found = estimate(tiny, actions=np.array([0, 0, 1, 1]), probabilities=probabilities, q_hat=q_hat)
    assert list(found) == ["replay", "ips", "snips", "dm", "dr"]
    assert found["replay"].value == 1.0 and found["replay"].n == 2
    assert found["ips"].value == pytest.approx((0.5 + 0.0 + 1.0 + 1.25) / 4)
    assert found["snips"].value == pytest.approx(2.75 / 6.0)
    assert found["dm"].value == pytest.approx((0.35 + 0.5 + 0.8) / 3) and found["dm"].n == 3
    dr = (0.35 + 0.5 * 0.2) + (0.5 + 2 * -0.4) + (0.8 + 1 * 0.0) + (0.0 + 2.5 * 0.5)
    assert found["dr"].value == pytest.approx(dr / 4)
    z = 1.959963984540054
    half = z * np.std([0.5, 0.0, 1.0, 1.25], ddof=1) / 2.0
    assert found["ips"].normal_high == pytest.approx(min(1.0, found["ips"].value + half))
    # the drawn actions alone: weights 2, 0, 1.25, 0
    found = estimate(tiny, actions=np.array([0, 0, 1, 1]))
    assert list(found) == ["replay", "ips", "snips"]
    assert found["ips"].value == pytest.approx(3.25 / 4) and found["snips"].value == pytest.approx(1.0)
    assert found["replay"].method == "betting; biased, because the logging policy was not uniform"
    # weights cut to 1
    clipped = estimate(tiny, probabilities=probabilities, q_hat=q_hat, clip=1.0)
    assert list(clipped) == ["ips", "snips", "dm", "dr"]
    assert clipped["ips"].value == pytest.approx((0.5 + 0.0 + 1.0 + 0.5) / 4)
    assert clipped["ips"].method == "betting; value biased downwards by clipping weights at 1"


def test_one_bet_by_hand(monkeypatch):
    # a single bet kappa on three successes: (1 + kappa)^3/(1 + kappa m)^3 = 1/alpha
    monkeypatch.setattr(off_policy, "_BETS", np.array([1.0]))
    alpha = 0.1
    kappa = math.sqrt(2.0 * math.log(10.0) / 3)
    low = off_policy._lower_bound([off_policy._Bet(np.ones(3), 0.0)], alpha)
    assert low == pytest.approx(((1.0 + kappa) * alpha ** (1 / 3) - 1.0) / kappa, abs=1e-6)
    assert off_policy._lower_bound([off_policy._Bet(np.zeros(3), 0.0)], alpha) == 0.0


def test_ips_and_dr_are_unbiased_and_the_direct_method_is_not():
    rng = np.random.default_rng(0)
    values = {name: [] for name in ("ips", "dr", "dm", "snips")}
    for _ in range(400):
        log, kind = simulate(200, rng, SKEWED)
        found = estimate(log, probabilities=POLICY[kind], q_hat=WRONG_MODEL[kind])
        for name, series in values.items():
            series.append(found[name].value)
    z = {name: (np.mean(v) - TRUTH) / (np.std(v) / math.sqrt(len(v))) for name, v in values.items()}
    assert abs(z["ips"]) < 4.0 and abs(z["dr"]) < 4.0 and abs(z["dm"]) > 20.0
    # a right model makes the doubly-robust estimate the better one
    log, kind = simulate(4000, rng, SKEWED)
    found = estimate(log, probabilities=POLICY[kind], q_hat=MU[kind])
    assert found["dr"].normal_high - found["dr"].normal_low < 0.8 * (
        found["ips"].normal_high - found["ips"].normal_low
    )


@pytest.mark.parametrize(
    ("logging", "mu", "given"),
    [
        (UNIFORM, MU, "probabilities"),
        (SKEWED, MU, "probabilities"),
        (UNIFORM, MU * 0.02, "probabilities"),
        (SKEWED, MU * 0.02, "probabilities"),
        (UNIFORM, MU, "actions"),
        (SKEWED, MU, "actions"),
    ],
)
def test_intervals_cover(logging, mu, given):
    rng = np.random.default_rng(1)
    truth = float((POLICY * mu).sum(axis=1).mean())
    runs, found = 300, []
    for _ in range(runs):
        log, kind = simulate(400, rng, logging, mu)
        chosen = draw(POLICY[kind], rng)
        probabilities = POLICY[kind] if given == "probabilities" else None
        found.append(estimate(log, actions=chosen, probabilities=probabilities, q_hat=WRONG_MODEL[kind] * mu.max()))
    shares, widths = coverage(found, truth)
    for name in ("ips", "snips", "dr", *(["replay"] if logging is UNIFORM else [])):
        assert shares[name] >= least(0.95, runs), name
        assert widths[name] < 0.85, name
    if mu is MU:
        assert shares["dm"] < 0.5  # the model is wrong, and the interval does not cover that


def test_wrong_propensities_are_found_out():
    rng = np.random.default_rng(2)
    runs, found = 200, []
    for _ in range(runs):
        log, kind = simulate(1000, rng, SKEWED)
        claimed = LoggedData(log.contexts, log.users, log.actions, log.rewards, log.propensities / 2.0, log.pool)
        found.append(estimate(claimed, probabilities=POLICY[kind]))
    assert coverage(found, TRUTH)[0]["ips"] < 0.1


def test_the_normal_interval_is_too_narrow_for_rare_rewards():
    rng = np.random.default_rng(3)
    rare = MU * 0.01
    truth = float((POLICY * rare).sum(axis=1).mean())
    normal, betting = [], []
    for _ in range(300):
        log, kind = simulate(400, rng, UNIFORM, rare)
        one = estimate(log, probabilities=POLICY[kind])["ips"]
        normal.append(one.normal_low <= truth <= one.normal_high)
        betting.append(one.low <= truth <= one.high)
    assert np.mean(normal) < 0.9 and np.mean(betting) >= least(0.95, 300)


def test_intervals_cover_for_an_agent_that_learns_from_the_log():
    """An agent that plays a good item until its luck is at its best, and a bad one from then on.

    Its policy depends on the logged rewards, so the mean of its values is random and goes with the noise: an interval
    for a fixed number of independent rounds (here Clopper and Pearson's) has no right to cover, and does not.
    """
    from scipy.stats import beta

    rng = np.random.default_rng(4)
    runs, n, found, truths, classical = 200, 2000, [], [], []
    mu = np.array([[0.6, 0.4]])
    for _ in range(runs):
        actions = rng.integers(2, size=n)
        rewards = (rng.random(n) < mu[0, actions]).astype(float)
        matched = actions == 0  # the agent's first choice is item 0
        surplus = np.cumsum(matched * (rewards - 0.6)) / np.sqrt(0.24 * np.maximum(np.cumsum(matched), 1))
        lucky = np.flatnonzero((surplus > 1.7) & (np.cumsum(matched) > 5))
        stop = lucky[0] + 1 if len(lucky) else n
        chosen = np.where(np.arange(n) < stop, 0, 1)
        # what the agent would meet after it is made certain, so that only the luck counts
        rewards[stop:] = 0.0
        log = LoggedData(np.ones((n, 1)), np.zeros(n, dtype=np.int64), actions, rewards, np.full(n, 0.5), np.eye(2))
        found.append(estimate(log, actions=chosen, q_hat=np.full((n, 2), 0.5)))
        truths.append(0.6 * stop / n)
        seen = log.rewards[:stop][log.actions[:stop] == 0]
        classical.append(beta.ppf(0.05, max(seen.sum(), 0.5), len(seen) - seen.sum() + 1) <= 0.6)
    shares, _ = coverage(found, np.array(truths))
    for name in ("ips", "snips", "dr"):
        assert shares[name] >= least(0.95, runs), name
    assert np.mean(classical) < least(0.95, runs)


def test_intervals_shrink_like_the_square_root_of_n():
    rng = np.random.default_rng(5)
    widths = {}
    for n in (400, 6400):
        found = []
        for _ in range(20):
            log, kind = simulate(n, rng, UNIFORM)
            chosen = draw(POLICY[kind], rng)
            found.append(estimate(log, actions=chosen, probabilities=POLICY[kind], q_hat=WRONG_MODEL[kind]))
        widths[n] = coverage(found, TRUTH)[1]
    for name in ("replay", "ips", "snips", "dr"):
        assert 3.2 < widths[400][name] / widths[6400][name] < 5.5, name


def test_betting_intervals_are_not_much_wider_than_normal_ones():
    rng = np.random.default_rng(6)
    log, kind = simulate(10_000, rng, UNIFORM)
    found = estimate(log, actions=draw(POLICY[kind], rng), probabilities=POLICY[kind], q_hat=MU[kind])
    for name in ("replay", "ips", "snips", "dr"):
        one = found[name]
        assert 1.0 < (one.high - one.low) / (one.normal_high - one.normal_low) < 2.2, name


def test_clipped_weights_bias_the_value_and_not_the_interval():
    rng = np.random.default_rng(7)
    runs, found = 300, []
    for _ in range(runs):
        log, kind = simulate(400, rng, SKEWED)
        found.append(estimate(log, probabilities=POLICY[kind], q_hat=WRONG_MODEL[kind], clip=1.5))
    shares, _ = coverage(found, TRUTH)
    assert shares["ips"] >= least(0.95, runs) and shares["dr"] >= least(0.95, runs)
    assert np.mean([one["ips"].value for one in found]) < 0.7 * TRUTH


def test_nothing_seen_is_not_certainty():
    rng = np.random.default_rng(8)
    log, kind = simulate(500, rng, UNIFORM, MU * 0.0)
    found = estimates_for_run(log, rng.integers(4, size=500), POLICY[kind])
    for name in ("replay", "ips", "snips", "dr"):
        assert found[name]["value"] == pytest.approx(0.0, abs=0.01)
        assert found[name]["low"] == 0.0 and 0.005 < found[name]["high"] < 0.2
    never = (log.actions + 1) % 4
    found = estimates_for_run(log, never, None)
    json.dumps(found, allow_nan=False)
    assert found["replay"]["value"] is None and (found["replay"]["low"], found["replay"]["high"]) == (0.0, 1.0)
    assert found["replay"]["method"] == "betting; the policy never chose what the log shows"
    assert found["snips"]["value"] is None and found["snips"]["method"] == "betting; every weight is zero"


def test_more_confidence_is_wider():
    rng = np.random.default_rng(9)
    log, kind = simulate(1000, rng, SKEWED)
    widths = []
    for level in (0.5, 0.9, 0.99):
        one = estimate(log, probabilities=POLICY[kind], level=level)["ips"]
        assert one.low <= one.value <= one.high
        widths.append(one.high - one.low)
    assert widths == sorted(widths) and widths[0] < 0.9 * widths[2]


@pytest.mark.parametrize("n", [1, 2, 49, 51])
def test_small_logs(n):
    rng = np.random.default_rng(10)
    log, kind = simulate(n, rng, SKEWED)
    found = estimates_for_run(log, draw(POLICY[kind], rng), POLICY[kind])
    json.dumps(found, allow_nan=False)
    assert (found["dm"]["value"] is None) == (n <= 50)
    assert all(0.0 <= one["low"] <= one["high"] <= 1.0 for one in found.values())


# -- the reward model --------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [True, False])
def test_the_reward_model_learns(binary):
    rng = np.random.default_rng(11)
    log, kind = simulate(4000, rng, UNIFORM)
    rewards = log.rewards if binary else np.clip(MU[kind, log.actions] + rng.normal(0.0, 0.1, 4000), 0.0, 1.0)
    log = LoggedData(log.contexts, log.users, log.actions, rewards, log.propensities, log.pool)
    q_hat = reward_model(log)
    assert q_hat.shape == (4000, 4) and np.isnan(q_hat[:250]).all() and not np.isnan(q_hat[250:]).any()
    assert (q_hat[250:] >= 0.0).all() and (q_hat[250:] <= 1.0).all()
    error = np.abs(q_hat - MU[kind])
    assert error[250:500].mean() > error[2000:].mean() and error[2000:].mean() < 0.06
    with pytest.raises(ValueError, match="read-only"):
        q_hat[0, 0] = 0.0


def test_the_reward_model_never_looks_ahead():
    log, _ = simulate(1600, np.random.default_rng(12), UNIFORM)
    rewards, actions = log.rewards.copy(), log.actions.copy()
    rewards[800:], actions[800:] = 1.0 - rewards[800:], (actions[800:] + 1) % 4
    other = LoggedData(log.contexts, log.users, actions, rewards, log.propensities, log.pool)
    assert np.array_equal(reward_model(log)[100:], reward_model(other)[100:])
    rewards[799] = 1.0 - rewards[799]
    other = LoggedData(log.contexts, log.users, actions, rewards, log.propensities, log.pool)
    assert np.array_equal(reward_model(log)[100:800], reward_model(other)[100:800])
    assert not np.array_equal(reward_model(log)[800:], reward_model(other)[800:])


def test_the_reward_model_is_kept_by_the_logs_content():
    one, _ = simulate(200, np.random.default_rng(13))
    same, _ = simulate(200, np.random.default_rng(13))
    assert one is not same and reward_model(one) is reward_model(same)


# -- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, DataError, "An estimate needs the policy's actions or its probabilities."),
        (
            {"actions": [0, 1, 1]},
            DataError,
            "actions must be 4 integers, one for each event, not int64 of shape",
        ),
        ({"actions": [0.0, 1.0, 1.0, 0.0]}, DataError, "actions must be 4 integers, one for each event, not float64"),
        ({"actions": [0, 1, 2, 0]}, DataError, "actions must be from 0 to 1; event 2 has 2."),
        ({"probabilities": np.full((4, 3), 1 / 3)}, DataError, "probabilities must have shape (4, 2), not (4, 3)."),
        (
            {"probabilities": [[1, 0], [0.5, 0.6], [1, 0], [1, 0]]},
            DataError,
            "row 1 sums to 1.1 and its least is",
        ),
        ({"probabilities": [[1, 0], [0, 1], [2, -1], [1, 0]]}, DataError, "row 2 sums to 1 and its least is -1."),
        ({"probabilities": [[1, 0], [0, 1], [1, 0], [math.nan, 1]]}, DataError, "row 3 sums to nan"),
        ({"actions": [0] * 4, "q_hat": np.full((4, 2), 1.5)}, DataError, "q_hat must be in [0, 1], or a row all NaN"),
        ({"actions": [0] * 4, "q_hat": [[0, 0], [0, math.nan], [0, 0], [0, 0]]}, DataError, "row 1 is not."),
        ({"actions": [0] * 4, "level": 1.0}, ConfigError, "level must be between 0 and 1, not 1.0."),
        ({"actions": [0] * 4, "clip": 0.0}, ConfigError, "clip must be greater than 0, not 0.0."),
    ],
)
def test_bad_input(tiny, given, error, message):
    with pytest.raises(error, match=re.escape(message)):
        estimate(tiny, **given)


# -- the Open Bandit Dataset -------------------------------------------------------------------------


def uniform_policy(policy, campaign):
    """The sample's log, and the estimates for the random policy, drawn and exact."""
    log = gym.make("HareReplay-v0", layout="obd", path=obd_folder(policy, campaign)).unwrapped.log
    actions = np.random.default_rng(0).integers(log.num_items, size=len(log))
    exact = np.full((len(log), log.num_items), 1.0 / log.num_items)
    return log, estimates_for_run(log, actions, None), estimates_for_run(log, actions, exact)


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_the_random_loggers_own_click_rate_is_found_again(campaign):
    log, drawn, exact = uniform_policy("random", campaign)
    rate = log.rewards.mean()
    for found in (drawn, exact):
        for name in ("replay", "ips", "snips", "dr"):
            assert found[name]["low"] <= rate <= found[name]["high"], name
            assert found[name]["high"] < 0.1
    assert exact["ips"]["value"] == pytest.approx(rate) and exact["ips"]["high"] < 2.0 * rate
    # and a rate twice or half as high is told from it
    for name in ("ips", "snips", "dr"):
        assert rate / 2.5 < exact[name]["low"] and exact[name]["high"] < 2.0 * rate


@pytest.mark.filterwarnings("ignore:.*was not uniform")
@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_the_random_policy_on_the_log_of_another_one(campaign):
    _, _, exact = uniform_policy("bts", campaign)
    rate = uniform_policy("random", campaign)[0].rewards.mean()
    # the random policy's rate in the same week, from the other log; weights reach 20,000
    for name in ("ips", "snips", "dr"):
        assert exact[name]["low"] <= rate <= exact[name]["high"], name
        assert exact[name]["high"] > 0.05  # honest, and wide
    assert "biased" in exact["replay"]["method"]
    assert exact["ips"]["normal_high"] < exact["ips"]["high"]


def test_the_frame_of_estimates_is_json(tiny):
    found = estimates_for_run(tiny, np.array([0, 0, 1, 1]), None)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["logger"]["value"] == pytest.approx(tiny.rewards.mean())
    assert found["logger"]["low"] < found["logger"]["value"] < found["logger"]["high"]
    assert set(pd.DataFrame(found).index) == {"value", "low", "high", "normal_low", "normal_high", "n", "method"}
