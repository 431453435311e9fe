"""What a model's configuration says about its attention and its logits, wherever composite models keep it.

Composite models (Gemma 3 from 4B, Llama 4) describe their language model in a section, which transformers finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import StageFailed

if TYPE_CHECKING:
    from torch import Tensor

_WINDOWS = ("sliding_window", "sliding_window_size", "attention_chunk_size", "attention_window", "window_size")
_SCALINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
_FOUND = "aipo_lab_logit_config"
_TRIED_TOKENS = 16


def attention_of(model: Any) -> str:
    """The implementation of attention in the language model."""
    return str(model.config.get_text_config()._attn_implementation)


def attention_window_tokens(model: Any) -> int | None:
    """The most tokens that all layers of the language model can look back; None if there is no such limit."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds == {"full_attention"} or not getattr(config, "use_sliding_window", True):
        return None
    given = [getattr(config, name, None) for name in _WINDOWS]
    return min((one for one in given if isinstance(one, int) and one > 0), default=None)


def scaling_config(model: Any) -> Any:
    """The configuration whose logit scaling the model obeys: see `find_logit_scaling`; its own before that."""
    return getattr(model, _FOUND, model.config)


def is_scaled(config: Any) -> bool:
    """Whether a configuration asks for logits to be changed after the output embedding."""
    return any(getattr(config, name, None) is not None for name in _SCALINGS)


def scale_logits(logits: Any, config: Any) -> Any:
    """What some architectures do to logits after the output embedding (Gemma 2, Cohere, Granite)."""
    import torch

    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        return torch.tanh(logits / cap) * cap
    if (scale := getattr(config, "logit_scale", None)) is not None:
        return logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        return logits / divisor
    return logits


def find_logit_scaling(model: Any, tokens: list[int]) -> None:
    """Find out by trying on a few tokens, once, which configuration's scaling gives the model's own logits.

    A composite model may obey its text section's or none. Raises `StageFailed` if nothing known gives them.
    """
    import torch

    if hasattr(model, _FOUND):
        return
    ids = torch.tensor([tokens[:_TRIED_TOKENS]], device=model.device)
    with torch.no_grad():  # not inference mode: weights gathered in it could not be trained
        own = model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        hidden = getattr(model, model.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.get_output_embeddings()(hidden).float()
    candidates = [model.config, model.config.get_text_config(), None]
    differences = [_largest_difference(scale_logits(logits, one).log_softmax(-1), own) for one in candidates]
    if min(differences) > 1e-2:
        raise StageFailed(
            f"{type(model).__name__} changes its logits in a way that is not known here: log-probabilities from its "
            f"hidden states differ by {min(differences):.2g} nats from its own; choose another model"
        )
    setattr(model, _FOUND, candidates[differences.index(min(differences))])


def _largest_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
