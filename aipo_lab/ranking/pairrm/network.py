"""PairRM as a function of sequences: batches of similar length through the encoder and the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aipo_lab.ranking.pairrm.encoder import Encoder
from aipo_lab.ranking.pairrm.tokens import PairSequence

if TYPE_CHECKING:
    from torch import Tensor


class PairNetwork:
    """Backbone and head of a checkpoint."""

    def __init__(self, backbone: Any, head: Any, batch_tokens: int) -> None:
        self._backbone, self._head, self._batch_tokens = backbone, head, batch_tokens
        self._encoder = Encoder(backbone)

    @property
    def n_embeddings(self) -> int:
        """The number of tokens it knows."""
        return int(self._backbone.config.vocab_size)

    def logits(self, sequences: Sequence[PairSequence], progress: Callable[[int, int], None]) -> list[float]:
        """For each comparison, in order, how much better the candidate in the first place is.

        The same sequences give the same numbers in whatever order they come. `progress` is told (done, all).
        """
        import torch

        made, done = [0.0] * len(sequences), 0
        with torch.inference_mode():
            for numbers in self._batches(sequences):
                logits = self._forward([sequences[number] for number in numbers])
                for number, logit in zip(numbers, logits.float().tolist(), strict=True):
                    made[number] = logit
                done += len(numbers)
                progress(done, len(sequences))
        return made

    def _batches(self, sequences: Sequence[PairSequence]) -> Iterator[list[int]]:
        """Numbers of sequences in batches of similar length, the longest first, so that lack of memory shows early."""
        order = sorted(range(len(sequences)), key=lambda number: _order(sequences[number]))
        batch: list[int] = []
        for number in order:
            longest = len(sequences[batch[0]].tokens) if batch else 0
            if batch and longest * (len(batch) + 1) > self._batch_tokens:
                yield batch
                batch = []
            batch.append(number)
        if batch:
            yield batch

    def _forward(self, batch: Sequence[PairSequence]) -> Tensor:
        """logit = mean over tasks of head(source, candidate 1) - head(source, candidate 2): (batch,)."""
        import torch

        device, length = self._backbone.device, max(len(one.tokens) for one in batch)
        padding = self._backbone.config.pad_token_id or 0
        tokens = [[*one.tokens, *[padding] * (length - len(one.tokens))] for one in batch]
        mask = [[1] * len(one.tokens) + [0] * (length - len(one.tokens)) for one in batch]
        source, first, second = self._encoder.states(
            torch.tensor(tokens, device=device),
            torch.tensor(mask, device=device),
            torch.tensor([one.places for one in batch], device=device),
        ).unbind(1)
        left, right = (self._head(torch.cat([source, one], dim=-1)) for one in (first, second))
        return (left - right).mean(dim=-1)  # type: ignore[no-any-return]


def _order(sequence: PairSequence) -> tuple[int, tuple[int, ...]]:
    return -len(sequence.tokens), sequence.tokens
