"""Pearson's and Spearman's coefficients: hand-made values, invariances, and what cannot be told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.curation.correlation import pearson, spearman


def test_values_worked_out_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 10.0]
    # deviations -1.5 -0.5 0.5 1.5 and -3 -1 -2 6: products 4.5 + 0.5 - 1 + 9 = 13, squares 5 and 50
    made = pearson(x, y)
    assert made is not None and made.value == pytest.approx(13 / math.sqrt(5 * 50)) and made.n == 4
    ranks = spearman(x, y)  # ranks 1 3 2 4: 1 - 6 * (1 + 1) / (4 * 15)
    assert ranks is not None and ranks.value == pytest.approx(1 - 12 / 60)


def test_equal_values_share_their_mean_rank() -> None:
    made = spearman([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])
    # ranks 1.5 1.5 3 4: deviations -1 -1 .5 1.5 against -1.5 -.5 .5 1.5: 4.5 / sqrt(4.5 * 5)
    assert made is not None and made.value == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=3, max_size=12))
def test_spearman_does_not_mind_a_growing_function_and_pearson_a_line(points: list[tuple[int, int]]) -> None:
    x, y = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    for coefficient, changed in ((spearman, np.exp(x / 25)), (pearson, 3 * x - 7)):
        made, other = coefficient(x, y), coefficient(changed, y)
        assert (made is None) == (other is None)
        if made is not None and other is not None:
            assert -1 <= made.value <= 1
            assert other.value == pytest.approx(made.value, abs=1e-9)


@pytest.mark.parametrize("coefficient", [pearson, spearman])
def test_something_constant_has_no_coefficient(coefficient) -> None:
    assert coefficient([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_the_error_is_that_of_repeated_samples_and_counts_pairs_not_points() -> None:
    draw = np.random.default_rng(1)

    def sample(n: int):
        x = draw.normal(size=n)
        return x, 0.5 * x + draw.normal(size=n)

    values = [made.value for made in (pearson(*sample(80)) for _ in range(200)) if made is not None]
    spread = float(np.std(values))
    made = pearson(*sample(80))
    assert made is not None and made.se == pytest.approx(spread, rel=0.4)
    x, y = sample(80)
    twice = pearson(np.stack([x, x], axis=1), np.stack([y, y], axis=1))  # the same points twice tell no more
    once = pearson(x, y)
    assert twice is not None and once is not None and twice.n == 160
    assert twice.se == pytest.approx(once.se)
