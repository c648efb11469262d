"""The claim that an agent leads, reward by rounds per user, and one table of several environments."""

import re

import numpy as np
import pytest
from _records import make_record

from hare_evaluation import tables
from hare_evaluation.claims import judge_all
from hare_evaluation.drawings import drawing
from hare_evaluation.judging import View
from hare_evaluation.pages import results_section
from hare_evaluation.readings import reward_after
from hare_evaluation.report import write_report
from hare_evaluation.results import Results
from hare_evaluation.spec import load_suite, parse_suite
from hare_gym.errors import ConfigError, HareError

SUITE = """
name: small
seeds: {set: quick, count: 6}
environments:
  - {id: HareBilinear-v0, label: one, kwargs: {horizon: 2000}}
  - {id: HareLinear-v0, label: two, kwargs: {horizon: 2000}}
agents:
  - {name: linucb, label: LinUCB}
  - {name: hare, label: HARE, role: agent}
claims:
  - {id: lead, text: Leads, kind: lead, environments: [one, two], agent: HARE, other: LinUCB, after: 10, wins: 1}
figures:
  - {id: learning, title: "Reward", kind: reward, environments: [one, two], agents: [LinUCB, HARE]}
tables:
  - id: both
    title: "Both"
    environments: [one, two]
    agents: [LinUCB, HARE]
    published: {two: "0.5 <b>"}
    note: "Another setting."
"""
LUCK = (0.9, 1.1, 1.0, 0.95, 1.05, 1.0)


def rows(gains):
    """Six seeds an agent and environment; HARE's reward a round is so much above LinUCB's, give or take."""
    found = []
    for env, gain in zip(("HareBilinear-v0", "HareLinear-v0"), gains, strict=True):
        for agent in ("linucb", "hare"):
            for seed in range(6):
                record = make_record(env, agent, seed, env_kwargs={"horizon": 2000}, final_regret=200.0)
                t = np.array(record["rounds"], dtype=float)
                more = gain * LUCK[seed] + 0.004 * (-1) ** seed if agent == "hare" else 0.0
                record["curves"]["expected_reward"] = (t * (0.5 + 0.01 * seed + more)).tolist()
                found.append(record)
    return found


def judged(gains, suite=SUITE):
    suite = parse_suite(suite, "small.yaml")
    (judgement,) = judge_all(suite.study, Results.from_records(rows(gains), suite.labels))
    return judgement


class TestLead:
    def test_a_win_and_a_tie_are_enough_for_one_win(self):
        found = judged((0.05, 0.0))
        assert found.verdict == "supported"
        assert [each.verdict for each in found.findings] == ["supported", "undecided"]
        assert found.findings[0].measure == "expected reward a round − LinUCB's, after 10 rounds per user"
        assert found.findings[0].found.value == pytest.approx(0.05)

    def test_but_not_for_two(self):
        assert judged((0.05, 0.0), SUITE.replace("wins: 1", "wins: 2")).verdict == "undecided"

    def test_one_loss_loses(self):
        found = judged((0.05, -0.05))
        assert found.verdict == "not supported"
        assert [each.verdict for each in found.findings] == ["supported", "not supported"]

    def test_the_difference_is_paired_by_seed(self):
        # rewards differ by 0.05 between seeds, differences by 0.01: only in pairs is so small a lead seen
        low = judged((0.02, 0.02)).findings[0].found.low
        assert 0.0 < low < 0.02

    def test_only_later_rounds_count(self):
        record = make_record(env_kwargs={"horizon": 2000})
        t = np.array(record["rounds"], dtype=float)
        record["curves"]["expected_reward"] = np.where(t <= 200, 0.0, t - 200).tolist()
        assert reward_after(record, 10) == pytest.approx(1.0, abs=0.01)  # 20 users
        assert reward_after(record, 0) == pytest.approx(0.9)

    def test_what_is_missing_is_named(self):
        suite = parse_suite(SUITE.replace("after: 10", "after: 100"), "small.yaml")
        (found,) = judge_all(suite.study, Results.from_records(rows((0.0, 0.0)), suite.labels))
        assert found.verdict == "not run"
        assert found.reason == "after 100 rounds per user no round of 2000 is left"

    def test_mistakes(self):
        with pytest.raises(ConfigError, match="wants to win 3 environments, but names 2"):
            parse_suite(SUITE.replace("wins: 1", "wins: 3"), "small.yaml").plan()
        with pytest.raises(HareError, match=r"Unknown agent of the claim 'lead' 'LinUBC'. Did you mean 'LinUCB'"):
            parse_suite(SUITE.replace("other: LinUCB", "other: LinUBC"), "small.yaml").plan()


class TestTable:
    def view(self, gains=(0.05, 0.0)):
        suite = parse_suite(SUITE, "small.yaml")
        return suite, View(suite.study, Results.from_records(rows(gains), suite.labels))

    def test_a_row_an_environment_and_a_column_an_agent(self):
        suite, view = self.view()
        frame = tables.reward_frame(suite.tables[0], view)
        heads, body = tables.reward_cells(suite.tables[0], frame)
        assert heads == ["environment", "LinUCB", "HARE", "published, other setting"]
        assert [row[0] for row in body] == ["one", "two"]
        value, low, high = map(float, re.findall(r"[\d.]+", body[0][1]))
        assert value == pytest.approx(0.525, abs=1e-3) and low < value < high
        assert float(body[0][2].split()[0]) == pytest.approx(0.575, abs=1e-3)
        assert [row[3] for row in body] == ["—", "0.5 <b>"]

    def test_an_agent_that_was_not_run_has_no_number(self):
        suite, _ = self.view()
        some = [record for record in rows((0.0, 0.0)) if record["spec"]["agent"] == "linucb"]
        view = View(suite.study, Results.from_records(some, suite.labels))
        _, body = tables.reward_cells(suite.tables[0], tables.reward_frame(suite.tables[0], view))
        assert [row[2] for row in body] == ["—", "—"]

    def test_report_and_terminal_show_it(self, tmp_path):
        from rich.console import Console

        suite, view = self.view()
        path = write_report(rows((0.05, 0.0)), tmp_path, "Small", suite.labels, suite.study)
        page = path.read_text()
        assert '<h3 id="table-both">Both</h3>' in page and "Another setting." in page
        assert "0.5 &lt;b&gt;" in page and "0.5 <b>" not in page
        assert (tmp_path / "table-both.csv").read_text().startswith("environment,agent,mean,low,high,seeds\n")
        assert (tmp_path / "figure-learning.svg").exists()
        console = Console(width=100, record=True)
        console.print(tables.reward_table(suite.tables[0], view))
        assert "Another setting." in console.export_text()

    def test_a_page_has_it_with_what_was_published_and_its_note(self):
        suite, view = self.view()
        page = results_section(suite, rows((0.05, 0.0)))
        _, body = tables.reward_cells(suite.tables[0], tables.reward_frame(suite.tables[0], view))
        assert "**Both**\n\n| environment | LinUCB | HARE | published, other setting |\n" in page
        assert all(f"| {' | '.join(row)} |\n" in page + "\n" for row in body)
        assert page.index("**Claims**") < page.index("**Both**") < page.index("**Final regret: one**")
        assert "|\n\nAnother setting.\n\n" in page

    def test_a_page_says_what_of_it_was_not_run(self):
        suite, _ = self.view()
        (entry,) = suite.tables
        only = suite.model_copy(update={"tables": [entry.model_copy(update={"agents": ["HARE"]})]})
        linucb = [record for record in rows((0.05, 0.0)) if record["spec"]["agent"] == "linucb"]
        assert "**Both**\n\nNot run: none of HARE finished a run on one, two." in results_section(only, linucb)

    def test_nothing_run(self, tmp_path):
        from rich.console import Console

        suite, _ = self.view()
        other = parse_suite(SUITE.replace("label: HARE", "label: HARE2").replace("HARE]", "HARE2]"), "x").tables[0]
        some = [make_record(agent="lints", env_kwargs={"horizon": 2000})]
        view = View(suite.study, Results.from_records(some, suite.labels))
        console = Console(width=100, record=True)
        console.print(tables.reward_table(other, view))
        assert "none of LinUCB, HARE2 finished a run on one, two" in console.export_text()

    def test_mistakes(self):
        with pytest.raises(HareError, match="Unknown published environment of the table 'both' 'tow'"):
            parse_suite(SUITE.replace("published: {two", "published: {tow"), "small.yaml").plan()
        with pytest.raises(HareError, match=r"Unknown key in tables.0 of the suite small.yaml 'agnets'"):
            parse_suite(
                SUITE.replace("    agents: [LinUCB, HARE]\n    pub", "    agnets: [HARE]\n    pub"), "small.yaml"
            )


def test_reward_by_rounds_per_user():
    suite = parse_suite(SUITE, "small.yaml")
    view = View(suite.study, Results.from_records(rows((0.05, 0.0)), suite.labels))
    made = drawing(suite.figures[0], view)
    part = made.frame[(made.frame["environment"] == "one") & (made.frame["agent"] == "HARE")]
    assert part["first"].tolist() == [0, 1, 2, 4, 8, 16, 32, 64]
    assert part["last"].tolist() == [1, 2, 4, 8, 16, 32, 64, 100]
    assert np.allclose(part["mean"], 0.575, atol=2e-3) and (part["seeds"] == 6).all()
    assert len(made.draw().axes) >= 2


def test_the_suite_claims_what_the_issue_asks():
    suite = load_suite("lamp")
    assert {entry.id for entry in suite.environments} == {f"HareLaMP{k}-v0" for k in range(1, 8)}
    claim = next(claim for claim in suite.claims if claim.id == "against-rag")
    assert (claim.wins, claim.after, len(claim.environments)) == (5, 10, 7)
    assert (suite.seeds.set, suite.seeds.count) == ("final", 10)
    assert load_suite("lamp-tuning").seeds.set == "tuning"
