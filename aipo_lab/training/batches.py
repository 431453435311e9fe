"""A micro-batch as tensors: the prompt of a pair stands once in its row, followed by both responses.

A row holds one pair or several, each laid out as prompt | chosen | rejected. A layout or a mask lets a response see its
own prompt and itself, never the other response or another pair, and both responses count their positions from the end
of their prompt; so a row gives the same log-probabilities as separate sequences at the price of one prompt per pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aipo_lab.training.attention import AttentionLayout
from aipo_lab.training.pairs import EncodedPair

if TYPE_CHECKING:
    from torch import Tensor

PROMPT, CHOSEN, REJECTED = 0, 1, 2
N_ROLES = 3
PADDING = -1


class Sharing(StrEnum):
    """How the responses of a pair share their prompt in a model."""

    LAYOUT = "layout"
    """Rows without padding; attention gathers every response with its prompt (see `attention`)."""
    MASK = "mask"
    """Rows of about equal length with a mask: for attention that cannot read layouts."""
    NONE = "none"
    """A row per response: for models in which sharing is not exact."""


@dataclass(frozen=True)
class PairBatch:
    """A micro-batch of B pairs in R rows of length L with n response tokens.

    `input_ids`, `position_ids`: (R, L). `segments`: (R, L), `3 * pair + role` of a token, -1 for padding.
    `sources`: (n,) flat index into R*L of the position that predicts a response token; `targets`: (n,)
    the token; `responses`: (n,) the response it belongs to, 2*pair for chosen and 2*pair+1 for rejected.
    `lengths`: (B, 2) tokens of chosen and rejected. `layout`: with `Sharing.LAYOUT`.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    sources: Tensor
    targets: Tensor
    responses: Tensor
    lengths: Tensor
    sharing: Sharing
    layout: AttentionLayout | None

    def attention(self, dtype: Any) -> dict[str, Any]:
        """The arguments of a model's decoder that keep responses and pairs apart."""
        if self.sharing is Sharing.MASK:
            return {"attention_mask": self.attention_mask(dtype)}
        if self.sharing is Sharing.LAYOUT:
            unused = self.position_ids.new_zeros((1, 1, 1, 1))  # keeps transformers from making a mask of its own
            return {"attention_mask": unused, "pair_layout": self.layout}
        return {"attention_mask": None}  # causal attention keeps the padding on the right out of sight

    def attention_mask(self, dtype: Any) -> Tensor:
        """Additive mask (R, 1, L, L): 0 where attention is allowed, the lowest number of `dtype` elsewhere."""
        import torch

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


def collate(
    rows: Sequence[Sequence[EncodedPair]], pad_token_id: int, device: str, sharing: Sharing = Sharing.LAYOUT
) -> PairBatch:
    """Lay out rows of pairs with each prompt once, or (`Sharing.NONE`) each response with its prompt in its own row.

    Pairs are numbered in the order of the rows.
    """
    import torch

    laid_out = _separate_rows(rows) if sharing is Sharing.NONE else _shared_rows(rows)
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
        sharing=sharing,
        layout=AttentionLayout(*map(tensor, columns.layout())) if sharing is Sharing.LAYOUT else None,
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
    sequences: list[list[int]] = field(default_factory=list)

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
        prompt = range(len(self.ids), len(self.ids) + n_prompt)
        self.ids += sequence.prompt
        self.positions += range(n_prompt)
        self.segments += [N_ROLES * sequence.pair + PROMPT] * n_prompt
        prompt_end = len(self.ids) - 1
        for role, response in sequence.responses:
            first = len(self.ids)
            self.sequences.append([*prompt, *range(first, first + len(response))])
            self.ids += response
            self.positions += range(n_prompt, n_prompt + len(response))
            self.segments += [N_ROLES * sequence.pair + role] * len(response)
            # The first token of every response is predicted by the last token of the prompt.
            self.sources += [prompt_end, *range(first, first + len(response) - 1)]
            self.targets += response
            self.responses += [2 * sequence.pair + (role == REJECTED)] * len(response)

    def layout(self) -> tuple[list[list[int]], list[int]]:
        """`tokens` and `places` of an `AttentionLayout`."""
        width = max(map(len, self.sequences))
        places = [0] * len(self.ids)
        for number, tokens in enumerate(self.sequences):
            for place, token in enumerate(tokens, start=number * width):
                places[token] = place
        return [tokens + tokens[-1:] * (width - len(tokens)) for tokens in self.sequences], places
