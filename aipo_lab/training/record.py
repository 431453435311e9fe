"""What is logged about an optimiser step: per-pair quantities averaged over its batch (enough for paper Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aipo_lab.objectives import Objective

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


@dataclass
class StepRecord:
    """Per-pair quantities of one optimiser step, summed over its micro-batches to means over the batch."""

    n_pairs: int
    means: dict[str, float] = field(default_factory=dict)

    def add(self, objective: Objective, outcome: MicroBatchOutcome) -> None:
        """Add a micro-batch.

        Rewards are beta-scaled log ratios to the reference (paper Eq. 2), without the reference for objectives free of
        it, and per token for those that compare log-probabilities per token. `gradient_weight` is w_theta of Eq. 8
        for the objectives it is defined for: the pull on the rejected response, per unit of beta.
        """
        logps, reference, lengths = outcome.logps, outcome.reference_logps, outcome.lengths
        beta = objective.hyperparameters.get("beta", 1.0)
        per_token = objective.definition.length_normalised
        ratios = logps if objective.reference_free else logps - reference
        rewards = beta * ratios / lengths if per_token else beta * ratios
        weights = outcome.rejected_gradients / beta
        self._add("loss", outcome.losses)
        self._add("nll", -logps[:, 0] / lengths[:, 0])
        self._add("s_theta", logps[:, 0] - logps[:, 1])
        if not objective.reference_free:
            self._add("s_ref", reference[:, 0] - reference[:, 1])
        self._add("reward_margin", rewards[:, 0] - rewards[:, 1])
        self._add("reward_accuracy", (rewards[:, 0] > rewards[:, 1]).to(logps.dtype))
        self._add("gradient_weight", weights * lengths[:, 1] if per_token else weights)
        for column, role in enumerate(("chosen", "rejected")):
            self._add(f"reward_{role}", rewards[:, column])
            self._add(f"logps_{role}", logps[:, column])
            self._add(f"length_{role}_tokens", lengths[:, column])

    def _add(self, name: str, values: Tensor) -> None:
        self.means[name] = self.means.get(name, 0.0) + float(values.detach().double().sum()) / self.n_pairs
