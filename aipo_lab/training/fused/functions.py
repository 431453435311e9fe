"""Differentiable functions: RMS norm, rotary embedding, gated MLP, product with a weight, rows of an embedding.

Gradients of large weights are added to `weight.grad` where they arise (autograd is told None): a gradient the size of
the weights need not be written, read and added for every micro-batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from aipo_lab.training.fused.products import product


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """Compute one of the functions below."""
    return function.apply(*inputs)  # type: ignore[no-untyped-call]


class RmsNorm(torch.autograd.Function):
    """(..., d) hidden states, (d,) weight, eps -> x / rms(x) * weight."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        mean_square: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(eps).rsqrt_()
        context.save_for_backward(x, weight, scale)
        normed: Tensor = x * scale
        return normed.mul_(weight)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """With n = x * scale: dx = scale * (g * w - n * mean(g * w * n)), dw = sum over rows of g * n."""
        x, weight, scale = context.saved_tensors
        normed = x * scale
        products = normed * gradient
        of_weight = products.flatten(0, -2).sum(0)
        means = (products @ weight).div_(-x.shape[-1]).unsqueeze(-1)
        return (gradient * weight).addcmul_(normed, means).mul_(scale), of_weight, None


class Rotation(torch.autograd.Function):
    """(B, H, L, D) queries or keys, cos and sin (B, 1, L, D) -> rotated, the halves of D paired as in Llama."""

    @staticmethod
    def forward(context: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        context.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        rotated = x * cos
        rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return rotated

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = context.saved_tensors
        half = gradient.shape[-1] // 2
        of_x = gradient * cos
        of_x[..., :half].addcmul_(gradient[..., half:], sin[..., half:])
        of_x[..., half:].addcmul_(gradient[..., :half], sin[..., :half], value=-1)
        return of_x, None, None


class GatedMlp(torch.autograd.Function):
    """(..., d) hidden states and the weights of gate, up (h, d) and down (d, h) -> down(silu(gate(x)) * up(x))."""

    @staticmethod
    def forward(context: Any, x: Tensor, gate_weight: Tensor, up_weight: Tensor, down_weight: Tensor) -> Tensor:
        context.weights = gate_weight, up_weight, down_weight
        gate, up = product(x, gate_weight), product(x, up_weight)
        context.save_for_backward(x, gate, up)
        return product(functional.silu(gate).mul_(up), down_weight)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        gate_weight, up_weight, down_weight = context.weights
        x, gate, up = (saved.flatten(0, -2) for saved in context.saved_tensors)
        of_output = gradient.flatten(0, -2)
        activated = functional.silu(gate)
        add_weight_gradient(down_weight, of_output, activated * up)
        of_hidden = product(of_output, down_weight.t())
        of_up = activated.mul_(of_hidden)
        of_gate = torch.ops.aten.silu_backward(of_hidden.mul_(up), gate)
        add_weight_gradient(up_weight, of_up, x)
        add_weight_gradient(gate_weight, of_gate, x)
        of_x = product(of_gate, gate_weight.t()).add_(product(of_up, up_weight.t()))
        return of_x.view(gradient.shape), None, None, None


class Product(torch.autograd.Function):
    """(..., d) inputs and a weight (h, d) -> (..., h)."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        context.weight = weight
        context.save_for_backward(x)
        return product(x, weight)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = context.saved_tensors
        add_weight_gradient(context.weight, gradient.flatten(0, -2), x.flatten(0, -2))
        return product(gradient, context.weight.t()), None


class EmbeddingRows(torch.autograd.Function):
    """Token ids (...), an embedding (V, d) and the id of padding, whose row learns nothing -> (..., d)."""

    @staticmethod
    def forward(context: Any, ids: Tensor, weight: Tensor, padding_id: int | None) -> Tensor:
        context.weight = weight
        context.padding_id = padding_id
        context.save_for_backward(ids)
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, None, None]:
        (ids,) = context.saved_tensors
        weight = context.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        if context.padding_id is not None:
            gradient = gradient.masked_fill((ids == context.padding_id).unsqueeze(-1), 0)
        weight.grad.index_add_(0, ids.flatten(), gradient.flatten(0, -2))
        return None, None, None


def add_weight_gradient(weight: Tensor, of_output: Tensor, x: Tensor) -> None:
    """Add of_output^T x, from (n, h) and (n, d), to the gradient of a weight (h, d)."""
    if weight.grad is None:
        weight.grad = of_output.t() @ x
    else:
        weight.grad.addmm_(of_output.t(), x)
