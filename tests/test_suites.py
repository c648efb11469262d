"""Suites: what is in one, and what each mistake in one is called."""

# ruff: noqa: E501 (whole messages stand on one line)

import _loop_fakes  # noqa: F401  (registers Odd-v0)
import pytest

from hare_evaluation.safe_yaml import MAX_BYTES, dump_yaml, load_yaml
from hare_evaluation.spec import RunSpec, load_suite, parse_suite, suite_names
from hare_gym.errors import ConfigError, HareError, UnknownNameError
from hare_gym.registry import agent_names, environment_ids

GOOD = """
name: small
title: "A small one"
seeds: {set: quick, count: 2}
environments:
  - {id: HareBilinear-v0, label: "curved", kwargs: {horizon: 30}}
  - {id: HareBilinear-v0, label: "made", kwargs: {horizon: 30, action_mode: synthesize}}
agents:
  - {name: "_loop_fakes:Greedy", label: "greedy", kwargs: {epsilon: 0.5}}
  - {name: "_loop_fakes:Composer"}
"""


def changed(old: str, new: str):
    assert old in GOOD
    return parse_suite(GOOD.replace(old, new), "small.yaml")


def test_plan_of_a_suite():
    plan = parse_suite(GOOD, "small.yaml").plan()
    assert [(s.env_kwargs.get("action_mode"), s.agent, s.seed) for s in plan.specs] == [
        (None, "_loop_fakes:Greedy", 0),
        (None, "_loop_fakes:Greedy", 1),
        ("synthesize", "_loop_fakes:Composer", 0),
        ("synthesize", "_loop_fakes:Composer", 1),
    ]
    assert plan.specs[0] == RunSpec(
        "HareBilinear-v0", "_loop_fakes:Greedy", "quick", 0, {"horizon": 30}, {"epsilon": 0.5}
    )
    assert list(plan.labels.environments.values()) == ["curved", "made"]
    assert plan.labels.environments['{"env": "HareBilinear-v0", "env_kwargs": {"horizon": 30}}'] == "curved"
    assert plan.labels.agents == {
        '{"agent": "_loop_fakes:Greedy", "agent_kwargs": {"epsilon": 0.5}}': "greedy",
        '{"agent": "_loop_fakes:Composer", "agent_kwargs": {}}': "_loop_fakes:Composer",
    }


def test_agents_that_lack_the_action_mode_are_left_out_with_a_note():
    assert parse_suite(GOOD, "small.yaml").plan().notes == (
        "Left out: _loop_fakes:Composer on curved, whose action mode is 'select'; the agent plays synthesize.",
        "Left out: greedy on made, whose action mode is 'synthesize'; the agent plays select.",
    )


def test_privileged_agents_play_one_lane():
    suite = changed('"_loop_fakes:Composer"', '"_loop_fakes:Peeks"')
    assert len(suite.plan().specs) == 4
    notes = suite.plan(lanes=2).notes
    assert "Left out: _loop_fakes:Peeks on curved: it is privileged and plays 1 lane." in notes


def test_agent_restricted_to_environments():
    suite = changed('"_loop_fakes:Composer"}', '"_loop_fakes:Peeks", environments: [curved]}')
    assert [spec.agent for spec in suite.plan().specs] == ["_loop_fakes:Greedy"] * 2 + ["_loop_fakes:Peeks"] * 2
    assert suite.plan().notes[0].startswith("Left out: greedy on made")


def test_overrides_reach_every_environment_and_agent():
    suite = changed('  - {id: HareBilinear-v0, label: "made", kwargs: {horizon: 30, action_mode: synthesize}}\n', "")
    suite = suite.overridden({"horizon": 9, "num_users": 2}, {}, 3)
    specs = suite.plan().specs
    assert len(specs) == 3
    assert all(spec.env_kwargs == {"horizon": 9, "num_users": 2} for spec in specs)
    with pytest.raises(UnknownNameError, match=r"Unknown knob of HareBilinear 'horizn'. Did you mean 'horizon'"):
        suite.overridden({"horizn": 9}, {}).plan()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title:", "titel:", "Unknown key in the suite small.yaml 'titel'. Did you mean 'title'?"),
        ("count: 2", "cuont: 2", "Unknown key in seeds of the suite small.yaml 'cuont'. Did you mean 'count'?"),
        ("label: \"curved\"", "lable: c", "Unknown key in environments.0 of the suite small.yaml 'lable'. Did you mean"),
        (", kwargs: {eps", ", kwarg: {eps", "Unknown key in agents.0 of the suite small.yaml 'kwarg'. Did you mean"),
        ("count: 2", "count: 0", "'count' in seeds of the suite small.yaml: Input should be greater than or equal to 1"),
        ("count: 2", "count: '2'", "'count' in seeds of the suite small.yaml: Input should be a valid integer, not '2'."),
        ("{set: quick, count: 2}", "5", "'seeds' in the suite small.yaml: "),
        ("{horizon: 30}", "5", "'kwargs' in environments.0 of the suite small.yaml: "),
        ("title: \"A", "name: x\ntitle: \"A", "The suite small.yaml is not YAML that can be used: the key 'name' is given twice"),
        ("name: small", "name: [", "The suite small.yaml is not YAML that can be used: while parsing"),
        ("title: \"A small one\"", "title: !!python/name:os.system", "The suite small.yaml is not YAML that can be used: could not"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file(old, new, message):
    with pytest.raises(HareError) as caught:
        changed(old, new)
    assert str(caught.value).startswith(message)


def test_missing_key():
    with pytest.raises(ConfigError, match=r"^'agents' is missing in the suite x\.$"):
        parse_suite("name: a\nseeds: {set: quick, count: 1}\nenvironments: [{id: A}]", "x")
    with pytest.raises(ConfigError, match=r"^'id' is missing in environments\.0 of the suite x\.$"):
        parse_suite("name: a\nseeds: {set: quick, count: 1}\nenvironments: [{}]\nagents: [{name: a}]", "x")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: HareBilinear-v0, label: \"made\"", "id: HareBilinaer-v0, label: \"made\"", "Unknown environment 'HareBilinaer-v0'. Did you mean 'HareBilinear-v0'?"),
        ("_loop_fakes:Composer", "randm", "Unknown agent 'randm'. Did you mean 'random'?"),
        ("kwargs: {horizon: 30}", "kwargs: {horizn: 30}", "Unknown knob of HareBilinear 'horizn'. Did you mean 'horizon'?"),
        ("epsilon: 0.5", "epsilom: 0.5", "Agent '_loop_fakes:Greedy' does not accept ['epsilom']"),
        ("\"made\"", "\"curved\"", "Two environments are called 'curved': give each a label of its own."),
        ("\"_loop_fakes:Composer\"", "\"_loop_fakes:Composer\", label: greedy", "Two agents are called 'greedy'"),
        ("Composer\"}", "Composer\", environments: [curvd]}", "Unknown environment of agent '_loop_fakes:Composer' 'curvd'. Did you mean 'curved'?"),
        ("horizon: 30", "horizon: 2026-01-01", "env_kwargs of HareBilinear-v0 and _loop_fakes:Greedy must be plain JSON values"),
    ],
)  # fmt: skip
def test_mistakes_that_are_found_before_anything_runs(old, new, message):
    with pytest.raises(HareError) as caught:
        list(changed(old, new).specs())
        changed(old, new).plan()
    assert str(caught.value).startswith(message)


def test_nothing_to_run():
    suite = parse_suite(
        "name: a\nseeds: {set: quick, count: 1}\nenvironments: [{id: HareBilinear-v0}]\n"
        "agents: [{name: '_loop_fakes:Composer'}]",
        "a",
    )
    with pytest.raises(ConfigError) as caught:
        suite.plan()
    assert str(caught.value) == (
        "There is nothing to run. Left out: _loop_fakes:Composer on HareBilinear-v0, whose action mode is 'select'; "
        "the agent plays synthesize."
    )


def test_alias_bomb_is_refused_at_once():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    with pytest.raises(ConfigError) as caught:
        parse_suite(bomb, "bomb.yaml")
    assert str(caught.value) == (
        "The suite bomb.yaml is not YAML that can be used: aliases are not allowed, and there is one: *a"
    )


@pytest.mark.parametrize("text", ["", "- a", "5", "[" * 100_000])
def test_what_is_no_suite(text):
    with pytest.raises(ConfigError, match=r"^The suite x (must be a mapping|is not YAML)"):
        parse_suite(text, "x")


def test_suite_by_path_and_by_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_suite(str(path)).name == "small"
    assert load_suite("quick").name == "quick"
    with pytest.raises(
        UnknownNameError, match=r"^Unknown suite 'quik'\. Did you mean 'quick'\? List them with: hare"
    ):
        load_suite("quik")
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file or directory\.$"):
        load_suite(str(tmp_path / "none.yaml"))
    path.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"mine\.yaml is larger than 1,000,000 bytes\.$"):
        load_suite(str(path))


def test_numbers_in_scientific_notation_are_numbers_and_quoted_ones_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: small\ntitle: Small\nseeds: {set: quick, count: 1}\nenvironments: [{id: HareBilinear-v0, kwargs: {drift: 2e-2}}]\n"
        'agents: [{name: linucb, kwargs: {alpha: 5e-1, rate: "5e-1"}}]\n'
    )
    suite = load_suite(str(path))
    assert suite.environments[0].kwargs == {"drift": 0.02}
    assert suite.agents[0].kwargs == {"alpha": 0.5, "rate": "5e-1"}


@pytest.mark.parametrize(
    "value", [5e-4, 1e300, 1e-05, 0.1, "5e-4", "1e3", "e3", ".5E+1", "text", "1.5", 3, None, True]
)
def test_what_is_written_as_yaml_is_read_back(value):
    read = load_yaml(dump_yaml({"value": [value]}), "it")["value"][0]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("name", suite_names())
def test_built_in_suites_name_what_exists(name):
    suite = load_suite(name)
    assert suite.name == name and suite.title
    assert {entry.id for entry in suite.environments} <= set(environment_ids())
    assert {entry.name for entry in suite.agents} <= set(agent_names())
    assert len(list(suite.specs())) > 0
    assert len(set(suite.labels.environments.values())) == len(suite.environments)


@pytest.mark.parametrize("name", [name for name in suite_names() if name != "obd"])  # that one needs its data
def test_built_in_suites_can_be_planned_and_leave_out_only_other_modes(name):
    plan = load_suite(name).plan()
    assert all("whose action mode is 'synthesize'" in note for note in plan.notes)
    assert name in ("standard", "tuning") or not plan.notes


def test_the_key_holds_the_versions_of_the_agent_s_libraries(monkeypatch):
    from hare_agents.sb3 import StableBaselines3
    from hare_evaluation import spec as module

    def key(agent):
        return RunSpec(env="HareLinear-v0", agent=agent, seed_set="quick", seed=0)

    assert set(key("linucb").versions["libraries"]) == {"scipy", "scikit-learn"}
    assert set(key("sb3").versions["libraries"]) == {"scipy", "scikit-learn", *StableBaselines3.libraries}
    before = key("sb3").key, key("linucb").key
    module._library_version.cache_clear()
    monkeypatch.setattr(module, "version", lambda name: "0.0" if name == "torch" else "1.0")
    changed = key("sb3").key
    module._library_version.cache_clear()
    monkeypatch.undo()
    assert changed != before[0]
    assert key("linucb").key == before[1]
