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


SPLIT_GAIN = 0.2
"""The least share of the attention's scores that two groups of sequences must save over one."""


@dataclass(frozen=True)
class AttentionLayout:
    """Where n tokens stand in sequences that come in groups, short ones apart from long ones.

    `groups`: a (S, W) tensor each, index into the tokens; padding on the right repeats a token, which no other attends
    to. `places`: (n,) index into the places of all groups, flat one after the other, where a token's result is taken.
    """

    groups: tuple[Tensor, ...]
    places: Tensor


def lay_out(sequences: Sequence[Sequence[int]], n_tokens: int, device: str) -> AttentionLayout:
    """The layout of sequences of indices into `n_tokens` tokens, every one of which is in some sequence."""
    import torch

    groups: list[Tensor] = []
    places, start = [0] * n_tokens, 0
    for group in _split(sorted(sequences, key=len, reverse=True)):
        width = len(group[0])
        for sequence in group:
            for place, token in enumerate(sequence, start):
                places[token] = place
            start += width
        padded = [[*sequence, *[sequence[-1]] * (width - len(sequence))] for sequence in group]
        groups.append(torch.tensor(padded, device=device))
    return AttentionLayout(tuple(groups), torch.tensor(places, device=device))


def _split(by_length: list[Sequence[int]]) -> list[list[Sequence[int]]]:
    """One group, or the two that need the fewest scores if they save `SPLIT_GAIN`."""
    count, longest = len(by_length), len(by_length[0])
    scores = [at * longest**2 + (count - at) * len(by_length[at]) ** 2 for at in range(1, count)]
    if not scores or min(scores) > (1 - SPLIT_GAIN) * count * longest**2:
        return [by_length]
    at = 1 + scores.index(min(scores))
    return [by_length[:at], by_length[at:]]


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
        by_token = [one.transpose(1, 2).flatten(0, 1) for one in (query, key, value)]
        results = [
            plain(module, *(_gather(one, group) for one in by_token), None, **options | {"is_causal": True})[0]
            for group in layout.groups
        ]
        flat = torch.cat([result.flatten(0, 1) for result in results]) if len(results) > 1 else results[0].flatten(0, 1)
        return flat.index_select(0, layout.places).view(query.shape[0], query.shape[2], *flat.shape[1:]), None

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def _gather(by_token: Tensor, group: Tensor) -> Tensor:
    """(n, H, D) states of tokens as (S, H, W, D) states of sequences."""
    return by_token.index_select(0, group.flatten()).view(*group.shape, *by_token.shape[1:]).transpose(1, 2)
