"""Attention of a decoding step on a CPU, by groups of rows: short rows do not read the columns of long ones.

In a timeline all rows end at the same column and begin where they begin. One attention over all of them computes every
row as wide as the longest, and hides what is too much behind a mask. Rows that stand together and begin at similar
columns are a group, whose attention is as wide as its own longest row; what is left out had no part in the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ATTENTION = "sdpa"
"""The attention of transformers that is computed by groups; others compute all rows at once."""
GROUP_COLUMNS = 256
"""Padded columns of single rows that take as long as one more group in all layers, on a CPU (measured)."""

Group = tuple[int, int, int]
"""Slots from and to (not included), and the column at which the first of them begins."""


def partition(starts: Sequence[int]) -> list[Group]:
    """Groups of neighbouring slots that begin at `starts`: a row joins the last one unless that pads too much."""
    groups: list[Group] = []
    padded = 0
    for slot, start in enumerate(starts):
        if groups:
            first, _, low = groups[-1]
            more = start - low if start >= low else (low - start) * (slot - first)
            if padded + more <= GROUP_COLUMNS:
                groups[-1] = (first, slot + 1, min(low, start))
                padded += more
                continue
        groups.append((slot, slot + 1, start))
        padded = 0
    return groups


class _Step:
    """The groups of one decoding step, their columns counted from the first in use, and masks as they were needed."""

    def __init__(self, groups: Sequence[Group], low: int) -> None:
        self.groups = [(first, end, start - low) for first, end, start in groups]
        self.n_rows = self.groups[-1][1]
        self.masks: dict[int, tuple[Tensor, list[Tensor | None]]] = {}

    def masks_of(self, mask: Tensor) -> list[Tensor | None]:
        """A model's mask (rows, 1, 1, columns) by groups; None for a group of which it hides nothing."""
        if id(mask) not in self.masks:  # the mask is kept, so that no other gets its id meanwhile
            self.masks[id(mask)] = mask, [_shown(mask[a:b, ..., skip:]) for a, b, skip in self.groups]
        return self.masks[id(mask)][1]


_STEP: ContextVar[_Step | None] = ContextVar("aipo_lab_row_groups", default=None)


@contextmanager
def row_groups(groups: Sequence[Group], low: int) -> Iterator[None]:
    """Within it, attention over one token of every row is computed by `groups`; `low` is the first column in use."""
    _install()
    token = _STEP.set(_Step(groups, low))
    try:
        yield
    finally:
        _STEP.reset(token)


def _shown(mask: Tensor) -> Tensor | None:
    """A mask as numbers that are added, which no layer has to make of it again."""
    import torch

    if mask.dtype != torch.bool:
        return None if not mask.any() else mask.contiguous()
    return None if mask.all() else torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)


@cache
def _install() -> None:
    """Let transformers' attention compute by groups where a step has some; else it computes what it always did."""
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = ALL_ATTENTION_FUNCTIONS[ATTENTION]

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        step = _STEP.get()
        if step is None or attention_mask is None or not _fits(step, query, attention_mask):
            made: tuple[Tensor, None] = plain(module, query, key, value, attention_mask, **options)
            return made
        results = [
            plain(module, query[a:b], key[a:b, :, skip:], value[a:b, :, skip:], mask, **options)[0]
            for (a, b, skip), mask in zip(step.groups, step.masks_of(attention_mask), strict=True)
        ]
        return torch.cat(results), None

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)


def _fits(step: _Step, query: Tensor, mask: Tensor) -> bool:
    """Whether it is the attention of the step's rows, by a mask alone that all heads share."""
    return query.shape[0] == step.n_rows == mask.shape[0] and query.shape[2] == 1 == mask.shape[1]
