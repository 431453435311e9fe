"""The paper's claims: each verdict from numbers made to give it."""

from __future__ import annotations

import pytest
from synthetic_results import swept_recipe_key, synthetic_rows

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.report.claims import Measure, check_claims
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import parse_rule, select_per_objective

MICRO = BENCHMARK_METRICS["micro"]


def trial(objective, *points, se=1.0):
    """A trial of one objective from (length, win rate) points, iteration 0 first."""
    return [
        ResultRow(objective, objective, {"beta": "0.1"}, k, "complete", {
            MICRO.length: length, f"{MICRO.length}_se": 0.5, MICRO.win_rate: win, f"{MICRO.win_rate}_se": se,
        })
        for k, (length, win) in enumerate(points)
    ]  # fmt: skip


def check(*trials):
    rows = [row for one in trials for row in one]
    return check_claims(rows, select_per_objective(rows, parse_rule("top_left"), MICRO), MICRO)


def verdicts(*trials):
    return {claim.text.split()[0]: claim.verdict for claim in check(*trials).claims}


BASE = (20.0, 50.0)
DPO = trial("dpo", BASE, (40.0, 80.0))


def test_all_claims_hold_where_the_numbers_are_those_of_the_paper():
    found = check(
        DPO,
        trial("dpo_nll", BASE, (38.0, 81.0)),
        trial("simpo", BASE, (60.0, 82.0)),
        trial("alpha_dpo", BASE, (34.0, 80.0)),
        trial("aipo", BASE, (32.0, 85.0)),
    )
    assert [claim.verdict for claim in found.claims] == ["holds"] * 5
    assert found.matched_length == 32.0


def test_all_claims_fail_where_the_numbers_are_the_opposite():
    found = check(
        DPO,
        trial("dpo_nll", BASE, (38.0, 95.0)),
        trial("simpo", BASE, (30.0, 82.0)),
        trial("alpha_dpo", BASE, (50.0, 80.0)),
        trial("aipo", BASE, (32.0, 60.0)),
    )
    assert [claim.verdict for claim in found.claims] == ["does not hold"] * 5


def test_differences_within_two_standard_errors_are_undecided():
    found = verdicts(
        trial("dpo", BASE, (40.0, 80.0), se=3.0),
        trial("dpo_nll", BASE, (40.5, 80.0), se=3.0),
        trial("simpo", BASE, (41.0, 80.0), se=3.0),
        trial("alpha_dpo", BASE, (39.5, 80.0), se=3.0),
        trial("aipo", BASE, (40.0, 81.0), se=3.0),
    )
    assert set(found.values()) == {"undecided"}
    assert len(found) == 4  # "AIPO reaches" and "AIPO wins" begin alike


def test_claims_need_their_objectives():
    assert check(DPO).claims == []
    assert list(verdicts(DPO, trial("dpo_nll", BASE, (38.0, 81.0)))) == ["The"]
    assert list(verdicts(trial("simpo", BASE, (60.0, 82.0)), trial("mine", BASE, (38.0, 81.0)))) == ["SimPO's"]
    assert check_claims([], {}, MICRO).claims == []
    rows = swept_recipe_key()
    assert check_claims(rows, select_per_objective(rows, parse_rule("top_left"), MICRO), MICRO).claims == []


def test_without_standard_errors_nothing_is_decided():
    def bare(rows):
        return [
            ResultRow(r.trial, r.objective, {}, r.iteration, r.state,
                      {k: v for k, v in r.metrics.items() if not k.endswith("_se")})
            for r in rows
        ]  # fmt: skip

    found = check(bare(DPO), bare(trial("simpo", BASE, (60.0, 82.0))), bare(trial("aipo", BASE, (32.0, 85.0))))
    assert {claim.verdict for claim in found.claims} == {"undecided"}


def test_the_win_rate_is_interpolated_at_the_longest_common_length():
    found = check(trial("dpo", BASE, (40.0, 80.0), (80.0, 90.0)), trial("aipo", BASE, (30.0, 80.0), (60.0, 95.0)))
    assert found.matched_length == 60.0
    dpo, aipo = (c.matched_win_rate for c in found.contenders)
    assert dpo.value == pytest.approx(85.0)
    assert dpo.se == pytest.approx(0.5**0.5)
    assert aipo.value == pytest.approx(95.0)


def test_a_trial_that_did_not_grow_leaves_no_common_length():
    found = check(DPO, trial("aipo", BASE, (18.0, 85.0)))
    assert found.matched_length is None
    assert found.claims[-1].verdict == "undecided"
    assert "no common length" in found.claims[-1].numbers


def test_all_are_compared_at_the_last_iteration_that_all_reached():
    found = check(trial("dpo", BASE, (40.0, 80.0), (80.0, 90.0)), trial("simpo", BASE, (45.0, 80.0)))
    assert [c.iteration for c in found.contenders] == [1, 1]
    assert "at iteration 1" in found.claims[0].numbers


def test_benchmarks_without_a_length_have_no_claims():
    rows = [ResultRow("a", "aipo", {}, 1, "complete", {"mt_bench/score": 7.0})]
    metrics = BENCHMARK_METRICS["mt_bench"]
    assert check_claims(rows, select_per_objective(rows, parse_rule("top_left"), metrics), metrics).claims == []


def test_a_difference_has_the_error_of_both():
    assert (Measure(5, 3.0) - Measure(1, 4.0)) == Measure(4, 5.0)
    assert (Measure(5, None) - Measure(1, 4.0)).se is None
    assert [Measure(value, 1.0).sign() for value in (2.1, 2.0, -2.1)] == [1, 0, -1]


def test_the_synthetic_table_6_gets_five_verdicts_with_numbers():
    rows = synthetic_rows()
    found = check_claims(rows, select_per_objective(rows, parse_rule("top_left"), MICRO), MICRO)
    assert len(found.claims) == 5
    assert all("±" in claim.numbers for claim in found.claims)
