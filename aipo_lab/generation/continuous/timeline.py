"""The key-value cache of a batch whose rows come and go: a timeline on which all rows stand at the same column.

A row's tokens end at the present column, wherever they began, as if its prompt were padded on the left: so any model
that transformers generates with reads it with an ordinary attention mask. A new token is written in place; new rows are
laid so that they end at the present. Rows come longest first, and stay about in that order: neighbours of about one
length are groups (`row_groups`), and the slot of a row that ends goes to the last row of its group, that one's to the
last of the next group, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from aipo_lab.generation.continuous.row_groups import Group, partition

SLACK_COLUMNS = 128
"""Columns beyond the longest row's: after so many steps the rows are moved back to the timeline's start."""


class _Span:
    """The columns in use, from `low` to before `high`, and the number of rows: what all layers share."""

    def __init__(self, high: int) -> None:
        self.low = self.high = high
        self.rows = 0


class _TimelineLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, each (slots, heads, columns, size of a head)."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, span: _Span) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True
        self.span = span

    def lazy_initialization(self, *_: Any) -> None:
        raise AssertionError("a layer is made with its keys and values")

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token of every row into the present column; the columns in use, that one included."""
        span = self.span
        self.keys[: span.rows, :, span.high] = key_states[:, :, 0]
        self.values[: span.rows, :, span.high] = value_states[:, :, 0]
        used = slice(span.low, span.high + 1)
        return self.keys[: span.rows, :, used], self.values[: span.rows, :, used]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.span.high - self.span.low

    def get_max_length(self) -> int:
        return -1


class Timeline:
    """Keys and values of up to `slots` rows of up to `columns` tokens, for a model of which a prompt was computed.

    `example`: the cache of that computation, of which layers, heads and data type are taken.
    """

    def __init__(self, example: Cache, slots: int, columns: int, start: int) -> None:
        self.columns = columns + SLACK_COLUMNS
        self.span = _Span(start)
        self.starts: list[int] = []
        self.groups: list[Group] = []
        self.layers = [
            _TimelineLayer(self._room(layer.keys, slots), self._room(layer.values, slots), self.span)
            for layer in example.layers
        ]
        self.cache = Cache(layers=self.layers)

    def _room(self, states: Tensor, slots: int) -> Tensor:
        """Zeros, whatever lay in memory: before a row's start a mask hides numbers, but not what is no number."""
        return states.new_zeros(slots, states.shape[1], self.columns, states.shape[3])

    @property
    def n_rows(self) -> int:
        """Rows in the batch."""
        return self.span.rows

    def add(self, prefilled: Cache, sources: Sequence[int], lengths: Sequence[int]) -> None:
        """Add rows: of computed prompts, padded on the left, those at `sources`, with their lengths."""
        width = max(lengths)
        self._make_room(width)
        first, high = self.n_rows, self.span.high
        picked = torch.tensor(sources, device=self.layers[0].keys.device)
        slots = slice(first, first + len(sources))
        for layer, computed in zip(self.layers, prefilled.layers, strict=True):
            layer.keys[slots, :, high - width : high] = computed.keys[:, :, -width:][picked]
            layer.values[slots, :, high - width : high] = computed.values[:, :, -width:][picked]
        self.starts += [high - length for length in lengths]
        self._rows_changed()

    def remove(self, ended: Sequence[int]) -> list[int]:
        """Take rows out, by their slots; the slots' new order: which old slot each remaining row stood in."""
        order = _without(self.groups, ended)
        moved = [(slot, old) for slot, old in enumerate(order) if slot != old]
        if moved:
            self._move(*zip(*moved, strict=True))
        self.starts = [self.starts[old] for old in order]
        self._rows_changed()
        return order

    def next_inputs(self) -> tuple[Tensor, Tensor]:
        """Attention mask (rows, columns in use and one more) and positions (rows, 1) for one more token a row."""
        self._make_room(0, ahead=1)
        device = self.layers[0].keys.device
        starts = torch.tensor(self.starts, device=device)[:, None]
        columns = torch.arange(self.span.low, self.span.high + 1, device=device)
        return (columns >= starts).long(), self.span.high - starts

    def advance(self) -> None:
        """One token of every row was written."""
        self.span.high += 1

    def _rows_changed(self) -> None:
        self.span.rows = len(self.starts)
        self.span.low = min(self.starts, default=self.span.high)
        self.groups = partition(self.starts)

    def _move(self, to: Sequence[int], source: Sequence[int]) -> None:
        device = self.layers[0].keys.device
        old, new = torch.tensor(source, device=device), torch.tensor(to, device=device)
        used = slice(min(self.starts[slot] for slot in source), self.span.high)
        for states in self._states():
            states[new, :, used] = states[old, :, used]

    def _make_room(self, width: int, ahead: int = 0) -> None:
        """Move all rows so that `width` columns lie before the present one and `ahead` behind it."""
        span = self.span
        if span.high >= width and span.high + ahead <= self.columns:
            return
        used = span.high - span.low
        high = max(used, width)
        assert high + ahead <= self.columns, "the timeline is longer than any row"
        if used:
            for states in self._states():
                states[: span.rows, :, high - used : high] = states[: span.rows, :, span.low : span.high].clone()
        self.starts = [start + high - span.high for start in self.starts]
        span.low, span.high = high - used, high
        self.groups = partition(self.starts)

    def _states(self) -> list[Tensor]:
        return [states for layer in self.layers for states in (layer.keys, layer.values)]


def _without(groups: Sequence[Group], ended: Sequence[int]) -> list[int]:
    """The new order of slots without those that ended: groups stay together, and as few rows as possible move."""
    gone, order = frozenset(ended), list[int]()
    for first, end, _ in groups:
        left = [slot for slot in range(first, end) if slot not in gone]
        place = range(len(order), len(order) + len(left))
        staying = {slot for slot in left if slot in place}
        moving = iter([slot for slot in left if slot not in place])
        order += [slot if slot in staying else next(moving) for slot in place]
    return order
