"""Claims and figures of a suite, run for real and reported."""

import json

import numpy as np
import pandas as pd
import pytest
from test_report import Page

from hare_evaluation import drawings, figures
from hare_evaluation.judging import NotRunError, View
from hare_evaluation.parallel import run_all
from hare_evaluation.report import write_report
from hare_evaluation.results import Results
from hare_evaluation.spec import parse_suite
from hare_evaluation.store import Store

SUITE = """
name: small
title: "A small study"
seeds: {set: quick, count: 2}
environments:
  - {id: HareBilinear-v0, label: "λ = 0", kwargs: {horizon: 160, num_users: 4, nonlinearity: 0.0}}
  - {id: HareBilinear-v0, label: "λ = 1", kwargs: {horizon: 160, num_users: 4, nonlinearity: 1.0}}
  - id: HareBilinear-v0
    label: late
    kwargs: {horizon: 160, num_users: 4, late_users: 0.5}
    trace_every: 2
agents:
  - {name: random, label: Random}
  - {name: linucb, label: LinUCB}
  - {name: hare, label: HARE, role: agent}
  - {name: hare, label: blind, role: ablation, kwargs: {user_state: false}}
claims:
  - {id: less, text: "Less <regret>.", kind: ratio, environments: ["λ = 1"], agent: HARE, at_most: 0.9}
  - {id: known, text: "Known.", kind: slope, environments: [late], agent: HARE, diagnostic: user_logdet}
figures:
  - {id: curves, title: "Curves", kind: regret, environments: ["λ = 0", "λ = 1"], agents: [HARE, LinUCB]}
  - {id: path, title: "Path", kind: trajectory, environments: [late], agent: HARE, diagnostics: [user_logdet, user_trace]}
  - {id: sweep, title: "Sweep", kind: sweep, knob: nonlinearity, environments: ["λ = 1", "λ = 0"], agents: [HARE], reference: LinUCB}
  - {id: forest, title: "Forest", kind: forest, environments: ["λ = 0", "λ = 1"], agent: HARE, variants: [blind, LinUCB]}
  - {id: attention, title: "Attention", kind: attention, environments: ["λ = 1"], agent: HARE, seed: 1, queries: 3}
"""  # noqa: E501


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    suite = parse_suite(SUITE, "small.yaml")
    plan = suite.plan()
    return suite, run_all(plan.specs, Store(tmp_path_factory.mktemp("runs")), backend="serial")


@pytest.fixture(scope="module")
def view(study):
    suite, records = study
    return View(suite.study, Results.from_records(records, suite.labels))


def entry(view, id):
    return next(figure for figure in view.study.figures if figure.id == id)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    suite, records = study
    out = tmp_path_factory.mktemp("report")
    write_report(records, out, suite.title, suite.labels, suite.study)
    return out


def test_the_page_has_claims_and_figures(folder):
    page = Page(folder / "index.html")
    sections = [attrs["id"] for attrs in page.all("section")]
    assert sections[:3] == ["claims", "figures", "all-environments"]
    assert "Less <regret>." in page.text and "Known." in page.text
    # the user's covariance can only shrink, so even two seeds may tell
    assert "slope of user_logdet on ln(visit), late users" in page.text
    links = {attrs["href"][1:] for attrs in page.all("a")}
    assert links <= set(sections)
    drawn = [attrs["alt"] for attrs in page.all("img")]
    for title in ("Curves: ", "Path: ", "Sweep: ", "Forest: ", "Attention: "):
        assert sum(alt.startswith(title) for alt in drawn) == 1
    for id in ("curves", "path", "sweep", "forest", "attention"):
        for ending in ("png", "svg", "csv"):
            assert (folder / f"figure-{id}.{ending}").stat().st_size > 100
    less, known = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    assert less["claim"]["text"] == "Less <regret>." and [c["agent"] for c in less["comparisons"]]
    assert known["findings"][0]["estimate"] < 0
    frame = pd.read_csv(folder / "claims.csv")
    assert frame["claim"].tolist() == ["less", "known"]
    assert frame["seeds"].tolist() == [2, 2]


def test_the_same_records_give_the_same_bytes(folder, study, tmp_path):
    suite, records = study
    write_report(records[::-1], tmp_path, suite.title, suite.labels, suite.study)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_what_was_not_run_is_said_in_place_of_a_figure(study, tmp_path):
    suite, records = study
    records = [r for r in records if r["spec"]["agent"] != "hare"]
    page = Page(write_report(records, tmp_path, suite.title, suite.labels, suite.study))
    assert "Not drawn: HARE was not run on late." in page.text
    assert "Not run: HARE was not run on λ = 1." in page.text
    assert not (tmp_path / "figure-path.csv").exists()


def test_trajectory(view):
    frame = drawings.trajectory_frame(entry(view, "path"), view)
    assert set(frame["users"]) == {"early", "late"} and (frame["seeds"] == 2).all()
    for (_, users), part in frame[frame["diagnostic"] == "user_logdet"].groupby(["environment", "users"]):
        assert part["visit"].is_monotonic_increasing and len(part) >= 3, users
        assert part["mean"].iloc[-1] < part["mean"].iloc[0]
    figure = figures.trajectories(frame)
    assert [axes.get_ylabel() for axes in figure.axes] == ["ln det Σ_u", "tr Σ_u"]
    assert figure.axes[-1].get_xlabel() == "the user's visit" and figure.axes[0].get_xscale() == "log"


def test_binned_trajectories_are_means_over_users_of_means_over_visits():
    trace = {"user": [0, 0, 0, 1], "visit": [1, 2, 3, 2], "first": [1, 1, 1, 2], "round": [1, 3, 4, 2]}
    record = {"trace": trace | {"x": [1.0, 2.0, 4.0, 9.0]}, "task": {"horizon": 10}, "spec": {"agent": "a"}}
    found = drawings._binned(record, "x", "all", 0.5, np.array([1.0, 2.0, 4.0, 9.0]))
    assert found.tolist()[:2] == [1.0, (3.0 + 9.0) / 2] and np.isnan(found[2])


def test_sweep(view):
    frame = drawings.sweep_frame(entry(view, "sweep"), view)
    assert frame["knob"].tolist() == [0.0, 1.0]
    scores = view.results.scores("λ = 1")
    assert frame["ratio"].iloc[1] == pytest.approx(scores.loc["HARE"].mean() / scores.loc["LinUCB"].mean())
    axes = figures.knob_sweep(frame, "nonlinearity", "LinUCB").axes[0]
    assert axes.get_xlabel() == "nonlinearity" and axes.get_ylabel() == "regret ÷ that of LinUCB"
    assert axes.get_ylim()[0] == 0
    wrong = entry(view, "sweep").model_copy(update={"knob": "drift"})
    with pytest.raises(NotRunError, match="λ = 1 sets no number for drift"):
        drawings.sweep_frame(wrong, view)


def test_forest(view):
    frame = drawings.forest_frame(entry(view, "forest"), view)
    assert frame["agent"].tolist() == ["blind", "blind", "LinUCB", "LinUCB"]
    figure = figures.ratio_forest(frame, "HARE")
    assert [axes.get_title() for axes in figure.axes] == ["λ = 0", "λ = 1"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["blind", "LinUCB"]


def test_regret_panels(view):
    figure = figures.regret_panels(view.results, ["λ = 0", "λ = 1"], ["HARE", "LinUCB"])
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert all(axes.get_ylabel() == "cumulative regret" for axes in figure.axes)


def test_attention(view):
    attention = entry(view, "attention")
    frame = drawings.attention_frame(attention, view)
    sums = frame.groupby(["user", "query"])["attention"].sum()
    assert len(sums) == 6 and sums.to_numpy() == pytest.approx(1.0)
    assert frame.equals(drawings.attention_frame(attention, view))
    assert len(figures.attention_maps(frame).axes) == 3
    with pytest.raises(NotRunError, match="LinUCB has no attention to show"):
        drawings.attention_frame(attention.model_copy(update={"agent": "LinUCB"}), view)


def test_attention_maps():
    rows = [
        {"user": user, "query": query, "cluster": j, "attention": 1 / 16}
        for user in (0, 3) for query in range(8) for j in range(16)
    ]  # fmt: skip
    first, second, bar = figures.attention_maps(pd.DataFrame(rows)).axes
    assert (first.get_title(), second.get_title()) == ("user 0", "user 3")
    assert second.get_xlabel() == "knowledge cluster" and bar.get_ylabel().startswith("attention")


def test_attention_needs_the_session_that_was_recorded(view):
    attention = entry(view, "attention")
    with pytest.raises(NotRunError, match="HARE did not finish seed 7 on λ = 1"):
        drawings.attention_frame(attention.model_copy(update={"seed": 7}), view)
    runs = {key: dict(found) for key, found in view.results.runs.items()}
    runs["λ = 1", "HARE"] = {
        seed: record | {"actions_sha256": "0" * 64} for seed, record in runs["λ = 1", "HARE"].items()
    }
    results = Results(view.results.environments, view.results.agents, runs, [], [])
    with pytest.raises(NotRunError, match="the session went another way: the code has changed"):
        drawings.attention_frame(attention, View(view.study, results))


def test_the_command_prints_and_writes_the_claims(tmp_path):
    from typer.testing import CliRunner

    from hare_evaluation.cli import app

    path = tmp_path / "small.yaml"
    path.write_text(SUITE, encoding="utf-8")
    store, out = str(tmp_path / "runs"), str(tmp_path / "report")
    common = ["--store", store, "--out", out]
    run = CliRunner().invoke(
        app, ["run", str(path), "--horizon", "60", "--seeds", "1", "--jobs", "1", "--no-report", *common]
    )
    assert run.exit_code == 0, run.output
    assert "undecided: Less <regret>." in run.output and "1 seed gives no interval" in run.output
    assert not (tmp_path / "report").exists()
    # the suite asks for longer sessions, and none of those is there
    report = CliRunner().invoke(app, ["report", str(path), *common])
    assert "There are no such records" in str(report.exception)
