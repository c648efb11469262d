"""`HarePrompts-v0`: its choice model, oracle, visitors and clock; and contexts in and out of queries."""

import hashlib
import itertools
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from small_tasks import NumericTask

from hare_gym.envs.prompts import COMPLETION, MEASURES, MOVEMENT, SELECTION, HarePrompts, HarePromptsVector
from hare_gym.errors import ActionError, ConfigError, DataError
from hare_gym.prompts import (
    CONTENT_DIM,
    LENSES,
    QUERY_DIM,
    TOPICS,
    PromptContext,
    cards_of,
    catalogue,
    decode_context,
    encode_context,
)


def make(mode="slate", **knobs) -> HarePrompts:
    return gym.make("HarePrompts-v0", disable_env_checker=True, action_mode=mode, **knobs).unwrapped


def some_slate(env, observation, rng):
    return rng.choice(np.flatnonzero(observation["pool_mask"]), env.task.slate_size, replace=False)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_oracle_is_the_best_of_all_slates(seed):
    env = make(num_items=9, slate_size=3, position_decay=0.6, horizon=40)
    observation, _ = env.reset(seed=seed)
    every = np.array([*itertools.permutations(range(9), 3)]).T
    rng = np.random.default_rng(seed)
    for _ in range(40):
        worlds = env._worlds
        weight, value = worlds.weight[every, 0], worlds.value[every, 0]
        theta = np.array([1.0, 0.6, 0.36])[:, None]
        means = (theta * weight * value).sum(axis=0) / (np.exp(2.2) + (theta * weight).sum(axis=0))
        assert worlds.oracle[0] == pytest.approx(means.max(), abs=1e-9)
        best = env.optimal_action()
        assert means[(best == every.T).all(axis=1)][0] == pytest.approx(means.max(), abs=1e-9)
        observation, _, _, _, info = env.step(some_slate(env, observation, rng))
        assert info["regret"] >= 0.0


def test_no_slate_beats_the_oracle_among_many_items():
    env = make(num_items=600, slate_size=5, horizon=5)
    observation, _ = env.reset(seed=3)
    rng = np.random.default_rng(3)
    usable = np.flatnonzero(observation["pool_mask"])
    slates = np.stack([rng.choice(usable, 5, replace=False) for _ in range(2000)], axis=1)
    worlds = env._worlds
    best = worlds.best_slate[:, 0]
    near = np.stack([rng.permutation(best) for _ in range(200)], axis=1)
    for slate in np.concatenate([slates, near], axis=1).T:
        assert worlds.expected(slate[:, None])[0][0] <= worlds.oracle[0] + 1e-12


def test_choices_and_rewards_follow_their_means():
    """One round of 20,000 lanes of one world: visitors differ, so each lane has a mean of its own."""
    size = 20_000
    vector = HarePromptsVector(num_envs=size, shared_world=True, fatigue=0.0)
    vector.reset(seed=5)
    slates = np.tile(np.array([4, 9, 30]), (size, 1))
    _, chances = vector._worlds.expected(slates.T)
    completion = vector._worlds.completion.copy()
    _, rewards, _, _, info = vector.step(slates)
    selected = info["outcome"]["selected"]
    for p in range(3):
        assert (selected == p).mean() == pytest.approx(chances[p].mean(), abs=4.0 * np.sqrt(0.25 / size))
    chosen = selected >= 0
    items = np.array([4, 9, 30])[selected[chosen].astype(int)]
    assert info["completed"][chosen].mean() == pytest.approx(completion[items, chosen].mean(), abs=0.02)
    assert rewards.mean() == pytest.approx(info["expected_reward"].mean(), abs=4.0 * rewards.std() / np.sqrt(size))


def test_the_reward_is_the_sum_of_its_parts_and_nothing_is_earned_without_a_choice():
    env = make(horizon=400)
    observation, _ = env.reset(seed=1)
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(400):
        before = decode_context(observation["query"]).entropy
        observation, reward, _, _, info = env.step(some_slate(env, observation, rng))
        parts = (info["selected"], info["completed"], info["movement"])
        assert reward == pytest.approx(np.dot((SELECTION, COMPLETION, MOVEMENT), parts), abs=1e-12)
        outcome = info["outcome"]
        assert (outcome["selected"] >= 0) == (info["selected"] == 1.0)
        assert outcome["completed"] == info["completed"] <= info["selected"]
        closer = 5.0 * (abs(before - 0.5) - abs(outcome["entropy_after"] - 0.5))
        assert info["movement"] == pytest.approx(min(max(closer, 0.0), 1.0), abs=1e-9)
        assert (outcome["dwell"] > 0.0) == (info["selected"] == 1.0)
        assert {*MEASURES} <= info.keys()
        seen.add((info["selected"], info["completed"]))
    assert seen == {(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)}


def test_what_is_masked_or_repeated_is_never_chosen():
    env = make(horizon=300)
    observation, _ = env.reset(seed=2)
    gone = np.flatnonzero(observation["pool_mask"] == 0)
    there = int(np.flatnonzero(observation["pool_mask"])[0])
    assert len(gone) == 16
    _, chances = env._worlds.expected(np.array([[gone[0]], [there], [there]]))
    assert chances[0, 0] == chances[2, 0] == 0.0 < chances[1, 0]
    _, reward, _, _, info = env.step(gone[:3])
    assert (reward, info["expected_reward"], info["selected"], info["new_shown"]) == (0.0, 0.0, 0.0, 0.0)


def test_prompts_arrive_and_count_as_new_for_a_while():
    env = make(horizon=1000, new_rounds=50)
    observation, _ = env.reset(seed=4)
    arrival = env._worlds.arrival[:, 0]
    assert (arrival > 0).sum() == 16
    assert arrival[arrival > 0].min() >= 100
    assert arrival.max() < 800
    first = int(np.argmin(np.where(arrival > 0, arrival, 9999)))
    old = np.flatnonzero(arrival == 0)[:2]
    for t in range(1000):
        assert (observation["pool_mask"] == (arrival <= t)).all()
        slate = np.array([first if arrival[first] <= t else old[0] - 1 if old[0] else old[1] + 1, *old])
        observation, _, _, _, info = env.step(slate)
        assert info["new_shown"] == float(arrival[first] <= t < arrival[first] + 50)


def test_sessions_begin_at_depth_nought_and_the_clock_runs():
    env = make(horizon=600)
    observation, _ = env.reset(seed=6)
    rng = np.random.default_rng(6)
    context, hours, ended = decode_context(observation["query"]), [], 0
    for _ in range(599):
        before = context
        observation, _, _, _, info = env.step(some_slate(env, observation, rng))
        context = decode_context(observation["query"])
        hours.append((context.hour - before.hour) % 24.0)
        ended += int(info["sessions"])
        assert observation["user"] == 0
        if info["sessions"]:
            assert context.depth == 0
        else:
            assert context.depth == before.depth + 1
            assert (context.lens, context.topic) == (before.lens, before.topic)
            assert context.entropy == info["outcome"]["entropy_after"]
            assert hours[-1] == pytest.approx(0.05, abs=1e-9)
    assert 80 < ended < 250
    assert sum(hours) == pytest.approx(env._worlds.clock[0] - 9.0, abs=1e-6)
    assert sum(hours) > 72.0


def test_what_is_shown_tires_and_rests():
    env = make(horizon=50, repetition=0.0, fatigue=0.3)
    env.reset(seed=1)
    worlds = env._worlds
    item = int(worlds.best_slate[0, 0])
    for _ in range(10):
        env.step(np.array([item, item, item]))
    tired = worlds.fatigue[item, 0]
    others = np.delete(worlds.fatigue[:, 0], item)
    clock = worlds.clock[0]
    assert 1.0 < tired <= 9.0
    assert (others == 0.0).all()
    other = np.flatnonzero(worlds.usable[:, 0] & (np.arange(48) != item))[:3]
    env.step(other)
    hours = worlds.clock[0] - clock
    assert worlds.fatigue[item, 0] == pytest.approx(tired * 0.5 ** (hours / 12.0), rel=1e-9)


def test_measures_of_a_slate():
    env = make(horizon=20)
    env.reset(seed=0)
    topics = catalogue(48).topics
    same = np.flatnonzero(topics == 2)[:3]
    two = np.array([same[0], same[1], np.flatnonzero(topics == 3)[0]])
    assert env.step(same)[4]["topic_diversity"] == 0.0
    assert env.step(two)[4]["topic_diversity"] == pytest.approx(2.0 / 3.0)
    assert env.step(np.array([0, 1, 2]))[4]["topic_diversity"] == 1.0
    assert make("select").reset(seed=0)[0]["pool_mask"].sum() == 32


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([0, 1], r"^An action must be 3 integers, not an array of shape \(2,\) and dtype int64\.$"),
        ([0.0, 1.0, 2.0], r"^An action must be 3 integers, not an array of shape \(3,\) and dtype float64\.$"),
        ([0, 1, 48], r"^Item 48 is not in the pool of 48: use 0 to 47\.$"),
        (7, r"^An action must be 3 integers, not an array of shape \(\)"),
    ],
)
def test_what_is_no_slate_is_refused(action, message):
    env = make()
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(action)


def test_knobs_that_cannot_be():
    with pytest.raises(
        ConfigError, match=r"a first slate of 5 cannot be filled\. Raise num_items, or lower late_sha"
    ):
        make(num_items=5, slate_size=5)
    with pytest.raises(ConfigError, match=r"^shared_world needs fatigue=0"):
        HarePromptsVector(num_envs=2, shared_world=True)


def test_a_visible_world_is_best_served_by_what_is_visible():
    """Without anything hidden, and a visitor who is always settled, affinity and topic are the whole truth."""
    hidden = dict.fromkeys(("resonance", "appeal", "interest", "entropy_fit", "rhythm", "repetition", "fatigue"), 0.0)
    env = make("select", horizon=200, **hidden)
    observation, _ = env.reset(seed=0)
    for _ in range(200):
        context, pool = decode_context(observation["query"]), env.task.pool
        score = 2.4 * pool[:, 6 + LENSES.index(context.lens)] + 0.5 * pool[:, TOPICS.index(context.topic)]
        utility = np.log(np.maximum(env._worlds.weight[:, 0], 1e-300))
        usable = observation["pool_mask"] == 1
        assert np.allclose((utility - score)[usable], -1.2)
        observation, *_ = env.step(env.optimal_action())


CONTEXTS = [
    PromptContext("skeptic", "ai-safety", 0.29, 0, 6.0),
    PromptContext("storyteller", "biology", 0.3, 3, 11.99),
    PromptContext("historian", "mind", 0.7, 7, 22.0),
    PromptContext("builder", "ethics", 0.71, 8, 5.5),
    PromptContext("builder", "climate", 1.0, 20, 12.0),
]


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_goes_into_a_query_and_comes_out_again(context):
    query = encode_context(context)
    again = decode_context(query)
    assert replace(again, hour=context.hour) == context
    assert again.hour == pytest.approx(context.hour, abs=1e-12)
    assert query.shape == (QUERY_DIM,)
    assert query[13:16].tolist() == [float(name == context.bucket) for name in ("low", "medium", "high")]
    assert query[16:19].tolist() == [float(name == context.stage) for name in ("shallow", "medium", "deep")]
    times = ("morning", "afternoon", "evening", "night")
    assert query[19:23].tolist() == [float(name == context.time) for name in times]


def test_buckets():
    assert [context.bucket for context in CONTEXTS] == ["low", "medium", "medium", "high", "high"]
    assert [context.stage for context in CONTEXTS] == ["shallow", "medium", "medium", "deep", "deep"]
    assert [context.time for context in CONTEXTS] == ["morning", "morning", "night", "night", "afternoon"]


def test_a_query_of_another_task_is_refused():
    with pytest.raises(
        DataError, match=r"^A query of prompts has shape \(23,\), not \(8,\): is it another task's\?$"
    ):
        decode_context(np.zeros(8))


def test_cards_tell_what_agents_may_know():
    env = make()
    cards = cards_of(env.task)
    assert len(cards) == len({card.text for card in cards}) == 48
    assert cards[0].topic == "ai-safety" and cards[1].topic == "climate"
    assert cards[0].affinity == {"skeptic": 90.0, "builder": 40.0, "historian": 30.0, "storyteller": 35.0}
    assert env.task.pool.shape == (48, CONTENT_DIM)
    with pytest.raises(DataError, match="SmallNumeric-v0 has no pool of prompts"):
        cards_of(NumericTask().task)


def test_the_catalogue_grows_without_changing():
    small, large = catalogue(48), catalogue(500)
    assert large.texts[:48] == small.texts
    assert (large.vectors[:48] == small.vectors).all()
    assert len({*large.texts}) == 500
    assert large.affinity.min() >= 0.0 and large.affinity.max() <= 1.0
    assert np.abs(large.effect).max() <= 0.25
    assert (np.bincount(large.topics) >= 83).all()


def test_the_world_is_the_published_one():
    """The bits of one session: a change here is another environment, and needs another version."""
    env = make(horizon=300)
    env.reset(seed=11)
    rng = np.random.default_rng(11)
    digest = hashlib.sha256()
    for _ in range(300):
        observation, reward, _, _, info = env.step(rng.integers(48, size=3))
        digest.update(observation["query"].tobytes() + np.float64([reward, info["regret"]]).tobytes())
    assert digest.hexdigest() == "304d6f71259f501123047de428ce76ce0d27361e001cba7fc5b1598bc0994ae1"
