"""Attention over pairs that share their prompt: every response attends as a sequence of its own.

A row of a batch holds each prompt once. For the attention alone, queries, keys and values are gathered into sequences
prompt | chosen and prompt | rejected, over which transformers' `sdpa` runs causally: no (L, L) mask, and a device's
fastest kernel serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NAME = "sdpa"
"""The attention of transformers that learns to read layouts."""


@dataclass(frozen=True)
class AttentionLayout:
    """Where the tokens of a batch of R rows of length L stand in its S sequences of at most W tokens.

    `tokens`: (S, W), index into the R * L tokens; padding on the right repeats a token, which no other attends to.
    `places`: (R * L,), index into the S * W places where a token's result is taken from.
    """

    tokens: Tensor
    places: Tensor


@cache
def install_layouts() -> None:
    """Let transformers' attention take a `pair_layout`; without one it computes what it always did.

    It stays for good: gradient checkpointing runs layers again after the forward pass has returned.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = ALL_ATTENTION_FUNCTIONS[NAME]

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        layout: AttentionLayout | None = options.pop("pair_layout", None)
        if layout is None:
            made: tuple[Tensor, None] = plain(module, query, key, value, attention_mask, **options)
            return made
        sequences = (_gather(one, layout.tokens) for one in (query, key, value))
        result, _ = plain(module, *sequences, None, **options | {"is_causal": True})
        by_token = result.flatten(0, 1).index_select(0, layout.places)
        return by_token.view(query.shape[0], query.shape[2], *result.shape[2:]), None

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def _gather(states: Tensor, tokens: Tensor) -> Tensor:
    """(R, H, L, D) states of rows as (S, H, W, D) states of sequences."""
    by_token = states.transpose(1, 2).flatten(0, 1)
    return by_token.index_select(0, tokens.flatten()).view(*tokens.shape, *by_token.shape[1:]).transpose(1, 2)
