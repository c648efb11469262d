"""The loop: what a record says, what stops a run, and that nothing else decides a result."""

# ruff: noqa: E501 (whole messages stand on one line)

import hashlib
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import _loop_fakes
import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_evaluation import runner
from hare_evaluation import spec as specification
from hare_evaluation.runner import checkpoints, run, seeds
from hare_evaluation.spec import RunSpec, _source_root, code_fingerprint
from hare_evaluation.store import canonical_json
from hare_gym import HareError
from hare_gym.errors import ConfigError, UnknownNameError

GREEDY, ODD = "_loop_fakes:Greedy", "_loop_fakes:Odd-v0"


def spec(
    env="HareBilinear-v0", agent=GREEDY, seed=0, seed_set="quick", lanes=1, agent_kwargs=None, trace_every=0, **knobs
):
    knobs = {"horizon": 60} | knobs
    return RunSpec(env, agent, seed_set, seed, knobs, agent_kwargs or {}, lanes, trace_every)


def bare(one: RunSpec) -> tuple[list, list[float], list[dict]]:
    """The same session without the runner."""
    env, agent = gym.make(one.env, **one.env_kwargs), _loop_fakes.Greedy(**one.agent_kwargs)
    environment_seed, rng = seeds(one.seed_set, one.seed)
    observation, _ = env.reset(seed=environment_seed)
    agent.reset(env.unwrapped.task, rng)
    actions, rewards, infos, over = [], [], [], False
    while not over:
        action = agent.act(observation)
        following, reward, _, over, info = env.step(action)
        agent.update(observation, action, reward)
        observation = following
        actions.append(action), rewards.append(reward), infos.append(info)
    return actions, rewards, infos


def test_record_says_what_a_bare_loop_sees():
    one = spec(horizon=500)
    record, timing = run(one)
    actions, rewards, infos = bare(one)
    assert record["schema"] == 1 and record["status"] == "ok" and record["error"] is None
    assert record["key"] == one.key and record["spec"] == one.to_dict()
    assert record["actions_sha256"] == hashlib.sha256(np.array(actions, "<i8").tobytes()).hexdigest()
    assert record["rounds"] == checkpoints(500)
    for name in ("regret", "expected_reward", "oracle_reward", "catalogue_oracle_reward"):
        sums = np.cumsum([info[name] for info in infos])
        assert record["curves"][name] == [sums[t - 1] for t in record["rounds"]], name
        assert record["totals"][name] == sums[-1]
    assert record["curves"]["reward"] == np.cumsum(rewards)[np.array(record["rounds"]) - 1].tolist()
    assert record["curves"]["observed"] == record["rounds"]
    assert record["totals"]["rounds"] == record["totals"]["observed"] == 500
    assert record["estimates"] is None
    assert record["task"]["digest"] != gym.make(one.env, **one.env_kwargs).unwrapped.task.digest  # the seed's pool
    assert set(timing) == {
        "wall_seconds", "act_seconds", "step_seconds", "update_seconds", "rounds_per_second", "hardware"
    }  # fmt: skip
    assert timing["wall_seconds"] > timing["act_seconds"] + timing["step_seconds"] + timing["update_seconds"] > 0
    canonical_json(record)


def test_diagnostics_stand_at_every_eighth_checkpoint_and_null_where_there_is_none():
    record, _ = run(spec(horizon=60))
    series, rounds = record["diagnostics"], record["rounds"]
    asked = [t for i, t in enumerate(reversed(rounds)) if i % 8 == 0]
    assert rounds[-1] in asked and len(asked) >= len(rounds) / 8
    assert set(series) == {"tried", "nothing", "late"}
    assert all(len(values) == len(rounds) for values in series.values())
    assert set(series["nothing"]) == {None}
    assert [v is None for v in series["tried"]] == [t not in asked for t in rounds]
    assert [v is None for v in series["late"]] == [t not in asked or t <= 20 for t in rounds]
    assert series["tried"][-1] >= 1


@given(st.integers(1, 3_000_000))
@settings(max_examples=200)
def test_checkpoints(horizon):
    points = checkpoints(horizon)
    assert points == sorted(set(points)) and points[0] == 1 and points[-1] == horizon
    assert len(points) <= 200
    if horizon >= 200:
        assert max(np.diff(points)) <= math.ceil(horizon / 100)
    if horizon >= 210:  # a tenth of fewer rounds has hardly 20
        assert len([p for p in points if p <= horizon // 10]) >= 20  # a log axis has its share


def test_same_specification_gives_the_same_bytes_here_and_in_another_process():
    one = spec(horizon=300)
    here = canonical_json(run(one)[0])
    assert canonical_json(run(one)[0]) == here
    code = (
        "from hare_evaluation.spec import RunSpec; from hare_evaluation.runner import run\n"
        "from hare_evaluation.store import canonical_json\n"
        f"print(canonical_json(run(RunSpec('HareBilinear-v0', '{GREEDY}', 'quick', 0, {{'horizon': 300}}))[0]))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == here


def test_the_seed_matters_and_so_does_its_set():
    digests = [
        run(spec(seed=seed, seed_set=name))[0]["task"]["digest"] for seed in (0, 1) for name in ("quick", "final")
    ]
    assert len(set(digests)) == 4


def test_agents_on_one_seed_meet_the_same_world():
    other = spec(agent_kwargs={"epsilon": 0.5})
    one, two = run(spec())[0], run(other)[0]
    assert one["task"]["digest"] == two["task"]["digest"]
    assert one["curves"]["catalogue_oracle_reward"] == two["curves"]["catalogue_oracle_reward"]
    assert one["actions_sha256"] != two["actions_sha256"]


def test_agent_generator_is_not_the_environments():
    environment_seed, rng = seeds("quick", 3)
    assert environment_seed == seeds("quick", 3)[0] and 0 <= environment_seed < 2**63
    assert rng.random() != np.random.default_rng(environment_seed).random()
    assert (
        seeds("quick", 3)[1].random()
        == np.random.default_rng(
            np.random.SeedSequence([*np.frombuffer(hashlib.sha256(b"quick").digest(), "<u4").tolist(), 3]).spawn(2)[1]
        ).random()
    )


def test_named_seed_sets_share_no_environment_seed():
    found = {name: {seeds(name, i)[0] for i in range(3000)} for name in ("quick", "tuning", "final")}
    assert all(len(each) == 3000 for each in found.values())
    assert len(set.union(*found.values())) == 9000


# -- keys -----------------------------------------------------------------------------------------------------


def test_key_is_the_hash_of_everything_that_was_chosen():
    one = spec()
    assert one.key == hashlib.sha256(canonical_json(one.to_dict()).encode()).hexdigest() == spec().key
    others = [
        spec(env="HareLinear-v0"),
        spec(horizon=61),
        spec(action_mode="select"),
        spec(agent="_loop_fakes:Fails"),
        spec(agent_kwargs={"epsilon": 0.2}),
        spec(seed=1),
        spec(seed_set="final"),
        spec(lanes=2),
    ]
    assert len({each.key for each in [one, *others]}) == 9


def test_key_follows_the_code_of_the_agent(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from hare_gym import Agent\nclass One(Agent):\n    def act(self, observation):\n        return {}\n"
    (tmp_path / "_one_agent.py").write_text(source.format(0))
    (tmp_path / "unrelated.py").write_text("1")
    run_keys = []
    for text in (source.format(0), source.format(0), source.format(1)):
        (tmp_path / "_one_agent.py").write_text(text)
        (tmp_path / "unrelated.py").write_text(str(time.time()))
        _clear_caches()
        run_keys.append(spec(agent="_one_agent:One").key)
    assert run_keys[0] == run_keys[1] != run_keys[2]


def test_key_follows_the_code_of_a_package_and_of_the_loop(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "_one_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "maths.py").write_text("X = 1")
    (package / "agent.py").write_text(
        "from hare_gym import Agent\nclass One(Agent):\n    def act(self, observation):\n        return 0\n"
    )
    assert _source_root("_one_package.agent") == package
    assert _source_root("_loop_fakes") == Path(_loop_fakes.__file__)
    keys = [spec(agent="_one_package.agent:One").key]
    (package / "maths.py").write_text("X = 2")
    _clear_caches()
    keys.append(spec(agent="_one_package.agent:One").key)
    fake = tmp_path / "runner.py"
    fake.write_text("another loop")
    for name in ("environments.py", "off_policy.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(specification, "__file__", str(tmp_path / "spec.py"))
    _clear_caches()
    keys.append(spec(agent="_one_package.agent:One").key)
    _clear_caches()
    assert len(set(keys)) == 3


def test_key_follows_what_the_modules_import_and_nothing_else():
    def followed(*names):
        waiting, seen = list(names), set()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += specification._imports(specification._module_file(name))
        return seen

    linucb = followed("hare_agents.linucb")
    assert {"hare_agents.linear", "hare_agents.joint", "hare_agents.items", "hare_gym.contract"} <= linucb
    assert not {"hare_agents.hare.model", "hare_agents.sb3", "hare_gym.envs.bilinear"} & linucb
    # a package where a name is taken from it, its modules where they are
    assert "hare_agents.hare" not in followed("hare_agents.hare.agent")
    assert {"hare_gym.portable", "hare_gym.envs.noise"} <= followed("hare_gym.envs.bilinear")
    assert "hare_gym.checks" in followed("hare_gym")


def test_key_follows_data_beside_a_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "_two_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "agent.py").write_text(
        "from hare_gym import Agent\nclass Two(Agent):\n    def act(self, observation):\n        return 0\n"
    )
    monkeypatch.setattr(specification, "_OURS", ("hare_gym", "hare_agents", "_two_package"))
    (package / "texts").mkdir()
    keys = set()
    for place in ("corpus.txt", "texts/one.txt"):
        for text in ("one", "two"):
            (package / place).write_text(text)
            _clear_caches()
            keys.add(spec(agent="_two_package.agent:Two").key)
    _clear_caches()
    assert len(keys) == 4


def _clear_caches():
    for cached in (code_fingerprint, specification._source_hash, specification._file_hash, specification._imports):
        cached.cache_clear()


def test_key_follows_the_data_that_the_environment_reads(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    one = spec(table=str(table))
    assert one.versions["files"] == {"table": hashlib.sha256(b"a,b\n1,2\n").hexdigest()}
    table.write_text("a,b\n1,3\n")
    _clear_caches()
    assert spec(table=str(table)).key != one.key
    before = spec(path=str(tmp_path)).key
    (tmp_path / "more.csv").write_text("")
    _clear_caches()
    assert spec(path=str(tmp_path)).key != before


def test_agent_without_a_source_file_is_refused(monkeypatch):
    module = type(sys)("_typed_in")
    module.One = type("One", (_loop_fakes.Greedy,), {"__module__": "_typed_in"})
    monkeypatch.setitem(sys.modules, "_typed_in", module)
    with pytest.raises(ConfigError, match="Module '_typed_in' has no source file"):
        spec(agent="_typed_in:One").key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be a whole number, at least 0, not -1."),
        ({"seed": True}, "seed must be a whole number, at least 0, not True."),
        ({"trace_every": -1}, "trace_every must be a whole number, at least 0, not -1."),
        ({"trace_every": 2, "lanes": 4}, "trace_every needs lanes=1, not 4: a trace tells of one user at a time."),
        ({"lanes": 0}, "lanes must be a whole number, at least 1, not 0."),
        ({"env_kwargs": {"x": math.nan}}, "env_kwargs of E and A must be plain JSON values: "),
        ({"agent_kwargs": {"x": object}}, "agent_kwargs of E and A must be plain JSON values: "),
    ],
)
def test_specification_that_cannot_be(changes, message):
    with pytest.raises(ConfigError) as caught:
        RunSpec(**{"env": "E", "agent": "A", "seed_set": "quick", "seed": 0} | changes)
    assert str(caught.value).startswith(message)


# -- rounds that count, and rounds that do not -----------------------------------------------------------------


def test_unobserved_rounds_count_in_nothing_but_the_rounds():
    record, _ = run(spec(ODD, horizon=30, hide_every=3, agent_kwargs={"epsilon": 0.0}))
    observed = [t - t // 3 for t in record["rounds"]]
    assert record["curves"]["observed"] == observed
    assert record["curves"]["reward"] == [0.5 * n for n in observed]
    assert record["curves"]["regret"] == [0.25 * n for n in observed]
    assert record["totals"]["rounds"] == 30 and record["totals"]["observed"] == 20
    assert "late" not in record["diagnostics"]  # the agent was told of 20 rounds only


def test_session_may_end_before_its_horizon():
    record, _ = run(spec(ODD, horizon=30, ends_at=12))
    assert record["status"] == "ok" and record["rounds"][-1] == 12 == record["totals"]["rounds"]


# -- traces -----------------------------------------------------------------------------------------------------


def test_trace_tells_whom_the_rounds_served():
    record, _ = run(spec(ODD, horizon=30, trace_every=4, agent_kwargs={"epsilon": 0.0}))
    trace = record["trace"]
    assert trace["round"] == [4, 8, 12, 16, 20, 24, 28]
    assert {len(column) for column in trace.values()} == {7}
    assert all(1 <= visit <= round for visit, round in zip(trace["visit"], trace["round"], strict=True))
    # Greedy tells "late" in its later rounds only; before that there is nothing
    assert trace["late"][0] is None and trace["late"][-1] is not None


def test_trace_counts_each_users_rounds():
    record, _ = run(spec("HareBilinear-v0", horizon=200, trace_every=1, late_users=0.5))
    seen = {}
    for t, user, visit, first in zip(*(record["trace"][name] for name in ("round", "user", "visit", "first"))):
        begun, count = seen.get(user, (t, 0))
        assert (visit, first) == (count + 1, begun)
        seen[user] = begun, count + 1
    assert max(begun for begun, _ in seen.values()) > 100


def test_trace_tells_what_came_of_the_rounds():
    record, _ = run(spec("HareBilinear-v0", horizon=60, trace_every=1))
    trace = record["trace"]
    assert sum(trace["expected_reward"]) == pytest.approx(record["totals"]["expected_reward"])
    actions = np.array(trace["item"], dtype="<i8")
    assert hashlib.sha256(actions.tobytes()).hexdigest() == record["actions_sha256"]
    written, _ = run(spec("HareBilinear-v0", agent="random", horizon=20, action_mode="synthesize", trace_every=1))
    assert "item" not in written["trace"]


def test_trace_changes_neither_the_session_nor_the_key_of_others():
    plain, traced = spec(), spec(trace_every=5)
    assert "trace_every" not in plain.settings() and plain.key != traced.key
    assert run(plain)[0]["actions_sha256"] == run(traced)[0]["actions_sha256"]
    assert "trace" not in run(plain)[0]


# -- lanes ----------------------------------------------------------------------------------------------------


def test_lanes_count_every_users_round():
    record, _ = run(spec(horizon=50, lanes=4))
    assert record["rounds"] == [4 * t for t in checkpoints(50)]
    assert record["curves"]["observed"] == record["rounds"]
    assert record["totals"]["rounds"] == 200
    totals = record["totals"]
    assert totals["regret"] == pytest.approx(totals["catalogue_oracle_reward"] - totals["expected_reward"])
    assert run(spec(horizon=50, lanes=4))[0] == record


class Listens(_loop_fakes.Greedy):
    """Keeps the outcomes that it is told, and what it learned before each."""

    modes = frozenset({"select", "slate"})
    heard = []

    def act(self, observation):
        usable = np.flatnonzero(observation["pool_mask"])
        return usable[: self.spec.slate_size]

    def feedback(self, observation, action, outcome):
        self.heard.append((self.counts.sum(), dict(outcome)))


def test_outcomes_go_to_the_agent_before_the_reward_and_measures_into_the_record(monkeypatch):
    import small_tasks

    monkeypatch.setattr(Listens, "heard", [])
    session = runner.Session(gym.make("SmallSlate-v0", action_mode="slate"), Listens(), 1)
    session.play(3, np.random.default_rng(0))
    summary, heard = session.ledger.summary(), Listens.heard
    assert [counts for counts, _ in heard] == pytest.approx([2.0 * t for t in range(40)], abs=1e-6)
    assert {outcome["selected"] for _, outcome in heard} == {-1.0, 0.0}
    assert sum(outcome["usable"] for _, outcome in heard) == summary["totals"]["usable"] == 80.0
    assert summary["curves"]["usable"] == [2.0 * t for t in summary["rounds"]]
    assert sum(outcome["selected"] + 1.0 for _, outcome in heard) == summary["totals"]["reward"]
    monkeypatch.setattr(small_tasks.SlateTask, "measures", ("regret",))
    with pytest.raises(HareError, match=r"measures 'regret', which is a curve of every record. Rename it"):
        runner.Session(gym.make("SmallSlate-v0"), Listens(), 1).play(3, np.random.default_rng(0))


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_lanes_are_told_their_outcomes_in_order(monkeypatch, vectorization):
    monkeypatch.setattr(Listens, "heard", [])
    vector = gym.make_vec("SmallSlate-v0", num_envs=3, vectorization_mode=vectorization, action_mode="slate")
    seen, _ = vector.reset(seed=3)
    agent = Listens()
    agent.reset(gym.make("SmallSlate-v0", action_mode="slate").unwrapped.task, np.random.default_rng(0))
    actions = agent.act_batch(seen)
    _, rewards, _, _, info = runner._Lanes(vector, ("usable",)).step(actions)
    vector.close()
    agent.feedback_batch(seen, actions, info["outcome"])
    assert [outcome["selected"] for _, outcome in Listens.heard] == [reward - 1.0 for reward in rewards]
    assert [sorted(outcome) for _, outcome in Listens.heard] == [["selected", "usable"]] * 3
    assert info["usable"] == 6.0


def test_records_of_environments_that_measure_nothing_have_no_other_curves():
    record, _ = run(spec())
    assert [*record["curves"]] == [*record["totals"]][:-1] == [*runner.CURVES]


def test_lanes_play_the_world_of_the_single_environment():
    assert run(spec(lanes=4))[0]["task"]["digest"] == run(spec())[0]["task"]["digest"]


def test_lanes_of_an_environment_that_has_none():
    with pytest.raises(ConfigError, match=r"^Odd-v0 has no native vector environment: use lanes=1\.$"):
        run(spec(ODD, lanes=2))


# -- failures -------------------------------------------------------------------------------------------------


def test_agent_that_raises_in_round_700_is_a_record():
    record, _ = run(spec(agent="_loop_fakes:Fails", horizon=1000))
    good, _ = run(spec(agent="_loop_fakes:Fails", horizon=1000, agent_kwargs={"round": 2000}))
    assert record["status"] == "failed" and good["status"] == "ok"
    error = record["error"]
    assert (error["round"], error["type"]) == (700, "ValueError")
    assert error["message"] == "I am <object object at 0x...>"
    assert 'File "_loop_fakes.py"' in error["traceback"] and "self._fail_in(self.played)" in error["traceback"]
    assert record["rounds"][-1] == 699 == record["totals"]["rounds"]
    assert record["rounds"][:-1] == [t for t in good["rounds"] if t < 699]
    count = len(record["rounds"]) - 1
    for name, series in record["curves"].items():
        assert series[:count] == good["curves"][name][:count]
        assert series[-1] == record["totals"][name]
    assert canonical_json(run(spec(agent="_loop_fakes:Fails", horizon=1000))[0]) == canonical_json(record)


def test_agent_that_raises_before_the_first_round():
    record, _ = run(spec(agent="_loop_fakes:Fails", agent_kwargs={"round": 0}))
    assert record["status"] == "failed" and record["error"]["round"] is None
    assert record["rounds"] == [] and record["totals"]["rounds"] == 0
    assert all(series == [] for series in record["curves"].values())
    canonical_json(record)


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit", "MemoryError", "ENOSPC"])
def test_what_is_not_the_agents_failure_is_raised(kind):
    expected = OSError if kind == "ENOSPC" else getattr(__import__("builtins"), kind)
    with pytest.raises(expected):
        run(spec(agent="_loop_fakes:Fails", agent_kwargs={"round": 5, "kind": kind}))


@pytest.mark.parametrize(
    ("knobs", "round", "type", "message"),
    [
        ({"reward": 1.5, "reward_from": 4}, 4, "DataError", "The environment gave the reward 1.5, which is not within [0, 1]."),
        ({"reward": -0.1}, 1, "DataError", "The environment gave the reward -0.1, which is not within [0, 1]."),
        ({"query": "inf"}, 5, "DataError", "The environment gave an observation whose 'query' holds NaN or infinity."),
        ({"query": "nan"}, 5, "DataError", "The environment gave an observation whose 'query' holds NaN or infinity."),
        ({"endless": True}, 10, "ContractError", "Odd-v0 did not truncate after its horizon of 10 rounds."),
    ],
)  # fmt: skip
def test_environment_that_lies(knobs, round, type, message):
    record, _ = run(spec(ODD, **{"horizon": 10} | knobs))
    assert record["status"] == "failed"
    assert (record["error"]["round"], record["error"]["type"]) == (round, type)
    assert record["error"]["message"] == message
    canonical_json(record)


@pytest.mark.parametrize("lie", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["reward", "regret"])
def test_environment_whose_reward_or_info_is_not_finite(monkeypatch, lie, name):
    real = _loop_fakes.Odd.step

    def step(self, action):
        observation, reward, terminated, truncated, info = real(self, action)
        if self.t == 6:
            reward = lie if name == "reward" else reward
            info = info if name == "reward" else info | {"regret": lie}
        return observation, reward, terminated, truncated, info

    monkeypatch.setattr(_loop_fakes.Odd, "step", step)
    record, _ = run(spec(ODD))
    assert record["error"]["round"] == 6 and record["error"]["type"] == "DataError"
    assert record["rounds"][-1] == 5
    assert str(lie) in record["error"]["message"]
    canonical_json(record)


def test_large_but_finite_observation_is_accepted():
    assert run(spec(ODD, query=1e200))[0]["status"] == "ok"


def test_action_out_of_range_is_the_agents_failure():
    record, _ = run(spec(agent="_loop_fakes:Greedy", env=ODD, horizon=5))
    assert record["status"] == "ok"
    record, _ = run(spec(agent="_loop_fakes:Composer"))
    assert record["status"] == "failed" and record["error"]["type"] == "ActionError"
    assert record["error"]["round"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "HareBilinaer-v0"}, "Unknown environment 'HareBilinaer-v0'. Did you mean 'HareBilinear-v0'?"),
        ({"env": "nowhere:X-v0"}, "Environment 'nowhere:X-v0': there is no module 'nowhere'."),
        ({"agent": "nowhere:X"}, "Agent 'nowhere:X': there is no module 'nowhere'."),
        ({"horizn": 5}, "Unknown knob of HareBilinear 'horizn'. Did you mean 'horizon'?"),
    ],
)
def test_what_cannot_be_made_is_an_error_and_no_record(changes, message):
    with pytest.raises(HareError) as caught:
        run(spec(**changes))
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, UnknownNameError)


# -- actions, threads, privileges -----------------------------------------------------------------------------


def test_synthesized_actions_and_texts_are_hashed_in_order():
    record, _ = run(spec(agent="_loop_fakes:Composer", action_mode="synthesize", horizon=20))
    env = gym.make("HareBilinear-v0", action_mode="synthesize", horizon=20)
    observation, _ = env.reset(seed=seeds("quick", 0)[0])
    digest, over = hashlib.sha256(), False
    while not over:
        action = observation["query"].astype(np.float32)
        digest.update(action.tobytes())
        observation, _, _, over, _ = env.step(action)
    assert record["actions_sha256"] == digest.hexdigest()
    as_bytes = runner._action_bytes
    assert as_bytes(3) == as_bytes(np.int32(3)) == as_bytes(np.uint8(3)) == (3).to_bytes(8, "little")
    assert as_bytes(np.array([1, 2], np.int32)) == as_bytes([1, 2]) == as_bytes(1) + as_bytes(2)
    assert as_bytes("ab") + as_bytes("c") != as_bytes("a") + as_bytes("bc")
    assert as_bytes(("ab", "c")) == as_bytes("ab") + as_bytes("c")
    assert as_bytes("\ud800")


def test_privileged_agent_sees_the_environment_and_has_no_regret():
    record, _ = run(spec(agent="_loop_fakes:Peeks", horizon=100))
    assert record["status"] == "ok" and record["totals"]["regret"] == pytest.approx(0.0, abs=1e-9)


def test_one_thread_within_a_run_and_the_callers_number_afterwards():
    code = (
        "import torch, threadpoolctl, numpy\n"
        "from hare_evaluation.runner import one_thread\n"
        "count = lambda: [x['num_threads'] for x in threadpoolctl.threadpool_info()]\n"
        "torch.set_num_threads(2); threadpoolctl.threadpool_limits(2); before = count()\n"
        "with one_thread(): print(torch.get_num_threads(), set(count()))\n"
        "print(torch.get_num_threads(), count() == before, set(before))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not re.search("_NUM_THREADS", k)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split("\n")[:2] == ["1 {1}", "2 True {2}"]
