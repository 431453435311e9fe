"""What a response's tokens add up to, for objectives that need more than the sum of their log-probabilities.

A micro-batch of B pairs has columns (B, n): 0 and 1 the sums of chosen and rejected; where `TAILS`, 2 and 3 the part
past the length of the shorter response; where `WEIGHTS`, 4 and 5 the policy's weights (see `PairLogps`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from aipo_lab.objectives import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from aipo_lab.training.batches import PairBatch


class TokenSums(IntEnum):
    """How many columns there are."""

    PLAIN = 2
    TAILS = 4
    WEIGHTS = 6

    @classmethod
    def needed(cls, objective: Objective) -> TokenSums:
        """What the policy's log-probabilities must have for an objective."""
        if objective.definition.needs_policy_weights:
            return cls.WEIGHTS
        return cls.TAILS if objective.definition.needs_tails else cls.PLAIN


def summed(batch: PairBatch, logps: Tensor, model: Any, hidden: Tensor) -> Tensor:
    """The columns of a micro-batch from the log-probabilities (n,) of its predicted tokens.

    `hidden`: (n, width), the states that predict them, in the precision of the pass.
    """
    import torch

    of_terms = logps[batch.terms]
    columns = [_sums(batch, of_terms)]
    if batch.sums >= TokenSums.TAILS:
        starts = batch.lengths.flatten().cumsum(0) - batch.lengths.flatten()  # responses stand one after the other
        places = torch.arange(len(batch.responses), device=logps.device) - starts[batch.responses]
        past = places >= batch.lengths.amin(dim=1)[batch.responses // 2]
        columns.append(_sums(batch, of_terms * past))
    if batch.sums >= TokenSums.WEIGHTS:
        with torch.no_grad():
            alignment = (logps - log_sum_of_squares(model, hidden))[batch.terms]
            columns.append((_sums(batch, alignment) / batch.lengths).exp())
    return torch.cat(columns, dim=1)


def _sums(batch: PairBatch, of_terms: Tensor) -> Tensor:
    """(B, 2) sums over each response's terms."""
    zeros = of_terms.new_zeros(batch.lengths.numel())
    return zeros.index_add(0, batch.responses, of_terms).view(-1, 2)


def log_sum_of_squares(model: Any, hidden: Tensor) -> Tensor:
    """Log of the sum of squared probabilities (n,) of the next token, fp32, in chunks, without gradient."""
    import torch

    from aipo_lab.training.architecture import scale_logits, scaling_config
    from aipo_lab.training.token_logps import CHUNK_LOGITS

    head, found = model.get_output_embeddings(), []
    for part in torch.split(hidden.detach(), max(1, CHUNK_LOGITS // head.out_features)):
        logits = scale_logits(head(part).float(), scaling_config(model))
        found.append((2 * logits).logsumexp(dim=1) - 2 * logits.logsumexp(dim=1))
    return torch.cat(found)


def losses_of(
    objective: Objective, logps: Tensor, reference: Tensor, lengths: Tensor, win_rates: dict[str, Tensor]
) -> Tensor:
    """Losses (B,) from the columns of policy and reference, (B, 2) lengths, and the win rates an objective needs."""
    more = dict(win_rates)
    if objective.definition.needs_tails:
        assert reference.shape[1] >= TokenSums.TAILS, "the reference pass writes tails for objectives that need them"
        more |= {"tails": logps[:, 2:4], "reference_tails": reference[:, 2:4]}
    if objective.definition.needs_policy_weights:
        more["policy_weights"] = logps[:, 4:6].detach()
    return objective(logps[:, 0], logps[:, 1], reference[:, 0], reference[:, 1], lengths[:, 0], lengths[:, 1], **more)
