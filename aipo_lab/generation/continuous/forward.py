"""Forward passes of a model in generation: whole sequences at once, and one more token of every row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from aipo_lab.generation.continuous.row_groups import row_groups
from aipo_lab.generation.continuous.timeline import Timeline
from aipo_lab.models.policy import Policy

CACHED_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers whose state is the keys and values of all tokens, which a timeline can hold."""


@dataclass(frozen=True)
class Computed:
    """Sequences that were computed, padded on the left: their cache and the logits after their last tokens (n, V)."""

    cache: Cache | None
    logits: Tensor
    lengths: list[int]


class Forward:
    """The forward passes of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.model = policy.model
        self.pad_token_id = policy.pad_token_id
        self.keeps_cache = not policy.model._is_stateful and _layer_types(policy.text_config) <= CACHED_LAYERS
        self.accepted = inspect.signature(policy.model.forward).parameters.keys()

    def whole(self, sequences: Sequence[Sequence[int]]) -> Computed:
        """Compute sequences of token ids from their first tokens on."""
        device, width = self.model.device, max(map(len, sequences))
        pads = [width - len(sequence) for sequence in sequences]
        ids = [[self.pad_token_id] * pad + list(sequence) for pad, sequence in zip(pads, sequences, strict=True)]
        starts = torch.tensor(pads, device=device)[:, None]
        columns = torch.arange(width, device=device)
        given = {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": (columns >= starts).long(),
            "position_ids": (columns - starts).clamp(min=0),
            "logits_to_keep": 1,
        }
        cache = DynamicCache() if self.keeps_cache else None
        return Computed(cache, self._last_logits(given, cache), [len(sequence) for sequence in sequences])

    def next(self, tokens: Sequence[int], timeline: Timeline) -> Tensor:
        """Compute one more token of every row; logits after it (rows, V)."""
        mask, positions = timeline.next_inputs()
        ids = torch.tensor(tokens, device=self.model.device)[:, None]
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        grouped = len(timeline.groups) > 1 and self.model.device.type == "cpu"
        with row_groups(timeline.groups, timeline.span.low) if grouped else nullcontext():
            logits = self._last_logits(given, timeline.cache)
        timeline.advance()
        return logits

    def _last_logits(self, given: dict[str, Any], cache: Cache | None) -> Tensor:
        inputs = {name: value for name, value in given.items() if name in self.accepted}
        output = self.model(**inputs, past_key_values=cache, use_cache=cache is not None)
        logits: Tensor = output.logits[:, -1].float()
        return logits


def _layer_types(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or ())
