"""Objectives whose losses depend on other pairs (`across_pairs`): gradients by all pairs of an optimiser step at once.

Micro-batches have to be computed one after the other, in several processes. So the log-probabilities of all pairs are
computed first, without gradients; the objective then tells every pair's loss and its derivatives by the pair's two
log-probabilities; and the usual pass over the micro-batches carries these into the weights. The gradient is that of the
whole batch, however it is divided; the price is a second forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aipo_lab.objectives import Objective
from aipo_lab.training.token_sums import losses_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WholeBatch:
    """What the objective says of a batch: `losses` (n,), and `gradients` of their sum by the columns.

    `places`: where each pair, by its number, stands in these.
    """

    places: Mapping[int, int]
    losses: Tensor
    gradients: Tensor

    def of(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The losses (B,) and gradients of some of its pairs."""
        places = [self.places[index] for index in indices]
        return self.losses[places], self.gradients[places]


def whole_batch(
    objective: Objective,
    places: Mapping[int, int],
    logps: Tensor,
    reference: Tensor,
    lengths: Tensor,
    win_rates: dict[str, Tensor],
) -> WholeBatch:
    """The losses of n pairs from the columns of policy and reference (see `token_sums`) and (n, 2) lengths."""
    import torch

    logps = logps.detach().requires_grad_()
    losses = losses_of(objective, logps, reference, lengths, win_rates)
    (gradients,) = torch.autograd.grad(losses.sum(), logps)
    return WholeBatch(places, losses.detach(), gradients)
