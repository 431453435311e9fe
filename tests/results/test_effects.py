"""Means over prompts and seeds: their errors, against hand-made numbers, scipy, and how often intervals miss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.results.effects import Effect, mean_effect, mean_spread, pooled_effects, seeds_spread
from aipo_lab.results.multiple import holm
from aipo_lab.results.student import quantile, upper_tail
from aipo_lab.results.verdicts import Statement, all_of, greater, less, settle


def test_tails_and_quantiles_are_students() -> None:
    stats = pytest.importorskip("scipy.stats")
    for df in (0.7, 1, 2.5, 5, 30, 400, 1e5):
        for t in (-9.0, -1.0, 0.0, 0.3, 2.0, 8.0, 40.0):
            assert upper_tail(t, df) == pytest.approx(float(stats.t.sf(t, df)), rel=1e-8, abs=1e-300)
        for probability in (0.01, 0.5, 0.6, 0.975, 0.9999):
            assert quantile(probability, df) == pytest.approx(float(stats.t.ppf(probability, df)), rel=1e-8, abs=1e-12)


def test_tails_at_known_places() -> None:
    """From the tables of any textbook: 12.706 with one degree of freedom, 2.776 with four, 1.96 with all."""
    assert upper_tail(12.7062, 1) == pytest.approx(0.025, abs=1e-6)
    assert quantile(0.975, 4) == pytest.approx(2.7764, abs=1e-4)
    assert quantile(0.975, math.inf) == pytest.approx(1.959964, abs=1e-6)


def test_a_two_way_mean_by_hand() -> None:
    """Rows 0, 2, 4 and 4, 6, 14: means 2 and 8; M_s = 3 * 18 = 54, M_p = 2 * 13, M_e = 14 / 2 = 7."""
    values = np.array([[0.0, 2.0, 4.0], [4.0, 6.0, 14.0]])
    found = mean_effect(values)
    rest = 7.0 - 1.0  # residuals 1, 1, -2 and their opposites: 12 over 2 degrees of freedom
    prompts = 2 * np.var([2.0, 4.0, 9.0], ddof=1)
    assert found.value == 5.0 and found.n_seeds == 2
    assert found.se == pytest.approx(math.sqrt((54 + prompts - rest) / 6))
    parts = 54**2 / 1 + prompts**2 / 2 + rest**2 / 2
    assert found.degrees_of_freedom == pytest.approx((54 + prompts - rest) ** 2 / parts)


def test_one_seed_is_the_usual_mean_over_prompts() -> None:
    found = mean_effect(np.array([[1.0, 2.0, 3.0, 6.0]]))
    assert (found.value, found.degrees_of_freedom, found.n_seeds) == (3.0, 3, 1)
    assert found.se == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)


@pytest.mark.parametrize(("n_seeds", "between"), [(1, 0.0), (2, 4.0), (3, 0.0), (5, 1.0), (5, 8.0)])
def test_intervals_miss_the_truth_in_at_most_five_percent(n_seeds: int, between: float) -> None:
    rng = np.random.default_rng(7)
    misses, n = 0, 600
    for _ in range(n):
        values = rng.normal(0, 30, (n_seeds, 60)) + rng.normal(0, 20, 60) + rng.normal(0, between, (n_seeds, 1))
        found = mean_effect(values)
        assert found.half_width is not None
        misses += abs(found.value) > found.half_width
    assert misses / n < 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / n)


def test_what_all_seeds_share_is_not_made_small_by_many_of_them() -> None:
    """The prompts' own part is there however many seeds there are."""
    rng = np.random.default_rng(0)
    prompts = rng.normal(0, 20, 100)
    many = mean_effect(np.tile(prompts, (50, 1)) + rng.normal(0, 1, (50, 100)))
    assert many.se == pytest.approx(prompts.std(ddof=1) / 10, rel=0.02)


def test_p_values_have_sides_and_a_place_to_start_from() -> None:
    effect = Effect(3.0, 1.0)
    assert effect.p_value() == pytest.approx(0.0026998, rel=1e-4)
    assert effect.p_value("greater") == pytest.approx(0.0013499, rel=1e-4)
    assert effect.p_value("less") == pytest.approx(1 - 0.0013499, rel=1e-4)
    assert effect.p_value("greater", 3.0) == pytest.approx(0.5)
    assert Effect(3.0, None).p_value() == 1.0
    exact = Effect(3.0, 0.0)
    assert (exact.p_value("greater"), exact.p_value("less"), Effect(0.0, 0.0).p_value()) == (0, 1, 1)


def test_seeds_without_values_by_prompt_have_both_parts() -> None:
    found = seeds_spread([50.0, 60.0, 70.0], [2.0, 2.0, 2.0]).effect()
    assert found.value == 60.0 and found.se == pytest.approx(math.sqrt(100 / 3 + 4))
    assert 2 < found.degrees_of_freedom < 4
    assert seeds_spread([50.0, 60.0], [1.0, None]).effect().se is None
    assert seeds_spread([50.0], [2.0]).effect() == Effect(50.0, 2.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.5]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_between_the_p_value_and_bonferronis(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a <= min(1.0, p * len(p_values)) + 1e-12
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)


def test_statements_say_yes_no_or_nothing() -> None:
    clear, unclear = Effect(10.0, 1.0, n_seeds=3), Effect(1.0, 1.0, n_seeds=3)
    assert settle([greater(clear), less(clear), greater(unclear)]) == ["yes", "no", "open"]
    assert settle([all_of([greater(clear), greater(unclear)]), all_of([greater(clear), less(clear)])]) == ["open", "no"]
    assert greater(None) == Statement(1.0, 1.0, 1)
    assert all_of([greater(clear), greater(None)]).n_seeds == 1


def test_what_was_chosen_among_many_needs_more() -> None:
    effect = Effect(2.5, 1.0)
    assert settle([greater(effect)]) == ["yes"] and settle([greater(effect, choices=12)]) == ["open"]
    assert settle([greater(effect, from_=1.0)]) == ["open"]


def test_pairs_share_one_estimate_between_seeds_and_a_wilder_one_keeps_its_own() -> None:
    """By hand: mean squares 4 * var of the seeds' means; three groups of four seeds have 2 * 3 degrees of freedom."""
    rng = np.random.default_rng(1)
    a, b, c = (rng.normal(0, 1, (4, 50)) + sd * np.array([[1.0], [-1.0], [2.0], [-2.0]]) for sd in (1.0, 1.2, 9.0))
    spreads = [mean_spread(x - y) for x, y in ((a, b), (a, c), (b, c))]
    pooled = pooled_effects(spreads, 3)
    squares = [one.seeds[0] for one in spreads]
    mean = sum(squares) / 3
    assert squares[0] < mean < squares[1]
    for spread, found in zip(spreads, pooled, strict=True):
        expected = (max(spread.seeds[0], mean) + sum(one for one, _ in spread.others or ())) / 200
        assert found.se == pytest.approx(math.sqrt(expected)) and found.value == spread.value
        assert found.degrees_of_freedom > spread.effect().degrees_of_freedom
    assert pooled_effects([mean_spread(a[:1] - b[:1])] * 3, 3)[0] == mean_spread(a[:1] - b[:1]).effect()
    assert pooled_effects(spreads[:1], 2) == [spreads[0].effect()]
