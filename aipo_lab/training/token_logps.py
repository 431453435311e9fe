"""Log-probabilities of tokens from hidden states, in chunks of logits that are never all there at once.

The gradient is written by hand: the forward pass turns logits into exponentials in place, and the backward pass turns
those into the gradient of the logits in place, so one buffer of a chunk's size is all that either needs. If the tokens
make only one chunk, its exponentials are kept for the backward pass; else they are computed again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aipo_lab.training.architecture import is_scaled, scale_logits, scaling_config
from aipo_lab.training.fused.functions import add_weight_gradient, apply
from aipo_lab.training.fused.layers import is_fused
from aipo_lab.training.fused.products import product

CHUNK_LOGITS = 3 << 24
"""Numbers of one chunk of logits (192 MiB in fp32): a micro-batch of 1,024 tokens makes one with 49,152 words."""
CACHED_LOGITS = 1 << 19
"""Numbers worked on at once on a CPU, so that they stay in its cache from one operation to the next."""


def token_logps(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities (n,), fp32, of `targets` (n,) given hidden states (n, width), in chunks."""
    embedding = model.get_output_embeddings()
    if _is_plain(embedding, scaling_config(model)):
        in_place = is_fused(embedding)
        logps: Tensor = apply(_TokenLogps, hidden, embedding.weight, targets, in_place)
        return logps
    chunk_tokens = max(1, CHUNK_LOGITS // embedding.out_features)
    chunks = zip(torch.split(hidden, chunk_tokens), torch.split(targets, chunk_tokens), strict=True)
    return torch.cat([checkpoint(_any_head_logps, model, *chunk, use_reentrant=False) for chunk in chunks])


def _is_plain(embedding: Any, config: Any) -> bool:
    """Whether logits are one product with a weight that is wholly here: no bias, scaling, adapter or sharding."""
    if type(embedding) is not torch.nn.Linear or embedding.bias is not None or is_scaled(config):
        return False
    return embedding.weight.dim() == 2


def _any_head_logps(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = scale_logits(model.get_output_embeddings()(hidden).float(), scaling_config(model))
    chosen: Tensor = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=1)
    return chosen


def _exponentials(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp(logits - row maximum) (n, V) in fp32, its row sums (n,) and the log-probabilities of the targets (n,)."""
    logits = product(hidden, weight).float()
    target_logits = logits.gather(1, targets[:, None]).squeeze(1)
    sums, maxima = torch.empty_like(target_logits), torch.empty_like(target_logits)
    for rows in _cached_rows(logits):
        part = logits[rows]
        maxima[rows] = part.amax(dim=1)
        sums[rows] = part.sub_(maxima[rows][:, None]).exp_().sum(dim=1)
    return logits, sums, target_logits - maxima - sums.log()


def _logit_gradients_(exponentials: Tensor, sums: Tensor, targets: Tensor, gradients: Tensor) -> Tensor:
    """Turn exponentials into d(sum of gradients * logps)/d(logits) = gradients * (one-hot - softmax), in place."""
    factors = (-gradients / sums)[:, None]
    for rows in _cached_rows(exponentials):
        exponentials[rows].mul_(factors[rows])
    return exponentials.scatter_add_(1, targets[:, None], gradients[:, None])


def _cached_rows(logits: Tensor) -> list[slice]:
    n, vocabulary = logits.shape
    step = n if logits.device.type != "cpu" else max(1, CACHED_LOGITS // vocabulary)
    return [slice(start, start + step) for start in range(0, n, step)]


class _TokenLogps(torch.autograd.Function):
    """(n, width) hidden states, (V, width) weight, (n,) targets -> (n,) log-probabilities in fp32.

    With `in_place` (fp32 only) the gradient of the weight is added to `weight.grad`.
    """

    @staticmethod
    def forward(context: Any, hidden: Tensor, weight: Tensor, targets: Tensor, in_place: bool) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        computed_hidden, computed_weight = hidden.to(dtype), weight.to(dtype)
        context.chunk_tokens = max(1, CHUNK_LOGITS // len(weight))
        context.save_for_backward(computed_hidden, computed_weight, targets)
        context.kept = None
        context.owner = weight if in_place else None
        logps = []
        for start in range(0, len(targets), context.chunk_tokens):
            rows = slice(start, start + context.chunk_tokens)
            exponentials, sums, of_targets = _exponentials(computed_hidden[rows], computed_weight, targets[rows])
            logps.append(of_targets)
        if len(logps) == 1 and any(context.needs_input_grad):
            context.kept = exponentials, sums
        return torch.cat(logps)

    @staticmethod
    def backward(context: Any, gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        hidden, weight, targets = context.saved_tensors
        kept, context.kept = context.kept, None
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = None if context.owner is not None else torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(targets), context.chunk_tokens):
            rows = slice(start, start + context.chunk_tokens)
            exponentials, sums = kept or _exponentials(hidden[rows], weight, targets[rows])[:2]
            of_logits = _logit_gradients_(exponentials, sums, targets[rows], gradients[rows]).to(hidden.dtype)
            hidden_gradient[rows] = product(of_logits, weight.t())
            if weight_gradient is None:
                add_weight_gradient(context.owner, of_logits, hidden[rows])
            elif weight.dtype == torch.float32:
                weight_gradient.addmm_(of_logits.t(), hidden[rows])
            else:
                weight_gradient += of_logits.t() @ hidden[rows]
        return hidden_gradient, weight_gradient, None, None
