"""Agents that learn from which position of a slate was chosen."""

import gymnasium as gym
import numpy as np
import pytest

import hare_gym
from hare_agents.hare import HAREAgent
from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError, DataError
from hare_gym.prompts import PromptContext, encode_context

SPEC = TaskSpec(
    "Slates-v0", "slate", 100, 1, 3, 2, 6, slate_size=3, pool=np.arange(12.0).reshape(6, 2) / 12, has_pool_mask=True
)
SEEN = {"query": np.array([1.0, 0.5, 0.0]), "user": 0, "pool_mask": np.array([1, 1, 1, 1, 1, 0])}


def seated(name, spec=SPEC, **knobs):
    agent = hare_gym.make_agent(name, **knobs)
    agent.reset(spec, np.random.default_rng(0))
    return agent


def play(agent, slate, chosen, reward):
    agent.feedback(SEEN, np.array(slate), {"selected": float(chosen)})
    agent.update(SEEN, np.array(slate), reward)


def test_popularity_credits_what_was_chosen_and_counts_what_was_shown():
    agent = seated("popularity", prior_impressions=2.0, prior_mean=0.25)
    play(agent, [3, 0, 1], 1, 0.8)
    play(agent, [3, 2, 1], -1, 0.0)
    assert agent.credit.tolist() == [0.8, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert agent.shown.tolist() == [1.0, 2.0, 1.0, 2.0, 0.0, 0.0]
    assert agent._scores(SEEN)[[0, 1, 4]].tolist() == pytest.approx([1.3 / 3.0, 0.5 / 4.0, 0.25])
    assert agent.act(SEEN).tolist() == [0, 4, 2]  # 5 is masked
    assert agent.diagnostics() == {"top_share": 5.0 / 6.0}


def test_without_outcomes_all_of_a_slate_is_credited():
    agent = seated("popularity")
    agent.update(SEEN, np.array([0, 1, 2]), 0.5)
    assert agent.credit.tolist() == [0.5, 0.5, 0.5, 0.0, 0.0, 0.0]


def test_outcomes_of_a_batch_meet_their_rewards_in_order():
    agent = seated("popularity")
    batch = {key: np.stack([value] * 3) for key, value in SEEN.items()}
    slates = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4]])
    agent.feedback_batch(batch, slates, {"selected": np.array([0.0, -1.0, 2.0])})
    agent.update_batch(batch, slates, np.array([0.6, 0.0, 0.9]))
    assert agent.credit.tolist() == [0.6, 0.0, 0.0, 0.0, 0.9, 0.0]


def test_a_visitor_of_a_cascade_does_not_see_what_stands_below():
    agent = seated("cascading-ucb", c=1.0)
    play(agent, [4, 1, 2], 1, 1.0)
    assert agent.seen.tolist() == [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    assert agent.credit.tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert {*agent.act(SEEN).tolist()} == {0, 2, 3}  # never seen
    play(agent, [0, 2, 3], -1, 0.0)
    assert agent.seen.tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    bound = np.sqrt(np.log(3.0))
    assert agent._scores(SEEN)[:2].tolist() == pytest.approx([bound, 1.0 + bound])
    assert agent.act(SEEN)[0] == 1


def test_each_position_has_a_bandit_of_its_own():
    agent = seated("ranked-thompson", prior_impressions=2.0, prior_mean=0.5)
    for _ in range(400):
        play(agent, [0, 1, 2], 1, 1.0)
    assert agent.a[:, :3].tolist() == [[1.0, 1.0, 1.0], [1.0, 401.0, 1.0], [1.0, 1.0, 1.0]]
    assert agent.b[:, :3].tolist() == [[401.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 401.0]]
    slates = np.array([agent.act(SEEN) for _ in range(200)])
    first_is_one = slates[:, 0] == 1
    assert (slates[~first_is_one, 1] == 1).mean() > 0.95  # unless it stands further up already
    assert (np.sort(slates, axis=1)[:, 1:] != np.sort(slates, axis=1)[:, :-1]).all()
    assert (slates != 5).all()


def test_slate_linucb_learns_each_items_credit():
    agent = seated("slate-linucb", alpha=0.0, ridge=1.0)
    for _ in range(30):
        play(agent, [0, 1, 2], 2, 0.9)
    means, _ = agent.bank.posterior(np.array([1.0, 0.5, 0.0, 1.0]))
    x2 = 2.25
    assert means[:3].tolist() == pytest.approx([0.0, 0.0, 0.9 * 30 * x2 / (1 + 30 * x2)])
    assert agent.act(SEEN)[0] == 2


def test_epsilon_greedy_explores_every_position_at_its_rate():
    agent = seated("epsilon-greedy-slate", epsilon=0.3, prior_impressions=1.0, prior_mean=0.02)
    for _ in range(50):
        play(agent, [0, 1, 2], 0, 1.0)
        play(agent, [1, 0, 2], 0, 0.5)
        play(agent, [2, 0, 1], 0, 0.4)
    greedy = np.mean([agent.act(SEEN).tolist() == [0, 1, 2] for _ in range(2000)])
    # nobody explores, or those who do draw what would have stood there anyway
    assert 0.343 < greedy < 0.5
    assert seated("epsilon-greedy-slate", epsilon=0.0).config.epsilon == 0.0


def test_rewards_that_are_no_numbers_are_refused():
    agent = seated("popularity")
    with pytest.raises(DataError, match="Popularity"):
        agent.update(SEEN, np.array([0, 1, 2]), float("nan"))


def test_static_affinity_is_the_mean_of_lens_and_topic():
    env = gym.make("HarePrompts-v0", disable_env_checker=True).unwrapped
    agent = seated("static-affinity", env.task)
    pool = env.task.pool
    observation = {
        "query": encode_context(PromptContext("historian", "mind", 0.5, 0, 10.0)),
        "pool_mask": np.ones(48),
        "user": 0,
    }
    score = 0.5 * (pool[:, 8] + np.where(pool[:, 3] == 1.0, 1.0, 0.5))
    assert score[agent.act(observation)].tolist() == np.sort(score)[::-1][:3].tolist()
    with pytest.raises(ConfigError, match=r"plays tasks of prompts, not Slates-v0: see hare_gym\.prompts\.$"):
        seated("static-affinity")


def test_hare_learns_each_items_credit():
    spec = TaskSpec("S-v0", "slate", 300, 1, 2, 4, 4, slate_size=3, pool=np.eye(4))
    seen = {"query": np.array([1.0, 0.0]), "user": 0}
    agent, rng = HAREAgent(heads=0), np.random.default_rng(2)
    agent.reset(spec, np.random.default_rng(1))
    for _ in range(150):
        slate = rng.choice(4, 3, replace=False)
        hit = np.flatnonzero(slate == 2)
        agent.feedback(seen, slate, {"selected": float(hit[0]) if len(hit) else -1.0})
        agent.update(seen, slate, 0.7 if len(hit) else 0.0)
    assert agent.hare.core.posterior.shared.count == 450
    assert agent.act(seen)[0] == 2
