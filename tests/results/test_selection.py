"""Selection rules against hand-made points, and the Pareto front against brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.errors import UserError
from aipo_lab.results.front import pareto_front
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule, parse_rule
from aipo_lab.results.selection import select_best, select_per_objective, standard_errors_between

MICRO = BENCHMARK_METRICS["micro"]
WIN, LENGTH = MICRO.win_rate, MICRO.length


def point(trial, iteration, length, win, *, objective="dpo", state="complete", se=2.0, **extra):
    metrics = {LENGTH: length, WIN: win, **extra}
    if se is not None:
        metrics[f"{WIN}_se"] = se
    return ResultRow(trial, objective, {}, iteration, state, metrics if state == "complete" else {})


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("corner", SelectionRule("corner")),
        ("corner@2x", SelectionRule("corner")),
        ("corner @ 3.5x", SelectionRule("corner", length_multiple=3.5)),
        ("knee", SelectionRule("knee")),
        ("top_left", SelectionRule("top_left")),
        ("max:win_rate", SelectionRule("max", "win_rate")),
        ("max:arena_hard/win_rate", SelectionRule("max", "arena_hard/win_rate")),
        ("max:micro/win_rate@length<=60", SelectionRule("max", "micro/win_rate", 60.0)),
        (" max: micro/lc_win_rate @ length <= 1.5e3 ", SelectionRule("max", "micro/lc_win_rate", 1500.0)),
    ],
)
def test_rules_are_parsed_and_written_back(text, rule):
    assert parse_rule(text) == rule
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    ["", "best", "max", "max:", "max:a@length<60", "max:a@length<=x", "max:a@length<=-3", "max:a@length<=nan",
     "max:a@length<=0", "min:a", "corner@1x", "corner@nanx", "corner@1000x", "corner@3",
     "knee@2x", "max:nowhere/win_rate", "max:micro/", "max:a@length<=1@length<=2"],
)  # fmt: skip
def test_a_rule_that_is_none_is_named_with_the_valid_forms(text):
    with pytest.raises(UserError) as error:
        parse_rule(text)
    assert repr(text) in str(error.value)
    assert any(form in str(error.value) for form in ("max:", "<benchmark>/<metric>", "corner@3x"))


def test_top_left_takes_the_point_nearest_the_corner_after_scaling():
    # Ranges: length 20..100, win rate 50..90. Distances: a (.5, 0) = .5; b (.25, .25) = .354; c (1, 0) = 1.
    rows = [
        point("base", 0, 20, 50),
        point("a", 1, 60, 90),
        point("b", 1, 40, 80),
        point("c", 1, 100, 90),
    ]
    selection = select_best(rows, parse_rule("top_left"), MICRO)
    assert selection.best.trial == "b"
    assert selection.runner_up.trial == "a"
    assert selection.gap_se == pytest.approx((80 - 90) / math.hypot(2, 2))
    assert selection.metric == WIN


def test_the_sweeps_range_scales_both_axes_within_one_objective():
    # By aipo's own range (22..40, 50..58) `middle` is nearest; by the sweep's (20..40, 0..100) `short` is.
    rows = [
        point("x", 1, 20, 0),
        point("y", 1, 40, 100),
        point("short", 1, 22, 50, objective="aipo"),
        point("middle", 1, 32, 57, objective="aipo"),
        point("long", 1, 40, 58, objective="aipo"),
    ]
    assert select_best(rows[2:], parse_rule("top_left"), MICRO, "aipo").best.trial == "middle"
    assert select_best(rows, parse_rule("top_left"), MICRO, "aipo").best.trial == "short"


def test_the_base_model_is_part_of_the_range_that_top_left_scales_by():
    # With the base model both ranges are 0..100: a (.3, .3) = .424 is nearer than b (.4, .2) = .447. Without it they
    # are 30..100 and 70..100: b (.143, .667) = .682 is nearer than a (0, 1) = 1.
    rows = [
        point("base", 0, 0, 0),
        point("a", 1, 30, 70),
        point("b", 1, 40, 80),
        point("c", 1, 100, 100),
    ]
    assert select_best(rows, parse_rule("top_left"), MICRO).best.trial == "a"
    assert select_best(rows[1:], parse_rule("top_left"), MICRO).best.trial == "b"


def test_iteration_0_and_rows_that_are_not_complete_are_never_best():
    rows = [
        point("a", 0, 10, 99),
        point("a", 1, 50, 60),
        point("b", 1, 10, 99, state="failed"),
        point("c", 1, 10, 99, state="pending"),
    ]
    for rule in ("top_left", "max:judged_win_rate"):
        selection = select_best(rows, parse_rule(rule), MICRO)
        assert (selection.best.trial, selection.best.iteration) == ("a", 1)
        assert selection.runner_up is None
        assert selection.gap_se is None


def test_the_runner_up_is_another_trial():
    rows = [point("a", 1, 30, 80), point("a", 2, 31, 79), point("b", 1, 60, 70)]
    selection = select_best(rows, parse_rule("max:judged_win_rate"), MICRO)
    assert selection.runner_up.trial == "b"
    assert selection.gap_se == pytest.approx(10 / math.hypot(2, 2))


def test_max_under_a_length_limit():
    rows = [point("a", 1, 30, 70), point("a", 2, 61, 95), point("b", 1, 60, 80)]
    assert select_best(rows, parse_rule("max:judged_win_rate@length<=60"), MICRO).best.trial == "b"
    assert select_best(rows, parse_rule("max:judged_win_rate@length<=10"), MICRO) is None


def test_max_compares_the_metric_it_names():
    rows = [
        point("a", 1, 30, 90, **{"micro/win_rate": 55.0, "micro/win_rate_se": 3.0}),
        point("b", 1, 30, 60, **{"micro/win_rate": 70.0, "micro/win_rate_se": 4.0}),
    ]
    selection = select_best(rows, parse_rule("max:win_rate"), MICRO)
    assert (selection.best.trial, selection.metric) == ("b", "micro/win_rate")
    assert selection.gap_se == pytest.approx(15 / 5)


def test_a_rule_on_one_benchmark_limits_that_benchmarks_length_when_another_is_looked_at():
    def row(trial, win, chars):
        metrics = {"alpaca_eval/win_rate": win, "alpaca_eval/length_chars": chars, LENGTH: 1.0, WIN: 50.0}
        return ResultRow(trial, "dpo", {}, 1, "complete", metrics)

    rule = parse_rule("max:alpaca_eval/win_rate@length<=2000")
    selection = select_best([row("a", 40.0, 2500.0), row("b", 30.0, 1900.0)], rule, MICRO)
    assert selection.best.trial == "b"


def test_missing_standard_errors_give_no_gap():
    rows = [point("a", 1, 30, 80, se=None), point("b", 1, 60, 70)]
    assert select_best(rows, parse_rule("top_left"), MICRO).gap_se is None
    rows = [point("a", 1, 30, 100, se=0.0), point("b", 1, 60, 100, se=0.0)]
    assert standard_errors_between(rows[0], rows[1], WIN) is None


@pytest.mark.parametrize("rule", ["top_left", "max:judged_win_rate"])
def test_equal_points_divide_by_nothing_and_prefer_the_earlier(rule):
    rows = [point("a", 2, 30, 80), point("a", 1, 30, 80), point("b", 1, 30, 80)]
    selection = select_best(rows, parse_rule(rule), MICRO)
    assert (selection.best.trial, selection.best.iteration) == ("a", 1)
    assert selection.runner_up.trial == "b"


def test_a_benchmark_without_length_takes_the_highest_score():
    def row(trial, score):
        return ResultRow(trial, "dpo", {}, 1, "complete", {"mt_bench/score": score})

    selection = select_best([row("a", 6.0), row("b", 7.0)], parse_rule("top_left"), BENCHMARK_METRICS["mt_bench"])
    assert selection.best.trial == "b"
    assert select_best([row("a", 6.0)], parse_rule("max:score@length<=3"), BENCHMARK_METRICS["mt_bench"]) is None


def test_a_metric_nobody_measured_is_an_error_that_lists_what_there_is():
    rows = [point("a", 1, 30, 80)]
    with pytest.raises(UserError, match=r"judged_winrate.*micro/judged_win_rate"):
        select_best(rows, parse_rule("max:micro/judged_winrate"), MICRO)
    assert select_best(rows, parse_rule("max:judged_win_rate"), BENCHMARK_METRICS["mt_bench"]) is None


def test_nothing_complete_selects_nothing():
    assert select_best([], parse_rule("top_left"), MICRO) is None
    rows = [point("a", 1, 30, 80, state="failed"), point("b", 1, 30, 80, objective="aipo")]
    assert list(select_per_objective(rows, parse_rule("top_left"), MICRO)) == ["aipo"]


VALUES = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(VALUES, VALUES), max_size=20))
def test_the_pareto_front_is_what_brute_force_finds(points):
    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    expected = {i for i, p in enumerate(points) if not any(beats(q, p) for q in points)}
    front = pareto_front(points)
    assert set(front) == expected
    assert len(front) == len(expected)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


@given(st.lists(st.tuples(VALUES, VALUES, st.integers(1, 3)), min_size=1, max_size=12))
def test_top_left_always_chooses_a_point_of_the_front_of_the_candidates(raw):
    rows = [point(str(i), iteration, length, win) for i, (length, win, iteration) in enumerate(raw)]
    best = select_best(rows, parse_rule("top_left"), MICRO).best
    points = [(row.metrics[LENGTH], row.metrics[WIN]) for row in rows]
    assert (best.metrics[LENGTH], best.metrics[WIN]) in [points[i] for i in pareto_front(points)]
