"""The rules with bounds of their own, `corner` and `knee`: what they pick, and that a larger sweep does not move it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.results.contest import open_contest
from aipo_lab.results.front import pareto_front
from aipo_lab.results.points import get_points
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_best

MICRO = BENCHMARK_METRICS["micro"]
WIN, LENGTH = MICRO.win_rate, MICRO.length
CORNER, KNEE = parse_rule("corner"), parse_rule("knee")


def row(trial, iteration, length, win, objective="dpo", **hyperparameters):
    metrics = {LENGTH: length, WIN: win, f"{WIN}_se": 2.0}
    return ResultRow(trial, objective, hyperparameters, iteration, "complete", metrics)


def trial(name, *points, base=20.0, objective="dpo", **hyperparameters):
    """A base model of a length, and a (length, win rate) after each iteration."""
    path = [(base, 50.0), *points]
    return [row(name, t, length, win, objective, **hyperparameters) for t, (length, win) in enumerate(path)]


def picked(rows, rule=CORNER, objective=None):
    best = select_best(rows, rule, MICRO, objective).best
    return best.trial, best.iteration


def test_corner_measures_by_the_base_models_length_and_the_benchmarks_bounds():
    # a: win 80 is 0.4 below 100 on the axis 50..100, length 24 of 20 is 0.2 on the axis 20..40: hypot .447.
    # b: win 90 is 0.2, length 34 is 0.7: hypot .728. With the length axis up to 80 (4x), a .4055, b .307.
    rows = trial("a", (24, 80)) + trial("b", (34, 90))
    assert picked(rows) == ("a", 1)
    assert picked(rows, parse_rule("corner@4x")) == ("b", 1)
    assert math.hypot(0.4, 0.2) < math.hypot(0.2, 0.7)
    assert math.hypot(0.2, 0.7 / 3) < math.hypot(0.4, 0.2 / 3)


def test_an_answer_twice_as_long_is_as_far_away_as_the_base_model_however_often_it_wins():
    # Both at distance 1: the shorter is taken, although it wins nothing.
    assert picked(trial("double", (40, 100)) + trial("same", (20, 50))) == ("same", 1)
    assert picked(trial("double", (39.9, 100)) + trial("same", (20, 50))) == ("double", 1)


def test_being_shorter_than_the_base_model_earns_and_costs_nothing():
    assert picked(trial("terse", (5, 60)) + trial("kept", (20, 61))) == ("kept", 1)
    assert picked(trial("terse", (5, 62)) + trial("kept", (20, 61))) == ("terse", 1)


def test_every_trial_is_measured_by_its_own_base_model():
    # 44 tokens is 10 % above a base of 40, and 120 % above one of 20.
    rows = trial("strong", (44, 80), base=40) + trial("weak", (44, 90), base=20)
    assert picked(rows) == ("strong", 1)


def test_without_its_base_model_a_point_has_no_distance():
    assert select_best([row("a", 1, 24, 80)], CORNER, MICRO) is None
    assert picked([row("a", 1, 20, 100), *trial("b", (24, 80))]) == ("b", 1)


def test_a_benchmark_states_its_own_bounds():
    assert BENCHMARK_METRICS["mt_bench"].win_bounds == (1.0, 10.0)
    assert BENCHMARK_METRICS["alpaca_eval"].win_bounds == (0.0, 100.0)
    name = "alpaca_eval"

    def official(trial_name, t, chars, win):
        return ResultRow(trial_name, "dpo", {}, t, "complete", {f"{name}/win_rate": win, f"{name}/length_chars": chars})

    # On 0..100 the way from 30 to 45 is 0.15, worth 15 % of length; on 50..100 it would be 0.3.
    rows = [official("a", 0, 1000, 20), official("a", 1, 1000, 30), official("a", 2, 1500, 45)]
    best = select_best(rows, CORNER, BENCHMARK_METRICS[name]).best
    assert best.iteration == 1


LENGTHS = st.integers(10, 90).map(float)
WINS = st.integers(30, 100).map(float)
PATHS = st.lists(st.tuples(LENGTHS, WINS), min_size=1, max_size=4)
SWEEPS = st.lists(st.tuples(st.sampled_from(["dpo", "simpo", "aipo"]), PATHS), min_size=1, max_size=6)


def built(sweep):
    return [one for n, (objective, path) in enumerate(sweep) for one in trial(f"{n:03}", *path, objective=objective)]


@given(SWEEPS, SWEEPS)
def test_corner_does_not_move_when_the_sweep_grows_or_shrinks(sweep, more):
    rows, everything = built(sweep), built([*sweep, *more])
    before, after = picked(rows), picked(everything)
    assert after == before or int(after[0]) >= len(sweep), "another old point was picked for a new one's sake"
    for objective in {objective for objective, _ in sweep}:
        alone = [one for one in rows if one.objective == objective]
        assert picked(alone, objective=objective) == picked(rows, objective=objective)


@given(SWEEPS, st.tuples(LENGTHS, WINS))
def test_one_more_iteration_moves_the_pick_to_itself_or_not_at_all(sweep, point):
    rows = built(sweep)
    (objective, path), others = sweep[0], sweep[1:]
    longer = built([(objective, [*path, point]), *others])
    assert picked(longer) in (picked(rows), ("000", len(path) + 1))


def test_top_left_does_move_for_the_sake_of_a_point_that_it_does_not_pick():
    # Without the long third trial the lengths end at 40 and the short point is nearer; with it at 120, the other is.
    rows = trial("short", (22, 70)) + trial("long", (40, 90))
    more = rows + trial("longest", (120, 91))
    top_left = parse_rule("top_left")
    assert picked(rows, top_left) == ("short", 1)
    assert picked(more, top_left) == ("long", 1)
    assert picked(rows) == picked(more)


def test_knee_is_the_point_highest_above_the_line_through_the_ends_of_the_front():
    # From the base (20, 50) to (60, 90) the line rises one point a token: a lies 20 above it, b 15, c on the line.
    rows = trial("a", (30, 80)) + trial("b", (45, 90 - 0.1)) + trial("c", (60, 90))
    assert picked(rows, KNEE) == ("a", 1)
    assert picked(trial("line", (40, 70), (60, 90)), KNEE) == ("line", 1)
    # a point below the line is no knee: the shortest end that may be chosen is left, here the far one
    assert picked(trial("bent", (40, 60), (60, 90)), KNEE) == ("bent", 2)


def test_beyond_the_front_the_line_is_level_so_that_no_height_runs_away():
    points = get_points(trial("a", (60, 90), (100, 85)))
    contest = open_contest(points, KNEE, MICRO)
    assert contest.scores(contest.measured)[0].tolist() == [math.inf, 0.0, 5.0]


def test_knee_without_a_line_is_the_highest_win_rate():
    assert picked(trial("one", (20, 60), (30, 55)), KNEE) == ("one", 1)
    assert picked(trial("worse", (30, 40), (40, 45)), KNEE) == ("worse", 2)


@given(SWEEPS, st.floats(0.1, 10), st.floats(0.1, 0.9))
def test_knee_lies_on_the_front_and_does_not_depend_on_units(sweep, unit, scale):
    rows = built(sweep)
    found = select_best(rows, KNEE, MICRO).best
    trained = [one for one in rows if one.iteration > 0]
    points = [(one.metrics[LENGTH], one.metrics[WIN]) for one in trained]
    assert (found.metrics[LENGTH], found.metrics[WIN]) in [points[i] for i in pareto_front(points)]
    other = [replace(o, metrics={LENGTH: o.metrics[LENGTH] * unit, WIN: o.metrics[WIN] * scale}) for o in rows]
    again = next(o for o in rows if (o.trial, o.iteration) == picked(other, KNEE))
    assert (again.metrics[LENGTH], again.metrics[WIN]) == pytest.approx((found.metrics[LENGTH], found.metrics[WIN]))


def test_trials_that_differ_in_their_seed_are_one_candidate_with_their_mean():
    lucky = trial("a0", (20, 99), beta="0.1", seed="0") + trial("a1", (20, 41), beta="0.1", seed="1")
    steady = trial("b0", (20, 80), beta="0.5", seed="0") + trial("b1", (20, 78), beta="0.5", seed="1")
    selection = select_best(lucky + steady, CORNER, MICRO)
    assert (selection.best.trial, selection.best.hyperparameters) == ("b0", {"beta": "0.5"})
    assert selection.best.metrics[WIN] == 79
    assert [one.trial for one in selection.seeds] == ["b0", "b1"]
    # the error between two seeds at 78 and 80 is 1, that over the prompts 2
    assert selection.best.metrics[f"{WIN}_se"] == pytest.approx(math.hypot(2, 1))
    assert selection.runner_up.trial == "a0"
    assert selection.runner_up.metrics[WIN] == 70
