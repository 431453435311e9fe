"""AdamW for weights and moments in bfloat16: what does not fit is rounded at random, so that it is kept on average.

A bfloat16 has 8 bits of mantissa: at a learning rate of 5e-7 the nearest one of an updated weight is the weight itself,
and the nearest one of a decayed second moment is that moment, which would then never fall. Rounded up with a
probability equal to the fraction that is lost, both move as in float32 in expectation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from aipo_lab.core.seeds import derive_seed

BETAS = (0.9, 0.999)
EPS = 1e-8
CHUNK_WEIGHTS = 1 << 24
"""Weights updated at once: their float32 copies (5 x 64 MiB) are all the memory that an update needs."""
_KEPT_BITS = -(1 << 16)
"""Mask of the 16 bits of a float32 that a bfloat16 has."""


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """Float32 values as bfloat16, each one of its two neighbours; the mean of many roundings is the value."""
    return _round(values, _random_bits(values, generator).bitwise_and_(~_KEPT_BITS))


def _random_bits(like: Tensor, generator: torch.Generator) -> Tensor:
    """32 random bits for every value."""
    made = torch.empty(like.shape, dtype=torch.int32, device=like.device)
    return made.random_(-(1 << 31), 1 << 31, generator=generator)


def _round(values: Tensor, noise: Tensor) -> Tensor:
    """Add a random number below 2^16 to the bits of float32 values and cut off the 16 that a bfloat16 lacks."""
    bits = values.contiguous().view(torch.int32) + noise
    return bits.bitwise_and_(_KEPT_BITS).view(torch.float32).to(torch.bfloat16)


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW as torch's (decoupled weight decay, bias correction), computed in float32, kept in bfloat16.

    Moments are in bfloat16, weights in the data type they have. The random numbers of an update follow from `seed`, the
    number of the step and of the parameter, and `rank`, the process: a training that is continued ends with the same
    bytes. Processes that have the same weights must be given the same `rank`.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, seed: int, rank: int = 0) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.seed = seed
        self.rank = rank

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        assert closure is None
        numbered = enumerate((one, group) for group in self.param_groups for one in group["params"])
        for number, (parameter, group) in numbered:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter, dtype=torch.bfloat16)
                state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.bfloat16)
            state["step"] += 1
            generator = torch.Generator(device=parameter.device)
            generator.manual_seed(derive_seed(self.seed, "rounding", int(state["step"]), number, self.rank))
            self._update(parameter, state, group, generator)

    def _update(
        self, parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any], generator: torch.Generator
    ) -> None:
        assert parameter.grad is not None
        step, (beta1, beta2) = int(state["step"]), BETAS
        tensors = (parameter, parameter.grad.contiguous(), state["exp_avg"], state["exp_avg_sq"])
        split = [torch.split(one.view(-1), CHUNK_WEIGHTS) for one in tensors]
        for weights, gradient, mean, square in zip(*split, strict=True):
            g = gradient.float()
            m = mean.float().lerp_(g, 1 - beta1)
            v = square.float().mul_(beta2).addcmul_(g, g, value=1 - beta2)
            random = _random_bits(g, generator)
            noise = random & ~_KEPT_BITS  # one for both moments: each is right in expectation
            mean.copy_(_round(m, noise))
            square.copy_(_round(v, noise))
            w = weights.float().mul_(1 - group["lr"] * group["weight_decay"])
            denominator = v.sqrt_().div_(math.sqrt(1 - beta2**step)).add_(EPS)
            w.addcdiv_(m, denominator, value=-group["lr"] / (1 - beta1**step))
            noise = random.bitwise_right_shift_(16).bitwise_and_(~_KEPT_BITS)
            weights.copy_(_round(w, noise) if weights.dtype == torch.bfloat16 else w)
