"""Numbers as text: two values never look alike, and none is longer than it must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.numbers import number_text, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (20240101, "20240101"),
        (20240101.0, "20240101"),
        (0.1234567, "0.1234567"),
        (0.1234568, "0.1234568"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e-5, "1e-05"),
        (0.1 + 0.2, "0.30000000000000004"),
        (10**30 + 1, str(10**30 + 1)),
        (5e-324, "5e-324"),  # six digits of it read back too, and are longer
    ],
)
def test_integers_are_full_and_floats_short(value: float, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_as_it_was(value: float) -> None:
    assert float(number_text(value)) == value
    assert len(number_text(value)) <= len(repr(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("a/b", "a/b"),
        ([0.1, 2.0], "[0.1, 2]"),
        ({"rank": 4, "alpha": None}, "{rank: 4, alpha: null}"),
    ],
)
def test_other_values_look_as_in_a_file(value: object, text: str) -> None:
    assert value_text(value) == text
