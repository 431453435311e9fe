"""The optimisation loop over preference pairs: AdamW, warm-up and cosine, clipping, accumulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aipo_lab.errors import StageFailed
from aipo_lab.models import Policy
from aipo_lab.objectives import Objective
from aipo_lab.progress import Progress
from aipo_lab.training.batches import EncodedPair, PairBatch, collate, micro_batches, optimiser_batches
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import can_share_prompts, pair_logps

if TYPE_CHECKING:
    from torch import Tensor

CurveRow = dict[str, float]


@dataclass
class StepRecord:
    """Per-pair quantities of one optimiser step, summed over its micro-batches."""

    n_pairs: int
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """Add per-pair `values` (batch,) to the step's mean of `name`."""
        self.sums[name] = self.sums.get(name, 0.0) + float(values.detach().double().sum()) / self.n_pairs


def train_on_pairs(
    policy: Policy,
    pairs: Sequence[EncodedPair],
    reference_logps: Tensor | None,
    objective: Objective,
    settings: TrainSettings,
    seed: int,
    progress: Progress,
    checkpoints: TrainingCheckpoints | None = None,
) -> list[CurveRow]:
    """Train `policy` in place; returns one row of training metrics per optimiser step.

    `reference_logps`: (len(pairs), 2), or None for a reference-free objective. With `checkpoints`, a training that
    was killed continues from its newest one. Raises `StageFailed` on a loss or gradient that is not finite,
    before it reaches the weights.
    """
    import torch
    from transformers import get_cosine_schedule_with_warmup

    batches = optimiser_batches(len(pairs), settings.batch_size, settings.epochs, seed)
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    warmup_steps = math.ceil(settings.warmup_ratio * len(batches))
    if warmup_steps >= len(batches):
        raise StageFailed(
            f"{len(pairs)} pairs make {len(batches)} optimiser steps and all of them are warm-up from a learning "
            "rate of 0, so nothing would be learnt; lower train.batch_size or train.warmup_ratio, or use more pairs"
        )
    scheduler = get_cosine_schedule_with_warmup(optimizer, warmup_steps, len(batches))
    shared = can_share_prompts(policy.model, pairs, policy.pad_token_id)
    curve = checkpoints.restore(policy.model, optimizer, scheduler) if checkpoints else []
    for step, indices in enumerate(batches[len(curve) :], start=len(curve) + 1):
        record = StepRecord(len(indices))
        optimizer.zero_grad(set_to_none=True)
        for micro in micro_batches(indices, pairs, settings.micro_batch_tokens):
            batch = collate([pairs[i] for i in micro], policy.pad_token_id, policy.model.device, shared)
            ids = [pairs[i].id for i in micro]
            _accumulate(policy, batch, ids, _rows(reference_logps, micro), objective, record)
        gradient_norm = _clip_gradients(policy.model, settings.max_gradient_norm, step)
        row = {"step": float(step), "lr": scheduler.get_last_lr()[0], "gradient_norm": gradient_norm}
        optimizer.step()
        scheduler.step()
        curve.append(row | record.sums)
        if checkpoints:
            checkpoints.save_if_due(policy.model, optimizer, scheduler, curve)
        progress(step, len(batches), "steps")
    if not all(bool(torch.isfinite(weights).all()) for weights in policy.model.parameters()):
        raise StageFailed("the last update made weights that are not finite; lower train.learning_rate")
    return curve


def _rows(reference_logps: Tensor | None, indices: Sequence[int]) -> Tensor:
    import torch

    return torch.zeros(len(indices), 2) if reference_logps is None else reference_logps[list(indices)]


def _accumulate(
    policy: Policy,
    batch: PairBatch,
    ids: Sequence[str],
    reference_logps: Tensor,
    objective: Objective,
    record: StepRecord,
) -> None:
    """Add the gradient of a micro-batch's share of the step's mean loss."""
    import torch

    logps = pair_logps(policy.model, batch)
    reference = reference_logps.to(logps)
    lengths = batch.lengths.to(logps.dtype)
    chosen, rejected = logps[:, 0], logps[:, 1]
    losses = objective(chosen, rejected, reference[:, 0], reference[:, 1], lengths[:, 0], lengths[:, 1])
    if not bool(torch.isfinite(losses).all()):
        bad = [name for name, loss in zip(ids, losses.tolist(), strict=True) if not math.isfinite(loss)]
        raise StageFailed(
            f"the {objective.name} loss is not finite for pairs {', '.join(bad[:5])}; lower train.learning_rate"
        )
    (weights,) = torch.autograd.grad(losses.sum(), rejected, retain_graph=True)
    torch.autograd.backward(losses.sum() / record.n_pairs)
    _record(record, objective, losses, logps, reference, lengths, weights)


def _record(
    record: StepRecord,
    objective: Objective,
    losses: Tensor,
    logps: Tensor,
    reference: Tensor,
    lengths: Tensor,
    rejected_gradients: Tensor,
) -> None:
    """What one micro-batch adds to the step's metrics.

    Rewards are beta-scaled log ratios to the reference (paper Eq. 2), for reference-free objectives beta
    times the mean log-probability per token. The gradient weight is w_theta of Eq. 8.
    """
    beta = objective.hyperparameters["beta"]
    scale = 1 / lengths if objective.reference_free else 1.0
    rewards = beta * (logps - reference) * scale
    record.add("loss", losses)
    record.add("nll", -logps[:, 0] / lengths[:, 0])
    record.add("s_theta", logps[:, 0] - logps[:, 1])
    if not objective.reference_free:
        record.add("s_ref", reference[:, 0] - reference[:, 1])
    record.add("reward_chosen", rewards[:, 0])
    record.add("reward_rejected", rewards[:, 1])
    record.add("reward_margin", rewards[:, 0] - rewards[:, 1])
    record.add("reward_accuracy", (rewards[:, 0] > rewards[:, 1]).to(losses.dtype))
    record.add("gradient_weight", rejected_gradients / beta * (lengths[:, 1] if objective.reference_free else 1))
    record.add("logps_chosen", logps[:, 0])
    record.add("logps_rejected", logps[:, 1])
    record.add("length_chosen_tokens", lengths[:, 0])
    record.add("length_rejected_tokens", lengths[:, 1])


def _clip_gradients(model: Any, max_norm: float, step: int) -> float:
    import torch

    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm))
    if not math.isfinite(norm):
        raise StageFailed(f"the gradient norm at step {step} is {norm}; lower train.learning_rate")
    return norm
