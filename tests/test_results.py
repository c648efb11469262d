import io
import json
import re

import numpy as np
import pytest
from _records import AGENTS, LABELS, fail, logged_study, make_record, study
from rich.console import Console

from hare_evaluation import tables
from hare_evaluation.results import Labels, Results
from hare_gym.errors import DataError, UnknownNameError


def printed(records, labels=None, width=110, **options):
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    console.print(tables.summary_table(records, labels, **options))
    return console.export_text()


def test_labels_are_found_by_canonical_names():
    assert Labels.environment_key("E-v0", {"b": 1, "a": 2}) == json.dumps(
        {"env": "E-v0", "env_kwargs": {"a": 2, "b": 1}}, sort_keys=True
    )
    assert Labels.agent_key("linucb", {}) == '{"agent": "linucb", "agent_kwargs": {}}'
    results = Results.from_records(study(1), LABELS)
    assert results.environments == ["HareBilinear-v0", "HareLinear-v0", "digits"]
    assert results.agents == list(LABELS.agents.values())


def test_what_has_no_label_gets_one_and_stands_last():
    records = [
        make_record("HareBilinear-v0", "linucb", env_kwargs={"horizon": 500}, agent_kwargs={"alpha": 2.0}),
        make_record("HareBilinear-v0", "lints", env_kwargs={"horizon": 500, "action_mode": "select"}),
        make_record("HareBilinear-v0", "linucb", env_kwargs={"horizon": 500}, lanes=64),
    ]
    labels = Labels({}, {Labels.agent_key("lints", {}): "Thompson"})
    results = Results.from_records(records, labels)
    assert results.agents == ["Thompson", "linucb", "linucb (alpha=2.0)"]
    assert results.environments == [
        "HareBilinear-v0 (action_mode=select, horizon=500)",
        "HareBilinear-v0 (horizon=500)",
        "HareBilinear-v0 (horizon=500) × 64 lanes",
    ]


def test_one_label_for_two_agents_is_told_apart():
    same = {Labels.agent_key("linucb", {}): "A", Labels.agent_key("linucb", {"alpha": 2.0}): "A"}
    records = [make_record(), make_record(agent_kwargs={"alpha": 2.0})]
    assert Results.from_records(records, Labels({}, same)).agents == ["A", "A [linucb (alpha=2.0)]"]


def test_scores_are_aligned_by_seed_and_failures_kept_apart():
    records = [make_record(agent=agent, seed=seed) for agent in ("linucb", "lints") for seed in (2, 0, 1)]
    records[0] = fail(records[0])  # linucb on seed 2
    results = Results.from_records(records)
    scores = results.scores("HareBilinear-v0 (horizon=2000)")
    assert list(scores.columns) == [("quick", 0), ("quick", 1), ("quick", 2)]
    assert np.isnan(scores.loc["linucb"].iloc[2])
    assert scores.loc["lints"].iloc[0] == records[4]["totals"]["regret"]
    (failure,) = results.failures
    assert (failure.agent, failure.seed, failure.round, failure.type) == ("linucb", "quick/2", 700, "LinAlgError")
    assert results.failed("HareBilinear-v0 (horizon=2000)", "linucb") == 1
    assert len(results.runs_frame()) == 5


def test_the_order_of_records_does_not_matter():
    records = study(3)
    mixed = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    a, b = (Results.from_records(r, LABELS) for r in (records, mixed))
    assert a.runs_frame().equals(b.runs_frame())
    assert printed(records, LABELS) == printed(mixed, LABELS)


def versions(number, code="c0de"):
    return {"hare_gym": number, "numpy": "2.4.6", "python": "3.11", "code": code, "files": {"path": "ab" * 32}}


@pytest.mark.parametrize("older", ["0.9.0", "0.10.0rc1", "0.1.0"])
def test_the_newest_version_of_a_run_is_kept(older):
    new, old = (make_record(versions=versions(number)) for number in ("0.10.0", older))
    for records in ([new, old], [old, new]):
        results = Results.from_records(records)
        assert results.runs_frame()["key"].tolist() == [new["key"]]
        assert results.notes == [
            "Left out: 1 of the records, because the same run exists under newer versions of the software."
        ]
    assert results.versions()["hare_gym"] == ["0.10.0"]
    assert results.versions()["files: path"] == ["abababababab"]


def test_between_equal_versions_the_last_record_is_kept_and_a_note_says_so():
    first, last = make_record(versions=versions("0.1.0", "aaa")), make_record(versions=versions("0.1.0", "bbb"))
    for records in ([first, last], [last, first]):
        results = Results.from_records(records)
        assert results.runs_frame()["key"].tolist() == [records[1]["key"]]
        assert "the last one read was kept" in results.notes[1]
    assert Results.from_records([first, first]).notes == []


def test_mixed_versions_are_noted():
    records = [make_record(seed=0), make_record(seed=1, versions=versions("0.2.0", "other"))]
    different, changed = Results.from_records(records).notes
    assert different.startswith("The runs were made under 2 different sets of versions;")
    assert changed.startswith(
        "The code changed between seeds of the same agent and environment, in 1 of 1 such pairs"
    )


def test_no_records_and_unknown_schemas_are_errors_that_say_what_to_do():
    with pytest.raises(DataError, match=r"^There are no records to report\. Make some first, .* hare run quick$"):
        Results.from_records([])
    record = make_record() | {"schema": 7}
    with pytest.raises(DataError, match=r"has schema 7; this version of hare-gym reads 1\."):
        Results.from_records([record])


def test_an_unknown_environment_or_reference_is_answered_with_the_near_one():
    results = Results.from_records(study(2), LABELS)
    with pytest.raises(UnknownNameError, match=r"Unknown environment label 'digit'\. Did you mean 'digits'\?"):
        results.scores("digit")
    with pytest.raises(UnknownNameError, match=r"Unknown reference agent 'Randon'\. Did you mean 'Random'\?"):
        tables.summary_table(study(2), LABELS, reference="Randon")


def test_curves_frame_holds_every_checkpoint_with_diagnostics():
    records = [make_record(seed=seed) for seed in (0, 1)]
    frame = Results.from_records(records).curves_frame()
    assert len(frame) == sum(len(record["rounds"]) for record in records)
    assert np.isnan(frame["diagnostics.width"].iloc[0])
    last = frame[frame["seed"] == 1].iloc[-1]
    assert (last["round"], last["regret"]) == (2000, records[1]["totals"]["regret"])


def test_the_table_has_every_agent_with_its_interval_best_first():
    results = Results.from_records(study(), LABELS)
    frame = tables.environment_frame(results, "digits")
    assert sorted(frame["agent"]) == sorted(LABELS.agents.values())
    assert frame["mean"].is_monotonic_increasing
    assert (frame["mean_low"] < frame["mean"]).all() and (frame["mean"] < frame["mean_high"]).all()
    assert (frame["rank_low"] <= frame["rank"]).all() and (frame["rank"] <= frame["rank_high"]).all()
    assert frame.loc[0, ["difference", "p", "win"]].isna().all()
    assert frame.set_index("agent").loc["Random", "slope"] == pytest.approx(1.0, abs=0.02)
    text = printed(study(), LABELS)
    for label in [*LABELS.agents.values(), *LABELS.environments.values(), "All environments"]:
        assert label.split(" ")[0] in text
    assert "cannot be told apart" in text.lower()


def test_the_table_fits_a_narrow_terminal():
    lines = printed(study(), LABELS, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(lines).count("(disjoint)") >= 2  # no name is broken
    slopes = [line.split()[-1] for line in lines if re.search(r" \d\.\d\d$", line.rstrip())]
    results = Results.from_records(study(), LABELS)
    frames = [tables.environment_frame(results, environment) for environment in results.environments]
    assert slopes == [f"{slope:.2f}" for frame in frames for slope in frame["slope"]]
    logged = printed(logged_study(), LABELS, width=80)
    assert "[0.00120," in logged and "0.00720]" in logged  # no number is broken


def test_a_named_reference_counts_its_own_comparisons_only():
    results = Results.from_records(study(), LABELS)
    against_best = tables.environment_frame(results, "digits").set_index("agent")
    against_random = tables.environment_frame(results, "digits", "Random").set_index("agent")
    assert np.isnan(against_random.loc["Random", "p"])
    assert against_random.loc["LinUCB (joint)", "difference"] < 0
    best = against_best.index[0]
    # seven comparisons weigh less than twenty-eight
    assert against_random.loc[best, "p"] < against_best.loc["Random", "p"]
    assert tables.verdict(tables.environment_frame(results, "digits", "Random")).startswith("Compared with Random: ")


def test_equal_agents_are_said_to_be_alike():
    rng = np.random.default_rng(3)
    records = [
        make_record(agent=agent, seed=seed, final_regret=float(rng.normal(100, 5)))
        for agent in ("linucb", "lints", "random")
        for seed in range(5)
    ]
    frame = tables.environment_frame(Results.from_records(records), "HareBilinear-v0 (horizon=2000)")
    assert frame["rank_low"].tolist() == [1, 1, 1] and frame["rank_high"].tolist() == [3, 3, 3]
    assert "Shown to be" not in tables.verdict(frame)
    assert "Cannot be told apart from it with these seeds: " in tables.verdict(frame)


def test_normalised_regret_is_one_for_random_and_left_out_without_it():
    results = Results.from_records(study(), LABELS)
    frame = tables.overall_frame(results).set_index("agent")
    assert frame.loc["Random", ["mean", "iqm", "mean_low", "mean_high"]].tolist() == [1.0] * 4
    by_hand = np.mean(
        [
            (results.scores(e).loc["LinUCB (joint)"] / results.scores(e).loc["Random"]).mean()
            for e in results.environments
        ]
    )
    assert frame.loc["LinUCB (joint)", "mean"] == pytest.approx(by_hand)
    assert frame.loc["LinUCB (joint)", "seeds"] == 15
    without = [record for record in study() if record["spec"]["agent"] != "random"]
    assert tables.overall_frame(Results.from_records(without, LABELS)) is None
    assert "All environments" not in printed(without, LABELS)


def test_failures_are_in_the_table_and_named_below():
    records = study()
    ridge = [i for i, r in enumerate(records) if r["spec"]["agent"] == "epsilon-greedy"]
    for i in ridge[:1] + ridge[5:10]:  # one seed of the first environment, all of the second
        records[i] = fail(records[i])
    text = printed(records, LABELS)
    assert "4 of 5" in text and "0 of 5" in text
    assert text.count("FAILED: ε-greedy (ridge)") == 6
    assert "in round 700: LinAlgError: matrix is singular" in text
    frame = tables.environment_frame(Results.from_records(records, LABELS), "HareLinear-v0")
    assert frame["agent"].iloc[-1] == "ε-greedy (ridge)"
    assert np.isnan(frame["rank"].iloc[-1])
    assert frame["rank_high"].max() == 7


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_give_no_false_certainty(seeds):
    records = [make_record(agent=agent, seed=seed) for agent in ("random", "linucb") for seed in range(seeds)]
    frame = tables.environment_frame(Results.from_records(records), "HareBilinear-v0 (horizon=2000)")
    if seeds == 1:
        assert frame["mean_low"].isna().all()
        assert frame["p"].dropna().tolist() == [1.0]
        assert frame["rank_high"].tolist() == [2, 2]
    assert "agent" in printed(records)


def test_all_failed_is_shown_and_not_an_error():
    assert "No run finished." in printed([fail(make_record()) | {"task": None}])


def test_logged_data_shows_estimates_and_no_regret():
    records = logged_study()
    results = Results.from_records(records, LABELS)
    assert results.is_logged("HareReplay-v0")
    frame = tables.environment_frame(results, "HareReplay-v0").set_index("agent")
    assert "rank" not in frame and "slope" not in frame
    row = frame.loc["Random"]  # three seeds at .0040, .0042, .0044, each ± .003
    assert (row["ips"], row["ips_low"], row["ips_high"]) == pytest.approx((0.0042, 0.0012, 0.0072))
    text = printed(records, LABELS)
    assert "regret" not in text.replace("Logged data has no regret", "")
    assert "0.00420" in text and "IPS" in text
    assert "logger's own" not in text
    for record in records:
        record["estimates"]["logger"] = {"value": 0.0038, "low": 0.003, "high": 0.005, "n": 10000}
    assert "The logger's own mean reward was 0.00380." in printed(records, LABELS)


def test_an_estimate_without_a_value_is_a_dash():
    records = logged_study(1)
    for record in records:
        record["estimates"]["replay"] = {"value": None, "low": 0.0, "high": 1.0, "n": 0}
    frame = tables.logged_frame(Results.from_records(records, LABELS), "HareReplay-v0")
    heads, body = tables.displayed(frame)
    assert [row[heads.index("replay")] for row in body] == ["—", "—"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00402, "0.00402"), (1234.5, "1,234"), (-3.14159, "−3.14"), (0.0, "0"), (float("nan"), "—"), (99.96, "100.0")],
)
def test_numbers(value, text):
    assert tables.number(value) == text


def test_a_label_with_markup_is_printed_as_it_is():
    labels = Labels({}, {Labels.agent_key("linucb", {}): "[red]x[/red] [bold"})
    assert "[red]x[/red] [bold" in printed([make_record()], labels).replace("\n", " ")


def test_every_agent_of_the_generator_has_a_label():
    assert len(LABELS.agents) == len(AGENTS)
