"""From records to measured texts to claims: a small study, played again."""

import json

import numpy as np
import pytest

from hare_agents.decoders.trained import load_decoder
from hare_evaluation.claims import judge_all
from hare_evaluation.definitions import TEXTS
from hare_evaluation.drawings import drawing
from hare_evaluation.judging import NotRunError, View
from hare_evaluation.metrics import kept
from hare_evaluation.metrics.probe import measure, perplexities, probe
from hare_evaluation.metrics.study import Measuring, measure_all, missing
from hare_evaluation.results import Results
from hare_evaluation.runner import run
from hare_evaluation.spec import load_suite, parse_suite
from hare_gym.errors import ConfigError, DataError, UnknownNameError
from hare_gym.text.corpus import load_corpus
from hare_gym.text.measure import Measurer

SUITE = """
name: small
seeds: {set: tests, count: 2}
environments:
  - {id: HareSkills-v0, label: write, kwargs: {horizon: 9, num_users: 3, action_mode: write}}
agents:
  - {name: "hare_agents.writing:Writing", label: RAG, kwargs: {agent: rag}}
  - {name: "hare_agents.writing:Writing", label: HARE, role: agent, kwargs: {agent: hare}}
claims:
  - {id: same, text: t, kind: generation, environments: [write], agent: RAG, metric: divergence, at_most: 0.0}
  - id: more
    text: t
    kind: generation
    environments: [write]
    agent: HARE
    metric: divergence
    minus: {metric: divergence, agent: RAG, times: 2}
    at_least: 0.0
    strict: true
figures:
  - {id: texts, title: t, kind: generation, environments: [write], agents: [RAG, HARE]}
  - {id: learning, title: t, kind: learning, environments: [write], agents: [RAG, HARE]}
  - {id: users, title: t, kind: user_recovery, environments: [write], agent: HARE}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # vectors of sentences may come from the shared cache; measurements may not
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(kept, "cache_folder", lambda: folder)
        suite = parse_suite(SUITE, "small")
        results = Results.from_records([run(spec)[0] for spec in suite.plan().specs], suite.labels)
        yield View(suite.study, results)


def test_claims_wait_until_texts_are_measured_and_then_are_judged(study):
    assert [judged.verdict for judged in judge_all(study.study, study.results)] == ["not run", "not run"]
    with pytest.raises(NotRunError, match="the texts of RAG on write have not been measured"):
        drawing(study.study.figures[0], study)
    waiting = missing(study.study, study.results)
    assert len(waiting) == 4
    assert measure_all(waiting, jobs=1) == []
    assert missing(study.study, study.results) == []
    same, more = judge_all(study.study, study.results)
    assert same.verdict == "supported" and same.findings[0].found.value == 0.0
    assert more.findings[0].measure == "divergence between users − 2 × RAG's divergence between users"
    assert more.findings[0].found.value > 0.0
    texts, learning, users = (drawing(figure, study) for figure in study.study.figures)
    assert set(texts.frame["agent"]) == {"RAG", "HARE"}
    assert set(texts.frame["metric"]) == {name for name in TEXTS if not name.startswith("recovery_")}
    assert set(learning.frame["agent"]) == {"RAG", "HARE"} and (learning.frame["seeds"] == 2).all()
    assert set(users.frame["attribute"]) == set(kept.ATTRIBUTES) and (users.frame["mean"] <= 1.0).all()
    for drawn in (texts, learning, users):
        assert drawn.draw().axes[0].collections or drawn.draw().axes[0].lines


def test_a_metric_that_cannot_be_says_why():
    claim = """
  - {id: u, text: t, kind: generation, environments: [write], agent: HARE, metric: recovery_domain, at_least: 0}"""
    suite = parse_suite(SUITE.replace("\nfigures:", f"{claim}\nfigures:"), "small")
    states = {"20": [[0.0, 1.0]] * 3}
    attributes = {"domain": [[0.0], [1.0], [2.0]]}
    for sessions, why in (
        ([{"states": states}], "it needs 2 sessions: set --seeds 2 or more"),
        ([{"states": {}}] * 2, "the agent keeps no state of its users"),
        ([{"states": {"10": states["20"]}}] * 2, "no user came 20 times: set a longer horizon or fewer users"),
    ):
        measured = [{**each, "metrics": {}, "attributes": attributes} for each in sessions]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(NotRunError, match=why):
            patch.setattr(View, "measured", lambda *_, found=measured: dict(enumerate(found)))
            suite.study.claims[-1].look(View(suite.study, None), "write")
    assert kept.why_not([], "divergence") == "it does not apply to such texts"


def test_rewards_are_averaged_over_spans_of_visits_that_all_sessions_have(study, monkeypatch):
    curves = {"RAG": [[0.1, 0.2, 0.3, 0.5, 0.9], [0.3, 0.4, 0.5, 0.7]], "HARE": [[0.5] * 9, [0.7] * 9]}
    monkeypatch.setattr(
        View, "measured", lambda view, where, agent: dict(enumerate({"curve": curve} for curve in curves[agent]))
    )
    frame = drawing(study.study.figures[1], study).frame.set_index(["agent", "first", "last"])
    assert frame["mean"]["RAG"].to_dict() == pytest.approx({(1, 1): 0.2, (2, 2): 0.3, (3, 4): 0.5})
    assert frame["mean"]["HARE"].to_dict() == pytest.approx({(1, 1): 0.6, (2, 2): 0.6, (3, 4): 0.6})


def test_perplexity_is_of_the_text_and_its_own_content():
    texts = [skill.text for skill in load_corpus().skills[:3]]
    found = perplexities([*texts, *texts], "minilm")
    judge, measurer = load_decoder("tiny"), Measurer()
    z = np.stack([measurer.text(text).phi for text in texts])
    assert found["perplexity"] == pytest.approx(judge.perplexity(texts, z).perplexity)
    assert found["perplexity_unconditioned"] == pytest.approx(judge.perplexity(texts).perplexity)
    assert found["perplexity_shuffled"] > found["perplexity"] and found["information"] > 0.0
    assert np.isnan([*perplexities(texts, "tfidf").values(), *perplexities(texts[:1] * 2, "minilm").values()]).all()


def test_a_probe_is_deterministic(study):
    record = next(iter(study.results.finished("write", "HARE").values()))
    first, second = measure(record), measure(record)
    assert json.dumps(first) == json.dumps(second)
    assert set(first["metrics"]) <= TEXTS.keys()
    assert np.array(first["states"]["1"][0]).shape == (17,)


def test_a_session_that_goes_another_way_is_refused(study):
    record = next(iter(study.results.finished("write", "RAG").values()))
    with pytest.raises(DataError, match="the code has changed since it was recorded"):
        probe({**record, "actions_sha256": "0"})
    with pytest.raises(DataError, match="action mode 'write'"):
        probe({**record, "task": {**record["task"], "action_mode": "select"}})


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("metric: divergence, at_most", "metric: divergense, at_most", UnknownNameError, "divergence"),
        ("at_most: 0.0", "at_most: 0.0, at_least: 0.0", ConfigError, "either at_least or at_most"),
        ("action_mode: write}", "action_mode: select}", ConfigError, "set action_mode to write"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(old, new, error, words):
    with pytest.raises(error, match=words):
        parse_suite(SUITE.replace(old, new), "small")._check_study()


def test_the_built_in_suite_names_what_it_has():
    load_suite("skills")._check_study()


def test_a_session_is_measured_while_it_is_played(study, tmp_path):
    suite = parse_suite(SUITE, "small")
    measuring = Measuring.of(suite)
    specs = suite.plan().specs
    assert measuring.keys == {spec.key for spec in specs} and not Measuring.of(suite, lanes=2).keys
    spec = specs[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "cache_folder", lambda: tmp_path)
        record, _ = measuring(spec)
        assert record == run(spec)[0]
        assert kept.load(record) == json.loads(json.dumps(measure(record)))
        kept.path_of(record).unlink()
        assert Measuring(frozenset())(spec)[0] == record and kept.load(record) is None
        patch.setattr(kept, "save", lambda *_: 1 / 0)
        assert measuring(spec)[0] == record  # what cannot be measured loses no record
