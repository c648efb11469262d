import math
from pathlib import Path

import numpy as np
import pytest
from _board import environment, manifest, run, run_set

from hare_evaluation.statistics import paired_p_value, pairwise_p_values, rank_intervals, unpaired_difference
from hare_leaderboard.ranking import normalised, pareto_front, rank_all, rank_track
from hare_leaderboard.results import Folder, Stored


def stored(runs, name="0"):
    return Stored(runs, name * 64, Path("x.json"))


def track(*results):
    return rank_track("bilinear-select", [stored(runs, hex(i)[2:]) for i, runs in enumerate(results)])


def test_entries_are_ordered_by_mean_and_ranks_are_those_of_the_paired_tests():
    entries = [
        run_set(name, level=level, hidden=10) for name, level in (("c", 300), ("a", 100), ("b", 200), ("b2", 201))
    ]
    found = track(*entries)
    assert [row.runs.submission for row in found.ranked] == ["a", "b", "b2", "c"]
    ranks = [(row.rank.low, row.rank.high) for row in found.ranked]
    assert ranks == [(1, 1), (2, 3), (2, 3), (4, 4)]  # b and b2 cannot be told apart: a tie
    strata = normalised([row.runs for row in found.ranked], "hidden")
    assert [(r.low, r.high) for r in rank_intervals(strata)] == ranks
    expected = pairwise_p_values(strata)[:, 0]
    assert math.isnan(found.ranked[0].p)
    assert [row.p for row in found.ranked[1:]] == pytest.approx(expected[1:])
    first = found.ranked[0]
    regrets = [r.regret / r.worst for r in first.runs.runs if r.seeds == "hidden"]
    assert first.mean.value == pytest.approx(np.mean(regrets))
    assert first.iqm.value == pytest.approx(np.mean(sorted(regrets)[2:-2]))
    assert first.mean.low < first.mean.value < first.mean.high


def test_only_verified_and_complete_entries_are_ranked():
    good = run_set("good")
    found = track(
        good,
        run_set("other"),
        run_set("short").model_copy(update={"runs": run_set("short").runs[1:]}),
        run_set("infra").model_copy(update={"runs": [run(status="INFRA"), *run_set("infra").runs[1:]]}),
        run_set("public", tier="reproduced", manifest=manifest(isolation="process")),
        run_set("self", tier="self-reported", manifest=manifest(isolation="process")),
        run_set("old", track_sha256="8" * 64),
    )
    assert sorted(row.runs.submission for row in found.ranked) == ["good", "other"]
    assert {row.runs.submission: row.why for row in found.unranked} == {
        "short": "Incomplete: hidden seeds of HareBilinear-v0 4 of 5.",
        "infra": "Incomplete: hidden seeds of HareBilinear-v0 4 of 5.",
        "public": "Run by us on public seeds only.",
        "self": "Reported by its author; we have not run it.",
        "old": "Run under another definition of the track; to be run again.",
    }


def test_a_fault_stays_in_the_mean_and_is_counted():
    bad = run_set("bad").model_copy(
        update={"runs": [run(status="CRASH", reason="exit 1", rounds=10, regret=498.0), *run_set("bad").runs[1:]]}
    )
    found = track(bad, run_set("good"))
    row = found.ranked[1]
    assert (row.runs.submission, row.faults, row.sessions) == ("bad", 1, 5)
    assert row.mean.value > found.ranked[0].mean.value + 0.1


def test_the_newest_of_the_highest_tier_counts_and_not_the_best():
    best = run_set("a", level=10.0, created="2026-01-01T00:00:00Z")
    newest = run_set("a", level=200.0, created="2026-06-01T00:00:00Z")
    claimed = run_set("a", level=1.0, created="2027-01-01T00:00:00Z", tier="self-reported")
    (row,) = track(best, newest, claimed).rows
    assert row.runs == newest
    assert [s.runs.created[:4] for s in row.earlier] == ["2027", "2026"]


def test_a_single_entry_and_none_are_no_trouble():
    (row,) = track(run_set("a")).ranked
    assert (row.rank.low, row.rank.high) == (1, 1) and row.front
    assert track().rows == []
    assert rank_all(Folder()) == []
    (row,) = track(run_set("a", hidden=1, public=0)).ranked
    assert math.isnan(row.mean.low) and math.isnan(row.gap.value)


def test_each_environment_of_a_track_counts_the_same():
    environments = [environment("A", hidden=2, public=0), environment("B", hidden=4, public=0)]
    runs = [run("A", seed=i, regret=100.0) for i in range(2)] + [run("B", seed=i, regret=300.0) for i in range(4)]
    (row,) = track(run_set("a").model_copy(update={"environments": environments, "runs": runs})).ranked
    assert row.mean.value == pytest.approx(0.4)


def test_the_front_has_whom_nobody_beats_in_both():
    assert pareto_front([1, 2, 3, 2.5], [9, 5, 7, 1]) == [True, True, False, True]
    assert pareto_front([1, 1], [1, 1]) == [True, False]
    assert pareto_front([], []) == []


def test_the_gap_is_hidden_minus_public():
    entry = run_set("a", hidden=2, public=2)
    runs = [run(seed=i, regret=r) for i, r in enumerate((200.0, 210.0))]
    runs += [run(seed=i, seeds="public", regret=r) for i, r in enumerate((100.0, 110.0))]
    (row,) = track(entry.model_copy(update={"runs": runs})).ranked
    assert row.gap.value == pytest.approx(0.2) and row.gap.low < 0.2 < row.gap.high


def test_boards_are_by_benchmark_version_and_tracks_in_the_wanted_order():
    folder = Folder(
        [
            stored(run_set("a", track="b-track"), "1"),
            stored(run_set("a", track="a-track"), "2"),
            stored(run_set("a", benchmark="2025.1"), "3"),
        ]
    )
    boards = rank_all(folder, ["b-track"])
    assert [board.benchmark for board in boards] == ["2026.1", "2025.1"]
    assert [t.name for t in boards[0].tracks] == ["b-track", "a-track"]


def test_all_pairs_at_once_are_the_pairs_one_by_one():
    rng = np.random.default_rng(0)
    strata = [rng.normal(size=(9, 5)), rng.normal(size=(9, 7))]
    for x in strata:
        x[5] = x[4]
        x[7] = x[6] + 1  # differences without a scale
    strata[0][3, 2] = np.nan
    first, second = np.triu_indices(9, 1)
    raw = [paired_p_value([x[i] for x in strata], [x[j] for x in strata]) for i, j in zip(first, second, strict=True)]
    from hare_evaluation.statistics import holm

    assert pairwise_p_values(strata)[first, second] == pytest.approx(holm(raw), abs=1e-12)


def test_unpaired_difference_is_welchs():
    from scipy import stats

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20), rng.normal(size=5)
    found = unpaired_difference([a], [b])
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    two = unpaired_difference([a, a], [b, b])
    assert two.value == pytest.approx(found.value) and two.high - two.low < found.high - found.low
    assert math.isnan(unpaired_difference([a], [[]]).value)
