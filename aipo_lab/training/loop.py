"""The optimisation loop over preference pairs: AdamW, warm-up and cosine, clipping, accumulation."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aipo_lab.errors import StageFailed
from aipo_lab.models import Policy
from aipo_lab.objectives import Objective
from aipo_lab.progress import Progress
from aipo_lab.training.batches import collate
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import can_share_prompts, pair_logps
from aipo_lab.training.packing import MicroBatch, micro_batches, optimiser_batches
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.record import MicroBatchOutcome, StepRecord

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

CurveRow = dict[str, float]


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
    trainer = PairTrainer(policy, pairs, reference_logps, objective, settings, seed)
    return trainer.run(progress, checkpoints)


class PairTrainer:
    """One training: policy, data, objective, optimiser and schedule."""

    def __init__(
        self,
        policy: Policy,
        pairs: Sequence[EncodedPair],
        reference_logps: Tensor | None,
        objective: Objective,
        settings: TrainSettings,
        seed: int,
    ) -> None:
        import torch

        self.policy = policy
        self.pairs = pairs
        self.reference_logps = torch.zeros(len(pairs), 2) if reference_logps is None else reference_logps
        self.objective = objective
        self.settings = settings
        self.batches = optimiser_batches(len(pairs), settings.batch_size, settings.epochs, seed)
        self.shared_prompts = can_share_prompts(policy.model, pairs, policy.pad_token_id)
        self.micro_batch_tokens = settings.micro_batch_tokens
        self.optimizer, self.scheduler = self._optimizer()

    def _optimizer(self) -> tuple[Any, Any]:
        import torch
        from transformers import get_cosine_schedule_with_warmup

        n_steps = len(self.batches)
        warmup_steps = math.ceil(self.settings.warmup_ratio * n_steps)
        if warmup_steps >= n_steps:
            raise StageFailed(
                f"{len(self.pairs)} pairs make {n_steps} optimiser steps and all of them are warm-up from a learning "
                "rate of 0, so nothing would be learnt; lower train.batch_size or train.warmup_ratio, or use more pairs"
            )
        optimizer = torch.optim.AdamW(
            self.policy.model.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        return optimizer, get_cosine_schedule_with_warmup(optimizer, warmup_steps, n_steps)

    def run(self, progress: Progress, checkpoints: TrainingCheckpoints | None = None) -> list[CurveRow]:
        """Run the steps that are left; returns the rows of all steps."""
        model = self.policy.model
        curve = checkpoints.restore(model, self.optimizer, self.scheduler) if checkpoints else []
        with self._memory_saving(model):
            for step, indices in enumerate(self.batches[len(curve) :], start=len(curve) + 1):
                curve.append(self._step(step, indices))
                if checkpoints:
                    checkpoints.save_if_due(model, self.optimizer, self.scheduler, curve)
                progress(step, len(self.batches), "steps")
        self._check_weights()
        return curve

    @contextlib.contextmanager
    def _memory_saving(self, model: Any) -> Any:
        """Gradient checkpointing while inside, if the settings ask for it; dropout stays off."""
        if not self.settings.gradient_checkpointing:
            yield
            return
        dropouts = [module for module in model.modules() if type(module).__name__ == "Dropout"]
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only
        for module in dropouts:
            module.eval()
        try:
            yield
        finally:
            model.activation_checkpointing_disable()
            model.eval()

    def _step(self, step: int, indices: Sequence[int]) -> CurveRow:
        record = self._gradients(indices)
        gradient_norm = self._clip_gradients(step)
        row = {"step": float(step), "lr": self.scheduler.get_last_lr()[0], "gradient_norm": gradient_norm}
        self.optimizer.step()
        self.scheduler.step()
        n_tokens = sum(self.pairs[index].n_tokens for index in indices)
        return row | {"tokens": float(n_tokens)} | record.means

    def _gradients(self, indices: Sequence[int]) -> StepRecord:
        """The gradient of a batch's mean loss; halves the micro-batches for good when memory runs out."""
        import torch

        while True:
            record = StepRecord(len(indices))
            self.optimizer.zero_grad(set_to_none=True)
            try:
                for rows in micro_batches(indices, self.pairs, self.micro_batch_tokens, self.shared_prompts):
                    self._accumulate(rows, record)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_micro_batches(indices, error)
            else:
                return record

    def _halve_micro_batches(self, indices: Sequence[int], error: BaseException) -> None:
        longest = max(self.pairs[index].n_tokens for index in indices)
        if self.micro_batch_tokens <= longest:
            raise StageFailed(
                f"out of memory on a single pair of {longest} tokens; set train.gradient_checkpointing=true, or "
                "lower train.max_response_tokens"
            ) from error
        self.micro_batch_tokens = max(longest, self.micro_batch_tokens // 2)
        logger.warning("out of memory: micro-batches of %d tokens from here on", self.micro_batch_tokens)

    def _accumulate(self, rows: MicroBatch, record: StepRecord) -> None:
        """Add the gradient of a micro-batch's share of the step's mean loss."""
        import torch

        model = self.policy.model
        laid_out = [[self.pairs[index] for index in row] for row in rows]
        pairs, micro = [pair for row in laid_out for pair in row], [index for row in rows for index in row]
        batch = collate(laid_out, self.policy.pad_token_id, model.device, self.shared_prompts)
        logps = pair_logps(model, batch, self.settings.precision)
        reference = self.reference_logps[micro].to(logps)
        lengths = batch.lengths.to(logps.dtype)
        chosen, rejected = logps[:, 0], logps[:, 1]
        losses = self.objective(
            chosen,
            rejected,
            reference[:, 0],
            reference[:, 1],
            lengths[:, 0],
            lengths[:, 1],
            **self._win_rates(pairs, logps),
        )
        self._check_losses(losses, pairs)
        (rejected_gradients,) = torch.autograd.grad(losses.sum(), rejected, retain_graph=True)
        torch.autograd.backward(losses.sum() / record.n_pairs)
        record.add(self.objective, MicroBatchOutcome(losses, logps, reference, lengths, rejected_gradients))

    def _win_rates(self, pairs: Sequence[EncodedPair], like: Tensor) -> dict[str, Tensor]:
        """The ranker's win rates (B,) of chosen and rejected, for an objective that needs them."""
        if not self.objective.definition.needs_win_rates:
            return {}
        missing = [pair.id for pair in pairs if pair.win_rates is None]
        if missing:
            raise StageFailed(
                f"{self.objective.name} needs chosen_win_rate and rejected_win_rate in every pair, but pair "
                f"{missing[0]} has none; make the pairs with this version's pair stage, or use sppo_hard"
            )
        rates = like.new_tensor([pair.win_rates for pair in pairs])
        return {"chosen_win_rate": rates[:, 0], "rejected_win_rate": rates[:, 1]}

    def _check_losses(self, losses: Tensor, pairs: Sequence[EncodedPair]) -> None:
        bad = [pair.id for pair, loss in zip(pairs, losses.tolist(), strict=True) if not math.isfinite(loss)]
        if bad:
            raise StageFailed(
                f"the {self.objective.name} loss is not finite for pairs {', '.join(bad[:5])}; "
                "lower train.learning_rate"
            )

    def _clip_gradients(self, step: int) -> float:
        import torch

        norm = float(torch.nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.settings.max_gradient_norm))
        if not math.isfinite(norm):
            raise StageFailed(f"the gradient norm at step {step} is {norm}; lower train.learning_rate")
        return norm

    def _check_weights(self) -> None:
        import torch

        if not all(bool(torch.isfinite(weights).all()) for weights in self.policy.model.parameters()):
            raise StageFailed("the last update made weights that are not finite; lower train.learning_rate")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out (on the CPU it is a plain RuntimeError)."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
