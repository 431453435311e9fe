"""A micro-batch as tensors: what responses have in common stands once.

With a layout for the attention, one row holds the tree of all tokens. With a mask, a row holds pairs, each as
prompt | chosen | rejected. Either lets a response see its own prompt and itself and nothing else, and positions are
counted along the response's own sequence; so a row gives the same log-probabilities as separate sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aipo_lab.training.attention import AttentionLayout, lay_out
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.token_sums import TokenSums
from aipo_lab.training.token_tree import TokenTree

if TYPE_CHECKING:
    from torch import Tensor

PROMPT, CHOSEN, REJECTED = 0, 1, 2
N_ROLES = 3
PADDING = -1


class Sharing(StrEnum):
    """How the responses of a pair share their prompt in a model."""

    LAYOUT = "layout"
    """One row, a tree of tokens without padding; attention gathers every response with its prompt (see `attention`)."""
    MASK = "mask"
    """Rows of about equal length with a mask: for attention that cannot read layouts."""
    NONE = "none"
    """A row per response: for models in which sharing is not exact."""


@dataclass(frozen=True)
class PairBatch:
    """A micro-batch of B pairs in R rows of length L with n predicted tokens.

    `input_ids`, `position_ids`: (R, L). `sources`: (n,) flat index into R*L of the position that predicts a response
    token; `targets`: (n,) the token. `terms`: (m,) index into those n, which of them add up to the response in
    `responses`: (m,), 2*pair for chosen and 2*pair+1 for rejected. `lengths`: (B, 2) tokens of chosen and rejected.
    `sums`: what is added up of a response's tokens. `layout`: with `Sharing.LAYOUT`. `segments`: (R, L) without, `3 *
    pair + role` of a token, -1 for padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    sources: Tensor
    targets: Tensor
    terms: Tensor
    responses: Tensor
    lengths: Tensor
    sharing: Sharing
    segments: Tensor | None = None
    layout: AttentionLayout | None = None
    sums: TokenSums = TokenSums.PLAIN

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

        assert self.segments is not None
        width, device = self.segments.shape[1], self.segments.device
        queries, keys = self.segments[:, :, None], self.segments[:, None, :]
        earlier = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        own_prompt = (keys % N_ROLES == PROMPT) & (keys // N_ROLES == queries // N_ROLES)
        allowed = earlier & ((keys == queries) | own_prompt)
        mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
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
    rows: Sequence[Sequence[EncodedPair]],
    pad_token_id: int,
    device: str,
    sharing: Sharing = Sharing.LAYOUT,
    sums: TokenSums = TokenSums.PLAIN,
) -> PairBatch:
    """Lay pairs out: as one tree (`LAYOUT`), as rows with each prompt once (`MASK`), or each response in its own row.

    Pairs are numbered in the order of the rows.
    """
    if sharing is Sharing.LAYOUT:
        batch = _collate_tree([pair for row in rows for pair in row], device)
    else:
        batch = _collate_rows(rows, pad_token_id, device, sharing)
    return replace(batch, sums=sums)


def _collate_tree(pairs: Sequence[EncodedPair], device: str) -> PairBatch:
    import torch

    tree = TokenTree()
    sequences: list[list[int]] = []
    terms: list[int] = []
    responses: list[int] = []
    predicted: dict[tuple[int, int], int] = {}  # (place that predicts, token) -> term
    for pair in pairs:
        prompt, *paths = tree.add_pair(pair)
        for path, response in zip(paths, (pair.chosen, pair.rejected), strict=True):
            steps = zip([prompt[-1], *path], response, strict=True)
            terms += [predicted.setdefault(step, len(predicted)) for step in steps]
            responses += [len(sequences)] * len(response)
            sequences.append(prompt + path)

    def tensor(values: Any) -> Tensor:
        return torch.tensor(values, device=device)

    return PairBatch(
        input_ids=tensor([tree.tokens]),
        position_ids=tensor([tree.positions]),
        sources=tensor([source for source, _ in predicted]),
        targets=tensor([target for _, target in predicted]),
        terms=tensor(terms),
        responses=tensor(responses),
        lengths=_lengths(pairs, device),
        sharing=Sharing.LAYOUT,
        layout=lay_out(sequences, len(tree), device),
    )


def _collate_rows(rows: Sequence[Sequence[EncodedPair]], pad_token_id: int, device: str, sharing: Sharing) -> PairBatch:
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
        sources=tensor(columns.sources),
        targets=tensor(columns.targets),
        terms=torch.arange(len(columns.targets), device=device),
        responses=tensor(columns.responses),
        lengths=_lengths([pair for row in rows for pair in row], device),
        sharing=sharing,
        segments=tensor(columns.segments).view(-1, width),
    )


def _lengths(pairs: Sequence[EncodedPair], device: str) -> Tensor:
    import torch

    return torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs], device=device)


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
