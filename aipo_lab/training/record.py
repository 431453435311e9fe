"""What is logged about an optimiser step: per-pair quantities averaged over its batch (enough for paper Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aipo_lab.objectives import Objective
from aipo_lab.training.reference_gap import ReferenceGap

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MicroBatchOutcome:
    """A micro-batch of B pairs after its forward pass. All but `losses` and the gradients are (B, 2): chosen, rejected.

    `rejected_gradients`: (B,) derivative of the losses by log pi(y_l|x).
    """

    losses: Tensor
    logps: Tensor
    reference_logps: Tensor
    lengths: Tensor
    rejected_gradients: Tensor


class StepRecord:
    """Per-pair quantities of one optimiser step, summed over its micro-batches to means over the batch.

    `means` has the same names from the start, so that processes can add theirs up whatever share each had. `gap` is
    there for the first step of an objective with a reference.
    """

    def __init__(self, n_pairs: int, objective: Objective, gap: ReferenceGap | None = None) -> None:
        self.n_pairs = n_pairs
        self.objective = objective
        self.gap = gap
        self.means = dict.fromkeys(self._names(), 0.0)

    def _names(self) -> list[str]:
        parts = [] if self.objective.definition.nll_weight is None else ["loss_preference", "loss_nll"]
        s_ref = [] if self.objective.reference_free else ["s_ref"]
        both = [f"{what}_{role}{unit}" for what, unit in BOTH for role in ("chosen", "rejected")]
        return ["loss", *parts, "nll", "s_theta", *s_ref, "reward_margin", "reward_accuracy", "gradient_weight", *both]

    def add(self, outcome: MicroBatchOutcome) -> None:
        """Add a micro-batch.

        Rewards are beta-scaled log ratios to the reference (paper Eq. 2), without the reference for objectives free of
        it, and per token for those that compare log-probabilities per token. `gradient_weight` is w_theta of Eq. 8
        for the objectives it is defined for: the pull on the rejected response, per unit of beta. The parts of the
        loss are there for objectives with an NLL term, whose weight `loss_nll` includes.
        """
        objective, logps, reference, lengths = self.objective, outcome.logps, outcome.reference_logps, outcome.lengths
        beta = objective.hyperparameters.get("beta", 1.0)
        per_token = objective.definition.length_normalised
        ratios = logps if objective.reference_free else logps - reference
        rewards = beta * ratios / lengths if per_token else beta * ratios
        weights = outcome.rejected_gradients / beta
        nll = -logps[:, 0] / lengths[:, 0]
        if self.gap is not None:
            self.gap.add(logps, reference)
        self._add("loss", outcome.losses)
        if (nll_weight := objective.nll_weight) is not None:
            self._add("loss_nll", nll_weight * nll)
            self._add("loss_preference", outcome.losses - nll_weight * nll)
        self._add("nll", nll)
        self._add("s_theta", logps[:, 0] - logps[:, 1])
        if not objective.reference_free:
            self._add("s_ref", reference[:, 0] - reference[:, 1])
        self._add("reward_margin", rewards[:, 0] - rewards[:, 1])
        self._add("reward_accuracy", (rewards[:, 0] > rewards[:, 1]).to(logps.dtype))
        self._add("gradient_weight", weights * lengths[:, 1] if per_token else weights)
        for (what, unit), values in zip(BOTH, (rewards, logps, lengths), strict=True):
            for column, role in enumerate(("chosen", "rejected")):
                self._add(f"{what}_{role}{unit}", values[:, column])

    def _add(self, name: str, values: Tensor) -> None:
        self.means[name] += float(values.detach().double().sum()) / self.n_pairs


BOTH = (("reward", ""), ("logps", ""), ("length", "_tokens"))
"""What is recorded of both responses, with the unit at the end of its name."""
