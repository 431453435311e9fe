"""Puts the functions into a model for a while, where they compute what its own layers compute.

Whether they do is found out by trying: a layer that only looks like a known one keeps its own forward pass.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from aipo_lab.training.fused.functions import EmbeddingRows, GatedMlp, Product, RmsNorm, Rotation, apply

Forward = Callable[..., Any]
ROTATE = "apply_rotary_pos_emb"
"""What transformers calls the function that rotates queries and keys."""


@contextlib.contextmanager
def fused_layers(model: Any, wanted: bool = True) -> Iterator[None]:
    """While inside, layers of known kinds compute with the functions, if `wanted`; for float32 without autocast.

    Gradients of their weights are added to `weight.grad` without hooks being called.
    """
    with contextlib.ExitStack() as stack:
        if wanted:
            tried: dict[type, bool] = {}
            for module in model.modules():
                if (forward := _fused_forward(module, tried)) is not None:
                    vars(module)["forward"] = forward
                    _FUSED.add(module)
                    stack.callback(_restore, module)
            for python_module in _rotating_modules(model):
                own = getattr(python_module, ROTATE)
                stack.callback(setattr, python_module, ROTATE, own)
                setattr(python_module, ROTATE, functools.partial(_rotate, own))
        yield


def is_fused(module: nn.Module) -> bool:
    """Whether this module computes with one of the functions now."""
    return module in _FUSED


_FUSED: WeakSet[nn.Module] = WeakSet()


def _restore(module: nn.Module) -> None:
    del vars(module)["forward"]
    _FUSED.discard(module)


def _fused_forward(module: nn.Module, tried: dict[type, bool]) -> Forward | None:
    """The forward pass that may replace this module's, None if there is none; `tried`: what trials of a class told."""
    if type(module) is nn.Linear and module.bias is None and _may_add_to(module.weight):
        return lambda x: apply(Product, x, module.weight)
    if type(module) is nn.Embedding and _looks_up_only(module) and _may_add_to(module.weight):
        return lambda ids: apply(EmbeddingRows, ids, module.weight, module.padding_idx)
    forward = _rms_norm(module) or _gated_mlp(module)
    if forward is None:
        return None
    if type(module) not in tried:
        tried[type(module)] = _computes_the_same(module, forward)
    return forward if tried[type(module)] else None


def _looks_up_only(module: nn.Embedding) -> bool:
    return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse


def _may_add_to(weight: Tensor) -> bool:
    """Whether a weight learns and nobody waits for autograd to bring its gradient."""
    return weight.requires_grad and not weight._backward_hooks and not weight._post_accumulate_grad_hooks


def _rms_norm(module: nn.Module) -> Forward | None:
    if [name for name, _ in module.named_parameters()] != ["weight"] or not hasattr(module, "variance_epsilon"):
        return None
    return lambda x: apply(RmsNorm, x, module.weight, module.variance_epsilon)


def _gated_mlp(module: nn.Module) -> Forward | None:
    weights = dict(module.named_parameters())
    if list(weights) != ["gate_proj.weight", "up_proj.weight", "down_proj.weight"]:
        return None
    return (lambda x: apply(GatedMlp, x, *weights.values())) if all(map(_may_add_to, weights.values())) else None


def _computes_the_same(module: nn.Module, forward: Forward) -> bool:
    """Whether `forward` gives the module's own result on random input as wide as its first weight."""
    weight = next(module.parameters())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, weight.shape[-1], generator=generator).to(weight)
    with torch.no_grad():
        own = type(module).forward(module, x)
        return bool((forward(x) - own).norm() <= 1e-5 * own.norm())  # rounding only, however large the weights


def _rotating_modules(model: Any) -> list[ModuleType]:
    """The Python modules of the model's attention whose rotation is Llama's."""
    found = {sys.modules[type(module).__module__] for module in model.modules()}
    return [one for one in found if hasattr(one, ROTATE) and _rotates_as_llama(getattr(one, ROTATE))]


def _rotate(
    own: Forward, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """What `own` computes; it does so itself where only a part of the heads' width is rotated."""
    if cos.shape[-1] != q.shape[-1]:
        made: tuple[Tensor, Tensor] = own(q, k, cos, sin, unsqueeze_dim)
        return made
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return apply(Rotation, q, cos, sin), apply(Rotation, k, cos, sin)


def _rotates_as_llama(own: Forward) -> bool:
    generator = torch.Generator().manual_seed(0)
    q, k, cos, sin = (torch.randn(2, *shape, 8, generator=generator) for shape in ((4, 5), (2, 5), (5,), (5,)))
    try:
        theirs = own(q, k, cos, sin)
        return all(torch.allclose(*both, atol=1e-6) for both in zip(theirs, _rotate(own, q, k, cos, sin), strict=True))
    except (TypeError, ValueError, RuntimeError):  # other arguments: another rotation
        return False
