"""An agent and a decoder together play ``write``."""

import gymnasium as gym
import numpy as np
import pytest

from hare_agents.decoders.pool import content_of_text, measurer_of
from hare_agents.writing import Writing
from hare_gym.contract import Agent, TaskSpec, stack_actions
from hare_gym.errors import ConfigError, UnknownNameError
from hare_gym.text.corpus import load_corpus
from hare_gym.text.measure import Measurer
from hare_gym.text.reward import RewardModel
from hare_gym.text.skills import validate
from hare_gym.text.users import Users

NEEDS = ("I need help writing tests", "help me plan this", "please review what I made")
WRITERS = {
    "hare": {"agent_kwargs": {"warmup": 32}},
    "hare without user": {"agent_kwargs": {"user_state": False, "warmup": 32}},
    "attention only": {"agent_kwargs": {"synthesis": "blend", "warmup": 32}},
    "rag": {"agent": "rag"},
    "rag-profile": {"agent": "rag-profile", "agent_kwargs": {"profile_rounds": 5}},
    "linucb, verbatim": {"agent": "linucb", "choose": "select"},
    "linucb, decoded": {"agent": "linucb", "choose": "select", "selected": "decoded"},
    "plain": {"agent": "random", "conditioned": False},
    "warm": {"agent": "rag", "decoder_kwargs": {"temperature": 0.05}},
}
every_writer = pytest.mark.parametrize("knobs", WRITERS.values(), ids=WRITERS)


class World:
    """A small write task: three domains of the built-in corpus, four users, rewards by the simulated model."""

    def __init__(self):
        skills = [s for s in load_corpus().skills if s.metadata["domain"] in ("software", "security", "education")]
        self.texts = tuple(skill.text for skill in skills)
        self.measurer, self.model = Measurer(), RewardModel()
        self.users = Users.draw(np.random.default_rng(3), 4)
        self.queries = [self.measurer.query(need) for need in NEEDS]
        self.spec = TaskSpec(
            id="SomeSkills-v0",
            action_mode="write",
            horizon=200,
            num_users=4,
            query_dim=17,
            content_dim=17,
            num_items=len(skills),
            pool=np.stack([content_of_text(self.measurer, text) for text in self.texts]),
            pool_texts=self.texts,
            has_query_text=True,
            encoder=self.measurer.encoder_name,
        )

    def observation(self, t, user=None):
        need = t % len(NEEDS)
        return {
            "query": self.queries[need].copy(),
            "user": t % 4 if user is None else user,
            "query_text": NEEDS[need],
        }

    def reward(self, observation, text):
        measured = self.measurer.text(text)
        user = self.users[int(observation["user"])]
        return float(self.model.mean(user, observation["query"], measured, observation["query_text"]))


@pytest.fixture(scope="module")
def world():
    return World()


def begin(world, knobs, seed=0):
    writer = Writing(**knobs)
    writer.reset(world.spec, np.random.default_rng(seed))
    return writer


def play(world, writer, rounds, start=0):
    texts = []
    for t in range(start, start + rounds):
        observation = world.observation(t)
        text = writer.act(observation)
        writer.update(observation, text, world.reward(observation, text))
        texts.append(text)
    return texts


@every_writer
def test_it_writes_valid_skills_learns_and_tells(world, knobs):
    writer = begin(world, knobs)
    for text in play(world, writer, 20):
        assert isinstance(text, str) and not validate(text)
    told = writer.diagnostics()
    assert set(writer.agent.diagnostics()) <= set(told)
    assert all(isinstance(value, float) and np.isfinite(value) for value in told.values())


@every_writer
def test_the_same_seed_gives_the_same_texts_again_and_after_a_reset(world, knobs):
    writer = begin(world, knobs)
    first = play(world, writer, 12)
    assert play(world, begin(world, knobs), 12) == first
    writer.reset(world.spec, np.random.default_rng(0))
    assert play(world, writer, 12) == first


@every_writer
def test_a_saved_agent_goes_on_as_it_would_have(world, knobs):
    writer, heir = begin(world, knobs), begin(world, knobs)
    play(world, writer, 10)
    saved = {name: array.copy() for name, array in writer.state().items()}
    heir.load_state(saved)
    heir.rng.bit_generator.state = writer.rng.bit_generator.state
    assert play(world, heir, 6, start=10) == play(world, writer, 6, start=10)
    assert all(np.array_equal(saved[name], array) for name, array in saved.items())


@every_writer
def test_batches(world, knobs):
    writer = begin(world, knobs)
    play(world, writer, 8)
    rounds = [world.observation(t) for t in range(3)]
    batch = {
        "query": np.stack([r["query"] for r in rounds]),
        "user": np.array([r["user"] for r in rounds]),
        "query_text": tuple(r["query_text"] for r in rounds),
    }
    texts = writer.act_batch(batch)
    assert isinstance(texts, tuple) and not [problem for text in texts for problem in validate(text)]
    assert texts == stack_actions(list(texts))
    before = writer.state()
    writer.update_batch(batch, texts, np.array([0.2, 0.5, 0.9]))
    if before:
        assert any(not np.array_equal(before[name], array) for name, array in writer.state().items())


class Listener(Agent):
    """An inner agent that notes what it is told."""

    modes = frozenset({"select", "synthesize"})

    def reset(self, spec, rng):
        super().reset(spec, rng)
        self.heard = []

    def act(self, observation):
        return 3 if self.spec.action_mode == "select" else np.full(17, 0.1, dtype=np.float32)

    def update(self, observation, action, reward):
        self.heard.append((action, reward))


def listening(world, **knobs):
    return begin(world, {"agent": "test_writing:Listener", **knobs})


def test_the_inner_agent_learns_what_the_text_turned_out_to_be(world):
    writer = listening(world)
    assert writer.agent.spec.action_mode == "synthesize" and writer.spec.action_mode == "write"
    observation = world.observation(0)
    text = writer.act(observation)
    writer.update(observation, text, 0.25)
    (y, reward), asked = writer.agent.heard[0], np.full(17, 0.1)
    assert reward == 0.25 and y.dtype == np.float32
    assert np.allclose(y, measurer_of(world.spec).text(text).phi, atol=1e-6)
    assert not np.allclose(y, asked, atol=0.02)
    cosine = float(y @ asked / np.linalg.norm(y) / np.linalg.norm(asked))
    assert writer.diagnostics()["fidelity"] == pytest.approx(cosine, abs=1e-6)


def test_a_text_that_is_no_skill_is_learned_as_no_content_and_an_item_as_itself(world):
    writer = listening(world)
    writer.update(world.observation(0), "not a skill", 0.0)
    writer.update(world.observation(0), world.texts[7], 0.5)
    assert not writer.agent.heard[0][0].any()
    assert np.allclose(writer.agent.heard[1][0], world.spec.pool[7], atol=1e-7)


def test_a_selector_shows_its_item_or_has_it_decoded(world):
    shown = listening(world, choose="select")
    assert shown.act(world.observation(0)) == world.texts[3]
    shown.update(world.observation(0), world.texts[5], 1.0)
    assert shown.agent.heard == [(5, 1.0)]
    decoded = listening(world, choose="select", selected="decoded")
    text = decoded.act(world.observation(0))
    assert text not in world.texts
    decoded.update(world.observation(0), text, 1.0)
    phi = content_of_text(world.measurer, text)
    assert decoded.agent.heard == [(int(np.argmin(np.linalg.norm(world.spec.pool - phi, axis=1))), 1.0)]


@pytest.mark.parametrize("knobs", [{}, {"decoder_kwargs": {"temperature": 0.05}, "repeatable": True}])
def test_retrieval_writes_one_text_for_everyone(world, knobs):
    writer = begin(world, {"agent": "rag", **knobs})
    play(world, writer, 10)
    for need in range(3):
        assert len({writer.act(world.observation(need, user)) for user in range(4)}) == 1
    assert len({writer.act(world.observation(need, 0)) for need in range(3)}) == 3


def test_hare_without_users_writes_one_text_for_everyone_and_hare_does_not(world):
    for user_state, distinct in ((False, 1), (True, 4)):
        knobs = {"agent_kwargs": {"user_state": user_state, "synthesis_noise": 0.0}}
        writer = begin(world, knobs)
        play(world, writer, 60)
        assert len({writer.act(world.observation(0, user)) for user in range(4)}) == distinct


def test_a_static_profile_tells_users_apart(world):
    writer = begin(world, WRITERS["rag-profile"])
    assert len({writer.act(world.observation(0, user)) for user in range(4)}) == 1
    for user in range(4):
        writer.update(world.observation(0, user), world.texts[17 * user], 1.0)
    assert len({writer.act(world.observation(0, user)) for user in range(4)}) > 1


class Recorder:
    """A decoder that notes what it is given."""

    name = "recorder"

    def prepare(self, spec):
        self.seen = []

    def decode(self, z, user_state, query, pool, weights, rng):
        self.seen.append((z, user_state, query, weights))
        return pool[int(np.argmax(weights))]


def test_the_decoder_gets_content_state_query_and_attention(world):
    writer = begin(world, {"decoder": "test_writing:Recorder", "agent_kwargs": {"warmup": 32}})
    for t in range(16):
        observation = world.observation(t)
        writer.update(observation, world.texts[t], 0.3 + 0.4 * (t % 4 == 1))
    observation = world.observation(16, user=1)
    writer.act(observation)
    z, u, query, weights = writer.decoder.seen[-1]
    assert np.linalg.norm(z) <= 1.0 + 1e-6 and query == NEEDS[16 % 3]
    assert np.array_equal(u, writer.agent.hare.user_state(1)[0]) and u.any()
    assert weights.sum() == pytest.approx(1.0) and np.ptp(weights) > 0.0
    assert np.allclose(weights, writer.agent.hare.attention(observation["query"], 1)[1])


def test_a_decoder_that_is_not_conditioned_is_told_nothing(world):
    writer = begin(world, {"decoder": "test_writing:Recorder", "agent": "rag", "conditioned": False})
    writer.act(world.observation(0))
    z, u, _, weights = writer.decoder.seen[-1]
    assert np.isnan(z).all() and np.isnan(u).all() and np.ptp(weights) == 0.0


def test_what_cannot_write_is_refused(world):
    with pytest.raises(UnknownNameError, match="Did you mean 'linucb'"):
        Writing(agent="linucbb")
    with pytest.raises(UnknownNameError, match="aplha"):
        Writing(agent_kwargs={"aplha": 1.0})
    with pytest.raises(ConfigError, match="agent_kwargs must be a mapping"):
        Writing(agent_kwargs=[1])
    with pytest.raises(ConfigError, match="'oracle' is no agent that"):
        Writing(agent="oracle")
    with pytest.raises(ConfigError, match="'linucb-disjoint' is no agent that can synthesize"):
        Writing(agent="linucb-disjoint", choose="synthesize")
    with pytest.raises(UnknownNameError, match="decoder 'compose'"):
        begin(world, {"decoder": "compose"})


def test_it_refuses_a_task_without_texts():
    env = gym.make("hare_gym:HareBilinear-v0", disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="pool of texts that stays; HareBilinear-v0 has none"):
        Writing().reset(env.unwrapped.task, np.random.default_rng(0))
