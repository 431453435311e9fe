"""Near-duplicates: the similarity is ROUGE-L over words, whatever their case and punctuation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.generation.near_duplicates import NearDuplicates

pytest.importorskip("rapidfuzz")


def rouge_l(one: list[str], other: list[str]) -> float:
    """The F score by the textbook's table of longest common subsequences."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one):
        for j, same in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if word == same else max(table[i][j + 1], table[i + 1][j])
    return 2 * table[-1][-1] / (len(one) + len(other))


def test_a_word_more_or_less_and_other_capitals_make_no_new_instruction() -> None:
    known = NearDuplicates(0.7, ["Write a short poem about the sea."])
    assert known.has("write a poem about the Sea")
    assert not known.has("Name five birds of Europe")
    known.add("Name five birds of Europe")
    assert known.has("Name five large birds of Europe!")


words = st.lists(st.sampled_from(["sea", "sun", "bird", "name", "the", "a"]), min_size=1, max_size=8)


@given(words, words, st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]))
def test_the_similarity_is_rouge_l(one: list[str], other: list[str], threshold: float) -> None:
    expected = rouge_l(one, other)
    if abs(expected - threshold) > 1e-9:
        assert NearDuplicates(threshold, [" ".join(one)]).has(" ".join(other)) == (expected > threshold)
