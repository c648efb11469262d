"""The paper's plan, what is tested of records, and the verdicts on hypotheses."""

import math
from pathlib import Path

import numpy as np
import pytest
from _records import make_record

from hare_evaluation import statistics
from hare_evaluation.judging import NotRunError, Study, View
from hare_evaluation.paper import endpoints, mixed, simulate
from hare_evaluation.paper.plan import Endpoint, Hypothesis, Pilot, load_plan
from hare_evaluation.paper.verdicts import examined, judge, judged, power, with_seeds
from hare_evaluation.results import Results
from hare_gym.errors import ConfigError, UnknownNameError

TINY = Path(__file__).parent / "data/paper/plan.yaml"


def endpoint(**changes):
    base = {"id": "e", "suite": "s", "environment": "w", "agent": "a", "other": "b", "measure": "reward_gap"}
    return Endpoint(**base | {"smallest": 0.1} | changes)


def hypothesis(id="h1", *parts):
    return Hypothesis(id=id, name=id.upper(), statement="It is so.", endpoints=list(parts) or [endpoint()])


def numbers(mean, n=12, sd=0.05, seed=0):
    x = np.random.default_rng(seed).standard_normal(n)
    x = mean + sd * (x - x.mean()) / x.std(ddof=1)
    return {("t", i): float(value) for i, value in enumerate(x)}


def verdict_of(mean, **changes):
    e = endpoint(**changes)
    return judged([hypothesis("h1", e)], {"h1": [examined(e, numbers(mean))]}, 0.05)[0].verdict


def test_the_three_verdicts_of_an_effect():
    assert verdict_of(0.2) == "supported"
    assert verdict_of(0.0) == "not supported"
    assert verdict_of(0.09) == "undecided"  # clearly above zero, and neither shown to matter nor not to


def test_the_verdicts_of_non_inferiority():
    margin = {"smallest": None, "margin": 0.1}
    assert verdict_of(0.0, **margin) == "supported"
    assert verdict_of(-0.2, **margin) == "not supported"
    assert verdict_of(-0.09, **margin) == "undecided"


def test_every_endpoint_must_hold_and_one_refutes():
    good, bad = endpoint(id="good"), endpoint(id="bad")
    h = hypothesis("h1", good, bad)
    (found,) = judged([h], {"h1": [examined(good, numbers(0.3)), examined(bad, numbers(0.0))]}, 0.05)
    assert found.verdict == "not supported"
    (found,) = judged([h], {"h1": [examined(good, numbers(0.3)), examined(bad, numbers(0.09))]}, 0.05)
    assert found.verdict == "undecided"


def test_holm_counts_every_hypothesis_also_those_not_run():
    e = endpoint(smallest=0.01)
    part = examined(e, numbers(0.03, sd=0.05, n=12))
    assert 0.01 < part.p_support < 0.05
    alone = judged([hypothesis("h1", e)], {"h1": [part]}, 0.05)[0]
    assert alone.verdict == "supported"
    family = [hypothesis(f"h{i}", e) for i in range(1, 8)]
    found = judged(family, {"h1": [part]}, 0.05)
    assert found[0].p_support == pytest.approx(7 * part.p_support) and found[0].verdict == "undecided"
    assert {each.verdict for each in found[1:]} == {"not run"}


def test_a_failed_run_withholds_support():
    part = examined(endpoint(), numbers(0.3), "1 run of a on w failed")
    (found,) = judged([hypothesis()], {"h1": [part]}, 0.05)
    assert found.verdict == "undecided" and "1 run of a on w failed" in found.reason


def test_where_normality_fails_signs_are_flipped():
    x = np.concatenate([np.full(11, 0.1) + 1e-3 * np.arange(11), [5.0]])
    found = statistics.above_test(x)
    assert found.test == "sign flips" and found.p == pytest.approx(1 / 2**12)
    assert statistics.above_test(np.random.default_rng(0).standard_normal(12)).test == "t"
    assert statistics.above_test([0.5, 0.5, 0.5]).p == pytest.approx(1 / 8)
    assert statistics.above_test([0.5]).p == 1.0


def test_one_sided_flips_are_half_of_the_two_sided_ones():
    x = [0.2, 0.3, 0.1, 0.4, 0.25]
    assert statistics.sign_flip_test([x], upwards=True) == pytest.approx(1 / 32)
    assert statistics.sign_flip_test([np.negative(x)], upwards=True) == 1.0
    assert statistics.sign_flip_test([x]) == pytest.approx(2 / 32)


def test_power_agrees_with_simulated_studies():
    e = endpoint(pilot=Pilot(sd=0.1, seeds=4))
    found = power(e, 12, 0.05 / 7, 0.8)
    assert 0.4 < found.at_smallest < 0.55 and found.at_twice > 0.9
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        x = found.detectable + 0.1 * rng.standard_normal(12)
        p = statistics.stats.ttest_1samp(x, 0.0, alternative="greater").pvalue
        hits += p < 0.05 / 7 and x.mean() >= 0.1
    assert hits / 1000 == pytest.approx(0.8, abs=0.05)
    assert power(endpoint(), 12, 0.05, 0.8) is None


def traced(agent, seed, reward, T=80, users=4, items=8):
    """A record whose trace has a round for each visit: ``reward(visit)``, and items that go round."""
    record = make_record("HareLinear-v0", agent, seed, env_kwargs={"horizon": T})
    visits = np.arange(T) // users + 1
    values = np.array([reward(v) for v in visits], dtype=float)
    record["trace"] = {
        "round": [*range(1, T + 1)],
        "user": [t % users for t in range(T)],
        "visit": visits.tolist(),
        "first": [t % users + 1 for t in range(T)],
        "item": [int(v) % items for v in visits],
        "expected_reward": values.tolist(),
        "width": (1.0 / visits).tolist(),
    }
    points = [*range(4, T + 1, 4)]
    record["rounds"] = points
    record["curves"] = {**record["curves"], "expected_reward": np.cumsum(values)[3::4].tolist()}
    record["curves"]["catalogue_oracle_reward"] = [0.5 * t for t in points]
    return record


def view(own, other, seeds=4):
    records = [traced(name, s, f) for name, f in (("linucb", own), ("random", other)) for s in range(seeds)]
    results = Results.from_records(records)
    return View(Study(), results), results.environments[0]


def test_endpoints_are_what_they_say():
    made, environment = view(lambda v: 0.5 + 0.01 * v, lambda v: 0.5)

    def of(**changes):
        e = endpoint(**{"environment": environment, "agent": "linucb", "other": "random"} | changes)
        return np.array([*endpoints.values(e, made).values()])

    assert of(measure="reward_gap") == pytest.approx(0.01 * 10.5)
    assert of(measure="gap_growth") == pytest.approx(0.15)  # visits 16 to 20 beside 1 to 5
    assert of(measure="gap_growth", direction="less") == pytest.approx(-0.15)
    assert of(measure="catalogue_margin", last=0.5) == pytest.approx(0.155)
    slope = of(measure="diagnostic_slope", diagnostic="expected_reward")
    x = np.log(np.arange(1, 21))
    assert slope == pytest.approx(np.polyfit(x, 0.5 + 0.01 * np.arange(1, 21), 1)[0])
    falling = of(measure="rank_correlation", diagnostic="expected_reward", against="width")
    assert falling == pytest.approx(-1.0)
    assert of(measure="log_variety") == pytest.approx(0.0)
    regret = of(measure="log_regret_ratio")
    totals = [made.results.finished(environment, a)["quick", 0]["totals"]["regret"] for a in ("random", "linucb")]
    assert regret[0] == pytest.approx(math.log(totals[0] / totals[1]))
    with pytest.raises(NotRunError, match="no trace of gate"):
        of(measure="diagnostic_slope", diagnostic="gate")


def test_variety_is_the_effective_number_of_items():
    record = traced("linucb", 0, lambda v: 0.5, T=64, users=4, items=8)
    assert endpoints.variety(record) == pytest.approx(8.0)
    record["trace"]["item"] = [3] * 64
    assert endpoints.variety(record) == pytest.approx(1.0)


def test_visits_are_put_into_ranges_that_double():
    assert mixed.visit_edges(30) == [1, 2, 3, 5, 9, 17, 31]
    made, environment = view(lambda v: 0.5 + 0.02 * math.log(v), lambda v: 0.5)
    own, other = (made.results.finished(environment, agent) for agent in ("linucb", "random"))
    frame = mixed.differences(own, other)
    assert len(frame) == 4 * 4 * 6
    assert frame["d"].corr(frame["x"]) > 0.99


def test_the_mixed_model_finds_the_interaction_and_the_spreads():
    found = mixed.fit(simulate.mixed_frame(0.03, 30, np.random.default_rng(0)))
    assert 0.03 in found.interaction and found.interaction.low > 0.015 and 0.05 in found.method
    assert found.user_sd == pytest.approx(0.06, abs=0.01)
    assert found.residual_sd == pytest.approx(0.1, abs=0.01)
    assert not found.note
    few = mixed.fit(simulate.mixed_frame(0.03, 2, np.random.default_rng(0)))
    assert math.isnan(few.interaction.low) and "2 seeds" in few.note


def test_simulated_studies_are_judged_rightly():
    # docs/statistics.md has 200 of them; the slow test of the page repeats it
    plan = load_plan()
    for outcome in simulate.outcomes(plan, "full", 5):
        assert outcome.false.value <= 0.4
        if outcome.spread == "smallest":
            right = [share.value for share in (outcome.planted, outcome.null) if not math.isnan(share.value)]
            assert min(right) >= 0.9, outcome


def test_fewer_seeds_can_be_asked_what_they_would_have_said():
    e = endpoint()
    verdicts = judged([hypothesis("h1", e)], {"h1": [examined(e, numbers(0.2, n=12, sd=0.2))]}, 0.05)
    early = with_seeds(verdicts, 2, 0.05)[0]
    assert len(early.tested[0].values) == 2 and early.verdict == "undecided"
    assert with_seeds(verdicts, 12, 0.05)[0].verdict == verdicts[0].verdict


def test_what_was_not_run_is_named():
    found = judge(load_plan(TINY), {})
    assert {each.verdict for each in found} == {"not run"}
    assert found[0].reason == "the suite paper-worlds was not run"


def test_the_shipped_plan_is_whole():
    plan = load_plan()
    assert [h.name for h in plan.hypotheses] == [f"H{i}" for i in range(1, 8)]
    assert all(e.pilot for h in plan.hypotheses for e in h.endpoints)
    assert [*plan.scales] == ["small", "full"]
    for scale in plan.scales:
        for name, suite in plan.suites(scale).items():
            assert suite.seeds.set == "paper" and suite.seeds.count == plan.scales[scale].parts[name].seeds
    horizon = plan.suites("small")["paper-worlds"].environments[0].kwargs["horizon"]
    assert horizon == 0.4 * plan.whole["paper-worlds"].environments[0].kwargs["horizon"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "agent: LinUCB,",
            "agent: LinUBC,",
            "Unknown agent of the endpoint h1/regret 'LinUBC'. Did you mean 'LinUCB'?",
        ),
        (
            "environment: nonlinear,",
            "environment: linear,",
            "Unknown environment of the endpoint h1/regret 'linear'.",
        ),
        ("measure: log_variety", "measure: variety", "hypotheses.2.endpoints.0.measure in the plan"),
        ("seed_set: paper-test", "seed_set: final", "is on the seed set 'paper-test'"),
        (", margin: 0.01", "", "give either smallest (an effect) or margin (non-inferiority)"),
        ("experiments: []", "experiments: [tenrounds]", "Unknown experiment of a scale 'tenrounds'."),
    ],
)
def test_a_mistake_in_a_plan_is_named(tmp_path, old, new, message):
    (tmp_path / "paper-worlds.yaml").write_text((TINY.parent / "paper-worlds.yaml").read_text())
    text = TINY.read_text()
    assert old in text
    (tmp_path / "plan.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises((ConfigError, UnknownNameError)) as raised:
        load_plan(tmp_path / "plan.yaml")
    assert message in str(raised.value)


def test_an_unknown_scale_is_named():
    with pytest.raises(UnknownNameError, match="Did you mean 'small'"):
        load_plan().scale("smal")
