"""The hypervolume of points of length and win rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.results.hypervolume import LENGTH_FACTOR, hypervolume

BASE = (20.0, 50.0)
LONGEST = LENGTH_FACTOR * BASE[0]
POINTS = st.lists(st.tuples(st.floats(5, 200), st.floats(0, 100)), max_size=8)


@pytest.mark.parametrize(
    ("points", "percent"),
    [
        ([], 0.0),
        ([BASE], 0.0),
        ([(20.0, 100.0)], 100.0),
        ([(10.0, 100.0)], 100.0),  # shorter than the base model earns nothing more
        ([((20.0 + LONGEST) / 2, 100.0)], 50.0),
        ([(20.0, 75.0)], 50.0),
        ([(20.0, 75.0), ((20.0 + LONGEST) / 2, 100.0)], 75.0),  # 1/2 * 1/2 + 1/2 * 1
        ([(LONGEST, 100.0)], 0.0),
        ([(20.0, 40.0)], 0.0),
    ],
)
def test_values_worked_out_by_hand(points: list[tuple[float, float]], percent: float) -> None:
    assert hypervolume(points, BASE) == pytest.approx(percent)


@given(POINTS, st.tuples(st.floats(5, 200), st.floats(0, 100)))
def test_a_further_point_never_takes_any_away_and_order_does_not_count(
    points: list[tuple[float, float]], further: tuple[float, float]
) -> None:
    before = hypervolume(points, BASE)
    assert -1e-9 <= before <= 100 + 1e-9
    assert hypervolume([*points, further], BASE) >= before - 1e-9
    assert hypervolume(points[::-1], BASE) == pytest.approx(before)
