"""Tuning: what is drawn, what wins, what is written, and that nothing is judged on the seeds that chose it."""

# ruff: noqa: E501 (whole messages stand on one line)

import dataclasses
import io
import json
import math

import _loop_fakes
import pytest
import yaml

from hare_evaluation import spec
from hare_evaluation.parallel import run_all
from hare_evaluation.runner import seeds
from hare_evaluation.spec import TUNING_SEEDS, AgentEntry, load_suite, load_tuned, merged, parse_suite, suite_names
from hare_evaluation.statistics import mean_interval
from hare_evaluation.store import Store, canonical_json
from hare_evaluation.tune import Tuning, draw_trials, outcome_table, plan_tuning, write_tuned
from hare_gym.errors import ConfigError, ContractError, DataError, HareError, UnknownNameError
from hare_gym.registry import agent_class, agent_names, make_agent


class Tunable(_loop_fakes.Greedy):
    """The Greedy of the loop's tests with something to tune."""

    search_space = {"epsilon": {"type": "float", "low": 0.01, "high": 1.0}}


class Nested(_loop_fakes.Greedy):
    """Takes a mapping, and refuses some of it."""

    search_space = {
        "options.size": {"type": "int", "low": 1, "high": 8, "log": True},
        "options.kind": {"type": "choice", "values": ["a", "b"]},
        "epsilon": {"type": "choice", "values": [0.1, 0.5]},
    }

    def __init__(self, options=None, epsilon=0.1):
        super().__init__(epsilon)
        if options and options["kind"] == "b":
            raise ConfigError("kind b is out of stock.")


class FailsSometimes(_loop_fakes.Fails):
    """Raises in round 20 of the trials that are drawn, not with its defaults."""

    search_space = {"round": {"type": "choice", "values": [20]}}


class AlwaysFails(_loop_fakes.Fails):
    search_space = {"round": {"type": "int", "low": 1, "high": 20}}

    def __init__(self, round=5):
        super().__init__(round)


class Misspelt(_loop_fakes.Greedy):
    search_space = {"epsilom": {"type": "float", "low": 0.1, "high": 1.0}}

    def __init__(self, **knobs):
        from hare_agents.epsilon_greedy import EpsilonGreedyConfig
        from hare_gym.config import configure

        configure(EpsilonGreedyConfig, knobs, "agent 'misspelt'")
        super().__init__()


TWO_WORLDS = """
name: small
seeds: {set: final, count: 9}
environments:
  - {id: HareBilinear-v0, kwargs: {horizon: 200}}
  - {id: HareLinear-v0, label: linear, kwargs: {horizon: 200}}
agents:
"""


def small(*agents: str, **overrides) -> spec.Suite:
    suite = parse_suite(TWO_WORLDS + "".join(f"  - {{{agent}}}\n" for agent in agents), "small.yaml")
    return suite.overridden(overrides, {})


def run(tuning: Tuning, folder):
    return run_all(tuning.specs, Store(folder), backend="serial")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Two agents, three trials, 200 rounds."""
    folder = tmp_path_factory.mktemp("tuned")
    tuning = plan_tuning(small("name: linucb", "name: epsilon-greedy", "name: random"), trials=3, seeds=2)
    records = run(tuning, folder / "runs")
    return tuning, records, tuning.judge(records), folder


@pytest.fixture
def hare(in_process):
    return in_process


class TestDraws:
    SPACE = {
        "rate": {"type": "float", "low": 1e-3, "high": 10.0, "log": True},
        "share": {"type": "float", "low": -1.0, "high": 3.0},
        "size": {"type": "int", "low": 1, "high": 4},
        "width": {"type": "int", "low": 1, "high": 64, "log": True},
        "kind": {"type": "choice", "values": ["a", "b", "c"]},
    }

    def test_values_cover_the_space_on_the_scale_that_it_names(self):
        drawn = draw_trials("x", self.SPACE, 4000)
        column = {knob: [trial[knob] for trial in drawn] for knob in self.SPACE}
        assert min(column["rate"]) >= 1e-3 and max(column["rate"]) <= 10.0
        # as many within each factor of ten; 4,000 draws leave a standard deviation of 0.007
        for low in (1e-3, 1e-2, 1e-1, 1.0):
            assert sum(low <= x < 10 * low for x in column["rate"]) / 4000 == pytest.approx(0.25, abs=0.03)
        assert sum(x < 1.0 for x in column["share"]) / 4000 == pytest.approx(0.5, abs=0.03)
        for n in (1, 2, 3, 4):
            assert column["size"].count(n) / 4000 == pytest.approx(0.25, abs=0.03)
        assert {min(column["width"]), max(column["width"])} == {1, 64}
        assert sum(x < 8 for x in column["width"]) / 4000 == pytest.approx(math.log(8) / math.log(65), abs=0.03)
        assert {type(x) for x in column["size"] + column["width"]} == {int}
        for kind in "abc":
            assert column["kind"].count(kind) / 4000 == pytest.approx(1 / 3, abs=0.03)

    def test_more_trials_other_knobs_and_other_agents_change_nothing(self):
        few = draw_trials("x", self.SPACE, 5)
        assert draw_trials("x", self.SPACE, 24)[:5] == few
        fewer_knobs = {name: self.SPACE[name] for name in ("kind", "rate")}
        assert draw_trials("x", fewer_knobs, 5) == [{k: t[k] for k in ("kind", "rate")} for t in few]
        assert draw_trials("y", self.SPACE, 5) != few
        alone = plan_tuning(small("name: linucb"), 4, 1)
        among = plan_tuning(small("name: lints", "name: linucb"), 4, 1)
        assert among.contenders[1] == alone.contenders[0]

    def test_correlated_knobs_of_one_range_would_search_a_line(self):
        same = dict.fromkeys(("one", "two"), self.SPACE["rate"])
        assert all(trial["one"] != trial["two"] for trial in draw_trials("x", same, 24))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"type": "real"}, "type must be float, int or choice, not 'real'."),
            ({"low": 1}, "type must be float, int or choice, not None."),
            ({"type": "choice", "values": []}, "a choice needs a list of values."),
            ({"type": "int", "low": 1}, "low and high must be numbers, low below high."),
            ({"type": "float", "low": 2, "high": 1}, "low and high must be numbers, low below high."),
            ({"type": "float", "low": 0, "high": 1, "log": True}, "a logarithmic scale needs low above 0."),
            ({"type": "float", "low": 0, "high": 1, "lg": True}, "it has lg, which means nothing."),
        ],
    )
    def test_a_space_that_cannot_be_read(self, options, message):
        with pytest.raises(ContractError) as caught:
            draw_trials("mine", {"knob": options}, 3)
        assert str(caught.value) == f"Agent 'mine': search_space['knob'] is {options}: {message}"


@pytest.mark.parametrize("name", [name for name in agent_names() if agent_class(name).search_space])
def test_every_shipped_space_can_be_drawn_from_and_its_ends_are_admitted(name):
    space = agent_class(name).search_space
    json.dumps(space)
    suite = small(f"name: {name}", horizon=20)
    if agent_class(name).modes == {"write"}:
        head = "name: small\nseeds: {set: final, count: 9}\n"
        asked = "environments: [{id: HareLaMP4-v0, kwargs: {horizon: 20, action_mode: write}}]\n"
        suite = parse_suite(f"{head}{asked}agents: [{{name: {name}}}]\n", "small.yaml")
    (_, found, trials) = plan_tuning(suite, 24, 1).contenders[0]
    assert found == space
    assert len(trials) == 24 and not any(trial.refusal for trial in trials)
    for knob, options in space.items():
        for value in options.get("values") or [options["low"], options["high"]]:
            for part in reversed(knob.split(".")):
                value = {part: value}
            make_agent(name, **value)


def test_the_agents_that_can_be_tuned():
    assert {name for name in agent_names() if not agent_class(name).search_space} <= {
        "random", "oracle", "mabwiser", "writer", "answerer", "plain",
    }  # fmt: skip


class TestPlan:
    def test_trial_0_is_the_default_and_all_play_the_tuning_seeds_alone(self, tuned):
        tuning, *_ = tuned
        for entry, space, trials in tuning.contenders:
            assert trials[0].kwargs == {}
            assert len(trials) == (3 if space else 1)
            assert [set(trial.kwargs) for trial in trials[1:]] == [set(space)] * (len(trials) - 1)
            for trial in trials:
                assert list(trial.runs) == ["HareBilinear-v0", "linear"]
                for runs in trial.runs.values():
                    assert [(s.seed_set, s.seed) for s in runs] == [("tuning", 0), ("tuning", 1)]
                    assert all(s.agent == entry.name and s.agent_kwargs == trial.kwargs for s in runs)
        assert {s.seed_set for s in tuning.specs} == {TUNING_SEEDS}

    def test_what_the_suite_fixes_is_in_every_trial_and_not_searched(self):
        entry = "name: '" + __name__ + ":Nested', kwargs: {options: {kind: a}}"
        _, space, trials = plan_tuning(small(entry), 6, 1).contenders[0]
        assert list(space) == ["options.size", "epsilon"]
        assert trials[0].kwargs == {"options": {"kind": "a"}}
        for trial in trials[1:]:
            assert trial.kwargs["options"]["kind"] == "a" and 1 <= trial.kwargs["options"]["size"] <= 8

    def test_a_suite_may_search_another_space_than_the_agent_declares(self):
        entry = (
            "name: '"
            + __name__
            + ":Nested', search: {options.size: {type: int, low: 20, high: 30}}, kwargs: {options: {kind: a}}"
        )
        _, space, trials = plan_tuning(small(entry), 6, 1).contenders[0]
        assert space == {"options.size": {"type": "int", "low": 20, "high": 30}}
        for trial in trials[1:]:
            assert trial.kwargs["options"]["kind"] == "a" and 20 <= trial.kwargs["options"]["size"] <= 30
        with pytest.raises(ContractError, match=r"search_space\['epsilon'\] is"):
            plan_tuning(small("name: '" + __name__ + ":Nested', search: {epsilon: {type: float, low: 2}}"), 6, 1)

    def test_an_environment_that_an_agent_cannot_play_is_left_out_with_a_note(self):
        suite = small("name: linucb", "name: linucb-disjoint")
        made = suite.environments[1].model_copy(update={"kwargs": {"horizon": 50, "action_mode": "synthesize"}})
        tuning = plan_tuning(suite.model_copy(update={"environments": [suite.environments[0], made]}), 2, 1)
        assert [list(trials[0].runs) for _, _, trials in tuning.contenders] == [
            ["HareBilinear-v0", "linear"],
            ["HareBilinear-v0"],
        ]
        assert tuning.notes == (
            "Left out: linucb-disjoint on linear, whose action mode is 'synthesize'; the agent plays select, slate.",
        )

    @pytest.mark.parametrize(
        ("agents", "options", "kind", "message"),
        [
            (["name: linucb"], {"trials": 0}, ConfigError, "trials must be a whole number, at least 1, not 0."),
            (["name: linucb"], {"trials": 2.5}, ConfigError, "trials must be a whole number, at least 1, not 2.5."),
            (["name: linucb"], {"seeds": 0}, ConfigError, "seeds must be a whole number, at least 1, not 0."),
            (["name: linucbb"], {}, UnknownNameError, "Unknown agent 'linucbb'. Did you mean 'linucb'?"),
            (["name: linucb, kwargs: {alhpa: 1}"], {}, UnknownNameError, "Unknown knob of agent 'linucb' 'alhpa'. Did you mean 'alpha'?"),
            (["name: random"], {}, ConfigError, "There is nothing to tune: random declares no search_space, or the suite fixes all of it. Declare one"),
            (["name: linucb, kwargs: {alpha: 1, ridge: 1, user_ridge: 1}"], {}, ConfigError, "There is nothing to tune: linucb declares no"),
            (["name: 'test_tune:Misspelt'"], {}, UnknownNameError, "Unknown knob of agent 'misspelt' 'epsilom'. Did you mean 'epsilon'?"),
        ],
    )  # fmt: skip
    def test_mistakes_are_found_before_anything_runs(self, agents, options, kind, message):
        with pytest.raises(kind) as caught:
            plan_tuning(small(*agents), **{"trials": 3, "seeds": 1, **options})
        assert str(caught.value).startswith(message)

    def test_logged_data_have_no_regret_to_tune_on(self, log_csv):
        suite = small("name: linucb")
        knobs = {"path": str(log_csv), "context": ["age", "device"]}
        logged = spec.EnvironmentEntry(id="HareReplay-v0", label="log", kwargs=knobs)
        with pytest.raises(ConfigError) as caught:
            plan_tuning(suite.model_copy(update={"environments": [logged]}), 2, 1)
        assert str(caught.value) == (
            "log replays logged data, where regret has no meaning: agents cannot be tuned on it."
        )


class TestScores:
    def test_the_score_is_regret_over_random_s_on_the_same_seed(self, tuned):
        _, records, outcomes, _ = tuned
        regret = {
            (r["spec"]["agent"], canonical_json(r["spec"]["agent_kwargs"]), r["spec"]["env"], r["spec"]["seed"]): (
                r["totals"]["regret"]
            )
            for r in records
        }
        for outcome in outcomes:
            for score in outcome.scores:
                own = canonical_json(score.kwargs)
                strata = [
                    [regret[outcome.entry.name, own, env, s] / regret["random", "{}", env, s] for s in (0, 1)]
                    for env in ("HareBilinear-v0", "HareLinear-v0")
                ]
                assert score.interval == mean_interval(strata)
                assert score.interval.value == pytest.approx(sum(map(sum, strata)) / 4)
            assert outcome.scores[outcome.best].rank == min(score.rank for score in outcome.scores)
        assert outcomes[2].scores[0].interval.value == 1.0 and outcomes[2].best == 0

    def test_equal_scores_leave_the_default(self, tuned):
        _, _, outcomes, _ = tuned
        same = dataclasses.replace(outcomes[0], scores=[outcomes[0].scores[1]] * 3)
        assert same.best == 0 and same.distinct == 1

    def test_a_failed_or_refused_trial_is_the_worst_and_is_listed(self, tmp_path):
        suite = small(
            "name: 'test_tune:FailsSometimes', label: fragile", "name: 'test_tune:Nested', label: picky", horizon=40
        )
        tuning = plan_tuning(suite, 6, 1)
        fragile, picky = tuning.judge(run(tuning, tmp_path))
        assert fragile.best == 0 and fragile.distinct == 2 and fragile.runs == 4
        assert fragile.scores[1].rank == math.inf
        expected = "ValueError on HareBilinear-v0, seed 0, round 20: I am <object object at 0x...>"
        assert [score.error for score in fragile.scores] == ["", *[expected] * 5]
        refused = [score.error for score in picky.scores if score.error]
        assert 0 < len(refused) < 6 and set(refused) == {"ConfigError: kind b is out of stock."}
        assert picky.scores[picky.best].kwargs.get("options", {}).get("kind") != "b"
        fragile_file, _ = write_tuned(tuning, [fragile, picky], tmp_path, "hare tune")
        written = yaml.safe_load(fragile_file.read_text())
        assert fragile_file.name == "test_tune-FailsSometimes.yaml"
        assert (written["failed_trials"], written["trials"], written["distinct_trials"]) == (5, 6, 2)
        assert written["all_trials"][1] == {"kwargs": {"round": 20}, "score": None, "error": expected}
        from rich.console import Console

        console = Console(width=200, record=True, file=io.StringIO())
        console.print(outcome_table([fragile, picky]))
        text = console.export_text()
        assert f"FAILED: fragile, trial 1: {expected}" in text and "6 (5 failed)" in text

    def test_what_random_cannot_be_a_measure_of(self, tmp_path):
        suite = small("name: 'test_tune:Tunable'")
        for knobs, message in (
            ({"regret": 0.0}, "The Random agent's regret on odd, seed 0, is 0.0: nothing can be divided by it."),
            ({"reward": 7.0}, "The Random agent failed, so nothing can be compared with it. DataError on odd, seed 0, round 1: The"),
        ):  # fmt: skip
            odd = spec.EnvironmentEntry(id="Odd-v0", label="odd", kwargs=knobs)
            tuning = plan_tuning(suite.model_copy(update={"environments": [odd]}), 2, 1)
            with pytest.raises(DataError) as caught:
                tuning.judge(run(tuning, tmp_path))
            assert str(caught.value).startswith(message)


class TestFiles:
    def test_a_file_says_all_that_is_needed_to_judge_it(self, tuned):
        tuning, _, outcomes, folder = tuned
        paths = write_tuned(tuning, outcomes, folder, "hare tune small.yaml --trials 3")
        assert [path.relative_to(folder).as_posix() for path in paths] == [
            "small/linucb.yaml", "small/epsilon-greedy.yaml", "small/random.yaml",
        ]  # fmt: skip
        linucb = yaml.safe_load(paths[0].read_text())
        scores = outcomes[0].scores
        assert linucb["agent"] == "linucb" and linucb["command"] == "hare tune small.yaml --trials 3"
        assert linucb["kwargs"] == scores[linucb["trial"]].kwargs
        assert linucb["score"]["value"] == round(min(score.interval.value for score in scores), 6)
        assert linucb["score"]["low"] < linucb["score"]["value"] < linucb["score"]["high"]
        assert linucb["default_score"]["value"] == round(scores[0].interval.value, 6)
        assert (linucb["trials"], linucb["runs"], linucb["seeds"]) == (3, 12, {"set": "tuning", "count": 2})
        assert [(e["label"], e["id"], e["horizon"]) for e in linucb["environments"]] == [
            ("HareBilinear-v0", "HareBilinear-v0", 200),
            ("linear", "HareLinear-v0", 200),
        ]
        assert [t["kwargs"] for t in linucb["all_trials"]] == [score.kwargs for score in scores]
        assert linucb["search_space"] == agent_class("linucb").search_space
        assert linucb["versions"]["code"] in {
            spec.versions["code"] for spec in tuning.specs if spec.agent == "linucb"
        }
        random = yaml.safe_load(paths[2].read_text())
        assert random["trials"] == 1 and random["kwargs"] == {} and random["search_space"] == {}
        assert random["note"] == "There was nothing to tune: the score is of the defaults."
        assert "note" not in linucb

    def test_a_file_is_read_back_exactly(self, tuned):
        tuning, _, outcomes, folder = tuned
        path = write_tuned(tuning, outcomes, folder, "hare tune")[0]
        assert load_tuned(str(path), "linucb")["kwargs"] == outcomes[0].scores[outcomes[0].best].kwargs

    def test_one_agent_twice_is_told_apart_by_its_label(self, tmp_path):
        entries = [
            f"name: 'test_tune:Tunable', label: {label}, kwargs: {{pause: {p}}}"
            for label, p in (("a b", 0.0), ("c", 0.001))
        ]
        tuning = plan_tuning(small(*entries, horizon=20), 2, 1)
        outcomes = tuning.judge(run(tuning, tmp_path))
        paths = write_tuned(tuning, outcomes, tmp_path, "hare tune")
        assert [path.name for path in paths] == ["a-b.yaml", "c.yaml"]
        assert yaml.safe_load(paths[1].read_text())["fixed"] == {"pause": 0.001}
        labels = [
            dataclasses.replace(o, entry=o.entry.model_copy(update={"label": x}))
            for o, x in zip(outcomes, ("a b", "a-b"), strict=True)
        ]
        with pytest.raises(ConfigError, match=r"Two agents would be written to .*a-b\.yaml: give them labels"):
            write_tuned(tuning, labels, tmp_path, "hare tune")

    def test_a_folder_that_cannot_be_written(self, tuned, tmp_path):
        tuning, _, outcomes, _ = tuned
        (tmp_path / "small").write_text("a file")
        with pytest.raises(
            ConfigError, match=r"linucb\.yaml cannot be written: .*\. Choose another folder with --out\.$"
        ):
            write_tuned(tuning, outcomes, tmp_path, "hare tune")


class TestSuitesTakeThem:
    @pytest.fixture
    def shipped(self, tmp_path, monkeypatch):
        """A folder of suites with two tuned files."""
        folder = tmp_path / "suites"
        (folder / "tuned" / "tuning").mkdir(parents=True)
        for name, agent, kwargs in (
            ("linucb", "linucb", "{alpha: 0.25, ridge: 3.0}"),
            ("sb3", "sb3", "{kwargs: {n_steps: 32, learning_rate: 0.01}}"),
            ("mine-Agent", "mine:Agent", "{}"),
        ):
            (folder / "tuned" / "tuning" / f"{name}.yaml").write_text(f"agent: '{agent}'\nkwargs: {kwargs}\n")
        monkeypatch.setattr(spec, "suite_folder", lambda: folder)
        return folder / "tuned" / "tuning"

    def test_by_folder_by_file_and_by_path(self, shipped):
        for tuned in ("tuning", "tuning/linucb", str(shipped / "linucb.yaml")):
            assert AgentEntry(name="linucb", tuned=tuned).hyperparameters == {"alpha": 0.25, "ridge": 3.0}
        assert AgentEntry(name="mine:Agent", tuned="tuning").hyperparameters == {}

    def test_kwargs_override_also_within_mappings(self, shipped):
        entry = AgentEntry(name="linucb", tuned="tuning", kwargs={"alpha": 2.0})
        assert entry.hyperparameters == {"alpha": 2.0, "ridge": 3.0}
        entry = AgentEntry(name="sb3", tuned="tuning", kwargs={"kwargs": {"n_steps": 64}, "algorithm": "A2C"})
        assert entry.hyperparameters == {"kwargs": {"n_steps": 64, "learning_rate": 0.01}, "algorithm": "A2C"}
        assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}

    def test_they_reach_the_runs_the_labels_and_later_overrides(self, shipped):
        suite = small("name: linucb, tuned: tuning, label: Best", horizon=20)
        suite = suite.model_copy(update={"seeds": spec.Seeds(set="final", count=1)})
        plan = suite.plan()
        assert [s.agent_kwargs for s in plan.specs] == [{"alpha": 0.25, "ridge": 3.0}] * 2
        assert list(plan.labels.agents.items()) == [
            ('{"agent": "linucb", "agent_kwargs": {"alpha": 0.25, "ridge": 3.0}}', "Best")
        ]
        (first, _) = suite.overridden({}, {"alpha": 9.0}).plan().specs
        assert first.agent_kwargs == {"alpha": 9.0, "ridge": 3.0}

    def test_the_tuning_seeds_are_refused(self, shipped):
        suite = small("name: linucb, tuned: tuning")
        suite.plan()
        for call in (
            suite.model_copy(update={"seeds": spec.Seeds(set="tuning", count=1)}).plan,
            lambda: plan_tuning(suite, 2, 1),
        ):
            with pytest.raises(ConfigError) as caught:
                call()
            assert str(caught.value) == (
                "The suite small uses tuned hyperparameters (linucb), so it cannot run on the seed set 'tuning', on "
                "which they were chosen. Use another, such as 'final'; to tune again, leave 'tuned' out."
            )

    @pytest.mark.parametrize(
        ("tuned", "content", "message"),
        [
            ("tunin", None, "Unknown tuned hyperparameters 'tunin/linucb'. Did you mean 'tuning/linucb'? A file of your own is named by its path, with .yaml at its end."),
            ("tuning/linucbb", None, "Unknown tuned hyperparameters 'tuning/linucbb'. Did you mean 'tuning/linucb'?"),
            ("tuning/sb3", None, "is of agent 'sb3', not 'linucb'."),
            ("none.yaml", None, "The tuned file none.yaml cannot be read: No such file or directory."),
            ("x.yaml", "agent: [", "The tuned file x.yaml is not YAML that can be used: "),
            ("x.yaml", "agent: linucb", "The tuned file x.yaml must be a mapping with agent and kwargs, as hare tune writes it."),
            ("x.yaml", "- 1", "The tuned file x.yaml must be a mapping with agent and kwargs, as hare tune writes it."),
            ("x.yaml", "agent: linucb\nkwargs: {alhpa: 1}", "Unknown knob of agent 'linucb' 'alhpa'. Did you mean 'alpha'?"),
        ],
    )  # fmt: skip
    def test_mistakes(self, shipped, tmp_path, monkeypatch, tuned, content, message):
        monkeypatch.chdir(tmp_path)
        if content:
            (tmp_path / "x.yaml").write_text(content)
        with pytest.raises(HareError) as caught:
            small(f"name: linucb, tuned: {tuned}").plan()
        assert message in str(caught.value)

    def test_every_file_that_is_shipped_can_be_used(self):
        folder = spec.suite_folder() / "tuned"
        for path in folder.rglob("*.yaml"):
            content = yaml.safe_load(path.read_text())
            make_agent(content["agent"], **load_tuned(str(path), content["agent"])["kwargs"])


def test_no_world_of_the_tuning_seeds_comes_back_in_another_set():
    """A seed is SHA-256 and SeedSequence of the set's name and the index: sets cannot share but by a collision."""
    names = {"final", "quick", *(load_suite(name).seeds.set for name in suite_names())} - {TUNING_SEEDS}
    count = 1000
    tuning = {seeds(TUNING_SEEDS, i)[0] for i in range(count)}
    assert len(tuning) == count
    for name in sorted(names):
        assert tuning.isdisjoint({seeds(name, i)[0] for i in range(count)}), name
    agents = {seeds(name, i)[1].bytes(16) for name in (TUNING_SEEDS, *names) for i in range(100)}
    assert len(agents) == 100 * (1 + len(names))


def test_only_the_tuning_suites_run_on_the_tuning_seeds():
    for name in suite_names():
        assert (load_suite(name).seeds.set == TUNING_SEEDS) == name.endswith("tuning"), name


class TestCommand:
    ARGUMENTS = ("tune", "small.yaml", "--trials", 3, "--seeds", 2, "--backend", "serial")

    @pytest.fixture(autouse=True)
    def suite_file(self, tmp_path):
        agents = "  - {name: 'test_tune:Tunable', label: greedy}\n  - {name: linucb}\n"
        (tmp_path / "small.yaml").write_text(TWO_WORLDS + agents)

    def test_tunes_writes_resumes_and_repeats_nothing(self, hare, tmp_path):
        arguments = (*self.ARGUMENTS, "--horizon", 60, "--out", "here")
        status, out, err = hare(*arguments)
        assert status == 0, err
        assert "Regret over Random's, on the tuning seeds" in out and "greedy" in out and "28/28" in err
        files = {path: path.read_bytes() for path in (tmp_path / "here" / "small").iterdir()}
        assert sorted(path.name for path in files) == ["linucb.yaml", "test_tune-Tunable.yaml"]
        assert "Written: here/small/linucb.yaml" in out
        store = Store(tmp_path / "runs")
        assert len(list(store.all_keys())) == 28
        before = {key: store.path(key).stat().st_mtime_ns for key in store.all_keys()}
        lost = sorted(before)[3]
        store.path(lost).unlink()
        again, text, _ = hare(*arguments)
        assert (again, text) == (0, out)
        assert {path: path.read_bytes() for path in files} == files
        after = {key: store.path(key).stat().st_mtime_ns for key in store.all_keys()}
        assert {key for key in after if after[key] != before[key]} == {lost}
        written = yaml.safe_load(files[tmp_path / "here" / "small" / "linucb.yaml"])
        assert written["command"] == "hare tune small.yaml --trials 3 --seeds 2 --horizon 60"

    def test_the_winners_are_run_by_a_suite_on_other_seeds(self, hare, tmp_path):
        arguments = (*self.ARGUMENTS, "--horizon", 60, "--agent", "linucb")
        assert hare(*arguments)[0] == 0
        study = TWO_WORLDS.replace("count: 9", "count: 1") + "  - {name: linucb, tuned: tuned/small/linucb.yaml}\n"
        (tmp_path / "study.yaml").write_text(study)
        status, _, err = hare(
            "run", "study.yaml", "--horizon", 60, "--backend", "serial", "--store", "s", "--no-report"
        )
        assert status == 0, err
        kwargs = yaml.safe_load((tmp_path / "tuned" / "small" / "linucb.yaml").read_text())["kwargs"]
        assert [record["spec"]["agent_kwargs"] for record in Store(tmp_path / "s").records()] == [kwargs] * 2
        (tmp_path / "study.yaml").write_text(study.replace("set: final", "set: tuning"))
        status, _, err = hare("run", "study.yaml")
        assert status == 2 and err.startswith(
            "error: The suite small uses tuned hyperparameters (linucb), so it cannot"
        )

    def test_other_agents_by_name(self, hare, tmp_path):
        arguments = (*self.ARGUMENTS, "--horizon", 20, "--agent", "lints, test_tune:Tunable")
        status, out, err = hare(*arguments)
        assert status == 0, err
        assert sorted(path.name for path in (tmp_path / "tuned" / "small").iterdir()) == [
            "lints.yaml", "test_tune-Tunable.yaml",
        ]  # fmt: skip
        assert "linucb" not in out

    def test_an_agent_whose_trials_all_fail_gets_no_file_and_the_status_says_so(self, hare, tmp_path):
        status, out, err = hare(
            *self.ARGUMENTS, "--horizon", 30, "--agent", "test_tune:AlwaysFails,test_tune:Tunable"
        )
        assert status == 1
        assert err.endswith("Every trial failed, so nothing was written: test_tune:AlwaysFails.\n")
        assert "FAILED: test_tune:AlwaysFails, trial 0: ValueError on HareBilinear-v0, seed 0, round 5: I am" in out
        assert [path.name for path in (tmp_path / "tuned" / "small").iterdir()] == ["test_tune-Tunable.yaml"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--trials", 0), "error: trials must be a whole number, at least 1, not 0."),
            (("--agent", "randm"), "error: Unknown agent 'randm'. Did you mean 'random'?"),
            (("--agent", "random"), "error: There is nothing to tune: random declares no search_space"),
        ],
    )
    def test_mistakes_end_with_a_sentence_and_status_2(self, hare, arguments, message):
        status, _, err = hare("tune", "small.yaml", *arguments)
        assert status == 2 and err.startswith(message)
