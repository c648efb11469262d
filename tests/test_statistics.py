import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from hare_evaluation import statistics as S

finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)
samples = arrays(np.float64, st.integers(2, 12), elements=finite)


# --- known answers -------------------------------------------------------------------------------------------------


def test_iqm_drops_a_quarter_at_each_end():
    assert S.iqm(np.array([100.0, 1.0, 2.0, 3.0, -50.0])) == 2.0
    assert S.iqm(np.arange(8.0)) == pytest.approx(3.5)
    assert S.iqm(np.array([[1.0, 2.0, 9.0], [0.0, 0.0, 3.0]])).tolist() == [4.0, 1.0]  # n < 4: the mean


def test_mean_interval_of_five_by_hand():
    found = S.mean_interval([[1.0, 2.0, 3.0, 4.0, 5.0]])
    half = 2.776445105 * math.sqrt(2.5 / 5)
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))


def test_mean_interval_of_two_strata_is_welch():
    a, b = np.array([1.0, 4.0, 2.0, 7.0]), np.array([10.0, 11.0, 9.0, 10.5, 30.0, 8.0])
    ours = S.mean_interval([a, -b])
    welch = scipy_stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (2 * ours.low, 2 * ours.high) == pytest.approx((welch.low, welch.high))


def test_intervals_without_enough_seeds_are_nan_and_not_wrong():
    for found in (S.mean_interval([[3.0]]), S.bootstrap_interval([[3.0]]), S.mean_interval([[3.0, np.nan]])):
        assert found.value == 3.0
        assert math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(S.mean_interval([[]]).value)
    assert math.isnan(S.mean_interval([[1.0, 2.0], [3.0]]).low)


def test_equal_seeds_have_an_interval_of_no_width():
    for found in (S.mean_interval([[2.0] * 5]), S.bootstrap_interval([[2.0] * 5])):
        assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_bootstrap_of_the_mean_is_students_interval():
    rng = np.random.default_rng(5)
    strata = [rng.normal(size=5), rng.normal(3, 4, size=8)]
    exact, drawn = S.mean_interval(strata), S.bootstrap_interval(strata, S.mean, resamples=40_000)
    assert drawn.value == pytest.approx(exact.value)
    assert drawn.high - drawn.low == pytest.approx(exact.high - exact.low, rel=0.02)


def test_bootstrap_is_a_function_of_its_arguments():
    values = [np.random.default_rng(0).normal(size=7)]
    assert S.bootstrap_interval(values) == S.bootstrap_interval(values)
    assert S.bootstrap_interval(values, seed=1) != S.bootstrap_interval(values)


def test_mean_band_is_the_interval_at_each_point():
    curves = np.random.default_rng(1).normal(size=(6, 4)).cumsum(axis=1)
    centre, low, high = S.mean_band(curves)
    for c in range(4):
        found = S.mean_interval([curves[:, c]])
        assert (centre[c], low[c], high[c]) == pytest.approx((found.value, found.low, found.high))
    assert np.isnan(S.mean_band(curves[:1])[1]).all()


def test_holm_against_a_table_worked_by_hand():
    # sorted .001 .01 .02 .04 .05 times 5 4 3 2 1 = .005 .04 .06 .08 .05, the last lifted to .08
    p = [0.04, 0.001, 0.05, 0.02, 0.01]
    assert S.holm(p) == pytest.approx([0.08, 0.005, 0.08, 0.06, 0.04])
    assert S.holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert S.holm([]).size == 0


def test_sign_flip_by_hand():
    assert S.sign_flip_test([[1.0, 2.0, 3.0]]) == 2 / 8
    assert S.sign_flip_test([[1.0, 2.0, -3.0]]) == 1.0
    # sums of ±1 ±2 ±4 reach |5| for: ±(1+4+... ) +1-2+4=3, -1+2+4=5, 1+2+4=7, and mirrored
    assert S.sign_flip_test([[-1.0, 2.0, 4.0]]) == 4 / 8
    assert S.sign_flip_test([[1.0] * 5]) == 0.0625


def test_sign_flip_agrees_with_scipys_permutation_test():
    d = np.random.default_rng(3).normal(0.5, 1, size=9)
    theirs = scipy_stats.permutation_test(
        (d,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert S.sign_flip_test([d]) == pytest.approx(theirs.pvalue)


def test_drawn_sign_flips_are_near_the_exact_ones(monkeypatch):
    d = [np.random.default_rng(4).normal(0.4, 1, size=14)]
    exact = S.sign_flip_test(d)
    monkeypatch.setattr(S, "EXACT_FLIPS", 13)
    drawn = S.sign_flip_test(d)
    assert 0.01 < exact < 0.9
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 2**13))
    assert drawn != exact


def test_paired_difference_against_scipy():
    rng = np.random.default_rng(7)
    a, b = rng.normal(1, 1, 8), rng.normal(0, 1, 8)
    found = S.paired_difference([a], [b])
    assert found.difference.value == pytest.approx((a - b).mean())
    assert found.p_t == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    assert found.p_wilcoxon == pytest.approx(scipy_stats.wilcoxon(a - b).pvalue)
    assert found.seeds == 8
    assert S.paired_p_value([a], [b]) == found.p_t


def test_pairs_with_a_missing_seed_are_dropped():
    a, b = [1.0, 2.0, np.nan, 4.0, 6.0], [0.0, 0.5, 1.0, np.nan, 1.0]
    found = S.paired_difference([a], [b])
    assert found.seeds == 3
    assert found.difference.value == pytest.approx((1.0 + 1.5 + 5.0) / 3)
    assert S.paired_difference([[1.0, np.nan]], [[0.0, 1.0]]).p_t == 1.0


def test_a_constant_difference_is_not_certainty():
    a = np.arange(5.0)
    assert S.paired_difference([a + 0.1], [a]).p_t == 0.0625
    assert S.paired_p_value([a + 0.1], [a]) == 0.0625
    assert S.paired_difference([a], [a]).p_t == 1.0


def test_ranks_of_clear_ties_and_missing():
    noise = np.random.default_rng(2).normal(0, 0.01, size=(4, 10))
    scores = noise + np.array([[3.0], [1.0], [1.0], [9.0]])
    scores[2] = scores[1]
    found = S.rank_intervals([scores])
    assert [(r.low, r.high) for r in found] == [(3, 3), (1, 2), (1, 2), (4, 4)]
    assert [r.rank for r in found] == [3.0, 1.5, 1.5, 4.0]
    scores[0, 1:] = np.nan  # one seed shows nothing
    assert (S.rank_intervals([scores])[0].low, S.rank_intervals([scores])[0].high) == (1, 4)


def test_slope_of_a_power_is_its_exponent():
    t = np.unique(np.geomspace(1, 10_000, 60).astype(int))
    assert S.log_log_slope(t, 7 * t**0.5) == pytest.approx(0.5)
    assert S.log_log_slope(t, 0.3 * t) == pytest.approx(1.0)
    early = np.where(t < 1000, 1e6, t**0.5)  # what is before a tenth of the session does not matter
    assert S.log_log_slope(t, early) == pytest.approx(0.5)
    assert math.isnan(S.log_log_slope(t, 0 * t))
    assert math.isnan(S.log_log_slope([1, 2], [1.0, 2.0]))
    assert math.isnan(S.slope_interval(t, [t**0.5, 0.0 * t]).value)


def test_probability_of_improvement_by_hand():
    found = S.probability_of_improvement([[1.0, 2.0, 3.0, 4.0, 5.0]], [[2.0, 3.0, 4.0, 5.0, 6.0]])
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 5))
    tied = S.probability_of_improvement([[1.0, 1.0]], [[1.0, 1.0]])
    assert (tied.value, tied.low, tied.high) == (0.5, 0.0, 1.0)


# --- simulation: every claim of coverage is measured ----------------------------------------------------------------

STUDIES = 800
DRAWS = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "log-normal": (lambda rng, size: np.exp(0.75 * rng.normal(size=size)), math.exp(0.75**2 / 2)),
    "student": (lambda rng, size: rng.standard_t(3, size=size), 0.0),
}


def percentile_interval(strata, level=0.95):
    """The interval in common use, as the positive control: it must be caught."""
    (values,) = strata
    index = np.random.default_rng(0).integers(values.size, size=(1000, values.size))
    low, high = np.quantile(values[index].mean(axis=-1), [(1 - level) / 2, (1 + level) / 2])
    return S.Interval(float(values.mean()), float(low), float(high))


def coverage(interval, draw, truth, n, studies=STUDIES, strata=1):
    rng = np.random.default_rng(11)
    return np.mean([truth in interval([draw(rng, n) for _ in range(strata)]) for _ in range(studies)])


def near(share, claimed, studies=STUDIES):
    """Within three standard errors of the simulation, and the point to which claims are rounded."""
    return abs(share - claimed) <= 3 * math.sqrt(claimed * (1 - claimed) / studies) + 0.01


CLAIMED_MEAN = {
    "normal": (0.95, 0.95, 0.95),
    "exponential": (0.89, 0.90, 0.92),
    "log-normal": (0.88, 0.89, 0.91),
    "student": (0.97, 0.96, 0.96),
}
CLAIMED_IQM = {
    "normal": (0.97, 0.96, 0.96),
    "exponential": (0.95, 0.95, 0.95),
    "log-normal": (0.96, 0.97, 0.95),
    "student": (0.98, 0.98, 0.96),
}


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("data", DRAWS)
def test_coverage_of_the_mean_is_as_documented(data, n):
    draw, truth = DRAWS[data]
    share = coverage(S.mean_interval, draw, truth, n)
    assert near(share, CLAIMED_MEAN[data][(5, 10, 20).index(n)]), share


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("data", DRAWS)
def test_coverage_of_the_iqm_is_as_documented(data, n):
    draw, _ = DRAWS[data]
    truth = float(S.iqm(draw(np.random.default_rng(0), 1_000_000)))
    share = coverage(lambda x: S.bootstrap_interval(x, resamples=600), draw, truth, n, studies=500)
    assert near(share, CLAIMED_IQM[data][(5, 10, 20).index(n)], 500), share


def test_coverage_over_three_environments():
    draw, truth = DRAWS["normal"]
    assert near(coverage(S.mean_interval, draw, truth, 5, strata=3), 0.95)
    share = coverage(lambda x: S.bootstrap_interval(x, resamples=600), draw, truth, 5, studies=500, strata=3)
    assert share >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 500)


def test_the_coverage_check_catches_an_interval_that_is_too_short():
    draw, truth = DRAWS["normal"]
    share = coverage(percentile_interval, draw, truth, 5)
    assert share < 0.88
    assert not near(share, 0.95)


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(21)
    differences = rng.exponential(size=(1500, 8)) - rng.exponential(size=(1500, 8))
    flips = np.array([S.sign_flip_test([d]) for d in differences])
    # on the grid k/128 of two-sided p-values, P(p ≤ x) = x exactly
    for x in (0.0625, 0.25, 0.5, 0.75):
        assert abs(np.mean(flips <= x) - x) < 3.5 * math.sqrt(x * (1 - x) / 1500), x
    normal = rng.normal(size=(1500, 5))
    t = [S.paired_p_value([d], [np.zeros(5)]) for d in normal]
    assert scipy_stats.kstest(t, "uniform").pvalue > 0.001
    shifted = [S.paired_p_value([d + 0.5], [np.zeros(5)]) for d in normal]
    assert scipy_stats.kstest(shifted, "uniform").pvalue < 1e-6


def test_correcting_for_all_pairs_is_needed_when_the_best_is_chosen_by_looking():
    rng = np.random.default_rng(31)
    studies, k, n = 500, 6, 5
    ours = naive = 0
    for _ in range(studies):
        scores = rng.normal(size=(k, n))
        best = int(scores.mean(axis=1).argmin())
        ours += S.pairwise_p_values([scores]).min() < 0.05
        raw = [S.paired_p_value([scores[i]], [scores[best]]) for i in range(k) if i != best]
        naive += S.holm(raw).min() < 0.05
    slack = 3 * math.sqrt(0.05 * 0.95 / studies)
    assert ours / studies <= 0.05 + slack
    assert naive / studies > 0.05 + slack


def test_rank_intervals_hold_all_at_once():
    rng = np.random.default_rng(41)
    means = np.array([0.0, 0.0, 0.5, 1.0, 2.0, 4.0])
    least = np.array([1 + np.sum(means < m) for m in means])
    most = np.array([np.sum(means <= m) for m in means])
    studies, ours, bootstrapped = 250, 0, 0
    for _ in range(studies):
        scores = rng.normal(size=(6, 5)) + means[:, None] + 2 * rng.normal(size=5)
        found = S.rank_intervals([scores])
        ours += all(r.low <= a and b <= r.high for r, a, b in zip(found, least, most, strict=True))
        index = rng.integers(5, size=(300, 5))
        ranks = scipy_stats.rankdata(scores[:, index].mean(axis=-1), axis=0)
        low, high = np.quantile(ranks, [0.025, 0.975], axis=1)
        bootstrapped += bool(np.all((low <= least) & (most <= high)))
    assert ours / studies >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / studies)
    assert bootstrapped / studies < 0.9  # so the check can fail


def test_slope_intervals_recover_the_exponent():
    rng = np.random.default_rng(51)
    t = np.unique(np.geomspace(1, 10_000, 60).astype(int))
    hits, studies = 0, 400
    for _ in range(studies):
        exponents = 0.5 + 0.05 * rng.normal(size=5)
        noise = rng.lognormal(0, 0.03, size=(5, t.size))
        hits += 0.5 in S.slope_interval(t, rng.lognormal(size=(5, 1)) * t ** exponents[:, None] * noise)
    assert near(hits / studies, 0.95, studies)


def test_probability_of_improvement_covers():
    rng = np.random.default_rng(61)
    for chance in (0.1, 0.5, 0.8):
        hits = [
            chance in S.probability_of_improvement([-(rng.random(10) < chance).astype(float)], [np.full(10, -0.5)])
            for _ in range(400)
        ]
        assert np.mean(hits) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)


# --- invariances ----------------------------------------------------------------------------------------------------


@given(samples, st.floats(0.1, 100), st.floats(-1000, 1000))
def test_intervals_follow_scale_and_shift(x, scale, shift):
    for interval in (S.mean_interval, lambda s: S.bootstrap_interval(s, resamples=50)):
        a, b = interval([x]), interval([scale * x + shift])
        slack = 1e-6 * (1 + abs(shift) + scale * np.abs(x).max())
        assert b.value == pytest.approx(scale * a.value + shift, abs=slack)
        assert b.low == pytest.approx(scale * a.low + shift, abs=10 * slack)
        assert a.low <= a.value <= a.high


@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter(x, random):
    order = list(range(x.size))
    random.shuffle(order)
    a, b = S.mean_interval([x]), S.mean_interval([x[order]])
    assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=1e-9, abs=1e-6)
    assert S.iqm(x[order]) == pytest.approx(S.iqm(x), rel=1e-9, abs=1e-6)


@given(arrays(np.float64, st.integers(0, 12), elements=st.floats(0, 1)))
def test_holm_is_monotone_and_never_below_the_raw_values(p):
    adjusted = S.holm(p)
    assert np.all(adjusted >= p) and np.all(adjusted <= 1)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)
    assert np.all(adjusted <= np.minimum(1, p * max(1, p.size)) + 1e-15)


@settings(max_examples=50)
@given(arrays(np.float64, st.integers(2, 9), elements=st.integers(-20, 20).map(float)))
def test_sign_flip_is_symmetric_and_bounded(d):
    p = S.sign_flip_test([d])
    assert p == S.sign_flip_test([-d]) == S.sign_flip_test([3 * d])
    assert 2 / 2**d.size <= p <= 1


@settings(max_examples=50)
@given(arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(2, 6)), elements=finite))
def test_rank_intervals_are_intervals_of_ranks(scores):
    found = S.rank_intervals([scores])
    k = len(scores)
    assert sum(r.rank for r in found) == pytest.approx(k * (k + 1) / 2)
    assert all(1 <= r.low <= r.high <= k for r in found)
