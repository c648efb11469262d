"""What every registered environment must pass. To register one is to have it tested here, in each of its modes."""

import hashlib
import json
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import load_env_creator
from gymnasium.utils.env_checker import check_env

import hare_gym
from hare_gym.checks import check_task

# other test modules register fakes
SHIPPED = [id for id in hare_gym.environment_ids() if gym.registry[id].entry_point.startswith("hare_gym.")]
CASES = [(id, mode) for id in SHIPPED for mode in load_env_creator(gym.registry[id].entry_point).modes]
NATIVE = [(id, mode) for id, mode in CASES if gym.registry[id].vector_entry_point is not None]

every_environment = pytest.mark.parametrize(("id", "mode"), CASES)


@pytest.fixture
def make(required_knobs):
    def make(id, mode, **knobs):
        return gym.make(id, disable_env_checker=True, action_mode=mode, **{**required_knobs.get(id, {}), **knobs})

    return make


def trajectory_hash(env, seed, rounds=150):
    """SHA-256 of everything that a session of random actions gave."""
    digest = hashlib.sha256()
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(rounds):
        digest.update(b"".join(np.asarray(observation[key]).tobytes() for key in sorted(observation)))
        action = env.action_space.sample()
        observation, reward, terminated, truncated, info = env.step(action)
        digest.update(
            repr((np.asarray(action).tolist(), reward, terminated, truncated, sorted(info.items()))).encode()
        )
        if truncated:
            break
    return digest.hexdigest()


@every_environment
def test_it_keeps_the_contract(make, id, mode):
    check_task(make(id, mode))


@every_environment
def test_gymnasium_accepts_it(make, id, mode):
    with warnings.catch_warnings():
        # it would rather see bounded boxes; queries are unbounded
        warnings.filterwarnings("ignore", message=".*infinity. This is probably too.*")
        check_env(make(id, mode, render_mode="ansi").unwrapped)


@every_environment
def test_stable_baselines3_accepts_it(make, id, mode):
    env = make(id, mode)
    if not isinstance(env.action_space, gym.spaces.Discrete | gym.spaces.Box):
        pytest.skip("Stable-Baselines3 has Discrete and Box actions only")
    if env.unwrapped.task.has_query_text:  # it has no texts in observations either, and its adapter leaves them out
        env = gym.wrappers.FilterObservation(env, [key for key in env.observation_space if key != "query_text"])
    check = pytest.importorskip("stable_baselines3.common.env_checker").check_env
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(env, skip_render_check=False)


@every_environment
def test_the_same_seed_gives_the_same_bits(make, id, mode):
    assert trajectory_hash(make(id, mode), 7) == trajectory_hash(make(id, mode), 7)


@every_environment
def test_another_process_gives_the_same_bits(make, required_knobs, id, mode):
    code = (
        "import json, sys; import gymnasium as gym, hare_gym; from test_environments import trajectory_hash;"
        "id, mode, knobs = json.loads(sys.argv[1]);"
        "print(trajectory_hash(gym.make(id, disable_env_checker=True, action_mode=mode, **knobs), 7))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, json.dumps([id, mode, required_knobs.get(id, {})])],
        cwd=__file__.rpartition("/")[0],
        env={"PYTHONHASHSEED": "123", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert out.stdout.strip() == trajectory_hash(make(id, mode), 7), out.stderr


@every_environment
def test_two_seeds_are_two_sessions(make, id, mode):
    env = make(id, mode)
    if hasattr(env.unwrapped, "log"):
        pytest.skip("logged data come in the log's order")
    assert trajectory_hash(env, 7) != trajectory_hash(env, 8)


@pytest.mark.parametrize(("id", "mode"), NATIVE)
def test_the_native_vector_gives_the_single_environments_bits(make, required_knobs, id, mode):
    knobs = {**required_knobs.get(id, {}), "horizon": 140}
    size = 5
    vector = gym.make_vec(id, num_envs=size, vectorization_mode="vector_entry_point", action_mode=mode, **knobs)
    singles = [make(id, mode, **knobs) for _ in range(size)]
    seen, _ = vector.reset(seed=40)
    expected = [env.reset(seed=40 + i)[0] for i, env in enumerate(singles)]
    vector.action_space.seed(1)
    for t in range(1, 141):
        for key, values in seen.items():
            assert np.array_equal(values, np.stack([observation[key] for observation in expected])), (t, key)
        actions = vector.action_space.sample()
        seen, rewards, terminated, truncated, infos = vector.step(actions)
        played = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        expected = [one[0] for one in played]
        assert rewards.tolist() == [one[1] for one in played], t
        assert terminated.tolist() == [one[2] for one in played]
        assert truncated.tolist() == [one[3] for one in played] == [t == 140] * size
        for key, value in played[0][4].items():
            if isinstance(value, dict):  # an outcome
                for name in value:
                    assert infos[key][name].tolist() == [one[4][key][name] for one in played], (t, key, name)
            else:
                assert infos[key].tolist() == [one[4][key] for one in played], (t, key)


@every_environment
def test_it_is_made_by_the_documented_name(required_knobs, id, mode):
    env = gym.make(f"hare_gym:{id}", action_mode=mode, **required_knobs.get(id, {}))
    assert env.unwrapped.task.action_mode == mode


@every_environment
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_gymnasiums_vector_environments_take_it(required_knobs, id, mode, vectorization):
    knobs = required_knobs.get(id, {})
    env = gym.make_vec(id, num_envs=2, vectorization_mode=vectorization, action_mode=mode, **knobs)
    try:
        observations, _ = env.reset(seed=3)
        assert observations in env.observation_space
        env.action_space.seed(3)
        for _ in range(5):
            observations, rewards, _, _, infos = env.step(env.action_space.sample())
            assert observations in env.observation_space
            assert rewards.shape == infos["regret"].shape == (2,)
    finally:
        env.close()


@every_environment
def test_a_misspelt_knob_is_named(make, id, mode):
    with pytest.raises(hare_gym.HareError, match="Did you mean 'horizon'"):
        make(id, mode, horzion=10)


@every_environment
def test_an_unknown_mode_is_named(make, id, mode):
    with pytest.raises(hare_gym.HareError, match=r"action_mode of \w+ 'chose'"):
        make(id, "chose")


@every_environment
def test_a_picture_is_drawn(make, id, mode):
    env = make(id, mode, render_mode="rgb_array")
    env.reset(seed=0)
    blank = env.render()
    for _ in range(30):
        env.step(env.action_space.sample())
    picture = env.render()
    assert picture.shape == blank.shape == (360, 640, 3)
    assert picture.dtype == np.uint8
    assert (picture != blank).any()
