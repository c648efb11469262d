import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium.utils.env_checker import check_env
from sklearn.datasets import load_digits
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import hare_gym
from hare_gym.contract import INFO_KEYS
from hare_gym.errors import ActionError, ConfigError, DataError, UnknownNameError


def make(**knobs):
    return gym.make("HareClassification-v0", disable_env_checker=True, **knobs)


def play(env, seed, policy):
    """Queries, rewards and infos of a session in which ``policy(env, t)`` chooses."""
    observation, _ = env.reset(seed=seed)
    queries, rewards, infos, done, t = [], [], [], False, 0
    while not done:
        queries.append(observation["query"])
        observation, reward, terminated, done, info = env.step(policy(env, t))
        assert not terminated
        rewards.append(reward)
        infos.append(info)
        t += 1
    return np.array(queries), np.array(rewards), infos


def first(env, t):
    return 0


def best(env, t):
    return env.unwrapped.optimal_action()


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 2))
    frame = pd.DataFrame({"label": np.where(x[:, 0] > 0, "yes", "no"), "x": x[:, 0], "y": 7.0, "shop": "a"})
    frame.loc[::3, "shop"] = "b"
    path = tmp_path / "shop.csv"
    frame.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("knobs", [{}, {"table": "wine", "costs": "random", "noise": 0.2, "horizon": 400}])
def test_passes_the_checkers(knobs):
    check_env(make(**knobs).unwrapped)
    check_env_sb3(make(**knobs).unwrapped)


@pytest.mark.parametrize(("name", "shape"), [("digits", (1797, 64, 10)), ("breast_cancer", (569, 30, 2))])
def test_built_in_tables(name, shape):
    task = make(table=name).unwrapped.task
    assert (task.horizon, task.query_dim, task.num_items) == shape
    assert np.array_equal(task.pool, np.eye(shape[2])) and task.num_users == 1


def test_each_row_once_with_its_own_class():
    env = make()
    queries, rewards, infos = play(env, 3, best)
    assert (rewards == 1.0).all() and all(info["regret"] == 0.0 and info["correct"] for info in infos)
    assert np.isclose((queries**2).sum(axis=1).mean(), 61 / 64)  # three columns of digits are constant
    target = load_digits().target
    rows = {row.tobytes(): k for row, k in zip(env.unwrapped._contexts, target, strict=True)}
    assert len({query.tobytes() for query in queries} & rows.keys()) == len(rows)
    env.reset(seed=3)
    for query in queries[:50]:
        assert env.unwrapped.optimal_action() == rows[query.tobytes()]
        env.step(0)


def test_a_longer_session_goes_round_in_new_orders():
    queries, _, _ = play(make(table="wine", horizon=400), 0, first)
    assert len(queries) == 400
    passes = queries[:178], queries[178:356]
    assert not np.array_equal(*passes)
    assert np.array_equal(*[one[np.lexsort(one.T)] for one in passes])


def test_the_seed_decides_everything():
    knobs = {"table": "wine", "noise": 0.3, "costs": "random"}
    one, again, other = (play(make(**knobs), seed, lambda env, t: t % 3) for seed in (1, 1, 2))
    assert np.array_equal(one[0], again[0]) and np.array_equal(one[1], again[1]) and one[2] == again[2]
    assert not np.array_equal(one[0], other[0])


def test_a_reset_without_seed_keeps_the_prices_and_changes_the_order():
    env = make(table="wine", costs="random")
    first_observation, _ = env.reset(seed=1)
    prices = env.unwrapped.costs
    second_observation, _ = env.reset()
    assert np.array_equal(prices, env.unwrapped.costs)
    assert not np.array_equal(first_observation["query"], second_observation["query"])
    env.reset(seed=2)
    assert not np.array_equal(prices, env.unwrapped.costs)


@pytest.mark.parametrize("costs", ["none", "random"])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.45])
def test_the_mean_reward_is_exact(noise, costs):
    knobs = {"table": "digits", "noise": noise, "costs": costs, "horizon": 20_000}
    _, rewards, infos = play(make(**knobs), 0, lambda env, t: t % 10)
    expected = np.array([info["expected_reward"] for info in infos])
    correct = np.array([info["correct"] for info in infos])
    assert (rewards >= 0.0).all() and (rewards <= 1.0).all()
    for kind in (correct, ~correct):
        off = (rewards - expected)[kind]
        assert abs(off.mean()) <= 4.0 * off.std() / np.sqrt(kind.sum()) + 1e-12
    # with the noise taken out the formula is the documented one
    env = make(**knobs)
    env.reset(seed=0)
    for a in range(10):
        price = env.unwrapped.costs[a]
        label = env.unwrapped._label
        b = 1.0 - noise if a == label else noise
        _, _, _, _, info = env.step(a)
        assert np.isclose(info["expected_reward"], b if costs == "none" else 1.0 - (1.0 - b) / 2.0 - price)


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_the_oracle_is_the_best_of_all_classes(noise):
    knobs = {"table": "digits", "noise": noise, "costs": "random", "horizon": 300}
    sessions = [play(make(**knobs), 5, lambda env, t, k=k: k)[2] for k in range(10)]
    means = np.array([[info["expected_reward"] for info in infos] for infos in sessions])
    oracle = [info["oracle_reward"] for info in sessions[0]]
    assert np.array_equal(means.max(axis=0), oracle)
    chosen = play(make(**knobs), 5, best)[2]
    assert all(info["regret"] == 0.0 for info in chosen)
    # a cheap wrong class beats the right one under noise, and never without
    assert all(info["correct"] for info in chosen) == (noise == 0.0)
    for info in sessions[0]:
        assert set(INFO_KEYS) <= info.keys() and info["catalogue_oracle_reward"] == info["oracle_reward"]
        assert info["regret"] == info["oracle_reward"] - info["expected_reward"] >= 0.0


def test_noise_does_not_depend_on_what_is_chosen():
    env = make(table="breast_cancer", noise=0.3)
    luck = []
    for policy in (first, lambda env, t: 1, best):
        _, rewards, infos = play(env, 9, policy)
        luck.append([reward != info["correct"] for reward, info in zip(rewards, infos, strict=True)])
    assert luck[0] == luck[1] == luck[2] and 0.2 < np.mean(luck[0]) < 0.4


def test_a_file_of_ones_own(table):
    env = make(table=table, label="label")
    assert env.unwrapped.classes == ["no", "yes"]
    assert env.unwrapped.task.query_dim == 1 + 1 + 2
    queries, rewards, _ = play(env, 0, lambda env, t: int(env.unwrapped._observation()["query"][0] > -0.05))
    assert rewards.mean() > 0.8 and np.isfinite(queries).all() and (queries[:, 1] == 0.0).all()
    assert make(table=table).unwrapped.classes == ["a", "b"]  # the last column is the default
    raw = play(make(table=table, label="label", scale=False), 0, first)[0]
    assert (raw[:, 1] == 7.0).all()
    # the task knows which data it is made of, wherever they lie
    digest = hare_gym.make_environment("HareClassification-v0", table=table, label="label").unwrapped.task.digest
    assert digest == env.unwrapped.task.digest
    Path(table).write_text(Path(table).read_text().replace("yes", "maybe"))
    assert make(table=table, label="label").unwrapped.task.digest != digest


@pytest.mark.parametrize(
    ("knobs", "error", "message"),
    [
        ({"table": "digit"}, UnknownNameError, "Unknown table of HareClassification 'digit'. Did you mean 'digits'?"),
        ({"table": "nowhere.csv"}, DataError, "There is no file 'nowhere.csv'."),
        ({"table": "wine", "label": "x"}, ConfigError, "label is for files; 'wine' knows its own."),
        ({"noise": 0.6}, ConfigError, "noise must be at most 0.5, not 0.6."),
        ({"costs": "randon"}, UnknownNameError, "Did you mean 'random'?"),
        ({"horizon": 0}, ConfigError, "horizon must be at least 1, not 0."),
        ({"nois": 0.1}, UnknownNameError, "Unknown knob of HareClassification 'nois'. Did you mean 'noise'?"),
        ({"action_mode": "slate"}, UnknownNameError, "Unknown action_mode of HareClassification 'slate'."),
    ],
)
def test_bad_knobs(knobs, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make(**knobs)


def test_bad_tables(table, tmp_path):
    with pytest.raises(UnknownNameError, match=r"Unknown column of shop\.csv 'lable'\. Did you mean 'label'\?"):
        make(table=table, label="lable")
    with pytest.raises(DataError, match="column 'x' has 40 different values in 40 rows, which is a quantity"):
        make(table=table, label="x")
    with pytest.raises(DataError, match=r"column 'y' holds 7\.0 in every row; a label needs two\."):
        make(table=table, label="y")
    frame = pd.read_csv(table)
    frame.loc[4, "x"] = np.nan
    frame.to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(DataError, match=r"gap\.csv: column 'x' holds no value \(or NaN\) in row 5"):
        make(table=str(tmp_path / "gap.csv"), label="label")


@pytest.mark.parametrize("action", [10, -1, 1.0, True, None, np.array([1])])
def test_bad_actions_do_not_spend_the_round(action):
    env = make()
    before, _ = env.reset(seed=0)
    with pytest.raises(ActionError):
        env.step(action)
    assert np.array_equal(env.unwrapped._observation()["query"], before["query"])


def test_render():
    env = make(render_mode="ansi")
    env.reset(seed=0)
    env.step(3)
    assert env.render().startswith("HareClassification-v0 [select] round 1/1797: user 0 got item 3")
