"""Training with torch's FSDP2: weights, gradients and optimiser state divided among processes, layer by layer.

Every process reads its own rows of the weight files. Weights travel in the data type they have, so that the numbers are
those of one process; gradients are added over the processes in float32, while the layer below is still computing its
own. Attention and the head's chunks are those of every other training.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import Policy
from aipo_lab.models.weight_files import WeightFiles, empty_policy
from aipo_lab.training.batches import PairBatch
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import pair_logps
from aipo_lab.training.memory import layers_of
from aipo_lab.training.processes import Processes
from aipo_lab.training.updates import OptimizedParameters


def load_sharded_policy(folder: Path, device: str, dtype: str, processes: Processes) -> Policy:
    """The policy of a folder with this process's share of its weights on `device`; all processes call it.

    Beside them a process holds the embeddings, and one layer at a time, whole while they compute. The model has a
    method `compute(function, *arguments)`, in which `function(model, *arguments)` finds the weights there.
    """
    policy = empty_policy(folder, dtype)
    model = policy.model
    files = WeightFiles(folder)
    names = [name for name, _ in model.named_parameters()]
    files.check_names([*names, *_saved_buffers(model)])
    mesh = init_device_mesh(torch.device(device).type, (processes.count,))
    exact = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh, mp_policy=exact)
    model.compute = types.MethodType(_compute, model)
    fully_shard(model, mesh=mesh, mp_policy=exact)
    register_fsdp_forward_method(model, "compute")
    _materialise(model, files, device, processes)
    return policy


def _compute(model: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(model, *arguments)


def _materialise(model: Any, files: WeightFiles, device: str, processes: Processes) -> None:
    """Give the parameters memory and fill it from the files."""
    buffers = {name: one.to(device) for name, one in model.named_buffers()}
    model.to_empty(device=device)
    saved = _saved_buffers(model)
    with torch.no_grad():
        for name, one in model.named_buffers():
            one.copy_(files.rows(name, 0, len(one)) if name in saved else buffers[name])
        for name, parameter in model.named_parameters():
            start, stop = _rows(len(parameter), processes)
            local = parameter.to_local()
            assert len(local) == stop - start, "FSDP2 divides the rows of a parameter into equal chunks"
            if stop > start:
                local.copy_(files.rows(name, start, stop))


def _saved_buffers(model: Any) -> list[str]:
    """Buffers that are in the model's files."""
    kept = set(model.state_dict())
    return [name for name, _ in model.named_buffers() if name in kept]


def _rows(n_rows: int, processes: Processes) -> tuple[int, int]:
    """The rows that this process holds: `torch.chunk`'s."""
    each = -(-n_rows // processes.count)
    start = min(processes.rank * each, n_rows)
    return start, min(start + each, n_rows)


class FsdpUpdater:
    """See `Updater`. Micro-batches go in lockstep, as every layer's weights are gathered from all processes."""

    lockstep = True
    fused = False  # FSDP's hooks collect the gradients

    def __init__(self, model: Any, settings: TrainSettings, n_steps: int, processes: Processes, seed: int = 0) -> None:
        self.model = model
        self.settings = settings
        self.processes = processes
        with torch.no_grad():  # the first pass lays the shards out for good
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
        model.reshard()
        self.sharded = dict(model.named_parameters())
        shares = {name: one.to_local().detach() for name, one in self.sharded.items()}
        self.local = {name: torch.nn.Parameter(one) for name, one in shares.items() if one.numel()}
        self.optimized = OptimizedParameters(model, self.local, settings, n_steps, seed, processes.rank)

    def logps(self, batch: PairBatch) -> Tensor:
        """See `Updater.logps`."""
        output: Tensor = self.model.compute(pair_logps, batch, self.settings.precision)
        # A view: a gradient with respect to the output itself would run the hook that FSDP has on it.
        return output.view_as(output)

    def reset(self) -> None:
        """See `Updater.reset`."""
        for one in (*self.sharded.values(), *self.local.values()):
            one.grad = None

    def backward(self, loss: Tensor, last: bool) -> None:  # noqa: ARG002
        """See `Updater.backward`. FSDP averages over processes where the loss here wants a sum."""
        torch.autograd.backward(loss * self.processes.count)

    def update(self, step: int) -> dict[str, float] | None:
        """See `Updater.update`."""
        squares = 0.0
        for name, local in self.local.items():
            gradient = self.sharded[name].grad
            if gradient is not None:
                local.grad = gradient.to_local()
                squares += float(torch.linalg.vector_norm(local.grad, dtype=torch.float32).double().square())
        total = self.processes.sum({"squares": squares}, str(self.model.device))["squares"]
        return self.optimized.update(step, math.sqrt(total) if math.isfinite(total) else total)

    def save(self, folder: Path) -> None:
        """See `Updater.save`: every process its share."""
        self.optimized.save(folder, f"-{self.processes.rank}")

    def load(self, folder: Path) -> None:
        """See `Updater.load`."""
        self.optimized.load(folder, f"-{self.processes.rank}")

    def gathered_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The whole weights one after the other, in their data type, on the CPU of the first process."""
        for name, one in self.sharded.items():
            whole = one.detach().full_tensor()
            if not bool(torch.isfinite(whole).all()):
                raise StageFailed(f"the weights {name} are not finite; lower train.learning_rate")
            yield name, whole.cpu() if self.processes.first else whole
        for name in _saved_buffers(self.model):
            yield name, self.model.get_buffer(name).cpu()
