import re
import warnings

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium.utils.env_checker import check_env
from obd import obd_folder
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from hare_gym.contract import INFO_KEYS
from hare_gym.envs.replay import LoggedData
from hare_gym.errors import ActionError, ConfigError, DataError, UnknownNameError

COLUMNS = {
    "context": ["age", "device"],
    "action": "shown",
    "reward": "click",
    "propensity": "chance",
    "user": "who",
    "position": "place",
}


def make(**knobs):
    return gym.make("HareReplay-v0", disable_env_checker=True, **knobs)


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    n = 60
    return pd.DataFrame(
        {
            "age": rng.normal(40.0, 10.0, n),
            "device": rng.choice(["phone", "desk"], n),
            "shown": rng.permutation(np.arange(n) % 4),
            "click": rng.integers(0, 2, n),
            "chance": 0.25,
            "who": rng.choice(["ann", "bob", "eve"], n),
            "place": rng.integers(1, 4, n),
        }
    )


@pytest.fixture
def log(frame, tmp_path):
    """Writes ``frame`` (or a changed one) and gives the knobs that read it."""

    def write(changed=None, **knobs):
        path = tmp_path / "log.csv"
        (frame if changed is None else changed).to_csv(path, index=False)
        return {"path": str(path), **COLUMNS, **knobs}

    return write


def play(env, policy, seed=0):
    observation, _ = env.reset(seed=seed)
    observations, rewards, infos, done, t = [], [], [], False, 0
    while not done:
        observations.append(observation)
        observation, reward, terminated, done, info = env.step(policy(t))
        assert not terminated
        rewards.append(reward)
        infos.append(info)
        t += 1
    return observations, np.array(rewards), infos


def test_passes_the_checkers(log):
    for knobs in (log(), log(shuffle=True, horizon=20)):
        check_env(make(**knobs).unwrapped)
        check_env_sb3(make(**knobs).unwrapped)


def test_a_match_shows_the_logged_reward_and_nothing_else_does(log, frame):
    env = make(**log())
    observations, rewards, infos = play(env, lambda t: 2)
    assert len(rewards) == 60
    for t, info in enumerate(infos):
        matched = frame["shown"][t] == 2
        assert info["observed"] is bool(matched)
        assert rewards[t] == (frame["click"][t] if matched else 0.0)
        assert (info["logged_action"], info["logged_reward"], info["propensity"]) == (
            frame["shown"][t],
            frame["click"][t],
            0.25,
        )
        assert set(INFO_KEYS) <= info.keys()
        assert info["oracle_reward"] == info["catalogue_oracle_reward"] == 1.0
        assert info["regret"] == 1.0 - info["expected_reward"]
        assert info["expected_reward"] == (frame["click"][t] if matched else frame["click"].mean())
        assert observations[t]["user"] == ["ann", "bob", "eve"].index(frame["who"][t])


def test_contexts(log, frame):
    env = make(**log())
    x = env.unwrapped.log.contexts
    assert x.shape == (60, 1 + 2 + 3) and np.isclose((x**2).sum(axis=1).mean(), 1.0)
    assert np.allclose(x[:, 0] * np.sqrt(3), (frame["age"] - frame["age"].mean()) / frame["age"].std(ddof=0))
    assert np.array_equal(x[:, 1:3].argmax(axis=1), (frame["device"] == "phone").astype(int))
    assert np.array_equal(x[:, 3:].argmax(axis=1) + 1, frame["place"])
    observation, _ = env.reset(seed=0)
    assert np.array_equal(observation["query"], x[0])
    assert np.array_equal(env.unwrapped.task.pool, np.eye(4)) and env.unwrapped.task.num_users == 3


def test_users_alone_are_a_context(log):
    env = make(**log(context=[], position=None))
    assert env.unwrapped.task.query_dim == 1 and env.unwrapped.task.num_users == 3


def test_the_order_and_the_horizon(log):
    whole = make(**log()).unwrapped.log
    short = make(**log(horizon=7))
    short.reset(seed=4)
    assert short.unwrapped.log == whole.take(np.arange(7)) != whole
    shuffled = make(**log(shuffle=True, horizon=50))
    observations, _, infos = play(shuffled, lambda t: 1, seed=4)
    events = shuffled.unwrapped.log
    assert len(events) == 50 and events != whole.take(np.arange(50))
    for t in range(50):
        assert np.array_equal(observations[t]["query"], events.contexts[t])
        assert infos[t]["logged_action"] == events.actions[t]
    again = make(**log(shuffle=True, horizon=50))
    again.reset(seed=4)
    assert again.unwrapped.log == events
    again.reset(seed=5)
    assert again.unwrapped.log != events


def test_replay_of_a_uniform_log_is_unbiased():
    # rewards depend on the context and the item, and the policy on the context: what matches has the policy's value
    rng = np.random.default_rng(0)
    mu = rng.random((3, 5))
    policy = np.array([4, 0, 2])
    truth = mu[np.arange(3), policy].mean()
    x, a = rng.integers(3, size=200_000), rng.integers(5, size=200_000)
    r = (rng.random(200_000) < mu[x, a]).astype(float)
    matched = r[policy[x] == a]
    assert abs(matched.mean() - truth) < 4.0 * matched.std() / np.sqrt(len(matched))
    # and under a log that prefers the better items it has not
    p = mu**3 / (mu**3).sum(axis=1, keepdims=True)
    a = (rng.random(200_000)[:, None] > np.cumsum(p[x], axis=1)).sum(axis=1)
    r = (rng.random(200_000) < mu[x, a]).astype(float)
    matched = r[policy[x] == a]
    assert abs(matched.mean() - truth) > 8.0 * matched.std() / np.sqrt(len(matched))


@pytest.mark.filterwarnings("ignore:.*was not uniform")
def test_items(log, tmp_path):
    path = tmp_path / "items.csv"
    pd.DataFrame({"shown": [2, 0, 1, 3, 4], "price": [2.0, 0.0, 1.0, 3.0, 4.0], "kind": list("bacab")}).to_csv(path)
    task = make(**log(items=str(path))).unwrapped.task
    assert task.num_items == 5 and task.content_dim == 1 + 3
    assert (np.diff(task.pool[:, 0]) > 0).all()  # in the order of the items' numbers, not of the rows
    assert np.isclose((task.pool**2).sum(axis=1).mean(), 1.0)
    with pytest.raises(ConfigError, match=r"num_items is 9, but items\.csv describes 5 items\."):
        make(**log(items=str(path), num_items=9))
    pd.DataFrame({"shown": [0, 1, 1, 3], "price": 1.0}).to_csv(path)
    with pytest.raises(DataError, match=r"column 'shown' must number the rows: each of 0 to 3 once\."):
        make(**log(items=str(path)))


def test_rewards_are_scaled(log, frame):
    changed = frame.assign(click=frame["click"] * 4 + 1)  # ratings of 1 and 5
    env = make(**log(changed, reward_range=[1, 5]))
    assert np.array_equal(env.unwrapped.log.rewards, frame["click"])
    with pytest.raises(DataError, match=re.escape("rewards lie in [0, 1]; give reward_range=[1, 5] or wider.")):
        make(**log(changed))


def test_a_log_that_is_not_uniform_is_said_to_be_so_once(log, frame):
    changed = frame.assign(chance=np.where(frame["shown"] == 0, 0.7, 0.1))
    knobs = log(changed)
    with pytest.warns(UserWarning, match=r"was not uniform \(propensities differ from event to event\), so the "):
        make(**knobs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(**knobs, horizon=5).unwrapped.log.constant_propensity is None
        uniform = make(**log()).unwrapped.log
        assert uniform.is_uniform and uniform.constant_propensity == 0.25
    with pytest.warns(UserWarning, match=r"propensities are all 0\.25, not 1/5"):
        assert not make(**log(num_items=5)).unwrapped.log.is_uniform


def test_other_data_are_another_task(log, frame):
    digest = make(**log()).unwrapped.task.digest
    assert make(**log()).unwrapped.task.digest == digest
    assert make(**log(frame.assign(click=1))).unwrapped.task.digest != digest


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (
            7,
            "chance",
            0.0,
            "column 'chance' holds 0.0 in row 8; a propensity is a chance greater than 0 and at most 1.",
        ),
        (7, "chance", -0.1, "column 'chance' holds -0.1 in row 8; a propensity is a chance"),
        (7, "chance", 1.5, "column 'chance' holds 1.5 in row 8; a propensity is a chance"),
        (0, "chance", np.nan, "column 'chance' holds no value (or NaN) in row 1 "),
        (3, "click", np.nan, "column 'click' holds no value (or NaN) in row 4 "),
        (3, "click", np.inf, "column 'click' holds infinity in row 4 "),
        (
            3,
            "click",
            2.0,
            "column 'click' holds 2.0 in row 4; rewards lie in [0, 1]; give reward_range=[0, 2] or wider.",
        ),
        (5, "shown", -1, "column 'shown' holds -1 in row 6; item numbers start at 0."),
        (5, "shown", 9, "column 'shown' holds 9 in row 6; there are 4 items, 0 to 3."),
        (5, "shown", 1.5, "column 'shown' must hold whole numbers; row 6 holds 1.5."),
        (5, "shown", "shoe", "column 'shown' must hold numbers; row 6 holds 'shoe'."),
        (9, "age", np.inf, "column 'age' holds infinity in row 10 "),
        (9, "age", "old", "column 'age' must hold numbers; row 10 holds 'old'."),
        (9, "who", None, "column 'who' holds no value (or NaN) in row 10 "),
    ],
)
def test_bad_values(log, frame, row, column, value, message):
    changed = frame.astype({column: object})
    changed.loc[row, column] = value
    with pytest.raises(DataError, match=re.escape(f"log.csv: {message}")):
        make(**log(changed, num_items=4))


@pytest.mark.parametrize(
    ("knobs", "error", "message"),
    [
        ({"reward": "clik"}, UnknownNameError, "Unknown column of log.csv 'clik'. Did you mean 'click'?"),
        (
            {"context": ["age", "devise"]},
            UnknownNameError,
            "Unknown column of log.csv 'devise'. Did you mean 'device'?",
        ),
        ({"context": "age"}, ConfigError, "context must be a list of column names, not 'age'."),
        ({"context": [], "user": None}, ConfigError, "context is missing: list the columns that were known before"),
        (
            {"path": None},
            ConfigError,
            "path is missing: it says where the logged data are. A sample of the Open",
        ),
        ({"path": "no.csv"}, DataError, "There is no file 'no.csv'."),
        ({"layout": "odb"}, UnknownNameError, "Unknown layout of HareReplay 'odb'. Did you mean 'obd'?"),
        (
            {"layout": "obd"},
            ConfigError,
            "layout 'obd' knows its columns; leave out context, action, reward, ",
        ),
        ({"horizon": 61}, ConfigError, "horizon 61 is longer than the data, which has 60 rounds."),
        ({"reward_range": [1, 1]}, ConfigError, "reward_range must be [low, high], low < high, not [1, 1]."),
        ({"reward_range": "wide"}, ConfigError, "reward_range must be [low, high], low < high, not 'wide'."),
        ({"shufle": True}, UnknownNameError, "Unknown knob of HareReplay 'shufle'. Did you mean 'shuffle'?"),
        ({"action_mode": "write"}, UnknownNameError, "Unknown action_mode of HareReplay 'write'."),
    ],
)
def test_bad_knobs(log, knobs, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make(**{**log(), **knobs})


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder '.*nowhere'\. A sample .*pip download --no-deps obp=="):
        make(layout="obd", path=str(tmp_path / "nowhere"))
    (tmp_path / "random" / "men").mkdir(parents=True)
    (tmp_path / "random" / "men" / "item_context.csv").write_text("item_id\n0\n")
    with pytest.raises(DataError, match=r"one more CSV file\. Folders below it that do: random/men\."):
        make(layout="obd", path=str(tmp_path))


def test_there_is_no_oracle(log):
    env = make(**log())
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"HareReplay has no optimal action: .* Leave the oracle agent out\."):
        env.unwrapped.optimal_action()


@pytest.mark.parametrize("action", [4, -1, 0.0, True, None])
def test_bad_actions_do_not_spend_the_event(log, action):
    env = make(**log())
    before, _ = env.reset(seed=0)
    with pytest.raises(ActionError):
        env.step(action)
    assert np.array_equal(env.unwrapped._observation()["query"], before["query"])


def test_render(log, frame):
    env = make(**log(), render_mode="ansi")
    env.reset(seed=0)
    env.step(int(frame["shown"][0]))
    assert "[select] round 1/60: user" in env.render()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": [0.0, 2.0]}, "A log's rewards must be in [0, 1]; event 1 has 2.0."),
        ({"propensities": [0.5, 0.0]}, "A log's propensities must be in (0, 1]; event 1 has 0.0."),
        ({"propensities": [0.5, np.nan]}, "A log's propensities must be in (0, 1]; event 1 has nan."),
        ({"actions": [0, 3]}, "A log's actions must be from 0 to 2; event 1 has 3."),
        ({"contexts": [[1.0], [np.inf]]}, "A log's contexts must be finite; event 1 has [inf]."),
        ({"rewards": [0.0]}, "A log of 2 actions needs 2 rewards, not an array of shape (1,)."),
        ({"actions": []}, "A log needs at least one event."),
    ],
)
def test_logs_made_by_hand(change, message):
    good = {
        "contexts": np.ones((2, 1)),
        "users": np.zeros(2, dtype=int),
        "actions": np.array([0, 1]),
        "rewards": np.array([0.0, 1.0]),
        "propensities": np.full(2, 0.5),
        "pool": np.eye(3),
    }
    with pytest.raises(ValueError, match="read-only"):
        LoggedData(**good).rewards[0] = 1.0
    good["rewards"][0] = 0.5  # the caller's own arrays stay writeable
    with pytest.raises(DataError, match=re.escape(message)):
        LoggedData(**{**good, **change})


@pytest.mark.parametrize(
    ("policy", "campaign", "items", "clicks"),
    [
        ("random", "all", 80, 38),
        ("random", "men", 34, 46),
        ("random", "women", 46, 46),
        ("bts", "all", 80, 42),
        ("bts", "men", 34, 69),
        ("bts", "women", 46, 46),
    ],
)
@pytest.mark.filterwarnings("ignore:.*was not uniform")
def test_the_open_bandit_dataset(policy, campaign, items, clicks):
    env = make(layout="obd", path=obd_folder(policy, campaign))
    log, task = env.unwrapped.log, env.unwrapped.task
    assert len(log) == task.horizon == 10_000 and task.num_items == items
    assert log.rewards.sum() == clicks
    assert log.is_uniform == (policy == "random")
    for vectors in (log.contexts, log.pool):
        assert np.isclose((vectors**2).sum(axis=1).mean(), 1.0)
    # four hashed user features and three positions, one of each in every row
    assert np.allclose(log.contexts.sum(axis=1), np.sqrt(5.0)) and np.allclose(
        log.contexts[:, -3:].sum(axis=1), 0.2**0.5
    )
    _, rewards, infos = play(env, lambda t: int(log.actions[t]))
    assert rewards.sum() == clicks and all(info["observed"] for info in infos)
