"""Scores of token sequences by a sequence-classification model in memory: what ranking asks and training improves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class SequenceScorer:
    """One output of a model; as at batch size 1, whatever else is in a batch."""

    def __init__(self, model: Any, output: int = 0) -> None:
        self.model = model
        self._output = output
        self._pad_token_id = model.config.get_text_config().pad_token_id

    def scores(self, batch: Sequence[Sequence[int]]) -> Tensor:
        """The scores (len(batch),) in float32, with gradients where these are on."""
        import torch

        pad, length = self._padding(batch), max(map(len, batch))
        tokens = torch.tensor([[*one, *[pad] * (length - len(one))] for one in batch])
        mask = torch.tensor([[1] * len(one) + [0] * (length - len(one)) for one in batch])
        device = self.model.device
        logits: Tensor = self.model(input_ids=tokens.to(device), attention_mask=mask.to(device)).logits
        return logits[:, self._output].float()

    def _padding(self, batch: Sequence[Sequence[int]]) -> int:
        """The token behind the shorter ones. A causal model takes its score at the last token that is not this one.

        Where the model names none, as where it was used at batch size 1 only, one that no text of the batch has.
        """
        if self._pad_token_id is not None:
            return int(self._pad_token_id)
        used = {token for one in batch for token in one}
        config = self.model.config.get_text_config()
        config.pad_token_id = next(token for token in range(int(config.vocab_size)) if token not in used)
        return int(config.pad_token_id)
