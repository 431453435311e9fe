"""The paper's claims and the sweep's own findings: each verdict from numbers made to give it."""

from __future__ import annotations

import pytest
from synthetic_results import swept_recipe_key, synthetic_rows

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.report.contender_tables import contender_table, difference_table, matched_tables
from aipo_lab.report.ordering import check_claims
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_per_objective

MICRO = BENCHMARK_METRICS["micro"]


def trial(objective, *points, se=0.5, seeds=3):
    """A configuration of one objective from (length, win rate) points, iteration 0 first; its seeds agree."""
    return [
        ResultRow(f"{objective}-{seed}", objective, {"beta": "0.1", "seed": str(seed)}, k, "complete", {
            MICRO.length: length, f"{MICRO.length}_se": 0.5, MICRO.win_rate: win, f"{MICRO.win_rate}_se": se,
        })
        for seed in range(seeds)
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
    assert found.field.matched_length == 32.0


def test_all_claims_fail_where_the_numbers_are_the_opposite():
    found = check(
        DPO,
        trial("dpo_nll", BASE, (38.0, 95.0)),
        trial("simpo", BASE, (30.0, 82.0)),
        trial("alpha_dpo", BASE, (50.0, 80.0)),
        trial("aipo", BASE, (32.0, 60.0)),
    )
    assert [claim.verdict for claim in found.claims] == ["does not hold"] * 5


def test_differences_within_their_errors_are_undecided():
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
    assert check(DPO).claims == ()
    assert list(verdicts(DPO, trial("dpo_nll", BASE, (38.0, 81.0)))) == ["The"]
    assert list(verdicts(trial("simpo", BASE, (60.0, 82.0)), trial("mine", BASE, (38.0, 81.0)))) == ["SimPO's"]
    assert check_claims([], {}, MICRO).claims == ()
    rows = swept_recipe_key()
    assert check_claims(rows, select_per_objective(rows, parse_rule("top_left"), MICRO), MICRO).claims == ()


def test_without_standard_errors_nothing_is_decided():
    def bare(rows):
        return [
            ResultRow(r.trial, r.objective, r.hyperparameters, r.iteration, r.state,
                      {k: v for k, v in r.metrics.items() if not k.endswith("_se")})
            for r in rows
        ]  # fmt: skip

    found = check(bare(DPO), bare(trial("simpo", BASE, (60.0, 82.0))), bare(trial("aipo", BASE, (32.0, 85.0))))
    assert {claim.verdict for claim in found.claims} == {"undecided"}


def test_the_win_rate_is_interpolated_at_the_longest_common_length():
    field = check(trial("dpo", BASE, (40.0, 80.0), (80.0, 90.0)), trial("aipo", BASE, (30.0, 80.0), (60.0, 95.0))).field
    assert field.matched_lengths == {1: 30.0, 2: 60.0}
    dpo, aipo = (field.matched(one, MICRO.win_rate) for one in field.contenders)
    assert dpo.value == pytest.approx(85.0) and aipo.value == pytest.approx(95.0)
    rate, length = 0.5 * 0.5**0.5, 0.25 * 0.5 * 0.5**0.5  # a quarter of a point a token
    assert dpo.se == pytest.approx((rate**2 + length**2) ** 0.5)
    assert field.matched(field.contenders[0], MICRO.win_rate, 1).value == pytest.approx(65.0)
    ((_, table),) = matched_tables(field)
    assert table.columns == ["objective", "iteration 1: at 30.0", "iteration 2: at 60.0"]
    assert table.rows[0][0].text == "DPO" and table.rows[1][2].text.startswith("95.0 ± ")


def test_a_trial_that_did_not_grow_leaves_no_common_length():
    found = check(DPO, trial("aipo", BASE, (18.0, 85.0)))
    assert found.field.matched_length is None
    assert found.claims[-1].verdict == "undecided"
    assert "no common length" in found.claims[-1].numbers
    answers = {one.question: one.answer for one in found.findings}
    assert answers["Does length grow under every objective?"] == "No: it falls with AIPO."
    assert "no common length" in answers["Who wins at the same length, by the judge?"]


def test_all_are_compared_at_the_last_iteration_that_all_reached():
    found = check(trial("dpo", BASE, (40.0, 80.0), (80.0, 90.0)), trial("simpo", BASE, (45.0, 80.0)))
    assert found.field.iteration == 1
    assert "at iteration 1" in found.claims[0].numbers


def test_benchmarks_without_a_length_have_no_claims():
    rows = [ResultRow("a", "aipo", {}, 1, "complete", {"mt_bench/score": 7.0})]
    metrics = BENCHMARK_METRICS["mt_bench"]
    assert check_claims(rows, select_per_objective(rows, parse_rule("top_left"), metrics), metrics).claims == ()


def test_a_sweep_answers_for_itself():
    """Two by two: both terms shorten; SimPO grows most; at the same length AIPO wins over all."""
    found = check(
        DPO,
        trial("dpo_nll", BASE, (36.0, 80.0)),
        trial("simpo", BASE, (60.0, 80.0)),
        trial("alpha_dpo", BASE, (34.0, 80.0)),
        trial("aipo", BASE, (30.0, 80.0)),
    )
    answers = {one.question: one.answer for one in found.findings}
    assert answers["Does length grow under every objective?"] == "Yes."
    assert answers["Under which objective does length grow most?"] == "SimPO."
    assert answers["Does the NLL term shorten?"] == "Yes."
    assert answers["Does the agreement term (α) shorten?"] == "Yes."
    wins = answers["Who wins at the same length, by the judge?"]
    assert wins.startswith("AIPO beats α-DPO, DPO+NLL, DPO and SimPO")
    numbers = next(one.numbers for one in found.findings if "NLL" in one.question)
    assert "DPO+NLL against DPO -4.0 ± " in numbers and "AIPO against α-DPO -4.0 ± " in numbers


def test_answers_that_differ_are_given_one_by_one():
    found = check(DPO, trial("dpo_nll", BASE, (36.0, 80.0)), trial("alpha_dpo", BASE, (34.0, 80.0)),
                  trial("aipo", BASE, (44.0, 80.0)))  # fmt: skip
    answers = {one.question: one.answer for one in found.findings}
    assert answers["Does the NLL term shorten?"] == "DPO+NLL against DPO: shorter; AIPO against α-DPO: longer."


def test_one_seed_holds_nothing():
    one_seed = [row for rows in (DPO, trial("simpo", BASE, (60.0, 82.0))) for row in rows if row.trial.endswith("-0")]
    found = check(one_seed)
    assert [claim.verdict for claim in found.claims] == ["seen with one seed"]
    assert found.findings[0].answer == "With this one seed: yes."


def test_methods_are_compared_but_not_by_the_papers_claims():
    rows = [
        ResultRow(row.trial, row.objective, {**row.hyperparameters, "method": f"my_{row.objective}"}, row.iteration,
                  row.state, row.metrics)
        for row in [*DPO, *trial("simpo", BASE, (60.0, 82.0))]
    ]  # fmt: skip
    found = check(rows)
    assert found.claims == ()
    assert "my_simpo." in [one.answer for one in found.findings]


def test_settings_that_were_chosen_among_count():
    """The same difference is clear for one setting each, and not for the best of many."""
    few = check(trial("dpo", BASE, (40.0, 80.0)), trial("simpo", BASE, (42.4, 80.0)))
    assert few.claims[0].verdict == "holds"
    more = [
        ResultRow(f"{row.trial}-{k}", row.objective, {**row.hyperparameters, "beta": str(k)}, row.iteration, row.state,
                  {**row.metrics, MICRO.win_rate: 50.0})
        for k in range(2, 14)
        for row in trial("simpo", BASE, (42.4, 80.0)) + trial("dpo", BASE, (40.0, 80.0))
    ]  # fmt: skip
    many = check(trial("dpo", BASE, (40.0, 80.0)), trial("simpo", BASE, (42.4, 80.0)), more)
    assert [one.n_settings for one in many.field.contenders] == [13, 13]
    assert many.claims[0].verdict == "undecided"


def test_the_tables_show_configurations_with_intervals():
    field = check(DPO, trial("simpo", BASE, (60.0, 82.0))).field
    table = contender_table(field)
    assert [cell.text for cell in table.rows[0]][:4] == ["DPO", "β=0.1", "3", "1"]
    assert table.rows[0][4].text == "40.0 ± 1.0"
    (pair,) = difference_table(field).rows
    assert pair[0].text == "DPO – SimPO" and pair[1].text == "-20.0 ± 1.4" and pair[2].value == -2.0


def test_the_synthetic_table_6_gets_five_verdicts_with_numbers():
    rows = synthetic_rows()
    found = check_claims(rows, select_per_objective(rows, parse_rule("top_left"), MICRO), MICRO)
    assert len(found.claims) == 5
    assert all("±" in claim.numbers for claim in found.claims)
    assert not {claim.verdict for claim in found.claims} & {"holds", "does not hold"}
