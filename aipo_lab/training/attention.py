"""Attention over a tree of tokens: every response attends as a sequence of its own.

A batch holds once what responses have in common. For the attention alone, queries, keys and values are gathered into
sequences prompt | chosen and prompt | rejected, over which transformers' `sdpa` runs causally: no (L, L) mask, and a
device's fastest kernel serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NAME = "sdpa"
"""The attention of transformers that learns to read layouts."""


GROUP_SCORES = 1 << 13
"""What one more group costs, in scores of a head: its calls' own time, where a score is 3e-8 s."""


@dataclass(frozen=True)
class AttentionLayout:
    """Where n tokens stand in sequences that come in groups, short ones apart from long ones.

    `tokens`: (m,) index into the tokens, the places of all groups one after the other; `shapes`: (S, W) of each group.
    Padding on the right of a sequence repeats a token, which no other attends to. `places`: (n,) index into the m
    places, where a token's result is taken.
    """

    tokens: Tensor
    shapes: tuple[tuple[int, int], ...]
    places: Tensor


def lay_out(sequences: Sequence[Sequence[int]], n_tokens: int, device: str) -> AttentionLayout:
    """The layout of sequences of indices into `n_tokens` tokens, every one of which is in some sequence."""
    import torch

    groups = _split(sorted(sequences, key=len, reverse=True))
    order: list[int] = []
    places = [0] * n_tokens
    for group in groups:
        width = len(group[0])
        for sequence in group:
            for place, token in enumerate(sequence, len(order)):
                places[token] = place
            order += [*sequence, *[sequence[-1]] * (width - len(sequence))]
    shapes = tuple((len(group), len(group[0])) for group in groups)
    return AttentionLayout(torch.tensor(order, device=device), shapes, torch.tensor(places, device=device))


def _split(by_length: list[Sequence[int]]) -> list[list[Sequence[int]]]:
    """The groups with the fewest scores, half a square for each sequence as wide as its group's longest.

    Sequences as long as one another stay together.
    """
    lengths = [len(sequence) for sequence in by_length]
    cuts = [at for at, length in enumerate(lengths) if at == 0 or length != lengths[at - 1]] + [len(lengths)]
    costs, begins = [0.0], [0]
    for number, end in enumerate(cuts[1:], start=1):
        tried = [
            costs[before] + GROUP_SCORES + (end - cuts[before]) * lengths[cuts[before]] ** 2 / 2
            for before in range(number)
        ]
        costs.append(min(tried))
        begins.append(tried.index(costs[-1]))
    groups, number = [], len(cuts) - 1
    while number:
        groups.append(by_length[cuts[begins[number]] : cuts[number]])
        number = begins[number]
    return groups[::-1]


@cache
def install_layouts() -> None:
    """Let transformers' attention take a `pair_layout`; without one it computes what it always did.

    It stays for good: gradient checkpointing runs layers again after the forward pass has returned.
    """
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = ALL_ATTENTION_FUNCTIONS[NAME]

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        layout: AttentionLayout | None = options.pop("pair_layout", None)
        if layout is None:
            made: tuple[Tensor, None] = plain(module, query, key, value, attention_mask, **options)
            return made
        placed = [_place(one, layout) for one in (query, key, value)]
        results = [
            plain(module, *parts, None, **options | {"is_causal": True})[0] for parts in zip(*placed, strict=True)
        ]
        flat = torch.cat([result.flatten(0, 1) for result in results]) if len(results) > 1 else results[0].flatten(0, 1)
        return flat.index_select(0, layout.places).view(query.shape[0], query.shape[2], *flat.shape[1:]), None

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def _place(states: Tensor, layout: AttentionLayout) -> list[Tensor]:
    """(1, H, n, D) states of tokens as (S, H, W, D) states of sequences, group by group; they are gathered once."""
    import torch

    placed = states.transpose(1, 2).flatten(0, 1).index_select(0, layout.tokens)
    parts = torch.split(placed, [count * width for count, width in layout.shapes])
    return [
        part.view(*shape, *part.shape[1:]).transpose(1, 2) for part, shape in zip(parts, layout.shapes, strict=True)
    ]
