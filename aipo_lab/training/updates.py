"""From losses to new weights: the same model in every process, AdamW, clipping, the schedule and loss scaling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.training.batches import PairBatch
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import pair_logps
from aipo_lab.training.optimizers import load_state_tensors, make_optimizer, state_tensors
from aipo_lab.training.processes import Processes
from aipo_lab.training.schedule import make_scheduler
from aipo_lab.training.weight_decay import parameter_groups

if TYPE_CHECKING:
    from torch import Tensor


class Updater(Protocol):
    """A model in training.

    `lockstep`: whether all processes must compute equally many micro-batches. `fused`: whether layers may be fused and
    add to `weight.grad` themselves (see `fused_layers`).
    """

    lockstep: bool
    fused: bool

    def logps(self, batch: PairBatch) -> Tensor:
        """Log-probabilities (B, 2) with gradients."""
        ...

    def reset(self) -> None:
        """Forget the gradients so far."""
        ...

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of a micro-batch's part of the loss; `last`: no more micro-batches in this step."""
        ...

    def update(self, step: int) -> dict[str, float] | None:
        """Update the weights; returns `lr` and `gradient_norm` (before clipping).

        None if the gradient did not fit into 16 bits: then nothing was changed but the scale, and the step's
        gradient must be computed again. Raises `StageFailed` for a gradient that is not finite.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that a killed training needs to continue. Every process calls it."""
        ...

    def load(self, folder: Path) -> None:
        """The inverse of `save`."""
        ...


class LossScale:
    """The factor that keeps float16 gradients from vanishing: halved when they overflow, doubled after a while."""

    CLEAN_STEPS = 200

    def __init__(self, precision: str) -> None:
        self.value = 2.0**16 if precision == "float16" else 1.0
        self.clean_steps = 0
        self._changes = precision == "float16"

    def clean(self) -> None:
        """A step's gradient was finite."""
        self.clean_steps += 1
        if self._changes and self.clean_steps % self.CLEAN_STEPS == 0:
            self.value *= 2

    def halve(self) -> bool:
        """After an overflow; False if the scale is not to blame."""
        self.clean_steps = 0
        if self.value <= 1:
            return False
        self.value /= 2
        return True


class OptimizedParameters:
    """Parameters in this process with their optimiser, schedule and loss scale, and how they are saved and restored."""

    def __init__(
        self, model: Any, parameters: Mapping[str, Tensor], settings: TrainSettings, n_steps: int, seed: int, rank: int
    ) -> None:
        self.parameters = parameters
        self.max_gradient_norm = settings.max_gradient_norm
        groups = parameter_groups(model, parameters.items(), settings)
        self.optimizer = make_optimizer(groups, settings, seed, rank)
        self.scheduler = make_scheduler(self.optimizer, settings, n_steps)
        self.scale = LossScale(settings.precision)

    def update(self, step: int, norm: float) -> dict[str, float] | None:
        """Clip the gradients, whose norm over all processes is `norm`, and update; see `Updater.update`."""
        import torch

        gradients = [one for one in self.parameters.values() if one.grad is not None]
        torch.nn.utils.clip_grads_with_norm_(gradients, self.max_gradient_norm, torch.tensor(norm))
        if not math.isfinite(norm):
            if self.scale.halve():
                return None
            raise StageFailed(f"the gradient norm at step {step} is {norm}; lower train.learning_rate")
        self.scale.clean()
        lr = float(self.scheduler.get_last_lr()[0])
        self.optimizer.step()
        self.scheduler.step()
        return {"lr": lr, "gradient_norm": norm}

    def save(self, folder: Path, suffix: str = "") -> None:
        """Write weights, the optimiser's state, schedule and random state; `suffix` parts the files of processes."""
        import torch
        from safetensors.torch import save_file

        save_file({name: one.detach() for name, one in self.parameters.items()}, folder / f"model{suffix}.safetensors")
        moments = state_tensors(self.optimizer)
        save_file(moments | {"random_state": torch.get_rng_state()}, folder / f"optimizer{suffix}.safetensors")
        schedule = self.scheduler.state_dict()
        kept = {name: schedule[name] for name in ("last_epoch", "_step_count")}
        rates = [float(lr) for lr in schedule["_last_lr"]]
        scale = {"value": self.scale.value, "clean_steps": self.scale.clean_steps}
        write_json(folder / f"schedule{suffix}.json", {"scheduler": kept | {"_last_lr": rates}, "scale": scale})

    def load(self, folder: Path, suffix: str = "") -> None:
        """The inverse of `save`."""
        import torch
        from safetensors.torch import load_file

        weights = load_file(folder / f"model{suffix}.safetensors")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
        moments = load_file(folder / f"optimizer{suffix}.safetensors")
        torch.set_rng_state(moments.pop("random_state"))
        load_state_tensors(self.optimizer, moments)
        schedule = read_json(folder / f"schedule{suffix}.json")
        self.scheduler.load_state_dict(self.scheduler.state_dict() | schedule["scheduler"])
        for group, lr in zip(self.optimizer.param_groups, schedule["scheduler"]["_last_lr"], strict=True):
            if isinstance(group["lr"], torch.Tensor):  # torchao's own
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self.scale.value, self.scale.clean_steps = schedule["scale"]["value"], schedule["scale"]["clean_steps"]


class ReplicatedUpdater:
    """Every process has the whole model and optimiser; gradients are summed over the processes before the update."""

    lockstep = False

    def __init__(self, model: Any, settings: TrainSettings, n_steps: int, processes: Processes, seed: int = 0) -> None:
        self.model = model
        self.settings = settings
        self.processes = processes
        self.parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
        _own_memory(self.parameters.values())
        self.optimized = OptimizedParameters(model, self.parameters, settings, n_steps, seed, rank=0)
        self.scale = self.optimized.scale
        self.fused = settings.precision == "float32"

    def logps(self, batch: PairBatch) -> Tensor:
        """See `Updater.logps`."""
        return pair_logps(self.model, batch, self.settings.precision)

    def reset(self) -> None:
        """See `Updater.reset`."""
        self.optimized.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor, last: bool) -> None:  # noqa: ARG002
        """See `Updater.backward`."""
        import torch

        torch.autograd.backward(loss * self.scale.value if self.scale.value != 1 else loss)

    def update(self, step: int) -> dict[str, float] | None:
        """See `Updater.update`."""
        self.processes.sum_gradients(self.parameters.values())
        if self.scale.value != 1:
            for one in self.parameters.values():
                if one.grad is not None:
                    one.grad.div_(self.scale.value)
        return self.optimized.update(step, gradient_norm(self.parameters.values()))

    def save(self, folder: Path) -> None:
        """See `Updater.save`; one process writes, as all are equal."""
        if self.processes.first:
            self.optimized.save(folder)

    def load(self, folder: Path) -> None:
        """See `Updater.load`."""
        self.optimized.load(folder)


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """The norm of all gradients together; those in 16 bits are squared and added in float32."""
    import torch

    gradients = [one.grad for one in parameters if one.grad is not None]
    in_16_bits = [one for one in gradients if one.dtype != torch.float32]
    norms = [torch.linalg.vector_norm(one, dtype=torch.float32) for one in in_16_bits]
    return float(torch.nn.utils.get_total_norm([*(one for one in gradients if one.dtype == torch.float32), *norms]))


def _own_memory(parameters: Iterable[Tensor]) -> None:
    """Move weights out of their mapped file, whose pages the first update would copy one by one, at a higher price."""
    for one in parameters:
        if one.device.type == "cpu":
            one.data = one.data.clone()
