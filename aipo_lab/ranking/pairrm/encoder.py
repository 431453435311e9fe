"""The hidden states of a few positions of a DeBERTa-v3, computed without what nobody asks for.

The weights and all but attention are those of transformers' `DebertaV2Model`. Differences that matter for time only:
- the keys and queries of relative positions are computed once a model, not once a batch, and only the distances that
  occur in a batch enter products: in order of distance, so that the scores of all pairs are a view of those products;
- softmax and products of attention are one fused operation;
- the last layer computes the wanted positions only, and no layer's states are kept.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MOST_DISTANCES_TOKENS = 640
"""Sequences up to this length use a product per distance, longer ones a product per bucket of distances."""


class Encoder:
    """A `DebertaV2Model` in evaluation mode, as a function of tokens."""

    def __init__(self, model: Any) -> None:
        self._model, self._config = model, model.config
        self._heads = int(model.config.num_attention_heads)

    @property
    def is_v3(self) -> bool:
        """Whether the model is built like DeBERTa-v3; any other is left to transformers."""
        config = self._config
        return bool(
            getattr(config, "relative_attention", False)
            and set(config.pos_att_type or []) == {"c2p", "p2c"}
            and getattr(config, "share_att_key", False)
            and getattr(config, "position_buckets", -1) > 0
            and getattr(config, "conv_kernel_size", 0) == 0
            and self._model.embeddings.embed_proj is None
        )

    def states(self, tokens: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        """Last hidden states at `places`.

        tokens, mask: (batch, length), mask 1 for tokens and 0 for padding; places: (batch, k) -> (batch, k, hidden).
        """
        rows = places.unsqueeze(-1)
        if not self.is_v3:
            states: Tensor = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
            return states.gather(1, rows.expand(-1, -1, states.shape[-1]))
        states = self._model.embeddings(input_ids=tokens, mask=mask)
        *layers, last = self._model.encoder.layer
        numbers = range(len(layers))
        for number, layer in zip(numbers, layers, strict=True):
            states = self._layer(number, layer, states, mask, None)
        return self._layer(len(layers), last, states, mask, places)

    def _layer(self, number: int, layer: Any, states: Tensor, mask: Tensor, places: Tensor | None) -> Tensor:
        """One layer; with `places` only there."""
        asking = states
        if places is not None:
            asking = states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        attention = layer.attention
        attended = attention.output(self._attend(number, attention.self, asking, states, mask, places), asking)
        return layer.output(layer.intermediate(attended), attended)  # type: ignore[no-any-return]

    def _attend(
        self, number: int, attention: Any, asking: Tensor, states: Tensor, mask: Tensor, places: Tensor | None
    ) -> Tensor:
        from torch.nn.functional import scaled_dot_product_attention

        query, key, value = (
            self._split(project(of))
            for project, of in (
                (attention.query_proj, asking),
                (attention.key_proj, states),
                (attention.value_proj, states),
            )
        )
        scale = (3 * query.shape[-1]) ** -0.5  # content, and two kinds of positions
        position_queries, position_keys = self._positions[number]
        bias = self._bias(query * scale, key * scale, position_queries, position_keys, places)
        bias = bias.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        attended = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
        return attended.transpose(1, 2).flatten(2)

    def _bias(
        self, query: Tensor, key: Tensor, position_queries: Tensor, position_keys: Tensor, places: Tensor | None
    ) -> Tensor:
        """What distances add to the scores: (batch, heads, asking, length)."""
        length = key.shape[2]
        if places is None and length <= MOST_DISTANCES_TOKENS:
            return _by_distance(query, key, position_queries, position_keys, self._buckets(length))
        return self._by_bucket(query, key, position_queries, position_keys, places)

    def _by_bucket(
        self, query: Tensor, key: Tensor, position_queries: Tensor, position_keys: Tensor, places: Tensor | None
    ) -> Tensor:
        """Scores of all buckets, looked up for the distance of every pair."""
        import torch

        length = key.shape[2]
        asking = torch.arange(length, device=key.device)[None] if places is None else places
        distances = asking[:, :, None] - torch.arange(length, device=key.device) + length - 1
        buckets = self._buckets(length)[distances][:, None]  # (batch or 1, 1, asking, length)
        from_content = query @ position_keys.transpose(-1, -2)
        to_content = key @ position_queries.transpose(-1, -2)
        rows = buckets.expand(*query.shape[:2], -1, -1)
        return from_content.gather(-1, rows) + to_content.gather(-1, rows.transpose(-1, -2)).transpose(-1, -2)

    def _buckets(self, length: int) -> Tensor:
        """The row of the position table for each distance i - j from -(length - 1) to length - 1."""
        import torch
        from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

        span = int(self._config.position_buckets)
        furthest = int(self._model.encoder.max_relative_positions)
        distances = torch.arange(1 - length, length, device=self._model.device)
        buckets = make_log_bucket_position(distances, span, furthest).long()
        found: Tensor = (buckets + span).clamp(0, 2 * span - 1)
        return found

    def _split(self, states: Tensor) -> Tensor:
        """(batch, length, hidden) -> (batch, heads, length, size of a head)."""
        return states.reshape(*states.shape[:2], self._heads, -1).transpose(1, 2)

    @cached_property
    def _positions(self) -> list[tuple[Tensor, Tensor]]:
        """By layer: queries and keys of the position table, each (heads, rows, size of a head)."""
        table = self._model.encoder.get_rel_embedding()[None]
        table = table[:, : 2 * int(self._config.position_buckets)]
        return [
            (self._split(one.attention.self.query_proj(table))[0], self._split(one.attention.self.key_proj(table))[0])
            for one in self._model.encoder.layer
        ]


def _by_distance(
    query: Tensor, key: Tensor, position_queries: Tensor, position_keys: Tensor, buckets: Tensor
) -> Tensor:
    """Scores of all distances; row i of the result is a window of them that moves by one from row to row."""
    length = key.shape[2]
    rising, falling = buckets.flip(0), buckets  # by j - i, and by i - j
    from_content = (query @ position_keys[:, rising].transpose(-1, -2)).contiguous()
    to_content = (key @ position_queries[:, falling].transpose(-1, -2)).contiguous()
    return _windows(from_content, length) + _windows(to_content, length).transpose(-1, -2)


def _windows(scores: Tensor, length: int) -> Tensor:
    """(…, length, 2 length - 1) -> (…, length, length), whose [i, j] is [i, j - i + length - 1]; no copy."""
    strides = (*scores.stride()[:-2], scores.shape[-1] - 1, 1)
    return scores.as_strided((*scores.shape[:-1], length), strides, scores.storage_offset() + length - 1)
