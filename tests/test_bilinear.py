"""`HareBilinear` against its formula, brute force, and its own vector form."""

import gymnasium as gym
import numpy as np
import pytest
from scipy import optimize

import hare_gym
from hare_gym.errors import ActionError, ConfigError, UnknownNameError

WORLDS = {
    "default": {},
    "linear": {"nonlinearity": 0.0},
    "mixed": {"nonlinearity": 0.5},
    "gap": {"catalogue_gap": 0.4},
    "efficacy": {"efficacy": 0.4, "nonlinearity": 0.7},
    "linear efficacy": {"efficacy": 0.4, "nonlinearity": 0.0},
    "drift": {"drift": 0.1},
    "changes": {"change_every": 40},
    "late": {"late_users": 0.5},
    "small": {"dim": 3, "user_dim": 2, "features": 5, "num_items": 9, "num_clusters": 3},
}


def make(mode="select", horizon=300, **knobs):
    return gym.make("HareBilinear-v0", disable_env_checker=True, action_mode=mode, horizon=horizon, **knobs).unwrapped


def mu_by_the_formula(env, y):
    """DESIGN's mu(y) for the round at hand, written again with plain NumPy from the drawn matrices."""
    w, c, i = env._worlds, env.config, env._i
    lam = c.nonlinearity
    x, u = w.query[:, i, 0], w.hidden_user[:, i, 0]
    scale = 2.0 * (1.0 + lam)
    A, B, C = w.A[:, :, 0] * scale, w.B[:, :, 0] * scale, w.C[:, :, 0] / c.frequency
    np.testing.assert_allclose(A @ A.T, np.eye(c.dim), atol=1e-12)
    np.testing.assert_allclose(B.T @ B, np.eye(c.user_dim), atol=1e-12)
    lin = 0.5 * A @ x + 0.5 * B @ u
    n = w.G[:, :, 0] @ (np.sin(c.frequency * C @ x + w.b[:, 0]) * (w.D[:, :, 0] @ u))
    v = (lin + lam * n / np.linalg.norm(n)) / (1.0 + lam)
    length = np.linalg.norm(v)
    ideal = v / length
    if c.catalogue_gap < 1.0:
        pool = env.task.pool
        ideal = c.catalogue_gap * ideal + (1 - c.catalogue_gap) * pool[np.argmax(pool @ ideal)]
        ideal /= np.linalg.norm(ideal)
    mu = (1 - lam) * 0.5 * (1 + length * (y @ ideal))
    mu += lam * np.exp(-np.sum((y - ideal) ** 2) / (2 * c.bandwidth**2))
    if c.efficacy:
        weight = np.exp(c.efficacy_sharpness * (w.centres[:, :, 0].T @ y))
        mu = (1 - c.efficacy) * mu + c.efficacy * (weight @ w.efficacies[:, 0]) / weight.sum()
    return mu


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("mode", ["select", "synthesize"])
def test_the_mean_reward_is_the_formula(name, mode):
    env = make(mode, **WORLDS[name])
    env.reset(seed=5)
    env.action_space.seed(5)
    for _ in range(60):
        action = env.action_space.sample()
        y = env.task.pool[action] if mode == "select" else action.astype(float)
        expected = mu_by_the_formula(env, y / max(1.0, np.linalg.norm(y)))
        info = env.step(action)[4]
        assert info["expected_reward"] == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("name", WORLDS)
def test_oracles_against_brute_force(name):
    """The item oracle by trying every item; the content oracle by numerical search over the unit ball."""
    env = make("synthesize", **WORLDS[name])
    env.reset(seed=11)
    rng = np.random.default_rng(0)
    for _ in range(4):
        items = [mu_by_the_formula(env, y) for y in env.task.pool]

        def loss(y):
            return -mu_by_the_formula(env, y / max(1.0, np.linalg.norm(y)))

        starts = [env.task.pool[np.argmax(items)], *rng.standard_normal((3, env.config.dim))]
        found = max(-optimize.minimize(loss, s, method="BFGS", options={"gtol": 1e-9}).fun for s in starts)
        info = env.step(env.optimal_action())[4]
        assert info["catalogue_oracle_reward"] == pytest.approx(max(items), abs=1e-11)
        if env.config.efficacy:
            assert found <= info["oracle_reward"] + 1e-9
            assert info["oracle_reward"] - found <= info["oracle_width"] + 1e-9
            assert 0.0 <= info["oracle_width"] <= env.config.efficacy
            assert info["regret"] == pytest.approx(info["oracle_width"], abs=1e-6)
        else:
            assert info["oracle_reward"] == pytest.approx(found, abs=1e-6)
            assert info["oracle_reward"] >= found - 1e-9
            assert info["regret"] == pytest.approx(0.0, abs=1e-6)  # the action is float32


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("mode", ["select", "synthesize"])
def test_vector_form_gives_the_single_form_s_bits(name, mode):
    knobs = {"horizon": 150, "action_mode": mode, **WORLDS[name]}
    vector = gym.make_vec("HareBilinear-v0", num_envs=4, **knobs)
    singles = [make(**{"mode": mode, **{k: v for k, v in knobs.items() if k != "action_mode"}}) for _ in range(4)]
    seen, _ = vector.reset(seed=3)
    vector.action_space.seed(3)
    alone = [env.reset(seed=3 + i)[0] for i, env in enumerate(singles)]
    for t in range(152):
        actions = vector.action_space.sample()
        for i, observation in enumerate(alone):
            assert (observation["query"] == seen["query"][i]).all()
            assert observation["user"] == seen["user"][i]
        seen, rewards, terminated, truncated, infos = vector.step(actions)
        assert not terminated.any()
        assert (truncated == (t == 149)).all()
        for i, env in enumerate(singles):
            if t == 150:  # NEXT_STEP: this step starts the next session and plays nothing
                alone[i] = env.reset()[0]
                assert rewards[i] == 0.0
                continue
            alone[i], reward, _, _, info = env.step(actions[i])
            assert reward == rewards[i]
            assert {key: infos[key][i] for key in info} == info


def test_the_linear_world_is_linear_in_the_joint_features():
    """mu regressed on [1, y, x (x) y, user (x) y] leaves nothing over at lambda = 0, and much at 1."""
    for lam, low, high in [(0.0, 0.0, 1e-9), (1.0, 0.02, 1.0)]:
        env = make("select", horizon=1200, nonlinearity=lam, num_users=5)
        observation, _ = env.reset(seed=0)
        env.action_space.seed(0)
        rows, means = [], []
        for _ in range(1200):
            item = env.action_space.sample()
            y, user = env.task.pool[item], np.eye(5)[observation["user"]]
            rows.append(np.concatenate([[1.0], y, np.kron(observation["query"], y), np.kron(user, y)]))
            observation, _, _, _, info = env.step(item)
            means.append(info["expected_reward"])
        rows = np.array(rows)
        residual = np.array(means) - rows @ np.linalg.lstsq(rows, np.array(means), rcond=None)[0]
        assert low <= np.sqrt(np.mean(residual**2)) <= high


def test_noise_does_not_depend_on_what_others_chose():
    """Common random numbers: two agents that choose alike in round t are paid alike in round t."""
    one, two = make(), make()
    one.reset(seed=9)
    two.reset(seed=9)
    for t in range(200):
        same = t % 5 == 0
        a = one.step(t % 64)
        b = two.step(t % 64 if same else (t + 7) % 64)
        assert (a[1] == b[1]) == same
        assert (a[0]["query"] == b[0]["query"]).all()


def test_late_users_arrive_when_stated():
    env = make(horizon=1000, late_users=0.5, late_from=0.6)
    observation, _ = env.reset(seed=1)
    users = [observation["user"]]
    for _ in range(999):
        users.append(env.step(0)[0]["user"])
    assert max(users[:600]) == 9
    assert set(users[600:1000]) == set(range(20))


def test_drift_and_changes_move_the_users():
    env = make(horizon=128, drift=0.5)
    env.reset(seed=4)
    users, hidden = env._worlds.user[:, 0], env._worlds.hidden_user[:, :, 0]
    last = env._worlds.original_users[:, :, 0].copy()
    for user, u in zip(users, hidden.T, strict=True):
        assert 0.0 < np.linalg.norm(u - last[:, user]) < 2.0
        assert np.linalg.norm(u) == pytest.approx(1.0)
        last[:, user] = u
    still, drifting, changing = (make("synthesize", **k) for k in ({}, {"drift": 0.2}, {"change_every": 100}))
    ideals = []
    for env in (still, drifting, changing):
        env.reset(seed=4)
        ideals.append([])
        for _ in range(300):
            ideals[-1].append(env.optimal_action())
            env.step(env.optimal_action())
    still_, drift_, change_ = np.array(ideals)
    assert (still_[:100] == change_[:100]).all()
    assert not np.isclose(still_[100:], change_[100:]).all(axis=1).any()
    gaps = np.linalg.norm(change_[100:200] - change_[200:300], axis=1)
    assert gaps.mean() > 0.1
    angles = 1 - (still_ * drift_).sum(axis=1)
    assert not (still_ == drift_).all()
    assert angles[200:].mean() > angles[:50].mean()


def test_a_reset_without_a_seed_keeps_the_world_and_restarts_drift():
    env = make(drift=0.3)
    env.reset(seed=2)
    pool, users = env.task.pool, env._worlds.original_users.copy()
    first = env._queries.copy()
    for t in range(50):
        env.step(t)
    env.reset()
    assert (env.task.pool == pool).all()
    assert (env._worlds.original_users == users).all()
    assert not (env._queries == first).all()


def test_shared_world_gives_every_lane_the_same_pool_and_its_own_rounds():
    env = gym.make_vec("HareBilinear-v0", num_envs=3, shared_world=True)
    observation, _ = env.reset(seed=1)
    single = make()
    single.reset(seed=1)
    assert (env.task.pool == single.task.pool).all()
    assert all((env.pool_of(lane) == env.task.pool).all() for lane in range(3))
    assert len({tuple(query) for query in observation["query"]}) == 3


@pytest.mark.parametrize(
    ("knobs", "error", "message"),
    [
        (
            {"nonlinearty": 0.5},
            UnknownNameError,
            "Unknown knob of HareBilinear 'nonlinearty'. Did you mean 'nonlinearity'?",
        ),
        (
            {"nonlinearity": 1.5},
            ConfigError,
            "HareBilinear: nonlinearity must be at most 1, not 1.5.",
        ),
        ({"num_items": 6.5}, ConfigError, "HareBilinear: num_items must be a whole number, not 6.5."),
        ({"drift": float("nan")}, ConfigError, "HareBilinear: drift must be a finite number, not nan."),
        ({"user_dim": 9}, ConfigError, "user_dim must be at most dim (8), not 9."),
        ({"num_clusters": 65}, ConfigError, "num_clusters must be at most num_items (64), not 65."),
        (
            {"action_mode": "selct"},
            UnknownNameError,
            "Unknown action_mode of HareBilinear 'selct'. Did you mean 'select'?",
        ),
        ({"render_mode": "rgb"}, UnknownNameError, "Unknown render mode 'rgb'. Known: ansi, rgb_array."),
    ],
)
def test_bad_knobs_name_the_mistake(knobs, error, message):
    with pytest.raises(error) as caught:
        hare_gym.make_environment("HareBilinear-v0", **knobs)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("mode", "action", "message"),
    [
        ("select", 64, "Item 64 is not in the pool of 64: use 0 to 63."),
        ("select", -1, "Item -1 is not in the pool of 64: use 0 to 63."),
        ("select", True, "A select action must be an item's index, not the bool True."),
        ("select", 1.0, "A select action must be an integer, not 1.0 of type float."),
        ("select", np.array([1, 2]), "A select action must be one index, not an array of shape (2,)."),
        ("synthesize", [0.0] * 8, "A synthesize action must be a float32 array of shape (8,), not list."),
        (
            "synthesize",
            np.zeros(8, dtype=int),
            "A synthesize action must be a float32 array of shape (8,), not dtype int64.",
        ),
        ("synthesize", np.zeros(7, np.float32), "A synthesize action must have shape (8,), not (7,)."),
        (
            "synthesize",
            np.full(8, np.nan, np.float32),
            "A synthesize action must be finite; this one holds NaN or infinity.",
        ),
    ],
)
def test_bad_actions_name_the_mistake_and_spend_no_round(mode, action, message):
    env = make(mode)
    env.reset(seed=0)
    with pytest.raises(ActionError) as caught:
        env.step(action)
    assert str(caught.value) == message
    assert env._t == 0


@pytest.mark.parametrize(
    ("mode", "actions", "message"),
    [
        ("select", [1, 64], "Item 64 is not in the pool of 64: use 0 to 63."),
        ("select", [1], "Select actions must be 2 integers, not an array of shape (1,) and dtype int64."),
        ("select", [1.0, 2.0], "Select actions must be 2 integers, not an array of shape (2,) and dtype float64."),
        (
            "synthesize",
            np.zeros((2, 7), np.float32),
            "Synthesize actions must be float32 of shape (2, 8), not float32 of shape (2, 7).",
        ),
        (
            "synthesize",
            np.full((2, 8), np.inf, np.float32),
            "A synthesize action must be finite; this one holds NaN or infinity.",
        ),
    ],
)
def test_bad_vector_actions_name_the_mistake(mode, actions, message):
    env = gym.make_vec("HareBilinear-v0", num_envs=2, action_mode=mode)
    env.reset(seed=0)
    with pytest.raises(ActionError) as caught:
        env.step(actions)
    assert str(caught.value) == message


def test_bad_vector_settings_name_the_mistake():
    with pytest.raises(ConfigError, match="num_envs must be a whole number, at least 1, not 0"):
        gym.make_vec("HareBilinear-v0", num_envs=0)
    with pytest.raises(ConfigError, match="shared_world needs drift=0"):
        gym.make_vec("HareBilinear-v0", num_envs=2, shared_world=True, drift=0.1)
    env = gym.make_vec("HareBilinear-v0", num_envs=2)
    with pytest.raises(ConfigError, match="seed must be one number or 2 of them, not 3"):
        env.reset(seed=[1, 2, 3])


def test_a_published_trajectory_never_changes():
    """The bits that the id -v0 stands for. If this fails, the change needs a new id."""
    import hashlib

    digest = hashlib.sha256()
    for knobs in ({}, {"efficacy": 0.3, "drift": 0.05, "catalogue_gap": 0.5, "late_users": 0.3}):
        env = make("select", horizon=200, **knobs)
        env.reset(seed=123)
        for t in range(200):
            observation, reward, _, _, info = env.step((7 * t) % 64)
            digest.update(np.float64(reward).tobytes() + observation["query"].tobytes())
            digest.update(np.float64(info["oracle_reward"]).tobytes())
    assert digest.hexdigest() == "9d91516c8c581067cc813ee821be899a9ae510163215a57f0f3c9f529b350c0c"
