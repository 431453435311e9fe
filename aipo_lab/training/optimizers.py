"""The optimisers of `train.optimizer`, all of them AdamW, on tensors that are wholly in this process."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import MissingDependency
from aipo_lab.core.seeds import derive_seed
from aipo_lab.training.config import TrainSettings

if TYPE_CHECKING:
    import torch

INSTALL_LOW_BIT = "pip install 'aipo-lab[low-bit]'"


def make_optimizer(groups: list[dict[str, Any]], settings: TrainSettings, seed: int, rank: int = 0) -> Any:
    """The optimiser of the recipe for groups of parameters; see `StochasticAdamW` for `seed` and `rank`.

    Raises `MissingDependency` for `adamw_8bit` without torchao.
    """
    import torch

    if settings.optimizer == "adamw_bf16":
        from aipo_lab.training.stochastic_adamw import StochasticAdamW

        return StochasticAdamW(groups, settings.learning_rate, seed, rank)
    if settings.optimizer == "adamw_8bit":
        return _adamw_8bit(groups, settings, seed, rank)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _adamw_8bit(groups: list[dict[str, Any]], settings: TrainSettings, seed: int, rank: int) -> Any:
    """torchao's AdamW with moments of 8 bits; it compiles its update, so its first step takes longer.

    It rounds with torch's global generators, which no checkpoint holds on a GPU: here every step draws its random
    numbers from a seed of its own, told by how many were taken before.
    """
    if importlib.util.find_spec("torchao") is None:
        raise MissingDependency(f"train.optimizer adamw_8bit needs torchao; install it with: {INSTALL_LOW_BIT}")
    import torch
    from torchao.optim import AdamW8bit

    class SeededAdamW8bit(AdamW8bit):  # type: ignore[misc]
        def step(self, closure: None = None) -> None:
            taken = max((int(state["step"]) for state in self.state.values()), default=0)
            device = self.param_groups[0]["params"][0].device
            with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
                torch.manual_seed(derive_seed(seed, "rounding", taken, rank))
                super().step(closure)

    rounds = settings.weights == "bfloat16"
    return SeededAdamW8bit(groups, lr=settings.learning_rate, weight_decay=0.0, bf16_stochastic_round=rounds)


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All that an optimiser remembers, as plain tensors: `<parameter>/<name>`, parts of 8-bit ones below that."""
    made: dict[str, torch.Tensor] = {}
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            parts = value.__tensor_flatten__()[0] if hasattr(value, "__tensor_flatten__") else None
            if parts is None:
                made[f"{number}/{name}"] = value
            else:
                made |= {f"{number}/{name}/{part}": getattr(value, part) for part in parts}
    return made


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `state_tensors`."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        place, name, *part = key.split("/")
        values = state.setdefault(int(place), {})
        if part:
            values.setdefault(name, {})[part[0]] = tensor
        else:
            values[name] = tensor
    for number, values in state.items():
        for name, value in values.items():
            if isinstance(value, dict):
                values[name] = _eight_bits(value, name, parameters[number])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _eight_bits(parts: dict[str, torch.Tensor], name: str, parameter: torch.Tensor) -> Any:
    from torchao.optim.subclass_8bit import OptimState8bit

    device = parameter.device
    placed = (parts[part].to(device) for part in ("codes", "scale", "qmap"))
    return OptimState8bit(*placed, signed=name == "exp_avg", dtype=parameter.dtype)
