"""How sure a pick is: unbiased on the prompts that had no say, 1/k for equal trials, ties called ties."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from simulated_sweeps import simulated, wins_at

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.results.certainty import get_picks
from aipo_lab.results.halves import FEWEST_PROMPTS, picks, with_halves
from aipo_lab.results.per_prompt import NO_VALUES
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_best

MICRO = BENCHMARK_METRICS["micro"]
WIN, LENGTH = MICRO.win_rate, MICRO.length
CORNER = parse_rule("corner")
N = 240
LEVEL = np.full(N, 20.0)


def judged(rows, values, rule=CORNER, split=True, n_draws=200):
    rows = with_halves(rows, MICRO, values) if split else rows
    return get_picks(rows, rule, MICRO, values, n_draws).overall


def equal_trials(random, k, rate=60.0):
    return simulated({f"t{i}": [(wins_at(random, rate, N), LEVEL)] for i in range(k)})


def test_of_equal_trials_the_reported_number_is_unbiased_the_naive_one_is_not_and_stability_is_one_in_k():
    random, k, n_sweeps = np.random.default_rng(1), 8, 200
    found = [judged(*equal_trials(random, k), n_draws=40) for _ in range(n_sweeps)]
    reported = np.array([one.reported.metrics[WIN] for one in found]) - 60
    on_picking = np.array([one.best.picked_on[WIN] for one in found]) - 60
    naive = np.array([one.best.metrics[WIN] for one in found]) - 60
    assert abs(reported.mean()) < 3 * reported.std() / n_sweeps**0.5
    assert on_picking.mean() > 4  # 8 draws with a standard error of 4.5 points: the largest is 1.4 of them above
    assert naive.mean() > 2  # on all prompts half of what is seen is what picked
    stability = np.mean([one.certainty.stability for one in found])
    assert stability == pytest.approx(1 / k, abs=0.04)
    # the bootstrap finds about 0.7 of it, and never too much
    optimism = np.mean([one.certainty.optimism for one in found])
    assert 0.5 * on_picking.mean() < optimism < on_picking.mean()


def test_without_a_split_the_optimism_is_estimated_and_the_same_row_is_reported():
    random = np.random.default_rng(2)
    found = [judged(*equal_trials(random, 8), split=False, n_draws=40) for _ in range(100)]
    naive = np.mean([one.reported.metrics[WIN] for one in found]) - 60
    assert naive > 3
    assert 0.5 * naive < np.mean([one.certainty.optimism for one in found]) < naive
    assert all(one.reported is one.best and not one.halved for one in found)


def test_of_equal_trials_the_ties_hold_the_others_and_a_true_best_is_kept_among_them():
    random, kept, alone = np.random.default_rng(3), 0, 0
    for _ in range(100):
        rows, values = simulated({f"t{i}": [(wins_at(random, 62.0 if i == 0 else 60.0, N), LEVEL)] for i in range(6)})
        pick = judged(rows, values)
        named = {pick.best.trial, *(row.trial for row in pick.certainty.inseparable)}
        kept += "t0" in named
        alone += not pick.certainty.inseparable
    assert kept >= 93
    assert alone <= 5


def test_a_clear_winner_stands_alone_and_is_picked_again():
    random = np.random.default_rng(4)
    rows, values = simulated(
        {"good": [(wins_at(random, 95, N), LEVEL)], "bad": [(wins_at(random, 40, N), LEVEL)]},
        objectives={"good": "aipo", "bad": "dpo"},
    )
    certainty = judged(rows, values).certainty
    assert certainty.inseparable == ()
    assert (certainty.stability, certainty.same_trial, certainty.ranks) == (1.0, 1.0, (1, 1, 1))
    assert certainty.contenders == (("aipo", 1.0),)
    assert abs(certainty.optimism) < 0.5
    assert dict(certainty.others)["knee"].trial == "good"


def test_paired_differences_tell_apart_what_independent_errors_do_not():
    # b loses, of what a wins, 12 prompts and never wins another: a difference of 5 points, sure of its sign.
    wins = wins_at(np.random.default_rng(5), 60, N)
    fewer = wins.copy()
    fewer[np.flatnonzero(wins)[::12]] = 0.0
    rows, values = simulated({"a": [(wins, LEVEL)], "b": [(fewer, LEVEL)]})
    assert judged(rows, values, split=False).certainty.inseparable == ()
    by_errors = judged(rows, NO_VALUES, split=False).certainty
    assert [row.trial for row in by_errors.inseparable] == ["b"]
    assert by_errors.source == "errors"


def test_what_trials_share_to_the_last_answer_is_a_tie():
    wins = wins_at(np.random.default_rng(6), 70, N)
    rows, values = simulated({"a": [(wins, LEVEL)], "same": [(wins, LEVEL)]})
    pick = judged(rows, values)
    assert (pick.best.trial, [row.trial for row in pick.certainty.inseparable]) == ("a", ["same"])


def test_a_lucky_seed_is_not_sure_of_itself_and_seeds_are_drawn():
    random = np.random.default_rng(7)
    rates = {"a0": 95, "a1": 45, "b0": 68, "b1": 66}
    settings = {name: {"beta": name[0], "seed": name[1]} for name in rates}
    rows, values = simulated({name: [(wins_at(random, r, N), LEVEL)] for name, r in rates.items()}, settings=settings)
    certainty = judged(rows, values, n_draws=1000).certainty
    assert certainty.source == "prompts and seeds"
    assert certainty.n_points == 2
    assert len(certainty.inseparable) == 1
    # of two seeds one is drawn: a wins with its first, b with the second
    assert 0.3 < certainty.stability < 0.7
    alone = [row for row in rows if row.hyperparameters["seed"] == "0"]
    assert judged(alone, values).certainty.stability == 1.0


def test_the_variance_of_drawn_means_is_that_of_the_seeds():
    from aipo_lab.results.draws import Draws
    from aipo_lab.results.points import get_points

    levels = [40.0, 60.0, 65.0]
    settings = {f"s{i}": {"seed": str(i)} for i in range(3)}
    rows, values = simulated({f"s{i}": [(np.full(N, v), LEVEL)] for i, v in enumerate(levels)}, settings=settings)
    points = get_points(rows)
    drawn = Draws(points, [WIN, LENGTH], values, "all", 5000).of(WIN)[:, 1]
    assert drawn.mean() == pytest.approx(np.mean(levels), abs=0.4)
    assert drawn.std() == pytest.approx(np.std(levels, ddof=1) / 3**0.5, rel=0.05)


def test_a_prompts_half_is_its_own_and_halves_are_about_equal():
    sides = [picks(f"prompt-{n}") for n in range(4000)]
    assert sides == [picks(f"prompt-{n}") for n in range(4000)]
    assert 0.47 < np.mean(sides) < 0.53


def test_halves_are_means_over_their_prompts_and_few_prompts_are_not_halved():
    random = np.random.default_rng(8)
    rows, values = equal_trials(random, 1)
    row = with_halves(rows, MICRO, values)[1]
    common = values.of("t0", 1, WIN)
    side = np.array([picks(one) for one in common.ids])
    assert row.picked_on[WIN] == pytest.approx(common.values[0, side].mean())
    assert row.reported_on[WIN] == pytest.approx(common.values[0, ~side].mean())
    assert row.picked_on["micro/n"] + row.reported_on["micro/n"] == N
    assert row.metrics == rows[1].metrics
    few = {"t": [(wins_at(random, 60, FEWEST_PROMPTS - 1), np.full(FEWEST_PROMPTS - 1, 20.0))]}
    rows, values = simulated(few)
    assert with_halves(rows, MICRO, values) == rows


def test_one_metric_without_values_by_prompt_keeps_the_benchmark_whole():
    rows, values = equal_trials(np.random.default_rng(9), 2)
    with_lc = [replace(row, metrics=row.metrics | {MICRO.lc_win_rate: 55.0}) for row in rows]
    assert with_halves(with_lc, MICRO, values) == with_lc
    assert with_halves(rows, MICRO, NO_VALUES) == rows


def test_the_pick_is_made_on_its_half_alone():
    # a is best on all prompts, b on those that pick
    ids = [f"prompt-{n}" for n in range(N)]
    side = np.array([picks(one) for one in ids])
    a, b = np.where(side, 0.0, 100.0), np.where(side, 100.0, 0.0)
    a[np.flatnonzero(side)[:60]] = 100.0
    rows, values = simulated({"a": [(a, LEVEL)], "b": [(b, LEVEL)]})
    halved = with_halves(rows, MICRO, values)
    assert select_best(rows, CORNER, MICRO).best.trial == "a"
    pick = select_best(halved, CORNER, MICRO)
    assert (pick.best.trial, pick.reported.metrics[WIN], pick.best.picked_on[WIN]) == ("b", 0.0, 100.0)


def test_without_errors_or_values_nothing_is_said():
    rows, _ = equal_trials(np.random.default_rng(10), 2)
    bare = [replace(row, metrics={k: v for k, v in row.metrics.items() if not k.endswith("_se")}) for row in rows]
    certainty = judged(bare, NO_VALUES, split=False).certainty
    assert (certainty.stability, certainty.ranks, certainty.optimism, certainty.source) == (None, None, None, "")


def test_a_limit_of_length_that_no_draw_passes_or_some():
    random = np.random.default_rng(11)
    lengths = random.normal(30, 10, N)
    rows, values = simulated({"a": [(wins_at(random, 90, N), lengths)], "b": [(wins_at(random, 60, N), LEVEL)]})
    limit = float(lengths.mean()) + 0.1
    certainty = judged(rows, values, parse_rule(f"max:judged_win_rate@length<={limit}"), split=False).certainty
    assert 0.2 < certainty.stability < 0.8  # a is beyond the limit in about half of the draws
    assert judged(rows, values, parse_rule("max:judged_win_rate@length<=10"), split=False) is None


def test_a_sweep_of_1200_points_takes_seconds():
    random, n = np.random.default_rng(12), 200
    trials = {f"t{i}": [(wins_at(random, 60, n), np.full(n, 20.0 + t)) for t in range(20)] for i in range(60)}
    rows, values = simulated(trials)
    started = time.process_time()
    get_picks(with_halves(rows, MICRO, values), CORNER, MICRO, values, 1000)
    assert time.process_time() - started < 6  # 0.6 where nothing else runs
