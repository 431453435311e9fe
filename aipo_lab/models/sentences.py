"""Sentences as vectors: a BERT encoder whose token states are averaged and normalised, as all-MiniLM-L6-v2 was trained.

What the package sentence-transformers computes for that model, on transformers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.core.unicode import repaired

if TYPE_CHECKING:
    from torch import Tensor

BATCH_TOKENS = 8192
"""Tokens of a batch, padding included."""


class SentenceEncoder:
    """A sentence encoder in memory; texts beyond `max_tokens` are cut, and batches change nothing beyond rounding."""

    def __init__(self, folder: Path, max_tokens: int, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, use_safetensors=True).to(device).eval()
        self._max_tokens = max_tokens

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] = lambda *_: None) -> Tensor:
        """Unit vectors (len(texts), width) in float32 on the CPU; equal texts are computed once."""
        import torch

        distinct = list(dict.fromkeys(texts))
        tokens = [self._tokens(text) for text in distinct]
        order = sorted(range(len(distinct)), key=lambda i: -len(tokens[i]))
        vectors: dict[str, Tensor] = {}
        for batch in _batches(order, tokens):
            for index, vector in zip(batch, self._forward([tokens[i] for i in batch]), strict=True):
                vectors[distinct[index]] = vector
            progress(len(vectors), len(distinct))
        return torch.stack([vectors[text] for text in texts])

    def _tokens(self, text: str) -> list[int]:
        encoded = self._tokenizer(repaired(text), truncation=True, max_length=self._max_tokens)
        return list(encoded["input_ids"])

    def _forward(self, batch: Sequence[Sequence[int]]) -> Tensor:
        import torch

        length, pad, device = max(map(len, batch)), self._tokenizer.pad_token_id, self._model.device
        ids = torch.tensor([[*one, *[pad] * (length - len(one))] for one in batch], device=device)
        mask = torch.tensor([[1] * len(one) + [0] * (length - len(one)) for one in batch], device=device)
        with torch.inference_mode():
            states: Any = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
            return torch.nn.functional.normalize(mean, dim=1).float().cpu()


def _batches(order: Sequence[int], tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """Runs of `order`, which is by falling length, of at most `BATCH_TOKENS`."""
    batches: list[list[int]] = []
    for index in order:
        if batches and len(tokens[batches[-1][0]]) * (len(batches[-1]) + 1) <= BATCH_TOKENS:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
