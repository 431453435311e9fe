"""Training a reward model: a Bradley-Terry head, and the model below it, on pairs of conversations.

Loss of a pair: -log sigmoid(r(chosen) - r(rejected)) (Bradley and Terry 1952; Ouyang et al. 2022, equation 1). Batches,
updates and checkpoints are those of preference training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.progress import Progress
from aipo_lab.models.sequence_scores import SequenceScorer
from aipo_lab.training.batches import Sharing
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.packing import micro_batches, optimiser_batches
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.processes import SINGLE
from aipo_lab.training.updates import ReplicatedUpdater

if TYPE_CHECKING:
    from torch import Tensor

CurveRow = dict[str, float]


class RewardTrainSettings(StrictModel):
    """What decides how good a reward model becomes."""

    n_pairs: int | None = Field(
        None, ge=1, description="most pairs to train on, the dial of its accuracy (none: all there are)"
    )
    label_noise: float = Field(0.0, ge=0, lt=0.5, description="share of training pairs whose label is turned round")
    held_out_share: float = Field(
        0.2, gt=0, lt=1, description="share of the prompts whose pairs only measure the accuracy"
    )
    epochs: int = Field(1, ge=1, le=1000, description="passes over the training pairs")
    batch_size: int = Field(32, ge=1, description="pairs per optimiser step; the last of an epoch may have fewer")
    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of AdamW")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of steps with linear warm-up, then cosine to 0")
    weight_decay: float = Field(0.0, ge=0, le=1, description="decoupled weight decay of AdamW")
    max_gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    micro_batch_tokens: int = Field(8192, ge=1, description="tokens computed at once, padding included")

    def of_updates(self, n_pairs: int) -> TrainSettings:
        """The settings of the updates; of so few pairs that all steps would be warm-up, without one."""
        n_steps = self.epochs * math.ceil(n_pairs / self.batch_size)
        warms_up = math.ceil(self.warmup_ratio * n_steps) < n_steps
        return TrainSettings(
            learning_rate=self.learning_rate,
            warmup_ratio=self.warmup_ratio if warms_up else 0.0,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            max_gradient_norm=self.max_gradient_norm,
        )


def train_reward_model(
    model: Any,
    pairs: Sequence[EncodedPair],
    settings: RewardTrainSettings,
    seed: int,
    progress: Progress,
    checkpoints: TrainingCheckpoints | None = None,
) -> list[CurveRow]:
    """Train a sequence-classification `model` in place; returns one row per optimiser step.

    Pairs hold whole conversations, with no prompt apart. Rows have `step`, `loss` (nats a pair), `accuracy` (share of
    the step's pairs scored in order), `margin`, `lr` and `gradient_norm`. Raises `StageFailed` on a loss that is not
    finite, before it reaches the weights.
    """
    batches = optimiser_batches(len(pairs), settings.batch_size, settings.epochs, seed)
    updater = ReplicatedUpdater(model, settings.of_updates(len(pairs)), len(batches), SINGLE)
    scorer, device = SequenceScorer(model), str(model.device)
    curve = checkpoints.restore(updater, device) if checkpoints else []
    for step, indices in enumerate(batches[len(curve) :], start=len(curve) + 1):
        updater.reset()
        margins = []
        for rows in _micro_batches(indices, pairs, settings.micro_batch_tokens):
            made = _margins(scorer, [pairs[index] for index in rows])
            losses = _losses(made)
            if not math.isfinite(float(losses.detach().sum())):
                raise StageFailed(f"the loss of the reward model at step {step} is not finite; lower its learning_rate")
            updater.backward(losses.sum() / len(indices), last=False)
            margins += made.detach().tolist()
        updated = updater.update(step)
        assert updated is not None, "float32 has no loss scale to halve"
        curve.append({"step": step, **margin_metrics(margins).row(), **updated})
        if checkpoints:
            checkpoints.save_if_due(updater, curve, device)
        progress(step, len(batches), "steps")
    return curve


@dataclass(frozen=True)
class MarginMetrics:
    """What r(chosen) - r(rejected) of some pairs come to. `accuracy_se`: its standard error over the pairs."""

    loss: float
    accuracy: float
    accuracy_se: float
    margin: float
    n: int

    def row(self) -> CurveRow:
        """As a row of the curve has them."""
        return {"loss": self.loss, "accuracy": self.accuracy, "margin": self.margin}


def margin_metrics(margins: Sequence[float]) -> MarginMetrics:
    """Means over pairs; one with equal scores is half right."""
    n = len(margins)
    right = [1.0 if one > 0 else 0.5 if one == 0 else 0.0 for one in margins]
    accuracy = sum(right) / n
    variance = sum((one - accuracy) ** 2 for one in right) / max(1, n - 1)
    loss = sum(_softplus(-one) for one in margins) / n
    return MarginMetrics(loss, accuracy, math.sqrt(variance / n), sum(margins) / n, n)


def measure_margins(model: Any, pairs: Sequence[EncodedPair], micro_batch_tokens: int) -> list[float]:
    """r(chosen) - r(rejected) of every pair, in their order."""
    import torch

    scorer = SequenceScorer(model)
    found = [0.0] * len(pairs)
    with torch.inference_mode():
        for rows in _micro_batches(range(len(pairs)), pairs, micro_batch_tokens):
            for index, margin in zip(rows, _margins(scorer, [pairs[i] for i in rows]).tolist(), strict=True):
                found[index] = margin
    return found


def _micro_batches(indices: Sequence[int], pairs: Sequence[EncodedPair], max_tokens: int) -> list[list[int]]:
    """Indices of pairs of similar length."""
    made = micro_batches(indices, pairs, max_tokens, Sharing.NONE)
    return [[index for row in rows for index in row] for rows in made]


def _margins(scorer: SequenceScorer, pairs: Sequence[EncodedPair]) -> Tensor:
    """r(chosen) - r(rejected), (len(pairs),)."""
    scores = scorer.scores([one.chosen for one in pairs] + [one.rejected for one in pairs])
    return scores[: len(pairs)] - scores[len(pairs) :]


def _losses(margins: Tensor) -> Tensor:
    import torch

    return -torch.nn.functional.logsigmoid(margins)


def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))
