"""What pairs look like as a set: lengths, near-duplicates, truncation and scores, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.curation.pair_statistics import PairStatistics, pair_statistics, word_similarity


def row(chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **more,
    }


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("The fox is red.", "the fox IS red", 1.0),
        ("red red blue", "red green", 2 * 1 / 5),  # one "red" of two is matched
        ("red", "blue", 0.0),
        ("", "", 1.0),
        ("", "red", 0.0),
        ("狐は赤い", "狐は赤い", 1.0),
    ],
)
def test_word_similarity(one: str, other: str, similarity: float) -> None:
    assert word_similarity(one, other) == pytest.approx(similarity)


@given(st.text(), st.text())
def test_word_similarity_is_symmetric_and_a_share(one: str, other: str) -> None:
    assert word_similarity(one, other) == word_similarity(other, one)
    assert 0 <= word_similarity(one, other) <= 1
    assert word_similarity(one, one) == 1


def test_lengths_are_in_tokens_where_all_rows_tell_them() -> None:
    counted = [row("a", "b", chosen_tokens=c, rejected_tokens=r) for c, r in ((10, 4), (6, 4))]
    made = pair_statistics(counted)
    assert (made.length_unit, made.length_difference) == ("tokens", 4)
    assert made.length_difference_sd == pytest.approx(8**0.5)  # 6 and 2
    assert made.length_sd == pytest.approx(((4**2 + 2**2 + 0 + 2**2) / 3) ** 0.5)
    assert (made.truncated, made.equal_scores, made.distinct_scores) == (None, None, None)
    words = pair_statistics([row("one two three", "one"), row("one", "one")])
    assert (words.length_unit, words.length_difference) == ("words", 1)


def test_duplicates_truncation_and_scores_are_counted() -> None:
    reasons = {"chosen_finish_reason": "length", "rejected_finish_reason": "stop"}
    rows = [
        row("Red fox.", "red fox", chosen_score=2.0, rejected_score=2.0, **reasons),
        row("red", "blue", chosen_score=2.0, rejected_score=1.0, **reasons),
    ]
    made = pair_statistics(rows)
    assert (made.near_duplicates, made.truncated, made.equal_scores, made.distinct_scores) == (1, 2, 1, 2)
    assert PairStatistics.from_summary(made.as_summary()) == made
