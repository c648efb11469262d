"""An agent down a channel plays bit for bit as in this process, and whatever it answers is checked."""

import numpy as np
import pytest
from small_tasks import SmallTask  # noqa: F401  registers nothing, but its path is the tests' folder

from hare_evaluation.environments import make
from hare_evaluation.remote import AgentFault, Forfeit, RemoteAgent
from hare_evaluation.runner import Session
from hare_gym import Agent, TaskSpec, make_agent
from hare_gym.contract import ActionMode
from hare_gym.protocol import HEADER, ProtocolError, frame, opened
from hare_gym.worker import Worker, generator

SEED = 0xFEED_0000_1111_2222_3333_4444_5555_6666  # 128 bits, as hidden seeds have


class Wire:
    """A worker in this process; everything still goes through frames."""

    def __init__(self, agent: Agent | None = None) -> None:
        self.worker, self.frames, self.given = Worker(), 0, agent

    def ask(self, question):
        self.frames += 1
        question = opened(frame(0, question)[HEADER.size :])
        if question["op"] == "start" and self.given is not None:
            self.worker.agent = self.given
            return {"modes": sorted(self.given.modes)}
        return opened(frame(0, self.worker.answer(question))[HEADER.size :])


def remote_session(env_id, kwargs, agent, agent_kwargs, lanes=1):
    wire = Wire()
    player = RemoteAgent(wire, agent, agent_kwargs)
    env = make(env_id, kwargs, lanes)
    session = Session(Forfeit(env, player) if lanes == 1 else env, player, lanes)
    session.play(SEED, np.random.default_rng(5))
    player.finish()
    assert player.fault is None, player.fault
    return session, wire


def local_session(env_id, kwargs, agent, agent_kwargs, lanes=1):
    session = Session(make(env_id, kwargs, lanes), make_agent(agent, **agent_kwargs), lanes)
    session.play(SEED, generator(np.random.default_rng(5).bytes(16)))
    return session


PLAYS = [
    ("HareBilinear-v0", {"horizon": 200}, "linucb", {}, 1),
    ("HareBilinear-v0", {"horizon": 200}, "lints", {}, 1),
    ("HareBilinear-v0", {"horizon": 100, "action_mode": "synthesize"}, "linucb", {}, 1),
    ("HareBilinear-v0", {"horizon": 50}, "linucb", {}, 16),
    ("HareBilinear-v0", {"horizon": 50, "action_mode": "synthesize"}, "random", {}, 16),
    ("HareSkills-v0", {"horizon": 20, "action_mode": "write"}, "writer", {}, 1),
    ("HareLaMP3-v0", {"horizon": 15, "action_mode": "write"}, "bm25", {}, 1),
    ("HareClassification-v0", {"horizon": 60, "table": "wine"}, "linucb-disjoint", {}, 1),
]


@pytest.mark.parametrize(("env_id", "kwargs", "agent", "agent_kwargs", "lanes"), PLAYS)
def test_the_same_bits_as_in_this_process(env_id, kwargs, agent, agent_kwargs, lanes):
    far, wire = remote_session(env_id, kwargs, agent, agent_kwargs, lanes)
    near = local_session(env_id, kwargs, agent, agent_kwargs, lanes)
    assert far.actions_hash.hexdigest() == near.actions_hash.hexdigest()
    assert far.ledger.summary()["curves"] == near.ledger.summary()["curves"]
    assert wire.frames == 3 + far.round + 1  # hello, start, reset; a frame for each pass of the loop; end


def test_what_is_seen_besides_the_reward_arrives_before_the_reward():
    class Listening(Agent):
        def __init__(self):
            self.heard = []

        def act(self, observation):
            return 0

        def feedback(self, observation, action, outcome):
            self.heard.append(("outcome", action, outcome))

        def update(self, observation, action, reward):
            self.heard.append(("reward", action, reward))

    agent = Listening()
    player = RemoteAgent(Wire(agent), "ours", {})
    player.reset(task("select"), np.random.default_rng(0))
    seen = {"query": np.zeros(2), "user": 1}
    for outcome, reward in (({"dwell": 1.5, "selected": -1.0}, 0.25), (None, 0.5)):
        player.act(seen)
        if outcome is not None:
            player.feedback(seen, 0, outcome)
        player.update(seen, 0, reward)
    player.act(seen)  # its reward nobody saw
    player.finish()
    assert agent.heard == [
        ("outcome", 0, {"dwell": 1.5, "selected": -1.0}), ("reward", 0, 0.25), ("reward", 0, 0.5)
    ]  # fmt: skip
    player = RemoteAgent(Wire(Listening()), "ours", {})
    player.reset(task("select"), np.random.default_rng(0))
    both = {"query": np.zeros((2, 2)), "user": np.array([0, 1])}
    player.act_batch(both)
    player.feedback_batch(both, np.zeros(2), {"dwell": np.array([1.0, 2.0])})
    player.update_batch(both, np.zeros(2), np.array([0.1, 0.2]))
    player.finish()
    heard = player._channel.given.heard
    assert heard == [
        ("outcome", 0, {"dwell": 1.0}),
        ("outcome", 0, {"dwell": 2.0}),
        ("reward", 0, 0.1),
        ("reward", 0, 0.2),
    ]


def task(mode: ActionMode, **changes) -> TaskSpec:
    values = {
        "id": "x",
        "action_mode": mode,
        "horizon": 5,
        "num_users": 2,
        "query_dim": 2,
        "content_dim": 3,
        "num_items": 4,
    }
    return TaskSpec(**{**values, "slate_size": 2 if mode == "slate" else 1, "text_length": 20, **changes})


class Says:
    """A channel that answers every round with the same thing."""

    def __init__(self, action):
        self.action = action

    def ask(self, question):
        answers = {"hello": {"version": 1}, "start": {"modes": ["select", "slate", "synthesize", "write"]}}
        if question["op"] == "round":
            return opened(frame(0, {"action": self.action})[HEADER.size :])
        return answers.get(question["op"], {})


GOOD = [
    ("select", 3),
    ("slate", np.array([0, 3])),
    ("slate", np.array([1, 1], dtype=np.int32)),
    ("synthesize", np.array([0.5, -1.0, 1.0])),
    ("synthesize", np.zeros(3, dtype=np.float32)),
    ("write", "plain text"),
    ("write", ""),
]
BAD = [
    ("select", True, "must be an integer, not True of type bool"),
    ("select", 1.0, "must be an integer, not 1.0 of type float"),
    ("select", "1", "must be an integer, not '1' of type str"),
    ("select", None, "must be an integer, not None"),
    ("select", 4, "Item 4 is not in the pool of 4: use 0 to 3"),
    ("select", -1, "Item -1 is not in the pool"),
    ("select", 2**63, "is not in the pool"),
    ("select", np.array([1]), "must be an integer, not an array of dtype int64 and shape (1,)"),
    ("slate", np.array([0, 4]), "outside the pool of 4"),
    ("slate", np.array([0, -1]), "outside the pool"),
    ("slate", np.array([0.0, 1.0]), "must be an integer array of shape (2,), not an array of dtype float64"),
    ("slate", np.array([True, False]), "must be an integer array"),
    ("slate", [0, 1], "must be an integer array"),
    ("slate", np.array([[0, 1]]), "shape (1, 2)"),
    ("synthesize", np.array([0.0, np.nan, 0.0]), "must be finite"),
    ("synthesize", np.array([0.0, np.inf, 0.0]), "must be finite"),
    ("synthesize", np.array([0.0, 1e300, 0.0]), "lies in [-1, 1] in every coordinate; this one holds 1e+300"),
    ("synthesize", np.zeros(4), "must be a float array of shape (3,), not an array of dtype float64 and shape (4,)"),
    ("synthesize", np.zeros(3, dtype=np.int64), "must be a float array"),
    ("synthesize", [0.0, 0.0, 0.0], "must be a float array"),
    ("write", b"bytes", "must be a text, not b'bytes'"),
    ("write", "x" * 21, "21 characters is longer than the 20 allowed"),
    ("write", "a\u202eb", "holds '\\u202e', which is not in the charset"),
    ("write", "a\x00b", "holds '\\x00'"),
    ("write", 5, "must be a text"),
]


@pytest.mark.parametrize(("mode", "action"), GOOD)
def test_good_actions_are_played_as_they_are(mode, action):
    player = RemoteAgent(Says(action), "any", {})
    player.reset(task(mode), np.random.default_rng(0))
    got = player.act({"query": np.zeros(2), "user": 0})
    assert player.fault is None and np.array_equal(got, action)


@pytest.mark.parametrize(("mode", "action", "words"), BAD)
def test_bad_actions_end_the_agents_part_and_are_never_mended(mode, action, words):
    player = RemoteAgent(Says(action), "any", {})
    player.reset(task(mode), np.random.default_rng(0))
    seen = {"query": np.zeros(2), "user": 0}
    for _ in range(3):  # the loop goes on, with something legal
        player.update(seen, player.act(seen), 0.0)
    assert player.fault is not None and player.fault.status == "INVALID_ACTION" and player.fault_round == 1
    assert words in str(player.fault)


@pytest.mark.parametrize(
    ("mode", "action"),
    [("select", np.array([0, 4])), ("select", np.array([0])), ("select", [0, 1]), ("write", ["a"]),
     ("write", ["a", 3]), ("synthesize", np.zeros((2, 2))), ("slate", np.zeros((2, 3), dtype=np.int64))],
)  # fmt: skip
def test_bad_batches_are_refused_too(mode, action):
    player = RemoteAgent(Says(action), "any", {})
    player.reset(task(mode), np.random.default_rng(0))
    player.act_batch({"query": np.zeros((2, 2)), "user": np.zeros(2, dtype=np.int64)})
    assert player.fault is not None and player.fault.status == "INVALID_ACTION"


class Fails:
    """A channel that fails at the n-th round."""

    def __init__(self, error, round):
        self.error, self.left, self.worker = error, round, Wire()

    def ask(self, question):
        if question["op"] == "round":
            self.left -= 1
            if not self.left:
                if isinstance(self.error, Exception):
                    raise self.error
                return self.error
        return self.worker.ask(question)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (AgentFault("TIMEOUT", "too late"), "TIMEOUT", "too late"),
        (ProtocolError("nonsense"), "PROTOCOL", "nonsense"),
        ({"error": {"type": "ValueError", "message": "no"}}, "CRASH", "ValueError: no"),
        ({"error": 5}, "CRASH", "None: None"),
        ({}, "INVALID_ACTION", "must be an integer, not None"),
    ],
)
def test_after_a_fault_every_round_earns_nothing(error, status, reason):
    player = RemoteAgent(Fails(error, 40), "linucb", {})
    session = Session(Forfeit(make("HareBilinear-v0", {"horizon": 100}), player), player, 1)
    session.play(SEED, np.random.default_rng(5))
    player.finish()
    assert player.fault.status == status and reason in str(player.fault) and player.fault_round == 40
    good = local_session("HareBilinear-v0", {"horizon": 100}, "linucb", {})
    bad, fine = session.ledger, good.ledger
    assert bad.rounds == fine.rounds
    at = bad.rounds.index(39)
    for name, curve in bad.curves.items():
        assert curve[: at + 1] == fine.curves[name][: at + 1]
    for name in ("reward", "expected_reward"):
        assert set(bad.curves[name][at:]) == {bad.curves[name][at]}
    # the worst policy: all that could have been earned is lost
    best = np.diff(fine.curves["regret"][at:]) + np.diff(fine.curves["expected_reward"][at:])
    assert np.diff(bad.curves["regret"][at:]) == pytest.approx(best)
    assert bad.curves["regret"][-1] > fine.curves["regret"][-1]


def test_an_agent_of_another_mode_never_gets_to_play():
    player = RemoteAgent(Wire(), "bm25", {})
    player.reset(task("select"), np.random.default_rng(0))
    assert player.fault.status == "INVALID_ACTION" and "plays ['write'], not 'select'" in str(player.fault)
    assert player.fault_round == 0


def test_another_version_of_the_protocol_is_refused_on_both_sides():
    class Older(Says):
        def ask(self, question):
            return {"version": 0}

    player = RemoteAgent(Older(0), "any", {})
    player.reset(task("select"), np.random.default_rng(0))
    assert player.fault.status == "PROTOCOL" and "version 0, not 1" in str(player.fault)
    with pytest.raises(ProtocolError, match=r"version 2 of the protocol, this worker version 1. Install a matching"):
        Worker().answer({"op": "hello", "version": 2})
    with pytest.raises(ProtocolError, match="Unknown op 'sing'"):
        Worker().answer({"op": "sing"})
