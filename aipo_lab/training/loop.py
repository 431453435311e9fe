"""The optimisation loop over preference pairs: batches, accumulation, the loss and its checks."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.progress import Progress
from aipo_lab.models.out_of_memory import is_out_of_memory
from aipo_lab.models.policy import Policy
from aipo_lab.objectives import Objective
from aipo_lab.training.batches import PairBatch, collate
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import find_sharing
from aipo_lab.training.memory import frozen_garbage, gradient_checkpointing
from aipo_lab.training.packing import MicroBatch, optimiser_batches
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.processes import SINGLE, Processes
from aipo_lab.training.record import MicroBatchOutcome, StepRecord
from aipo_lab.training.reference_gap import ReferenceGap
from aipo_lab.training.step_batches import own_micro_batches
from aipo_lab.training.token_sums import TokenSums, losses_of
from aipo_lab.training.updates import ReplicatedUpdater, Updater
from aipo_lab.training.whole_batch import WholeBatch, whole_batch

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

    `reference_logps`: (len(pairs), 2), 4 columns for an objective that needs tails (see `token_sums`), or None for a
    reference-free objective. With `checkpoints`, a training that was killed continues from its newest one. Raises
    `StageFailed` on a loss or gradient that is not finite, before it reaches the weights.
    """
    trainer = PairTrainer(policy, pairs, reference_logps, objective, settings, seed)
    return trainer.run(progress, checkpoints)


class PairTrainer:
    """One training, or one process's part of it: data and objective here, weights in the updater.

    `speed` has a row per step computed by this object: `step`, `step_s`, `tokens_per_s` (tokens of all processes).
    """

    def __init__(
        self,
        policy: Policy,
        pairs: Sequence[EncodedPair],
        reference_logps: Tensor | None,
        objective: Objective,
        settings: TrainSettings,
        seed: int,
        processes: Processes = SINGLE,
        make_updater: Callable[..., Updater] = ReplicatedUpdater,
    ) -> None:
        import torch

        self.policy = policy
        self.pairs = pairs
        self.reference_logps = torch.zeros(len(pairs), TokenSums.TAILS) if reference_logps is None else reference_logps
        self.objective = objective
        self.sums = TokenSums.needed(objective)
        self.settings = settings
        self.processes = processes
        self.device = str(policy.model.device)
        self.batches = optimiser_batches(len(pairs), settings.batch_size, settings.epochs, seed)
        self.sharing = find_sharing(policy.model, pairs, policy.pad_token_id)
        self.micro_batch_tokens = settings.micro_batch_tokens
        self.updater = make_updater(policy.model, settings, len(self.batches), processes, seed)
        self.speed: list[CurveRow] = []

    def run(self, progress: Progress, checkpoints: TrainingCheckpoints | None = None) -> list[CurveRow]:
        """Run the steps that are left; returns the rows of all steps."""
        from aipo_lab.training.fused.layers import fused_layers

        curve = checkpoints.restore(self.updater, self.device) if checkpoints else []
        model = self.policy.model
        checkpointing = gradient_checkpointing(model, self.settings.gradient_checkpointing is True)
        with checkpointing, frozen_garbage(), fused_layers(model, wanted=self.updater.fused):
            for step, indices in enumerate(self.batches[len(curve) :], start=len(curve) + 1):
                curve.append(self._timed_step(step, indices))
                if checkpoints:
                    checkpoints.save_if_due(self.updater, curve, self.device)
                progress(step, len(self.batches), "steps")
        self._check_weights()
        return curve

    def _timed_step(self, step: int, indices: Sequence[int]) -> CurveRow:
        started = time.monotonic()
        row = self._step(step, indices)
        step_s = time.monotonic() - started
        self.speed.append({"step": step, "step_s": step_s, "tokens_per_s": row["tokens"] / step_s})
        return row

    def _step(self, step: int, indices: Sequence[int]) -> CurveRow:
        update = None
        while update is None:
            record = self._gradients(step, indices)
            update = self.updater.update(step)
        n_tokens = sum(self.pairs[index].n_tokens for index in indices)
        means = self.processes.sum(record.means, self.device)
        # Fields of the first row and not a row before it: a row is a step to all who read the curve.
        gap = record.gap.columns(self.processes, self.device) if record.gap else {}
        return {"step": float(step), **update, "tokens": float(n_tokens), **means, **gap}

    def _gradients(self, step: int, indices: Sequence[int]) -> StepRecord:
        """The gradient of a batch's mean loss; halves the micro-batches for good when memory runs out."""
        import torch

        while True:
            gap = ReferenceGap() if step == 1 and not self.objective.reference_free else None
            record = StepRecord(len(indices), self.objective, gap)
            self.updater.reset()
            try:
                self._accumulate_all(indices, record)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_micro_batches(indices, error)
            else:
                return record

    def _accumulate_all(self, indices: Sequence[int], record: StepRecord) -> None:
        made = own_micro_batches(
            indices, self.pairs, self.micro_batch_tokens, self.sharing, self.settings.precision, self.processes
        )
        n_real, n_all = len(made), len(made)
        if self.updater.lockstep:
            n_all = int(self.processes.most([n_real], self.device)[0])
        made += [[[indices[0]]]] * (n_all - n_real)
        across = self._across_pairs(indices, made, n_real) if self.objective.definition.across_pairs else None
        for number, rows in enumerate(made):
            self._accumulate(rows, record, counts=number < n_real, last=number == n_all - 1, across=across)

    def _across_pairs(self, indices: Sequence[int], made: Sequence[MicroBatch], n_real: int) -> WholeBatch:
        """The losses of a step's pairs where each depends on the others."""
        import torch

        places = {index: place for place, index in enumerate(indices)}
        logps = torch.zeros(len(indices), int(self.sums), device=self.device)
        for number, rows in enumerate(made):
            with torch.no_grad():
                own = self.updater.logps(self._collate(rows))
            if number < n_real:
                logps[[places[index] for row in rows for index in row]] = own
        pairs = [self.pairs[index] for index in indices]
        lengths = logps.new_tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs])
        return whole_batch(
            self.objective,
            places,
            self.processes.sum_tensor(logps),
            self.reference_logps[list(indices)].to(logps),
            lengths,
            self._win_rates(pairs, logps),
        )

    def _halve_micro_batches(self, indices: Sequence[int], error: BaseException) -> None:
        longest = max(self.pairs[index].n_tokens for index in indices)
        if self.micro_batch_tokens <= longest or self.updater.lockstep:
            raise StageFailed(
                f"out of memory at micro-batches of {self.micro_batch_tokens} tokens with pairs of up to {longest}; "
                "set train.gradient_checkpointing=true, or lower train.micro_batch_tokens or train.max_response_tokens"
            ) from error
        self.micro_batch_tokens = max(longest, self.micro_batch_tokens // 2)
        logger.warning("out of memory: micro-batches of %d tokens from here on", self.micro_batch_tokens)

    def _collate(self, rows: MicroBatch) -> PairBatch:
        laid_out = [[self.pairs[index] for index in row] for row in rows]
        return collate(laid_out, self.policy.pad_token_id, self.device, self.sharing, self.sums)

    def _accumulate(
        self, rows: MicroBatch, record: StepRecord, counts: bool, last: bool, across: WholeBatch | None = None
    ) -> None:
        """Add the gradient of a micro-batch's share of the step's mean loss (of nothing, unless it `counts`)."""
        import torch

        indices = [index for row in rows for index in row]
        pairs = [self.pairs[index] for index in indices]
        batch = self._collate(rows)
        logps = self.updater.logps(batch)
        reference = self.reference_logps[indices].to(logps)
        lengths = batch.lengths.to(logps.dtype)
        if across is None:
            losses = losses_of(self.objective, logps, reference, lengths, self._win_rates(pairs, logps))
            self._check_losses(losses, pairs)
            (gradients,) = torch.autograd.grad(losses.sum(), logps, retain_graph=True)
            total = losses.sum()
        else:
            losses, gradients = across.of(indices)
            self._check_losses(losses, pairs)
            total = (logps * gradients).sum()
        self.updater.backward(total * (counts / record.n_pairs), last)
        if counts:
            record.add(MicroBatchOutcome(losses, logps[:, :2], reference[:, :2], lengths, gradients[:, 1]))

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

    def _check_weights(self) -> None:
        import torch

        found = (one.detach() for one in self.policy.model.parameters())
        local = (one.to_local() if hasattr(one, "to_local") else one for one in found)
        here = (one for one in local if one.numel())  # with ZeRO-3 none is
        if not all(math.isfinite(torch.linalg.vector_norm(one, torch.inf)) for one in here):
            raise StageFailed("the last update made weights that are not finite; lower train.learning_rate")
