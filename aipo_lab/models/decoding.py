"""Decoding with the recipe's settings alone.

`generate` fills what it is not told from the folder's `generation_config.json` (a repetition penalty, a minimal
probability, suppressed tokens, a disabled cache, …), and then samples from something else than the policy whose
log-probabilities are trained. Here that file counts for its end tokens only, and what it would have added is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aipo_lab.core.jsonl import read_json

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "typical_p": (1.0,),
    "length_penalty": (1.0,),
    "min_p": (0.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "diversity_penalty": (0.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "guidance_scale": (1.0,),
    "temperature": (1.0,),
    "top_p": (1.0,),
    "top_k": (50,),
    "use_cache": (True,),
}
"""Values that change nothing."""

_NO_SAMPLING = {
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version", "do_sample",
    "max_length", "max_new_tokens", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "return_dict_in_generate", "num_assistant_tokens", "num_assistant_tokens_schedule", "is_assistant",
    "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind", "trust_remote_code",
}  # fmt: skip
"""Tokens, lengths and outputs: what the recipe or the engine says in any case, or what samples nothing."""


def ignored_settings(declared: Mapping[str, Any]) -> dict[str, Any]:
    """What a generation configuration asks for and nobody follows: the recipe's `sampling` sections alone count."""
    return {
        name: value
        for name, value in sorted(declared.items())
        if not name.startswith("_")
        and name not in _NO_SAMPLING
        and value not in (None, False, [], {})
        and value not in _NEUTRAL.get(name, ())
    } | ({"use_cache": False} if declared.get("use_cache") is False else {})


def ignored_settings_of_folder(folder: Path) -> dict[str, Any]:
    """`ignored_settings` of a model folder's `generation_config.json`; empty if there is none that can be read."""
    try:
        declared = read_json(folder / "generation_config.json")
    except (OSError, ValueError):
        return {}
    return ignored_settings(declared) if isinstance(declared, dict) else {}


@contextmanager
def only_given_settings(model: Any) -> Iterator[None]:
    """Within, `model.generate` follows the configuration it is given and nothing that came with the folder."""
    from transformers import GenerationConfig

    declared = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = declared
