"""Log-probabilities of responses: logits only where a response token is predicted, and in chunks.

The (batch, length, vocabulary) tensor of logits never exists: hidden states are gathered at the positions
that predict response tokens, and a chunk's logits live only while its log-probabilities are computed; the
backward pass computes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aipo_lab.progress import Progress
from aipo_lab.training.batches import EncodedPair, PairBatch, collate, micro_batches

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_LOGITS = 1 << 25
"""Numbers of one chunk of logits (128 MiB in fp32)."""


def pair_logps(model: Any, batch: PairBatch, precision: str = "float32") -> Tensor:
    """Summed log-probabilities (B, 2) in nats of the chosen and rejected responses of a micro-batch.

    The model computes in `precision` (a torch data type); log-probabilities are taken and summed in fp32.
    """
    import torch

    dtype = getattr(torch, precision)
    decoder = getattr(model, model.base_model_prefix)
    with torch.autocast(batch.input_ids.device.type, dtype=dtype, enabled=dtype != torch.float32):
        hidden = decoder(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask(model.dtype),
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state
        selected = hidden.reshape(-1, hidden.shape[-1])[batch.sources]
        logps = token_logps(model, selected, batch.targets)
    sums = torch.zeros(batch.lengths.numel(), dtype=logps.dtype, device=logps.device)
    return sums.index_add(0, batch.responses, logps).view(-1, 2)


def token_logps(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities (n,), fp32, of `targets` (n,) given hidden states (n, width), in chunks."""
    import torch
    from torch.utils.checkpoint import checkpoint

    vocabulary = model.get_output_embeddings().weight.shape[0]
    chunk_tokens = max(1, CHUNK_LOGITS // vocabulary)
    chunks = zip(torch.split(hidden, chunk_tokens), torch.split(targets, chunk_tokens), strict=True)
    if len(targets) <= chunk_tokens and vocabulary <= 4096:  # small enough to keep for the backward pass
        return _chunk_logps(model, hidden, targets)
    return torch.cat([checkpoint(_chunk_logps, model, *chunk, use_reentrant=False) for chunk in chunks])


def _chunk_logps(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = _scale(model.get_output_embeddings()(hidden).float(), model.config)
    chosen: Tensor = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=1)
    return chosen


def _scale(logits: Any, config: Any) -> Any:
    """What some architectures do to logits after the output embedding (Gemma 2, Cohere, Granite)."""
    import torch

    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        return torch.tanh(logits / cap) * cap
    if (scale := getattr(config, "logit_scale", None)) is not None:
        return logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        return logits / divisor
    return logits


def all_pair_logps(
    model: Any,
    pairs: Sequence[EncodedPair],
    pad_token_id: int,
    max_tokens: int,
    progress: Progress,
    precision: str = "float32",
) -> Tensor:
    """Summed log-probabilities (len(pairs), 2) without gradients, on the CPU, in the order of `pairs`."""
    import torch

    result = torch.empty(len(pairs), 2, dtype=torch.float32)
    shared = can_share_prompts(model, pairs, pad_token_id)
    done = 0
    for indices in micro_batches(range(len(pairs)), pairs, max_tokens):
        batch = collate([pairs[i] for i in indices], pad_token_id, model.device, shared)
        with torch.inference_mode():
            result[indices] = pair_logps(model, batch, precision).cpu()
        done += len(indices)
        progress(done, len(pairs), "pairs")
    return result


def can_share_prompts(model: Any, pairs: Sequence[EncodedPair], pad_token_id: int) -> bool:
    """Whether rows with shared prompts give this model's own log-probabilities for these pairs.

    Not so where a sliding window would cut a sequence, nor where the model ignores masks or positions (state-space
    layers, linear biases): that is found out by trying on a few tokens.
    """
    import torch

    longest = max(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs)
    window = getattr(model.config, "sliding_window", None)
    if window is not None and getattr(model.config, "use_sliding_window", True) and window < longest:
        return False
    pair = max(pairs, key=lambda pair: pair.n_tokens)
    probe = EncodedPair("probe", pair.prompt[-8:], pair.chosen[:5], pair.rejected[:7])
    with torch.inference_mode():
        apart = pair_logps(model, collate([probe], pad_token_id, model.device, shared=False))
        try:
            together = pair_logps(model, collate([probe], pad_token_id, model.device))
        except (TypeError, ValueError, RuntimeError, IndexError):  # no masks of this shape in this architecture
            return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.05
    return torch.allclose(together, apart, rtol=tolerance, atol=tolerance)
