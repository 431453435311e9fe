"""Length control: it recovers what a judge would say of equally long answers, and knows its own error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aipo_lab.benchmarks.length_control import Estimate, length_controlled_win_rate, mean_estimate


def simulate(n: int, skill: float, taste: float, growth: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A judge whose log-odds are `skill` + `taste` x length difference in standard deviations (tanh)."""
    rng = np.random.default_rng(seed)
    baseline = rng.normal(100, 20, n)
    lengths = baseline + growth + rng.normal(0, 30, n)
    difference = lengths - baseline
    odds = skill + taste * np.tanh(difference / difference.std(ddof=1))
    wins = rng.random(n) < 1 / (1 + np.exp(-odds))
    return wins.astype(float), lengths, baseline


@pytest.mark.parametrize("skill", [-0.8, 0.0, 0.6])
@pytest.mark.parametrize("taste", [1.0, 2.5])
def test_the_rate_without_length_is_recovered_where_the_raw_one_is_biased(skill: float, taste: float) -> None:
    unbiased = 100 / (1 + math.exp(-skill))
    raw, controlled = [], []
    for seed in range(20):
        data = simulate(400, skill, taste, growth=40, seed=seed)
        raw.append(100 * data[0].mean() - unbiased)
        controlled.append(length_controlled_win_rate(*data).value - unbiased)
    assert abs(np.mean(controlled)) < 0.35 * abs(np.mean(raw))
    assert np.sqrt(np.mean(np.square(controlled))) < np.sqrt(np.mean(np.square(raw)))


def test_without_a_taste_for_length_it_agrees_with_the_raw_rate() -> None:
    differences = []
    for seed in range(20):
        data = simulate(400, 0.4, 0.0, growth=0, seed=seed)
        differences.append(length_controlled_win_rate(*data).value - 100 * data[0].mean())
    assert np.abs(differences).max() < 1.5


@pytest.mark.parametrize(("skill", "taste", "growth"), [(0.3, 1.0, 20), (-0.7, 2.0, 40), (1.0, 0.0, 0)])
def test_the_standard_error_is_that_of_a_bootstrap(skill: float, taste: float, growth: float) -> None:
    wins, lengths, baseline = simulate(300, skill, taste, growth, seed=1)
    estimate = length_controlled_win_rate(wins, lengths, baseline)
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(300):
        chosen = rng.integers(0, 300, 300)
        resampled.append(length_controlled_win_rate(wins[chosen], lengths[chosen], baseline[chosen]).value)
    assert estimate.se == pytest.approx(np.std(resampled, ddof=1), rel=0.25)


def test_all_ties_are_exactly_50_without_error() -> None:
    rng = np.random.default_rng(0)
    estimate = length_controlled_win_rate([0.5] * 30, rng.normal(100, 9, 30), rng.normal(80, 9, 30))
    assert (estimate.value, estimate.n) == (50.0, 30)
    assert estimate.se == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_all_wins_and_all_losses_have_a_finite_fit(outcome: float) -> None:
    rng = np.random.default_rng(0)
    estimate = length_controlled_win_rate([outcome] * 200, rng.normal(150, 9, 200), rng.normal(80, 9, 200))
    assert abs(estimate.value - 100 * outcome) < 5
    assert 0 <= estimate.value <= 100
    assert estimate.se is not None
    assert math.isfinite(estimate.se)


def test_a_judge_that_always_takes_the_longer_one_has_a_finite_fit_near_50() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(0, 30, 400)
    wins = (difference > 0).astype(float)
    estimate = length_controlled_win_rate(wins, 100 + difference, [100.0] * 400)
    assert abs(estimate.value - 50) < 8
    assert estimate.se is not None and math.isfinite(estimate.se)


def test_without_any_length_variation_it_is_the_raw_rate() -> None:
    wins = [1.0] * 30 + [0.0] * 10 + [0.5] * 10
    for lengths in ([100] * 50, [130] * 50):
        estimate = length_controlled_win_rate(wins, lengths, [100] * 50)
        assert estimate.value == pytest.approx(70, abs=0.1)
        raw = mean_estimate(wins, 100)
        assert estimate.se == pytest.approx(raw.se, rel=0.05)


def test_one_answer_is_enough_for_a_number() -> None:
    assert math.isfinite(length_controlled_win_rate([1.0], [10], [20]).value)


outcomes = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 4000), st.integers(1, 4000)), min_size=2, max_size=60
)


@given(outcomes)
def test_any_data_give_a_rate_and_swapping_the_sides_gives_its_complement(rows: list[tuple[float, int, int]]) -> None:
    wins, lengths, baseline = (list(column) for column in zip(*rows, strict=True))
    estimate = length_controlled_win_rate(wins, lengths, baseline)
    assert 0 <= estimate.value <= 100
    assert estimate.se is not None and math.isfinite(estimate.se) and estimate.se >= 0
    swapped = length_controlled_win_rate([1 - win for win in wins], baseline, lengths)
    assert swapped.value == pytest.approx(100 - estimate.value, abs=1e-4)
    assert swapped.se == pytest.approx(estimate.se, abs=1e-4)


@given(outcomes, st.floats(0.1, 10))
@example([(0.0, 1, 9)] * 3, 1.4542921084334979)  # equal differences whose mean is rounded
@example([(0.0, 1, 9), (0.0, 2, 10), (1.0, 4, 12)], 0.1)  # differences that are equal but for rounding
def test_the_unit_of_length_does_not_matter(rows: list[tuple[float, int, int]], unit: float) -> None:
    wins, lengths, baseline = (list(column) for column in zip(*rows, strict=True))
    one = length_controlled_win_rate(wins, lengths, baseline)
    other = length_controlled_win_rate(wins, [n * unit for n in lengths], [n * unit for n in baseline])
    assert other.value == pytest.approx(one.value, abs=1e-4)


def test_a_mean_comes_with_the_error_of_the_mean() -> None:
    assert mean_estimate([1, 2, 3, 4]) == Estimate(2.5, pytest.approx(math.sqrt(5 / 3) / 2), 4)
    assert mean_estimate([True, False], 100).value == 50
    assert mean_estimate([3.0]) == Estimate(3.0, None, 1)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_a_mean_of_nothing_or_of_nan_is_refused(values: list[float]) -> None:
    with pytest.raises(AssertionError):
        mean_estimate(values)
