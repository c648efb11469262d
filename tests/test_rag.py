"""RAG as a selector, with and without a user profile: against hand computations, and on a task that suits it."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import small_tasks  # noqa: F401

from hare_agents.rag import RAG, RAGProfile
from hare_agents.random import Random
from hare_gym.checks import check_agent
from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError, DataError, UnknownNameError

POOL = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]])
S = np.sqrt(0.5)


def started(cls, mode="select", pool=POOL, query_dim=2, slate_size=1, **hyperparameters):
    spec = TaskSpec("Fake-v0", mode, 100, 3, query_dim, 2, 4, slate_size, pool=pool)
    agent = cls(**hyperparameters)
    agent.reset(spec, np.random.default_rng(0))
    return agent


def seen(query, user=0, **rest):
    return {"query": np.array(query, dtype=float), "user": np.int64(user), **rest}


class TestRAG:
    # the query's cosines with the four items: 0.6, 0.8, 1.4 √½ = 0.99, -0.6
    query = (6.0, 8.0)

    def test_it_selects_the_item_of_the_largest_cosine(self):
        agent = started(RAG)
        assert np.allclose(agent._cosines(seen(self.query)), [0.6, 0.8, 1.4 * S, -0.6])
        assert agent.act(seen(self.query)) == 2
        assert agent.act(seen((-5.0, 1.0))) == 3
        assert agent.probabilities(seen(self.query)).tolist() == [0.0, 0.0, 1.0, 0.0]

    def test_a_slate_is_the_nearest_k_best_first(self):
        assert started(RAG, "slate", slate_size=3).act(seen(self.query)).tolist() == [2, 1, 0]

    def test_synthesis_is_the_direction_of_the_mean_of_the_nearest(self):
        y = started(RAG, "synthesize", top_k=2).act(seen(self.query))
        assert y.dtype == np.float32
        # the mean of (3, 3) and (0, 2)
        assert np.allclose(y, np.array([1.5, 2.5]) / np.hypot(1.5, 2.5))
        assert np.allclose(started(RAG, "synthesize", top_k=1).act(seen(self.query)), [S, S])

    def test_a_changing_pool_is_read_each_round_and_its_mask_heeded(self):
        round_ = seen(self.query, pool=np.where(np.arange(4)[:, None] == 2, np.nan, POOL), pool_mask=[1, 1, 0, 1])
        assert started(RAG, pool=None).act(round_) == 1
        assert started(RAG, "slate", pool=None, slate_size=2).act(round_).tolist() == [1, 0]
        assert np.allclose(started(RAG, "synthesize", pool=None, top_k=1).act(round_), [0.0, 1.0])
        fewer = started(RAG, "synthesize", pool=None, top_k=9).act(round_)
        assert np.allclose(fewer, [0.0, 1.0])  # the mean of (1, 0), (0, 2) and (-1, 0)

    def test_a_query_of_zeros_is_a_tie(self):
        agent = started(RAG)
        assert len({agent.act(seen((0.0, 0.0))) for _ in range(100)}) == 4

    def test_it_learns_nothing(self):
        agent = started(RAG)
        agent.update(seen(self.query), 2, 0.0)
        assert agent.state() == {}
        assert agent.act(seen(self.query)) == 2


class TestRAGProfile:
    def test_the_profile_is_the_reward_weighted_mean(self):
        agent = started(RAGProfile)
        assert agent.profile(1) is None
        for item, reward in ((0, 0.5), (1, 0.25), (3, 0.0)):
            agent.update(seen((1.0, 0.0), user=1), item, reward)
        # (0.5 (1, 0) + 0.25 (0, 2) + 0 (-1, 0)) / 0.75
        assert np.allclose(agent.profile(1), [2 / 3, 2 / 3])
        assert agent.profile(0) is None

    def test_it_looks_for_the_query_and_the_profile_together(self):
        agent = started(RAGProfile, profile_weight=0.25)
        observation = seen((0.0, 4.0), user=1)
        assert agent.act(observation) == 1
        agent.update(observation, 3, 1.0)
        wanted = 0.75 * np.array([0.0, 1.0]) + 0.25 * np.array([-1.0, 0.0])
        assert np.allclose(agent._wanted(observation), wanted)
        assert np.allclose(agent._cosines(observation)[3], 0.25 / np.linalg.norm(wanted))
        strong = started(RAGProfile, profile_weight=0.95)
        strong.update(observation, 3, 1.0)
        assert strong.act(observation) == 3
        assert strong.act(seen((0.0, 4.0), user=2)) == 1

    def test_it_is_frozen_after_the_users_first_rounds(self):
        agent = started(RAGProfile, profile_rounds=2)
        for item in (0, 0, 3, 3, 3):
            agent.update(seen((1.0, 0.0), user=1), item, 1.0)
        agent.update(seen((1.0, 0.0), user=2), 3, 1.0)
        assert np.allclose(agent.profile(1), [1.0, 0.0])
        assert np.allclose(agent.profile(2), [-1.0, 0.0])
        assert agent.diagnostics() == {"frozen": pytest.approx(1 / 3)}

    def test_slates_and_synthesized_content_enter_the_profile(self):
        agent = started(RAGProfile, "slate", slate_size=2)
        agent.update(seen((1.0, 0.0)), np.array([0, 1]), 1.0)
        assert np.allclose(agent.profile(0), [0.5, 1.0])
        agent = started(RAGProfile, "synthesize")
        agent.update(seen((1.0, 0.0)), np.array([0.6, 0.8], dtype=np.float32), 0.5)
        assert np.allclose(agent.profile(0), [0.6, 0.8])

    def test_state_goes_round(self):
        agent, other = started(RAGProfile), started(RAGProfile)
        for item, reward in ((0, 0.5), (1, 0.25)):
            agent.update(seen((1.0, 0.0), user=1), item, reward)
        other.load_state(agent.state())
        assert np.array_equal(other.profile(1), agent.profile(1))
        state = agent.state()
        agent.update(seen((1.0, 0.0), user=1), 3, 1.0)
        assert np.array_equal(state["sums"], other.sums)
        with pytest.raises(DataError, match="of other dimensions"):
            other.load_state({**state, "sums": np.zeros((2, 2))})

    def test_bad_rewards_are_refused(self):
        agent = started(RAGProfile)
        for reward, words in ((np.nan, "must be a finite number"), (-0.5, "rewards of at least 0")):
            with pytest.raises(DataError, match=words):
                agent.update(seen((1.0, 0.0)), 0, reward)
        assert not agent.rounds.any()

    def test_a_profile_helps_where_users_have_a_taste(self):
        # reward falls with the distance from the user's taste alone: a query says nothing
        rng = np.random.default_rng(3)
        pool = rng.standard_normal((40, 2))
        pool /= np.linalg.norm(pool, axis=1, keepdims=True)
        taste = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
        earned = {}
        for cls in (RAG, RAGProfile):
            spec = TaskSpec("Fake-v0", "select", 600, 3, 2, 2, 40, pool=pool)
            agent, rng = cls(), np.random.default_rng(4)
            agent.reset(spec, np.random.default_rng(0))
            earned[cls] = 0.0
            for _ in range(600):
                observation = seen(rng.standard_normal(2), user=rng.integers(3))
                action = agent.act(observation)
                reward = 0.5 + 0.5 * float(pool[action] @ taste[observation["user"]])
                agent.update(observation, action, reward)
                earned[cls] += reward / 600
        assert earned[RAGProfile] > earned[RAG] + 0.1


@pytest.mark.parametrize("cls", [RAG, RAGProfile])
class TestBoth:
    def test_the_contract(self, cls):
        check_agent(cls())
        check_agent(cls(), "SmallSlate-v0")

    @pytest.mark.parametrize("mode", ["select", "slate"])
    def test_it_beats_random_where_queries_and_items_are_comparable(self, cls, mode):
        regrets = []
        for agent in (cls(), Random()):
            env = gym.make("SmallSlate-v0", horizon=300, action_mode=mode)
            observation, _ = env.reset(seed=1)
            agent.reset(env.unwrapped.task, np.random.default_rng(0))
            total = 0.0
            for _ in range(300):
                action = agent.act(observation)
                following, reward, _, _, info = env.step(action)
                agent.update(observation, action, reward)
                total, observation = total + info["regret"], following
            regrets.append(total)
        # without a profile retrieval is optimal here
        assert regrets[0] < (1e-9 if cls is RAG else 0.7 * regrets[1])

    def test_a_task_of_two_encoders_is_refused(self, cls):
        with pytest.raises(ConfigError, match=r"in Fake-v0 a query has 3 numbers and an item 2\. Use a task whose"):
            started(cls, query_dim=3)

    def test_bad_input_is_refused(self, cls):
        with pytest.raises(DataError, match="NaN or infinity"):
            started(cls).act(seen((np.nan, 0.0)))
        with pytest.raises(DataError, match="NaN or infinity"):
            started(cls, "synthesize").act(seen((np.nan, 0.0)))
        with pytest.raises(UnknownNameError, match="Did you mean 'top_k'"):
            cls(topk=3)
        with pytest.raises(ConfigError, match="top_k must be at least 1"):
            cls(top_k=0)

    def test_the_search_space_names_knobs(self, cls):
        names = {field.name for field in dataclasses.fields(cls().config)}
        assert set(cls.search_space) <= names
        for name, knob in cls.search_space.items():
            for value in knob.get("values") or [knob["low"], knob["high"]]:
                assert getattr(cls(**{name: value}).config, name) == value
