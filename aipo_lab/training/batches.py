"""Pairs as tensors: the prompt of a pair stands once in its row, followed by both responses.

Row layout: prompt | chosen | rejected. The mask lets each response see the prompt and itself, never the
other one, and both responses count their positions from the end of the prompt; so the row gives the same
log-probabilities as two separate sequences at the price of one prompt.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aipo_lab.chat import encode_prompt, encode_response

if TYPE_CHECKING:
    from torch import Tensor

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, 3


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one preference pair; responses include the end token where the policy wrote one.

    `win_rates` of chosen and rejected are there when the pair's row has them.
    """

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    win_rates: tuple[float, float] | None = None

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
        rates = (row["chosen_win_rate"], row["rejected_win_rate"]) if "chosen_win_rate" in row else None
        chosen, rejected = _encode_responses(row, tokenizer)
        pair = EncodedPair(row["id"], encode_prompt(tokenizer, row["prompt"]), chosen, rejected, rates)
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
    """A micro-batch of B pairs in R rows of length L (R = B with shared prompts, else 2 B) with n response tokens.

    `input_ids`, `position_ids`: (R, L). `segments`: (R, L), which part of the row a token belongs to.
    `sources`: (n,) flat index into R*L of the position that predicts a response token; `targets`: (n,)
    the token; `responses`: (n,) the response it belongs to, 2*pair for chosen and 2*pair+1 for rejected.
    `lengths`: (B, 2) tokens of chosen and rejected.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    sources: Tensor
    targets: Tensor
    responses: Tensor
    lengths: Tensor
    shared: bool

    def attention_mask(self, dtype: Any) -> Tensor | None:
        """Additive mask (R, 1, L, L): 0 where attention is allowed, the lowest number of `dtype` elsewhere.

        None without shared prompts: causal attention keeps the padding on the right out of sight.
        """
        import torch

        if not self.shared:
            return None
        width = self.segments.shape[1]
        queries, keys = self.segments[:, :, None], self.segments[:, None, :]
        earlier = torch.ones(width, width, dtype=torch.bool, device=self.segments.device).tril()
        allowed = earlier & ((keys == PROMPT) | (keys == queries))
        mask = torch.zeros(allowed.shape, dtype=dtype, device=self.segments.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


Part = tuple[int, list[int]]
"""A response's number within the micro-batch, and its tokens."""


def collate(pairs: Sequence[EncodedPair], pad_token_id: int, device: str, shared: bool = True) -> PairBatch:
    """Lay out a micro-batch, with each prompt once (`shared`) or once per response."""
    import torch

    rows = _shared_rows(pairs) if shared else _separate_rows(pairs)
    width = max(len(prompt) + sum(len(response) for _, response in parts) for prompt, parts in rows)
    columns = _Columns()
    for number, (prompt, parts) in enumerate(rows):
        columns.add_row(prompt, parts, number * width, width, pad_token_id)

    def tensor(values: Any) -> Tensor:
        return torch.tensor(values, device=device)

    return PairBatch(
        input_ids=tensor(columns.ids).view(-1, width),
        position_ids=tensor(columns.positions).view(-1, width),
        segments=tensor(columns.segments).view(-1, width),
        sources=tensor(columns.sources),
        targets=tensor(columns.targets),
        responses=tensor(columns.responses),
        lengths=tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs]),
        shared=shared,
    )


def _shared_rows(pairs: Sequence[EncodedPair]) -> list[tuple[list[int], list[Part]]]:
    return [(pair.prompt, [(2 * i, pair.chosen), (2 * i + 1, pair.rejected)]) for i, pair in enumerate(pairs)]


def _separate_rows(pairs: Sequence[EncodedPair]) -> list[tuple[list[int], list[Part]]]:
    return [(prompt, [part]) for prompt, parts in _shared_rows(pairs) for part in parts]


@dataclass
class _Columns:
    """The flat columns of a batch, row after row."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)

    def add_row(self, prompt: list[int], parts: Sequence[Part], start: int, width: int, pad_token_id: int) -> None:
        """Add prompt, responses and padding of one row, whose first token has the flat index `start`."""
        n_prompt = len(prompt)
        self.ids += prompt
        self.positions += range(n_prompt)
        self.segments += [PROMPT] * n_prompt
        first = start + n_prompt
        for number, response in parts:
            self.ids += response
            self.positions += range(n_prompt, n_prompt + len(response))
            self.segments += [(CHOSEN, REJECTED)[number % 2]] * len(response)
            # The first token of every response is predicted by the last token of the prompt.
            self.sources += [start + n_prompt - 1, *range(first, first + len(response) - 1)]
            self.targets += response
            self.responses += [number] * len(response)
            first += len(response)
        n_padding = start + width - first
        self.ids += [pad_token_id] * n_padding
        self.positions += [0] * n_padding
        self.segments += [PADDING] * n_padding
