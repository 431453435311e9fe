"""Pairs as tensors: the prompt of a pair stands once in its row, followed by both responses.

Row layout: prompt | chosen | rejected. The mask lets each response see the prompt and itself, never the
other one, and both responses count their positions from the end of the prompt; so the row gives the same
log-probabilities as two separate sequences at the price of one prompt.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aipo_lab.chat import encode_prompt, encode_response

if TYPE_CHECKING:
    from torch import Tensor

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, 3


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one preference pair; responses include the end token where the policy wrote one."""

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def n_tokens(self) -> int:
        """Length of the pair's row."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)


def encode_pairs(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, max_prompt_tokens: int, max_response_tokens: int
) -> tuple[list[EncodedPair], Counter[str]]:
    """Encode rows of `pairs.jsonl`; a pair past a limit is left out and counted, never cut short."""
    pairs, excluded = [], Counter[str]()
    for row in rows:
        pair = EncodedPair(row["id"], encode_prompt(tokenizer, row["prompt"]), *_encode_responses(row, tokenizer))
        if len(pair.prompt) > max_prompt_tokens:
            excluded["prompt_too_long"] += 1
        elif max(len(pair.chosen), len(pair.rejected)) > max_response_tokens:
            excluded["response_too_long"] += 1
        elif not pair.chosen or not pair.rejected:
            excluded["empty_response"] += 1
        else:
            pairs.append(pair)
    return pairs, excluded


def _encode_responses(row: Mapping[str, Any], tokenizer: Any) -> list[list[int]]:
    return [
        encode_response(tokenizer, row[role][0]["content"], ended=row.get(f"{role}_finish_reason", "stop") == "stop")
        for role in ("chosen", "rejected")
    ]


def optimiser_batches(n_pairs: int, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """The pair indices of every optimiser step: a seeded order per epoch, the last batch may be smaller."""
    batches = []
    for epoch in range(epochs):
        order = list(range(n_pairs))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        batches += [order[start : start + batch_size] for start in range(0, n_pairs, batch_size)]
    return batches


def micro_batches(indices: Sequence[int], pairs: Sequence[EncodedPair], max_tokens: int) -> list[list[int]]:
    """Split an optimiser batch into rows of similar length, at most `max_tokens` each counting padding.

    A single pair longer than `max_tokens` gets a micro-batch of its own.
    """
    by_length = sorted(indices, key=lambda index: -pairs[index].n_tokens)
    made: list[list[int]] = []
    for index in by_length:
        if made and pairs[made[-1][0]].n_tokens * (len(made[-1]) + 1) <= max_tokens:
            made[-1].append(index)
        else:
            made.append([index])
    return made


@dataclass(frozen=True)
class PairBatch:
    """A micro-batch of B pairs in rows of length L with n response tokens in all.

    `input_ids`, `position_ids`: (B, L). `segments`: (B, L), which part of the row a token belongs to.
    `sources`: (n,) flat index into B*L of the position that predicts a response token; `targets`: (n,)
    the token; `responses`: (n,) the response it belongs to, 2*row for chosen and 2*row+1 for rejected.
    `lengths`: (B, 2) tokens of chosen and rejected.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    sources: Tensor
    targets: Tensor
    responses: Tensor
    lengths: Tensor

    def attention_mask(self, dtype: Any) -> Tensor:
        """Additive mask (B, 1, L, L): 0 where attention is allowed, the lowest number of `dtype` elsewhere."""
        import torch

        width = self.segments.shape[1]
        queries, keys = self.segments[:, :, None], self.segments[:, None, :]
        earlier = torch.ones(width, width, dtype=torch.bool, device=self.segments.device).tril()
        allowed = earlier & ((keys == PROMPT) | (keys == queries))
        mask = torch.zeros(allowed.shape, dtype=dtype, device=self.segments.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


def collate(pairs: Sequence[EncodedPair], pad_token_id: int, device: str) -> PairBatch:
    """Lay out a micro-batch."""
    import torch

    width = max(pair.n_tokens for pair in pairs)
    ids, positions, segments = [], [], []
    sources: list[int] = []
    targets: list[int] = []
    responses: list[int] = []
    for row, pair in enumerate(pairs):
        n_prompt, n_chosen, n_rejected = len(pair.prompt), len(pair.chosen), len(pair.rejected)
        n_padding = width - pair.n_tokens
        ids.append(pair.prompt + pair.chosen + pair.rejected + [pad_token_id] * n_padding)
        positions.append([*range(n_prompt + n_chosen), *range(n_prompt, n_prompt + n_rejected), *([0] * n_padding)])
        segments.append([PROMPT] * n_prompt + [CHOSEN] * n_chosen + [REJECTED] * n_rejected + [PADDING] * n_padding)
        start = row * width
        for which, (first, response) in enumerate(((n_prompt, pair.chosen), (n_prompt + n_chosen, pair.rejected))):
            # The first token of either response is predicted by the last token of the shared prompt.
            sources += [start + n_prompt - 1, *range(start + first, start + first + len(response) - 1)]
            targets += response
            responses += [2 * row + which] * len(response)

    def tensor(values: Any) -> Tensor:
        return torch.tensor(values, device=device)

    return PairBatch(
        input_ids=tensor(ids),
        position_ids=tensor(positions),
        segments=tensor(segments),
        sources=tensor(sources),
        targets=tensor(targets),
        responses=tensor(responses),
        lengths=tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs]),
    )
