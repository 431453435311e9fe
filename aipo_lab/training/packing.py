"""Which pairs are computed together: the seeded batch of every optimiser step, its micro-batches and their rows.

A micro-batch is a list of rows, a row a list of pair indices. Where attention reads layouts, one row holds them all as
a tree of tokens; else short pairs share a row, so that rows are about equally long and little of them is padding.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from aipo_lab.training.batches import Sharing
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.token_tree import TokenTree

MAX_PADDING_SHARE = 0.04

MicroBatch = list[list[int]]


def optimiser_batches(n_pairs: int, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """The pair indices of every optimiser step: a seeded order per epoch, the last batch may be smaller."""
    batches = []
    for epoch in range(epochs):
        order = list(range(n_pairs))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        batches += [order[start : start + batch_size] for start in range(0, n_pairs, batch_size)]
    return batches


def micro_batches(
    indices: Sequence[int], pairs: Sequence[EncodedPair], max_tokens: int, sharing: Sharing = Sharing.LAYOUT
) -> list[MicroBatch]:
    """Split an optimiser batch into micro-batches of at most `max_tokens` each, counting padding.

    A single pair longer than `max_tokens` gets a micro-batch of its own. Nothing is padding with `Sharing.LAYOUT`, at
    most `MAX_PADDING_SHARE` with `Sharing.MASK`; with `Sharing.NONE` every response has a row of its own.
    """
    by_length = sorted(indices, key=lambda index: -pairs[index].n_tokens)
    if sharing is Sharing.LAYOUT:
        return [[chunk] for chunk in _tree_chunks(by_length, pairs, max_tokens)]
    if sharing is Sharing.NONE:
        return [[[index] for index in chunk] for chunk in _separate_chunks(by_length, pairs, max_tokens)]
    # Room is left for the padding of the rows.
    chunks = _chunks(by_length, pairs, int(max_tokens * (1 - MAX_PADDING_SHARE)))
    return [_rows(chunk, pairs) for chunk in chunks]


def _tree_chunks(by_length: Sequence[int], pairs: Sequence[EncodedPair], max_tokens: int) -> list[list[int]]:
    """Consecutive pairs whose tree has at most `max_tokens` tokens, and whose attention at most twice as many."""
    made: list[list[int]] = []
    tree, n_attended = TokenTree(), 0
    for index in by_length:
        tree.add_pair(pairs[index])
        n_attended += pairs[index].n_attended_tokens
        if made and len(tree) <= max_tokens and n_attended <= 2 * max_tokens:
            made[-1].append(index)
            continue
        made.append([index])
        tree, n_attended = TokenTree(), pairs[index].n_attended_tokens
        tree.add_pair(pairs[index])
    return made


def _chunks(by_length: Sequence[int], pairs: Sequence[EncodedPair], max_tokens: int) -> list[list[int]]:
    """Consecutive pairs with at most `max_tokens` tokens together."""
    made: list[list[int]] = []
    n_tokens = 0
    for index in by_length:
        n_tokens += pairs[index].n_tokens
        if made and n_tokens <= max_tokens:
            made[-1].append(index)
        else:
            made.append([index])
            n_tokens = pairs[index].n_tokens
    return made


def _separate_chunks(by_length: Sequence[int], pairs: Sequence[EncodedPair], max_tokens: int) -> list[list[int]]:
    """Consecutive pairs whose responses, each in a row with its prompt, make at most `max_tokens` with padding."""
    made: list[list[int]] = []
    width = 0
    for index in sorted(by_length, key=lambda index: -pairs[index].longest_sequence_tokens):
        if made and 2 * width * (len(made[-1]) + 1) <= max_tokens:
            made[-1].append(index)
        else:
            made.append([index])
            width = pairs[index].longest_sequence_tokens
    return made


def _rows(chunk: Sequence[int], pairs: Sequence[EncodedPair]) -> MicroBatch:
    """The most rows the padding allows; the longest pair left always goes to the shortest row."""
    total, longest = sum(pairs[index].n_tokens for index in chunk), pairs[chunk[0]].n_tokens
    n_rows = max(1, min(len(chunk), int(total / (longest * (1 - MAX_PADDING_SHARE)))))
    while True:
        rows: MicroBatch = [[] for _ in range(n_rows)]
        widths = [0] * n_rows
        for index in chunk:
            shortest = widths.index(min(widths))
            rows[shortest].append(index)
            widths[shortest] += pairs[index].n_tokens
        if 1 - total / (n_rows * max(widths)) <= MAX_PADDING_SHARE:
            return rows
        n_rows -= 1
