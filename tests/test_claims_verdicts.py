"""Claims: each verdict from made-up records, and what each kind of claim measures."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from _records import fail, make_record

from hare_evaluation import statistics
from hare_evaluation.claims import claims_frame, claims_json, judge_all
from hare_evaluation.judging import NOT_RUN, NOT_SUPPORTED, SUPPORTED, UNDECIDED, NotRunError, Study, Target
from hare_evaluation.pages import results_section
from hare_evaluation.readings import recovery, visit_slope, visits
from hare_evaluation.report import write_report
from hare_evaluation.results import Labels, Results
from hare_evaluation.spec import parse_suite
from hare_evaluation.statistics import Interval
from hare_evaluation.tables import CLAIM_HEADS, claim_rows, claims_table
from hare_gym.errors import HareError

SUITE = """
name: small
seeds: {set: quick, count: 6}
environments:
  - {id: HareBilinear-v0, label: curved, kwargs: {horizon: 2000}}
  - {id: HareLinear-v0, label: straight, kwargs: {horizon: 2000}}
agents:
  - {name: random, label: Random}
  - {name: linucb, label: LinUCB}
  - {name: lints, label: Thompson}
  - {name: hare, label: HARE, role: agent}
  - {name: hare, label: blind, role: ablation, kwargs: {user_state: false}}
  - {name: oracle, label: Oracle, role: oracle}
claims:
  - id: claim
    text: "A claim."
    environments: [curved]
    agent: HARE
    """
KWARGS = {"HARE": ("hare", {}), "blind": ("hare", {"user_state": False}), "Oracle": ("oracle", {})}
KWARGS |= {"Random": ("random", {}), "LinUCB": ("linucb", {}), "Thompson": ("lints", {})}
FINAL = {"Random": 800.0, "LinUCB": 210.0, "Thompson": 250.0, "HARE": 100.0, "blind": 300.0, "Oracle": 1.0}
LUCK = (0.98, 1.03, 1.0, 0.99, 1.02, 0.97)


def suite_with(claim: str):
    return parse_suite(SUITE + claim, "small.yaml")


def records(finals=FINAL, env="HareBilinear-v0", seeds=6):
    return [
        make_record(env, *KWARGS[agent][:1], seed, env_kwargs={"horizon": 2000}, agent_kwargs=KWARGS[agent][1],
                    final_regret=final * LUCK[seed] * (1 + 0.01 * (i + seed) % 0.05))
        for i, (agent, final) in enumerate(finals.items()) for seed in range(seeds)
    ]  # fmt: skip


def judged(claim: str, rows):
    suite = suite_with(claim)
    suite.plan()
    (judgement,) = judge_all(suite.study, Results.from_records(rows, suite.labels))
    return judgement


def failed(rows, agent, seeds):
    def hit(spec):
        return (spec["agent"], spec["agent_kwargs"]) == KWARGS[agent] and spec["seed"] in seeds

    return [fail(row) if hit(row["spec"]) else row for row in rows]


def without(rows, agent):
    name, kwargs = KWARGS[agent]
    return [row for row in rows if (row["spec"]["agent"], row["spec"]["agent_kwargs"]) != (name, kwargs)]


class TestTargets:
    @pytest.mark.parametrize(
        ("found", "verdict"),
        [
            ((0.5, 0.45, 0.6), SUPPORTED),
            ((0.5, 0.45, 0.61), UNDECIDED),
            ((0.65, 0.6, 0.7), UNDECIDED),
            ((0.7, 0.61, 0.8), NOT_SUPPORTED),
            ((0.5, math.nan, math.nan), UNDECIDED),
            ((math.nan, math.nan, math.nan), UNDECIDED),
        ],
    )
    def test_at_most(self, found, verdict):
        assert Target(0.6, True).verdict(Interval(*found)) == verdict
        mirrored = Interval(-found[0], -found[2], -found[1])
        assert Target(-0.6, False).verdict(mirrored) == verdict

    @pytest.mark.parametrize(
        ("found", "verdict"),
        [((1.05, 0.9, 1.2), SUPPORTED), ((1.05, 0.9, 1.21), UNDECIDED), ((1.11, 1.05, 1.15), UNDECIDED),
         ((1.15, 1.11, 1.19), NOT_SUPPORTED)],
    )  # fmt: skip
    def test_another_bound_for_the_upper_end(self, found, verdict):
        target = Target(1.1, True, 1.2)
        assert target.verdict(Interval(*found)) == verdict
        assert str(target) == "≤ 1.1, upper end ≤ 1.2"

    def test_what_does_not_move_does_not_fall(self):
        assert Target(0.0, True, strict=True).verdict(Interval(0.0, 0.0, 0.0)) == NOT_SUPPORTED
        assert Target(0.0, True).verdict(Interval(0.0, 0.0, 0.0)) == SUPPORTED
        assert Target(0.0, True, strict=True).verdict(Interval(-1.0, -2.0, 0.0)) == UNDECIDED
        assert str(Target(0.0, True, strict=True)) == "< 0"

    def test_infinite_times(self):
        assert Target(300, True).verdict(Interval(20, 10, math.inf)) == UNDECIDED
        assert Target(300, True).verdict(Interval(math.inf, 310, math.inf)) == NOT_SUPPORTED


class TestRatio:
    @staticmethod
    def claim(**more):
        return "\n    ".join(["", *(f"{name}: {value}" for name, value in {"kind": "ratio", **more}.items())])

    def test_supported_against_the_best_baseline_and_all_of_them_beside_it(self):
        found = judged(self.claim(at_most=0.6), records())
        assert (found.verdict, found.reason) == (SUPPORTED, "")
        (finding,) = found.findings
        assert finding.measure == "regret ÷ LinUCB's (the best)" and finding.seeds == 6
        scores = Results.from_records(records(), suite_with(self.claim(at_most=1)).labels).scores("curved")
        assert finding.found == statistics.ratio_of_means(scores.loc["HARE"], scores.loc["LinUCB"])
        assert finding.found.value == pytest.approx(0.476, abs=0.03)
        # neither the oracle nor the ablation is a baseline
        assert [each.agent for each in found.comparisons] == ["LinUCB", "Thompson", "Random"]

    def test_not_supported_and_undecided(self):
        assert judged(self.claim(at_most=0.3), records()).verdict == NOT_SUPPORTED
        rows = records({**FINAL, "HARE": 120.0})
        value = judged(self.claim(at_most=1), rows).findings[0].found
        between = (value.value + value.high) / 2
        assert judged(self.claim(at_most=between), rows).verdict == UNDECIDED
        assert judged(self.claim(at_most=between, upper_at_most=2), rows).verdict == SUPPORTED

    def test_one_seed_decides_nothing(self):
        found = judged(self.claim(at_most=0.6), records(seeds=1))
        assert (found.verdict, found.reason) == (UNDECIDED, "1 seed gives no interval")

    def test_a_failed_run_of_anyone_compared_withholds_supported(self):
        found = judged(self.claim(at_most=0.6), failed(records(), "HARE", {2}))
        assert found.verdict == UNDECIDED and found.findings[0].seeds == 5
        assert found.reason == ("1 run of HARE on curved failed, so the seeds that are left may be the easy ones")
        assert judged(self.claim(at_most=0.6), failed(records(), "Thompson", {0, 1})).verdict == UNDECIDED
        assert judged(self.claim(at_most=0.6), failed(records(), "blind", {0})).verdict == SUPPORTED
        assert judged(self.claim(at_most=0.3), failed(records(), "HARE", {2})).verdict == NOT_SUPPORTED

    def test_a_baseline_that_always_failed_is_no_reason_to_cheer(self):
        found = judged(self.claim(at_most=0.6), failed(records(), "LinUCB", set(range(6))))
        assert found.verdict == UNDECIDED
        assert found.findings[0].measure == "regret ÷ Thompson's (the best)"
        assert "6 runs of LinUCB on curved failed" in found.reason

    def test_what_is_missing_is_named(self):
        for agent in ("Thompson", "HARE"):
            found = judged(self.claim(at_most=0.6), without(records(), agent))
            assert (found.verdict, found.reason) == (NOT_RUN, f"{agent} was not run on curved")
            assert found.findings == ()
        found = judged(self.claim(at_most=0.6), records(env="HareLinear-v0"))
        assert (found.verdict, found.reason) == (NOT_RUN, "curved was not run")
        found = judged(self.claim(at_most=0.6), failed(records(), "HARE", set(range(6))))
        assert (found.verdict, found.reason) == (NOT_RUN, "every run of HARE on curved failed")

    def test_it_must_hold_at_every_share_and_in_every_environment(self):
        found = judged(self.claim(at_most=0.6, at="[0.25, 1.0]"), records())
        early = found.findings[0]
        assert early.measure == "regret at T/4 ÷ LinUCB's (the best)"
        rows = Results.from_records(records(), suite_with(self.claim(at_most=1)).labels)
        curves = {agent: rows.curves("curved", agent) for agent in ("HARE", "LinUCB")}
        (quarter,) = np.flatnonzero(curves["HARE"][0] == 500)
        means = [curves[agent][1][:, quarter].mean() for agent in ("HARE", "LinUCB")]
        assert early.found.value == pytest.approx(means[0] / means[1])
        suite = parse_suite((SUITE + self.claim(at_most=0.6)).replace("[curved]", "[curved, straight]"), "s")
        bad = records({**FINAL, "HARE": 205.0}, "HareLinear-v0")
        (verdict,) = judge_all(suite.study, Results.from_records(records() + bad, suite.labels))
        assert [finding.verdict for finding in verdict.findings] == [SUPPORTED, NOT_SUPPORTED]
        assert verdict.verdict == NOT_SUPPORTED
        (verdict,) = judge_all(suite.study, Results.from_records(records(), suite.labels))
        assert (verdict.verdict, verdict.reason) == (NOT_RUN, "straight was not run")
        assert len(verdict.findings) == 1

    def test_a_baseline_without_any_regret_is_the_best(self):
        found = judged(self.claim(at_most=0.6), records({**FINAL, "Thompson": 0.0}))
        assert found.findings[0].measure == "regret ÷ Thompson's (the best)"
        assert (found.verdict, found.reason) == (UNDECIDED, "6 seeds give no interval")

    def test_named_rivals(self):
        found = judged(self.claim(at_most=0.6, against="[Thompson]"), records())
        assert found.findings[0].measure == "regret ÷ Thompson's" and found.comparisons == ()


def test_ratio_of_means_holds_the_truth_as_often_as_its_docstring_says():
    rng = np.random.default_rng(0)
    for n in (5, 20):
        held = 0
        for _ in range(1500):
            hard, own = rng.normal(size=n), rng.normal(size=(2, n))
            a, b = (np.exp(0.5 * (math.sqrt(0.3) * hard + math.sqrt(0.7) * mine)) for mine in own)
            held += 0.5 in statistics.ratio_of_means(a, 2 * b)
        assert held / 1500 == pytest.approx(0.935 if n == 5 else 0.945, abs=0.02)


def test_ratio_of_means():
    a, b = np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 4.0, 6.0, 1.0])
    assert statistics.ratio_of_means(a, b) == Interval(0.5, 0.5, 0.5)
    assert math.isnan(statistics.ratio_of_means(a, -b).value)
    assert math.isnan(statistics.ratio_of_means([1.0], [2.0]).low)
    x, y = np.array([1.0, 1.3, 0.8]), np.array([2.0, 2.1, 1.7])
    there, back = statistics.ratio_of_means(x, y), statistics.ratio_of_means(y, x)
    assert (1 / back.value, 1 / back.high, 1 / back.low) == pytest.approx((there.value, there.low, there.high))


def test_median_interval():
    assert math.isnan(statistics.median_interval(np.arange(5.0)).low)
    assert statistics.median_interval(np.arange(6.0)) == Interval(2.5, 0.0, 5.0)
    assert statistics.median_interval(np.arange(20.0)) == Interval(9.5, 5.0, 14.0)
    late = np.array([1.0, 2, 3, np.inf, np.inf, np.inf, np.inf])
    assert statistics.median_interval(late, np.minimum(late, 9)) == Interval(math.inf, 1.0, math.inf)
    rng = np.random.default_rng(0)
    covered = [0.0 in statistics.median_interval(rng.standard_cauchy(20)) for _ in range(2000)]
    assert np.mean(covered) == pytest.approx(0.9586, abs=0.012)


class TestGap:
    CLAIM = "\n    kind: gap_grows\n    other: blind\n    at_least: "

    def test_ratio_and_growth(self):
        found = judged(self.CLAIM + "2.0", records())
        ratio, growth = found.findings
        assert found.verdict == SUPPORTED
        assert ratio.measure == "blind's regret ÷ HARE's" and ratio.target == "≥ 2"
        assert growth.measure == "growth of the difference from T/4 to T" and growth.target == "> 0"
        results = Results.from_records(records(), suite_with(self.CLAIM + "2.0").labels)
        late, early = results.scores("curved"), results.scores("curved", at=0.25)
        gap = (late.loc["blind"] - late.loc["HARE"]) - (early.loc["blind"] - early.loc["HARE"])
        assert growth.found.value == pytest.approx(gap.mean())

    def test_a_gap_that_stays(self):
        rows = records()
        for row in rows:
            if row["spec"]["agent_kwargs"]:  # the ablation: HARE's curve plus what it lost at the start
                twin = next(
                    r for r in rows if r["spec"]["agent"] == "hare" and not r["spec"]["agent_kwargs"]
                    and r["spec"]["seed"] == row["spec"]["seed"]
                )  # fmt: skip
                row["curves"]["regret"] = [x + 300 for x in twin["curves"]["regret"]]
                row["totals"]["regret"] = row["curves"]["regret"][-1]
        found = judged(self.CLAIM + "2.0", rows)
        assert [finding.verdict for finding in found.findings] == [SUPPORTED, NOT_SUPPORTED]
        assert found.findings[1].found.value == pytest.approx(0, abs=1e-9)
        assert found.verdict == NOT_SUPPORTED

    def test_missing(self):
        found = judged(self.CLAIM + "2.0", without(records(), "blind"))
        assert (found.verdict, found.reason) == (NOT_RUN, "blind was not run on curved")


def traced(rows, slope, late_slope, noise=0.0):
    """Gives HARE's records a trace: 20 users, the last five late, entropy = level + slope ln(visit)."""
    for row in rows:
        if row["spec"]["agent"] != "hare":
            continue
        rng = np.random.default_rng(row["spec"]["seed"])
        first = np.where(np.arange(20) < 15, 1 + np.arange(20), 1001 + np.arange(20))
        trace = {"round": [], "user": [], "visit": [], "first": [], "entropy": []}
        for user in range(20):
            for visit in range(1, 40, 4):
                trace["user"].append(user)
                trace["visit"].append(visit)
                trace["first"].append(int(first[user]))
                trace["round"].append(int(first[user]) + 20 * visit)
                s = late_slope if user >= 15 else slope
                trace["entropy"].append(2.0 + user / 10 + s * math.log(visit) + noise * rng.normal())
        trace["entropy"][3] = None
        row["trace"] = trace
    return rows


class TestSlope:
    CLAIM = "\n    kind: slope\n    diagnostic: entropy"

    def test_the_slope_of_late_users(self):
        rows = traced(records(), +0.3, -0.2)
        found = judged(self.CLAIM, rows)
        assert found.verdict == SUPPORTED
        assert found.findings[0].found.value == pytest.approx(-0.2)
        assert found.findings[0].measure == "slope of entropy on ln(visit), late users"
        early = judged(self.CLAIM + "\n    users: early", rows)
        assert early.findings[0].found.value == pytest.approx(0.3) and early.verdict == NOT_SUPPORTED
        hare = next(row for row in rows if row["spec"]["agent"] == "hare")
        assert visit_slope(hare, "entropy") == pytest.approx((15 * 0.3 - 5 * 0.2) / 20)
        assert len(visits(hare, "entropy", "late")) == 5
        assert sorted({len(v) for v, _ in visits(hare, "entropy")}) == [9, 10]  # one value was None

    def test_noise_alone_is_undecided(self):
        assert judged(self.CLAIM, traced(records(), 0, 0, noise=0.5)).verdict == UNDECIDED

    def test_without_a_trace_or_late_users(self):
        found = judged(self.CLAIM, records())
        assert found.verdict == NOT_RUN
        assert found.reason == "no trace of entropy in the runs of hare: set trace_every for the environment"
        found = judged(self.CLAIM.replace("entropy", "entropi"), traced(records(), 0, 0))
        assert found.reason == "no trace of entropi in the runs of hare: it has entropy"
        found = judged(self.CLAIM + "\n    after: 0.9", traced(records(), 0, 0))
        assert (found.verdict, found.findings[0].seeds) == (UNDECIDED, 0)
        assert found.reason == "0 seeds give no interval"


class TestRewardMargin:
    CLAIM = "\n    kind: reward_margin\n    at_least: 0.1"

    @staticmethod
    def rows(late):
        rows = records()
        for row in rows:
            t = np.array(row["rounds"], dtype=float)
            if row["spec"]["agent"] == "hare":  # at the end `late` above 0.8, before that far below
                gain = late + 0.001 * row["spec"]["seed"]
                row["curves"]["expected_reward"] = (
                    0.3 * np.minimum(t, 1800) + (0.8 + gain) * np.maximum(0, t - 1800)
                ).tolist()
        return rows  # fmt: skip

    def test_only_the_end_counts(self):
        found = judged(self.CLAIM, self.rows(0.15))
        assert found.verdict == SUPPORTED
        assert found.findings[0].found.value == pytest.approx(0.1525)
        assert {each.agent for each in found.comparisons} == {"LinUCB", "Thompson", "Random"}
        assert judged(self.CLAIM, self.rows(0.05)).verdict == NOT_SUPPORTED
        assert judged(self.CLAIM, self.rows(0.0975)).verdict == UNDECIDED


class TestRank:
    CLAIM = "\n    kind: rank\n    best: "

    def test_ranks_of_the_zoo(self):
        found = judged(self.CLAIM + "1", records())
        assert found.verdict == SUPPORTED
        # four of six: ablation and oracle are no part of the zoo
        assert found.findings[0].measure == "rank of 4 by mean regret"
        assert [each.agent for each in found.comparisons] == ["HARE", "LinUCB", "Thompson", "Random"]
        last = records({**FINAL, "HARE": 600.0})
        assert judged(self.CLAIM + "2", last).verdict == NOT_SUPPORTED
        assert judged(self.CLAIM + "3", last).verdict == SUPPORTED

    def test_undecided(self):
        assert judged(self.CLAIM + "1", records(seeds=1)).verdict == UNDECIDED
        close = records({**FINAL, "HARE": 209.9})
        assert judged(self.CLAIM + "1", close).verdict == UNDECIDED
        assert judged(self.CLAIM + "1", failed(records(), "Random", {3})).verdict == UNDECIDED
        found = judged(self.CLAIM + "1", without(records(), "Random"))
        assert (found.verdict, found.reason) == (NOT_RUN, "Random was not run on curved")


def changing(row, levels, change=1000, horizon=2000, users=4):
    """A record whose reward a round is 0.8 before the change and then, of 0.8, ``levels`` in equal parts."""
    t = np.array(sorted({*range(20, horizon + 1, 20)}), dtype=float)
    rates = np.concatenate([np.full(change, 0.8), 0.8 * np.repeat(levels, (horizon - change) // len(levels))])
    sums = np.concatenate([[0.0], np.cumsum(rates)])
    spec = row["spec"] | {"env_kwargs": {"horizon": horizon, "change_every": change}}
    return row | {
        "spec": spec,
        "task": row["task"] | {"num_users": users, "horizon": horizon},
        "rounds": t.astype(int).tolist(),
        "curves": row["curves"] | {
            "expected_reward": sums[t.astype(int)].tolist(), "catalogue_oracle_reward": t.tolist(),
            "regret": t.tolist(),
        },
    }  # fmt: skip


class TestRecovery:
    CLAIM = "\n    kind: recovery\n    at_most: 100"

    def suite(self, at_most=100):
        text = (SUITE + self.CLAIM.replace("100", str(at_most))).replace(
            "label: curved, kwargs: {horizon: 2000}", "label: curved, kwargs: {horizon: 2000, change_every: T/2}"
        )
        return parse_suite(text, "small.yaml")

    def judged(self, levels, at_most=100):
        suite = self.suite(at_most)
        suite.plan()
        rows = [changing(row, levels) for row in records()]
        (found,) = judge_all(suite.study, Results.from_records(rows, suite.labels))
        return found

    def test_rounds_per_user_until_nine_tenths_are_back(self):
        row = changing(records()[0], [0.5, 0.95])  # back after 500 rounds of four users
        back, followed = recovery(row)
        # the window of 40 rounds is level enough when 36 of them, rounded up to the grid of 20, are behind 500
        assert (back, followed) == ((500 + 40) / 4, 250.0)
        assert recovery(changing(records()[0], [0.95]))[0] == 40 / 4  # one window
        assert recovery(changing(records()[0], [0.5])) == (math.inf, 250.0)
        assert recovery(changing(records()[0], [0.5, 0.95]), regain=0.4)[0] == 10.0

    def test_verdicts(self):
        found = self.judged([0.5, 0.95], 140)
        assert (found.verdict, found.findings[0].found) == (SUPPORTED, Interval(135.0, 135.0, 135.0))
        assert {each.agent for each in found.comparisons} == {"LinUCB", "Thompson", "Random"}
        assert self.judged([0.5, 0.95], 130).verdict == NOT_SUPPORTED
        never = self.judged([0.5], 130)
        assert never.verdict == NOT_SUPPORTED and never.reason == "not regained by the end in 6 of 6 seeds"
        # too short a session to know
        assert self.judged([0.5], 300).verdict == UNDECIDED

    def test_users_must_change(self):
        with pytest.raises(Exception, match="on 'curved' they do not change: set change_every there"):
            suite_with(self.CLAIM).plan()
        with pytest.raises(NotRunError, match="change_every was 0 in 2000 rounds"):
            recovery(records()[0])


class TestOutput:
    def judgements(self, rows=None):
        suite = suite_with("\n    kind: ratio\n    at_most: 0.6\n    at: [0.5, 1.0]")
        return judge_all(suite.study, Results.from_records(rows or records(), suite.labels))

    def test_files(self):
        frame = claims_frame(self.judgements())
        assert frame["verdict"].tolist() == [SUPPORTED] * 2 and frame["claim"].tolist() == ["claim"] * 2
        assert frame[["estimate", "low", "high"]].notna().all(axis=None)
        (written,) = claims_json(self.judgements())
        assert written == json.loads(json.dumps(written, allow_nan=False))
        assert written["claim"]["at_most"] == 0.6 and len(written["comparisons"]) == 6
        (lonely,) = claims_json(self.judgements(records(seeds=1)))
        assert lonely["findings"][0]["low"] is None
        missing = claims_frame(self.judgements(without(records(), "HARE")))
        assert missing["verdict"].tolist() == [NOT_RUN] and missing["estimate"].isna().all()
        assert isinstance(missing, pd.DataFrame)

    def test_tables(self):
        from rich.console import Console

        rows = claim_rows(self.judgements())
        assert [len(cells) for cells in rows] == [len(CLAIM_HEADS)] * 2
        assert rows[0][0] == "A claim." and rows[1][0] == "" and rows[0][-1] == SUPPORTED and rows[1][-1] == ""
        assert [cells[-2] for cells in rows] == [SUPPORTED] * 2
        console = Console(width=200, no_color=True, record=True, file=io.StringIO())
        console.print(claims_table(self.judgements(without(records(), "HARE"))))
        text = console.export_text()
        assert "not run: A claim." in text and "HARE was not run on curved" in text

    def test_a_suite_without_claims_has_no_judgements(self):
        assert judge_all(Study(), Results.from_records(records(), Labels())) == []


class TestMeasure:
    """Clicks a round and rounds of waiting per arrival, of a session of 2,000 rounds."""

    @staticmethod
    def measured(clicks):
        rows = records()
        for row in rows:
            name = next(
                label for label, key in KWARGS.items() if key == (row["spec"]["agent"], row["spec"]["agent_kwargs"])
            )
            sums = {
                "clicks": clicks[name] * LUCK[row["spec"]["seed"]],
                "waiting": 900.0,
                "arrivals": clicks[name] / 10,
            }
            for measure, total in sums.items():
                row["curves"][measure] = np.linspace(0.0, total, len(row["rounds"])).tolist()
                row["totals"][measure] = total
        return rows

    CLICKS = {"HARE": 700.0, "blind": 500.0, "Random": 350.0, "LinUCB": 500.0, "Thompson": 400.0, "Oracle": 900.0}

    @staticmethod
    def claim(**more):
        return TestRatio.claim(**{"kind": "measure", "against": "LinUCB", "measure": "clicks"} | more)

    @pytest.mark.parametrize(
        ("more", "verdict", "value"),
        [
            ({"at_least": 1.3}, SUPPORTED, 1.4),
            ({"at_least": 1.5}, NOT_SUPPORTED, 1.4),
            ({"measure": "waiting", "per": "arrivals", "at_most": 1.0, "strict": "true"}, SUPPORTED, 5 / 7),
            ({"measure": "waiting", "at_most": 1.0, "strict": "true"}, NOT_SUPPORTED, 1.0),
            ({"measure": "waiting", "at_most": 1.0}, SUPPORTED, 1.0),
        ],
    )
    def test_the_ratio_of_two_rates(self, more, verdict, value):
        found = judged(self.claim(**more), self.measured(self.CLICKS))
        (finding,) = found.findings
        assert (found.verdict, finding.seeds) == (verdict, 6)
        assert finding.found.value == pytest.approx(value)

    @pytest.mark.parametrize(("at_most", "verdict"), [(0.4, SUPPORTED), (0.35, UNDECIDED), (0.3, NOT_SUPPORTED)])
    def test_a_rate_by_itself(self, at_most, verdict):
        claim = "\n".join(line for line in self.claim(at_most=at_most).splitlines() if "against" not in line)
        found = judged(claim, self.measured(self.CLICKS))
        (finding,) = found.findings
        assert (found.verdict, finding.seeds, finding.measure) == (verdict, 6, "clicks a round")
        assert finding.found.value == pytest.approx(0.35, rel=5e-3)
        others = {each.agent: each.found.value for each in found.comparisons}
        assert others == pytest.approx(
            {"Random": 0.175, "LinUCB": 0.25, "Thompson": 0.2, "blind": 0.25, "Oracle": 0.45}, rel=5e-3
        )

    def test_everybody_else_stands_beside_it(self):
        found = judged(self.claim(at_least=1.2), self.measured(self.CLICKS))
        assert found.findings[0].measure == "clicks a round ÷ LinUCB's"
        others = {each.agent: each.found.value for each in found.comparisons}
        assert others == pytest.approx({"Random": 0.7, "Thompson": 0.8, "blind": 1.0, "Oracle": 1.8})

    def test_what_is_not_measured_was_not_run(self):
        found = judged(self.claim(measure="views", at_least=1.2), self.measured(self.CLICKS))
        reason = "curved does not measure 'views'; it measures clicks, waiting, arrivals"
        assert (found.verdict, found.reason) == (NOT_RUN, reason)
        found = judged(self.claim(at_least=1.2), records())
        assert found.reason == "curved does not measure 'clicks'; it measures nothing"

    def test_nothing_per_nothing_is_left_out(self):
        found = judged(
            self.claim(measure="waiting", per="arrivals", at_most=1), self.measured(self.CLICKS | {"HARE": 0.0})
        )
        assert found.verdict == UNDECIDED
        assert math.isnan(found.findings[0].found.value)

    @pytest.mark.parametrize("more", [{}, {"at_least": 1.0, "at_most": 2.0}])
    def test_it_has_one_target(self, more):
        with pytest.raises(HareError, match="The claim 'claim' needs either at_least or at_most"):
            judged(self.claim(**more), self.measured(self.CLICKS))

    def test_a_page_and_a_report_have_a_table_of_it(self, tmp_path):
        rows, suite = self.measured(self.CLICKS), suite_with(self.claim(at_least=1.2))
        page = results_section(suite, rows)
        assert "**What curved measures, a round**" in page
        assert "| agent | clicks | waiting | arrivals |" in page
        assert "| Random | 0.175 [0.170, 0.179] | 0.450 [0.450, 0.450] | 0.0175 [0.0175, 0.0175] |" in page
        index = write_report(rows, tmp_path, "Small", suite.labels, suite.study).read_text()
        assert "What curved measures, a round" in index
        assert "What" not in results_section(suite, records())
