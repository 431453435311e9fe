"""The smallest difference that is shown: against the textbook, and against simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest

from aipo_lab.results.effects import mean_effect
from aipo_lab.results.power import DISAGREEING, smallest_rate_difference


def test_the_textbooks_number_for_one_seed() -> None:
    """2.8 standard errors; unpaired, of two rates of 50 %: 2.8 * sqrt(2 * 0.25 / n)."""
    assert smallest_rate_difference(1000) == pytest.approx(100 * 2.802 * (DISAGREEING / 1000) ** 0.5, rel=2e-3)
    assert smallest_rate_difference(1000, paired=False) == pytest.approx(100 * 2.802 * (0.5 / 1000) ** 0.5, rel=2e-3)
    assert smallest_rate_difference(250, 5) < smallest_rate_difference(250, 5, 3.0) < smallest_rate_difference(250)


def test_such_a_difference_is_found_in_four_of_five_sweeps() -> None:
    rng = np.random.default_rng(0)
    n_prompts, found = 250, 0
    difference = smallest_rate_difference(n_prompts) / 100
    wins, losses = (DISAGREEING + difference) / 2, (DISAGREEING - difference) / 2
    for _ in range(600):
        values = 100.0 * rng.choice([1, -1, 0], size=(1, n_prompts), p=[wins, losses, 1 - DISAGREEING])
        found += mean_effect(values).p_value() < 0.05
    assert 0.75 < found / 600 < 0.87
