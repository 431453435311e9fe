"""Training with DeepSpeed's ZeRO: optimiser state and gradients, with ZeRO-3 the weights too, divided among processes.

Weights are gathered in fp32, one parameter at a time, when the training is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor

from aipo_lab.core.errors import StageFailed
from aipo_lab.training.batches import PairBatch
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import pair_logps
from aipo_lab.training.processes import Processes
from aipo_lab.training.schedule import make_scheduler
from aipo_lab.training.weight_decay import parameter_groups


class _PairModel(torch.nn.Module):
    """A causal model whose forward pass is `pair_logps`: DeepSpeed's hooks need one root module."""

    def __init__(self, model: Any, precision: str) -> None:
        super().__init__()
        self.model = model
        self.precision = precision

    def forward(self, batch: PairBatch) -> Tensor:
        """Log-probabilities (B, 2)."""
        return pair_logps(self.model, batch, self.precision)


class ZeroUpdater:
    """See `Updater`. Weights live in DeepSpeed's engine; micro-batches go in lockstep, as ZeRO-3 gathers weights."""

    lockstep = True
    fused = False  # DeepSpeed's hooks collect the gradients

    def __init__(
        self,
        model: Any,
        settings: TrainSettings,
        n_steps: int,
        processes: Processes,
        seed: int = 0,  # noqa: ARG002
        *,
        config: dict[str, Any],
    ) -> None:
        self.processes = processes
        # Not DeepSpeed's own bfloat16, which rounds the weights and the residual stream: the reference would be of
        # another policy, by nats. Weights stay in float32 and products are autocast, as without ZeRO.
        pair_model = _PairModel(model, settings.precision)
        groups = parameter_groups(pair_model, pair_model.named_parameters(), settings)
        own = {} if "optimizer" in config else {"optimizer": self._adamw(groups, settings)}
        self.engine, self.optimizer, _, self.scheduler = deepspeed.initialize(
            model=pair_model,
            model_parameters=groups,
            config=config,
            lr_scheduler=lambda optimizer: make_scheduler(optimizer, settings, n_steps),
            dist_init_required=False,
            **own,
        )

    @staticmethod
    def _adamw(groups: list[dict[str, Any]], settings: TrainSettings) -> torch.optim.AdamW:
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)

    def logps(self, batch: PairBatch) -> Tensor:
        """See `Updater.logps`."""
        output: Tensor = self.engine(batch)
        # A view: a gradient with respect to the output itself would run the hook that DeepSpeed has on it.
        return output.view_as(output)

    def reset(self) -> None:
        """See `Updater.reset`; DeepSpeed forgets the gradients itself at the end of a step."""

    def backward(self, loss: Tensor, last: bool) -> None:
        """See `Updater.backward`. DeepSpeed averages over processes where the loss here wants a sum."""
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.processes.count)
        if not last:
            self.engine.step()

    def update(self, step: int) -> dict[str, float] | None:
        """See `Updater.update`. DeepSpeed tells the norm after the update; a bad one ends the training all the same."""
        lr = self.scheduler.get_last_lr()[0]
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        if norm is None or not math.isfinite(norm):
            raise StageFailed(f"the gradient norm at step {step} is {norm}; lower train.learning_rate")
        return {"lr": float(lr), "gradient_norm": float(norm)}

    def save(self, folder: Path) -> None:
        """See `Updater.save`: DeepSpeed's own format, a part per process."""
        self.engine.save_checkpoint(str(folder), tag="state", save_latest=False)

    def load(self, folder: Path) -> None:
        """See `Updater.load`."""
        loaded, _ = self.engine.load_checkpoint(str(folder), tag="state")
        if loaded is None:  # DeepSpeed only warns, and the training would go on from the start's weights
            raise StageFailed(f"DeepSpeed cannot read its checkpoint {folder}; remove that folder to start again")

    def gathered_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The whole fp32 weights one after the other by the model's own names, on the CPU of the first process.

        Raises `StageFailed` if one is not finite: with ZeRO-3 nobody saw the weights whole before.
        """
        for name, parameter in self.engine.module.model.named_parameters():
            whole = safe_get_full_fp32_param(parameter)
            if not bool(torch.isfinite(whole).all()):
                raise StageFailed(f"the weights {name} are not finite; lower train.learning_rate")
            yield name, whole.detach().to("cpu", torch.float32).clone() if self.processes.first else whole
