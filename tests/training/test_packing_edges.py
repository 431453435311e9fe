"""Which pairs are computed together, at the limits: full micro-batches, order, seeds, processes' shares."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.training.batches import Sharing
from aipo_lab.training.packing import MAX_PADDING_SHARE, micro_batches, optimiser_batches
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.processes import Processes

LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=24)


def make_pairs(lengths: list[tuple[int, int, int]]) -> list[EncodedPair]:
    """Pairs of (prompt, chosen, rejected) lengths whose tokens have nothing in common, so that trees share no more."""
    made = []
    for number, (prompt, chosen, rejected) in enumerate(lengths):
        first = 1000 * number
        ids = [list(range(first + 100 * k, first + 100 * k + n)) for k, n in enumerate((prompt, chosen, rejected))]
        made.append(EncodedPair(f"pair-{number}", *ids))
    return made


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def padded_tokens(rows: list[list[int]], pairs: list[EncodedPair]) -> int:
    return len(rows) * max(sum(pairs[index].n_tokens for index in row) for row in rows)


@given(LENGTHS, st.integers(1, 150), st.sampled_from(list(Sharing)))
def test_every_pair_is_in_one_micro_batch_within_the_limit(
    lengths: list[tuple[int, int, int]], max_tokens: int, sharing: Sharing
) -> None:
    pairs = make_pairs(lengths)
    batches = micro_batches(range(len(pairs)), pairs, max_tokens, sharing)
    assert Counter(index for batch in batches for row in batch for index in row) == Counter(range(len(pairs)))
    for batch in batches:
        members = [index for row in batch for index in row]
        if len(members) == 1:
            continue  # a pair longer than the limit stands alone
        if sharing is Sharing.LAYOUT:
            assert sum(pairs[index].n_tokens - 2 for index in members) <= max_tokens  # last tokens predict nothing
            assert sum(pairs[index].n_attended_tokens for index in members) <= 2 * max_tokens
        elif sharing is Sharing.MASK:
            total = sum(pairs[index].n_tokens for index in members)
            assert padded_tokens(batch, pairs) <= max_tokens
            assert 1 - total / padded_tokens(batch, pairs) <= MAX_PADDING_SHARE
        else:
            assert all(len(row) == 1 for row in batch)
            width = max(pairs[index].longest_sequence_tokens for index in members)
            assert 2 * width * len(members) <= max_tokens


@pytest.mark.parametrize(("max_tokens", "sizes"), [(24, [3]), (23, [2, 1]), (16, [2, 1]), (15, [1, 1, 1])])
def test_a_tree_is_filled_up_to_the_limit(max_tokens: int, sizes: list[int]) -> None:
    pairs = make_pairs([(2, 4, 4)] * 3)
    batches = micro_batches([0, 1, 2], pairs, max_tokens, Sharing.LAYOUT)
    assert [len(batch[0]) for batch in batches] == sizes


@pytest.mark.parametrize(("max_tokens", "sizes"), [(30, [3]), (29, [2, 1]), (20, [2, 1]), (19, [1, 1, 1])])
def test_a_tree_of_long_prompts_is_filled_up_to_twice_the_limit_of_attended_tokens(
    max_tokens: int, sizes: list[int]
) -> None:
    """Each response attends to its own copy of the prompt."""
    pairs = make_pairs([(9, 1, 1)] * 3)
    batches = micro_batches([0, 1, 2], pairs, max_tokens, Sharing.LAYOUT)
    assert [len(batch[0]) for batch in batches] == sizes


@pytest.mark.parametrize(("max_tokens", "sizes"), [(36, [3]), (35, [2, 1]), (24, [2, 1]), (23, [1, 1, 1])])
def test_separate_rows_are_filled_up_to_the_limit_of_both_responses(max_tokens: int, sizes: list[int]) -> None:
    pairs = make_pairs([(2, 4, 1)] * 3)
    batches = micro_batches([0, 1, 2], pairs, max_tokens, Sharing.NONE)
    assert [len(batch) for batch in batches] == sizes


@pytest.mark.parametrize("sharing", list(Sharing))
def test_long_pairs_come_first(sharing: Sharing) -> None:
    """So that a lack of memory shows at once."""
    pairs = make_pairs([(1, 3, 3), (1, 20, 20), (1, 9, 9)])
    first = [batch[0][0] for batch in micro_batches([0, 1, 2], pairs, 1, sharing)]
    assert first == [1, 2, 0]


def test_rows_are_about_equally_long() -> None:
    pairs = make_pairs([(2, 24, 24), (2, 12, 11), (2, 12, 11)])
    assert micro_batches([0, 1, 2], pairs, 200, Sharing.MASK) == [[[0], [1, 2]]]


def test_batches_take_every_pair_once_an_epoch_in_an_order_of_seed_and_epoch() -> None:
    batches = optimiser_batches(10, 4, epochs=2, seed=5)
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    first, second = flat(batches[:3]), flat(batches[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second and first != list(range(10))
    assert optimiser_batches(10, 4, epochs=2, seed=5) == batches
    assert optimiser_batches(10, 4, epochs=1, seed=5) == batches[:3]
    orders = {tuple(flat(optimiser_batches(10, 4, epochs=1, seed=seed))) for seed in range(20)}
    assert len(orders) == 20


def test_shares_of_processes_are_dealt_to_and_fro_by_length() -> None:
    pairs = make_pairs([(1, n, n) for n in (9, 8, 7, 6, 5, 4, 3)])
    shares = [Processes(rank, 3).share(range(7), lambda i: pairs[i].n_tokens) for rank in range(3)]
    assert shares == [[0, 5, 6], [1, 4], [2, 3]]
