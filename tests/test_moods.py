"""`HareMoods` against its formula, brute force, and what it says of its distractors. No agent learns here."""

import hashlib

import gymnasium as gym
import numpy as np
import pytest
from scipy import optimize, stats

import hare_gym
from hare_gym.checks import check_task
from hare_gym.errors import ActionError, ConfigError, UnknownNameError

WORLDS = {
    "default": {},
    "one mood": {"num_moods": 1},
    "no gate": {"sharpness": 0.0},
    "hard gate": {"sharpness": 30.0},
    "shared tastes": {"individuality": 0.0},
    "own tastes": {"individuality": 1.0, "radius": 1.0},
    "narrow": {"width": 0.3, "lowest_ceiling": 0.0, "concentration": 3.0},
    "small": {"query_dim": 1, "content_dim": 3, "relevant_dim": 2, "num_items": 5, "num_users": 2},
}


def make(mode="select", horizon=300, **knobs):
    return gym.make("HareMoods-v0", disable_env_checker=True, action_mode=mode, horizon=horizon, **knobs).unwrapped


def by_the_formula(env, observation, y):
    """The ideal a, the ceiling s and mu(y), written again with plain NumPy from what was drawn."""
    c, x, user = env.config, observation["query"], observation["user"]
    P, W = env._P, env._W.T
    np.testing.assert_allclose(P @ P.T, np.eye(c.relevant_dim), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(env._tastes, axis=0), c.radius)
    logits = c.sharpness * W @ x
    p = np.exp(logits - logits.max())
    p /= p.sum()
    a = env._tastes[:, :, user] @ p
    s = env._ceilings @ p
    return a, s, s / (1.0 + (np.linalg.norm(P @ y - a) / c.width) ** 4)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("mode", ["select", "synthesize"])
def test_the_mean_reward_is_the_formula(name, mode):
    env = make(mode, **WORLDS[name])
    observation, _ = env.reset(seed=5)
    env.action_space.seed(5)
    for _ in range(200):  # into the second block of rounds
        action = env.action_space.sample()
        y = env.task.pool[action] if mode == "select" else action.astype(float)
        _, s, mu = by_the_formula(env, observation, y / max(1.0, np.linalg.norm(y)))
        observation, _, _, _, info = env.step(action)
        assert info["expected_reward"] == pytest.approx(mu, abs=1e-10)
        assert info["ceiling"] == info["oracle_reward"] == pytest.approx(s, abs=1e-10)
        assert info["ceiling"] * info["fit"] == info["expected_reward"]


@pytest.mark.parametrize("name", WORLDS)
def test_oracles_against_brute_force(name):
    """The item oracle by trying every item; the content oracle by numerical search over the unit ball."""
    env = make("synthesize", **WORLDS[name])
    observation, _ = env.reset(seed=11)
    rng = np.random.default_rng(0)
    for _ in range(4):
        items = [by_the_formula(env, observation, y)[2] for y in env.task.pool]

        def loss(y, observation=observation):
            return -by_the_formula(env, observation, y / max(1.0, np.linalg.norm(y)))[2]

        starts = [env.task.pool[np.argmax(items)], *rng.standard_normal((3, env.config.content_dim))]
        found = max(-optimize.minimize(loss, s, method="BFGS", options={"gtol": 1e-9}).fun for s in starts)
        best = env.optimal_action()
        assert best.dtype == np.float32
        observation, _, _, _, info = env.step(best)
        assert info["catalogue_oracle_reward"] == pytest.approx(max(items), abs=1e-10)
        assert info["oracle_reward"] == pytest.approx(found, abs=1e-6)
        assert info["oracle_reward"] >= found - 1e-10
        assert 0.0 <= info["regret"] < 1e-9  # the action is float32, and mu is flat there


def test_the_best_item_has_no_regret_and_every_other_has():
    env = make(num_items=20_000, horizon=30)  # more items than are compared at once
    env.reset(seed=1)
    assert 20_000 * 128 > 2**17
    for t in range(30):
        best = env.optimal_action()
        info = env.step(best if t % 2 else (best + 1) % 20_000)[4]
        assert (info["regret"] == 0.0) == bool(t % 2)
        assert info["regret"] >= 0.0


def test_the_distractor_half_does_not_matter():
    """Moving y where P does not look leaves the mean as it is; moving it as far elsewhere does not."""
    one, other, moved = (make("synthesize") for _ in range(3))
    for env in (one, other, moved):
        env.reset(seed=3)
    P = one._P
    unseen = np.linalg.svd(P)[2][len(P) :]
    assert unseen.shape == (5, 10)
    rng = np.random.default_rng(1)
    changes = []
    for _ in range(200):
        y = rng.standard_normal(10)
        y *= 0.5 / np.linalg.norm(y)  # what is added keeps it in the unit ball
        step = unseen.T @ rng.standard_normal(5)
        elsewhere = P.T @ rng.standard_normal(5)
        base = one.step(y)[4]["expected_reward"]
        same = other.step(y + 0.4 * step / np.linalg.norm(step))[4]["expected_reward"]
        assert same == pytest.approx(base, abs=1e-12)
        changes.append(abs(moved.step(y + 0.4 * elsewhere / np.linalg.norm(elsewhere))[4]["expected_reward"] - base))
    assert np.mean(changes) > 0.05


@pytest.mark.parametrize("seed", range(5))
def test_no_coordinate_shows_which_half_matters(seed):
    """Each coordinate of an item lies partly in the relevant half and partly outside; the pool fills all of them."""
    env = make()
    env.reset(seed=seed)
    shares = (env._P**2).sum(axis=0)
    assert shares.sum() == pytest.approx(5.0)
    assert shares.min() > 0.02
    assert shares.max() < 0.98
    spread = np.linalg.svd(env.task.pool - env.task.pool.mean(axis=0), compute_uv=False)
    assert spread.min() > 0.5 * spread.max()


def mean_table(env, rounds):
    """Each round's query, user and the means of all items, ``(T, N)``."""
    queries, users, means = [], [], []
    observation, _ = env.reset(seed=0)
    for _ in range(rounds):
        gaps = env._relevant.T - np.array(env._ideals[env._i])
        means.append(env._oracles[env._i] / (1.0 + (np.linalg.norm(gaps, axis=1) / env.config.width) ** 4))
        queries.append(observation["query"])
        users.append(int(observation["user"]))
        observation = env.step(0)[0]
    return np.array(queries), np.array(users), np.array(means)


def test_a_linear_model_leaves_much_unexplained():
    """The best fit of mu on [1, y, x (x) y, user (x) y], of all items in all rounds of five users."""
    env = make(horizon=600, num_users=5)
    queries, users, means = mean_table(env, 600)
    contexts = np.hstack([np.ones((600, 1)), queries, np.eye(5)[users]])
    rows = np.einsum("tc,nd->tncd", contexts, env.task.pool).reshape(600 * 100, -1)
    rows = np.hstack([np.ones((len(rows), 1)), rows])
    residual = means.ravel() - rows @ np.linalg.lstsq(rows, means.ravel(), rcond=None)[0]
    assert 0.3 < residual.var() / means.var() < 0.9


def test_the_query_the_user_and_the_choice_all_matter():
    """Regret per round: random > the best item for all > the best item for each user > 0, each by a clear margin."""
    env = make(horizon=2000)
    _, users, means = mean_table(env, 2000)
    regrets = means.max(axis=1, keepdims=True) - means
    for_all = regrets.mean(axis=0).min()
    for_each = sum(regrets[users == user].sum(axis=0).min() for user in range(30)) / 2000
    assert regrets.mean() > for_all + 0.1
    assert for_all > for_each + 0.05
    assert for_each > 0.1


@pytest.mark.parametrize("mode", ["select", "synthesize"])
def test_random_loses_clearly_to_the_oracle(mode):
    totals = []
    for optimal in (False, True):
        env = make(mode, horizon=1000)
        env.reset(seed=2)
        env.action_space.seed(2)
        rounds = [env.step(env.optimal_action() if optimal else env.action_space.sample()) for _ in range(1000)]
        totals.append((np.mean([r[1] for r in rounds]), sum(r[4]["regret"] for r in rounds)))
    assert totals[1][0] > totals[0][0] + 0.3
    assert totals[1][1] < 1e-6 < 300 < totals[0][1]


def test_rewards_have_the_stated_law():
    """The place of each reward in its own Beta distribution is uniform, and rewards are not biased."""
    env = make("select", horizon=4000)
    env.reset(seed=8)
    env.action_space.seed(8)
    places, zs = [], []
    for _ in range(4000):
        _, reward, _, _, info = env.step(env.action_space.sample())
        mu = info["expected_reward"]
        places.append(stats.beta(10.0 * mu, 10.0 * (1.0 - mu)).cdf(reward))
        zs.append((reward - mu) / np.sqrt(mu * (1.0 - mu) / 11.0))
    assert stats.kstest(places, "uniform").pvalue > 1e-3
    assert abs(np.mean(zs)) < 4.0 / np.sqrt(4000)


def test_noise_queries_and_users_do_not_depend_on_the_choices():
    one, two = make(), make()
    one.reset(seed=9)
    two.reset(seed=9)
    for t in range(290):
        same = t % 5 == 0
        a = one.step(t % 100)
        b = two.step(t % 100 if same else (t + 7) % 100)
        assert (a[1] == b[1]) == same
        assert (a[0]["query"] == b[0]["query"]).all()
        assert a[0]["user"] == b[0]["user"]


def test_both_modes_and_all_horizons_are_one_world():
    select, synthesize, longer = make(), make("synthesize"), make(horizon=10_000)
    seen = [env.reset(seed=4)[0] for env in (select, synthesize, longer)]
    assert (select.task.pool == synthesize.task.pool).all()
    assert (select.task.pool == longer.task.pool).all()
    for t in range(250):
        assert all((seen[0]["query"] == other["query"]).all() for other in seen[1:])
        a = select.step(t % 100)
        b = synthesize.step(select.task.pool[t % 100])
        c = longer.step(t % 100)
        assert a[4]["expected_reward"] == pytest.approx(b[4]["expected_reward"], abs=1e-12)
        assert a[1] == pytest.approx(b[1], abs=1e-9)
        assert a[1] == c[1]
        seen = [a[0], b[0], c[0]]


def test_a_reset_without_a_seed_keeps_the_world_and_plays_on():
    env = make()
    first, _ = env.reset(seed=2)
    pool, tastes = env.task.pool, env._tastes.copy()
    again, _ = env.reset()
    assert (env.task.pool == pool).all()
    assert (env._tastes == tastes).all()
    assert not (first["query"] == again["query"]).all()
    env.reset(seed=3)
    assert not (env.task.pool == pool).all()


def test_a_session_ends_at_its_horizon_and_repeats_its_last_observation():
    env = make(horizon=128)
    observation, _ = env.reset(seed=0)
    for t in range(128):
        last = observation
        observation, _, terminated, truncated, _ = env.step(0)
        assert not terminated
        assert truncated == (t == 127)
    assert (observation["query"] == last["query"]).all()


@pytest.mark.parametrize("mode", ["select", "synthesize"])
@pytest.mark.parametrize("name", ["default", "own tastes", "small"])
def test_it_keeps_the_contract(mode, name):
    check_task(gym.make("HareMoods-v0", disable_env_checker=True, action_mode=mode, **WORLDS[name]))


@pytest.mark.parametrize(
    ("knobs", "error", "message"),
    [
        ({"num_mods": 3}, UnknownNameError, "Unknown knob of HareMoods 'num_mods'. Did you mean 'num_moods'?"),
        ({"num_moods": 0}, ConfigError, "HareMoods: num_moods must be at least 1, not 0."),
        ({"num_moods": 2.5}, ConfigError, "HareMoods: num_moods must be a whole number, not 2.5."),
        ({"sharpness": 31}, ConfigError, "HareMoods: sharpness must be at most 30, not 31.0."),
        ({"individuality": -0.1}, ConfigError, "HareMoods: individuality must be at least 0, not -0.1."),
        ({"radius": 0}, ConfigError, "HareMoods: radius must be greater than 0, not 0.0."),
        ({"width": float("nan")}, ConfigError, "HareMoods: width must be a finite number, not nan."),
        ({"relevant_dim": 10}, ConfigError, "relevant_dim must be less than content_dim (10), not 10."),
        (
            {"action_mode": "synthesise"},
            UnknownNameError,
            "Unknown action_mode of HareMoods 'synthesise'. Did you mean 'synthesize'?",
        ),
    ],
)
def test_bad_knobs_name_the_mistake(knobs, error, message):
    with pytest.raises(error) as caught:
        hare_gym.make_environment("HareMoods-v0", **knobs)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("mode", "action", "message"),
    [
        ("select", 100, "Item 100 is not in the pool of 100: use 0 to 99."),
        ("synthesize", np.zeros(5, np.float32), "A synthesize action must have shape (10,), not (5,)."),
    ],
)
def test_bad_actions_name_the_mistake_and_spend_no_round(mode, action, message):
    env = make(mode)
    env.reset(seed=0)
    with pytest.raises(ActionError) as caught:
        env.step(action)
    assert str(caught.value) == message
    assert env._t == 0


def test_a_published_trajectory_never_changes():
    """The bits that the id -v0 stands for. If this fails, the change needs a new id."""
    digest = hashlib.sha256()
    for mode, knobs in (("select", {}), ("synthesize", {"individuality": 0.3, "num_moods": 7, "radius": 1.0})):
        env = make(mode, horizon=200, **knobs)
        env.reset(seed=123)
        for t in range(200):
            action = (7 * t) % 100 if mode == "select" else 0.9 * np.roll(env.task.pool[t % 100], t)
            observation, reward, _, _, info = env.step(action)
            digest.update(np.float64(reward).tobytes() + observation["query"].tobytes())
            digest.update(np.float64(info["catalogue_oracle_reward"]).tobytes())
    assert digest.hexdigest() == "ad06b8eaff7fa94f54c7401afae5907c2557cc68520e60d2c6e4d1d683c0fc7d"
