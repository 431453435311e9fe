"""A micro-batch as tensors: the prompt of a pair stands once in its row, followed by both responses.

A row holds one pair or several, each laid out as prompt | chosen | rejected. The mask lets a response see its own
prompt and itself, never the other response or another pair, and both responses count their positions from the end of
their prompt; so a row gives the same log-probabilities as separate sequences at the price of one prompt per pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aipo_lab.training.pairs import EncodedPair

if TYPE_CHECKING:
    from torch import Tensor

PROMPT, CHOSEN, REJECTED = 0, 1, 2
N_ROLES = 3
PADDING = -1


@dataclass(frozen=True)
class PairBatch:
    """A micro-batch of B pairs in R rows of length L with n response tokens.

    `input_ids`, `position_ids`: (R, L). `segments`: (R, L), `3 * pair + role` of a token, -1 for padding.
    `sources`: (n,) flat index into R*L of the position that predicts a response token; `targets`: (n,)
    the token; `responses`: (n,) the response it belongs to, 2*pair for chosen and 2*pair+1 for rejected.
    `lengths`: (B, 2) tokens of chosen and rejected. `shared`: whether prompts stand once per pair.
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
        own_prompt = (keys % N_ROLES == PROMPT) & (keys // N_ROLES == queries // N_ROLES)
        allowed = earlier & ((keys == queries) | own_prompt)
        mask = torch.zeros(allowed.shape, dtype=dtype, device=self.segments.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


@dataclass(frozen=True)
class _Sequence:
    """A prompt with some of its responses: (role, tokens)."""

    pair: int
    prompt: list[int]
    responses: list[tuple[int, list[int]]]

    @property
    def n_tokens(self) -> int:
        return len(self.prompt) + sum(len(response) for _, response in self.responses)


def collate(rows: Sequence[Sequence[EncodedPair]], pad_token_id: int, device: str, shared: bool = True) -> PairBatch:
    """Lay out rows of pairs with each prompt once (`shared`), or each response with its prompt in a row of its own.

    Pairs are numbered in the order of the rows.
    """
    import torch

    laid_out = _shared_rows(rows) if shared else _separate_rows(rows)
    width = max(sum(sequence.n_tokens for sequence in row) for row in laid_out)
    columns = _Columns()
    for row in laid_out:
        columns.add_row(row, width, pad_token_id)

    def tensor(values: Any) -> Tensor:
        return torch.tensor(values, device=device)

    return PairBatch(
        input_ids=tensor(columns.ids).view(-1, width),
        position_ids=tensor(columns.positions).view(-1, width),
        segments=tensor(columns.segments).view(-1, width),
        sources=tensor(columns.sources),
        targets=tensor(columns.targets),
        responses=tensor(columns.responses),
        lengths=tensor([[len(pair.chosen), len(pair.rejected)] for row in rows for pair in row]),
        shared=shared,
    )


def _shared_rows(rows: Sequence[Sequence[EncodedPair]]) -> list[list[_Sequence]]:
    numbers = iter(range(sum(map(len, rows))))
    return [
        [_Sequence(next(numbers), pair.prompt, [(CHOSEN, pair.chosen), (REJECTED, pair.rejected)]) for pair in row]
        for row in rows
    ]


def _separate_rows(rows: Sequence[Sequence[EncodedPair]]) -> list[list[_Sequence]]:
    return [
        [_Sequence(sequence.pair, sequence.prompt, [response])]
        for row in _shared_rows(rows)
        for sequence in row
        for response in sequence.responses
    ]


@dataclass
class _Columns:
    """The flat columns of a batch, row after row."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)

    def add_row(self, sequences: Sequence[_Sequence], width: int, pad_token_id: int) -> None:
        """Add the sequences of one row and its padding up to `width`."""
        end = len(self.ids) + width
        for sequence in sequences:
            self._add_sequence(sequence)
        n_padding = end - len(self.ids)
        self.ids += [pad_token_id] * n_padding
        self.positions += [0] * n_padding
        self.segments += [PADDING] * n_padding

    def _add_sequence(self, sequence: _Sequence) -> None:
        n_prompt = len(sequence.prompt)
        self.ids += sequence.prompt
        self.positions += range(n_prompt)
        self.segments += [N_ROLES * sequence.pair + PROMPT] * n_prompt
        prompt_end = len(self.ids) - 1
        for role, response in sequence.responses:
            first = len(self.ids)
            self.ids += response
            self.positions += range(n_prompt, n_prompt + len(response))
            self.segments += [N_ROLES * sequence.pair + role] * len(response)
            # The first token of every response is predicted by the last token of the prompt.
            self.sources += [prompt_end, *range(first, first + len(response) - 1)]
            self.targets += response
            self.responses += [2 * sequence.pair + (role == REJECTED)] * len(response)
