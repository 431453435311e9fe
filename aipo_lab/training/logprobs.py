"""Log-probabilities of responses: logits only where a response token is predicted.

The (batch, length, vocabulary) tensor of logits never exists: hidden states are gathered at the positions
that predict response tokens before the output embedding sees them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from aipo_lab.core.progress import Progress
from aipo_lab.models.out_of_memory import is_out_of_memory
from aipo_lab.training.architecture import attention_of, attention_window_tokens, find_logit_scaling
from aipo_lab.training.attention import NAME, install_layouts
from aipo_lab.training.batches import PairBatch, Sharing, collate
from aipo_lab.training.memory import frozen_garbage
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.step_batches import reference_micro_batches
from aipo_lab.training.token_sums import TokenSums, summed

if TYPE_CHECKING:
    from torch import Tensor


def pair_logps(model: Any, batch: PairBatch, precision: str = "float32") -> Tensor:
    """Summed log-probabilities (B, 2) in nats of the chosen and rejected responses of a micro-batch.

    Beside them the columns that `batch.sums` asks for (see `token_sums`). The model computes in `precision` (a torch
    data type); log-probabilities are taken and summed in fp32.
    """
    import torch

    from aipo_lab.training.token_logps import token_logps

    if batch.sharing is Sharing.LAYOUT:
        install_layouts()
    dtype = getattr(torch, precision)
    decoder = getattr(model, model.base_model_prefix)
    in_16_bits = dtype != torch.float32
    autocast = torch.autocast(batch.input_ids.device.type, dtype=dtype, enabled=in_16_bits, cache_enabled=False)
    with autocast, float32_residuals(model) if in_16_bits else contextlib.nullcontext():
        hidden = decoder(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            use_cache=False,
            **batch.attention(model.dtype),
        ).last_hidden_state
        selected = hidden.reshape(-1, hidden.shape[-1])[batch.sources]
        logps = token_logps(model, selected, batch.targets)
        return summed(batch, logps, model, selected)


@contextlib.contextmanager
def float32_residuals(model: Any) -> Iterator[None]:
    """While inside, what layers add up is in float32, whatever the weights are in: their embeddings begin in it.

    With autocast, weights in bfloat16 then give the numbers that the same weights in float32 give, to the bit.
    """
    handle = model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: output.float())
    try:
        yield
    finally:
        handle.remove()


def all_pair_logps(
    model: Any,
    pairs: Sequence[EncodedPair],
    pad_token_id: int,
    max_tokens: int,
    progress: Progress,
    precision: str = "float32",
    batch_size: int | None = None,
    seed: int | None = None,
    sums: TokenSums = TokenSums.PLAIN,
) -> Tensor:
    """Summed log-probabilities (len(pairs), `sums`) without gradients, on the CPU, in the order of `pairs`.

    In 16 bits they depend on the micro-batches: those of a training's first epoch, whose `batch_size` and `seed` these
    are, give what that training computes before its first update.
    """
    import torch

    from aipo_lab.training.fused.layers import fused_layers

    result = torch.empty(len(pairs), int(sums), dtype=torch.float32)
    sharing = find_sharing(model, pairs, pad_token_id)
    done = 0
    with torch.inference_mode(), frozen_garbage(), fused_layers(model, wanted=precision == "float32"):
        for rows in reference_micro_batches(pairs, max_tokens, sharing, precision, batch_size, seed):
            batch = collate([[pairs[i] for i in row] for row in rows], pad_token_id, model.device, sharing, sums)
            indices = [i for row in rows for i in row]
            result[indices] = pair_logps(model, batch, precision).cpu()
            done += len(indices)
            progress(done, len(pairs), "pairs")
    return result


def find_sharing(model: Any, pairs: Sequence[EncodedPair], pad_token_id: int) -> Sharing:
    """How rows with shared prompts give this model's own log-probabilities for these pairs, if they do.

    They do not where a sliding window would cut a sequence, nor where the model ignores layouts, masks or positions
    (state-space layers, linear biases): that is found out by trying on the pair with the longest sequence, so that no
    window, known or not, stays out of sight. Raises `StageFailed` for a model whose logits are not understood.
    """
    pair = max(pairs, key=lambda pair: pair.longest_sequence_tokens)
    find_logit_scaling(model, pair.prompt + pair.chosen)
    window = attention_window_tokens(model)
    if window is not None and window < pair.longest_sequence_tokens:
        return Sharing.NONE
    tried = _TRIED.setdefault(model, {})
    key = attention_of(model), pair.longest_sequence_tokens
    if key not in tried:
        tried[key] = _try_sharing(model, pair, pad_token_id)
    return tried[key]


_TRIED: WeakKeyDictionary[Any, dict[tuple[str, int], Sharing]] = WeakKeyDictionary()
"""What trials of models told, by their attention and the longest sequence; the same model serves the reference pass
and the training."""


TRIED_TOKENS = 16
"""How many tokens at the end of the longest sequence are looked at: a window would cut them off from the prompt."""


def _try_sharing(model: Any, pair: EncodedPair, pad_token_id: int) -> Sharing:
    import torch

    short = EncodedPair("short", pair.prompt[-8:], pair.chosen[:5], pair.rejected[:7])
    other = EncodedPair("other", pair.prompt[-7:], pair.rejected[:7], pair.chosen[:5])
    shorter, longer = sorted((pair.chosen, pair.rejected), key=len)
    # The long sequence stands behind another response, which it must not see.
    beginning, end = longer[:-TRIED_TOKENS], longer[-TRIED_TOKENS:]
    long = EncodedPair("long", pair.prompt + beginning, shorter[:TRIED_TOKENS], end)
    with torch.no_grad():
        of_short = pair_logps(model, collate([[short, other]], pad_token_id, model.device, Sharing.NONE))
        of_long = _own_logps(model, long.prompt, long.rejected)[None, None]
    for sharing in (Sharing.LAYOUT, Sharing.MASK) if attention_of(model) == NAME else (Sharing.MASK,):
        batches = (collate([row], pad_token_id, model.device, sharing) for row in ([short, other], [long]))
        if all(_gives(expected, model, batch) for expected, batch in zip((of_short, of_long), batches, strict=True)):
            return sharing
    return Sharing.NONE


def _own_logps(model: Any, prompt: list[int], response: list[int]) -> Tensor:
    """The summed log-probability of a response that stands behind its prompt and nothing else."""
    import torch

    from aipo_lab.training.token_logps import token_logps

    ids = torch.tensor([prompt + response[:-1]], device=model.device)
    hidden = getattr(model, model.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
    return token_logps(model, hidden[0, len(prompt) - 1 :], torch.tensor(response, device=model.device)).sum()


def _gives(expected: Tensor, model: Any, batch: PairBatch) -> bool:
    """Whether a batch has the expected log-probabilities (B, 2), or (B, 1) of its rejected responses."""
    import torch

    try:
        with torch.no_grad():
            made = pair_logps(model, batch)[:, -expected.shape[1] :]
    except (TypeError, ValueError, RuntimeError, IndexError) as error:  # no such arguments in this architecture
        if is_out_of_memory(error):
            raise
        return False
    relative, absolute = (1e-4, 1e-3) if model.dtype == torch.float32 else (0.01, 0.05)
    return torch.allclose(made, expected, rtol=relative, atol=absolute)
