"""Tiny random model folders with the habits of public ones: other end tokens, own sampling settings, few positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from aipo_lab.worlds.micro.tokenizer import build_tokenizer

END = "<|end|>"
TURNS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% else %}<|assistant|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEMPLATE = "{{ bos_token }}" + TURNS


def make_variant(
    folder: Path,
    template: str | None = TEMPLATE,
    generation_config: dict[str, Any] | None = None,
    architecture: str = "llama",
    add_eos: bool = False,
    writes: tuple[str, ...] = (END,),
    **config: Any,
) -> Path:
    """A folder of a model that ends its turns with the tokens `writes`, about once in ten tokens."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [END]}, replace_extra_special_tokens=False)
    tokenizer.chat_template = template
    if add_eos:
        _append_eos(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _model(architecture, tokenizer, config)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in writes]
    _favour(model, ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    if generation_config is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation_config))
    return folder


def _append_eos(tokenizer: Any) -> None:
    from tokenizers import processors

    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=ends
    )


def _model(architecture: str, tokenizer: Any, config: dict[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig

    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if architecture == "gpt2":
        shape = {
            "n_embd": 32,
            "n_layer": 1,
            "n_head": 2,
            "initializer_range": 0.3,
            "tie_word_embeddings": False,
        } | config
        return AutoModelForCausalLM.from_config(GPT2Config(vocab_size=len(tokenizer), **(special | shape)))
    kind = MistralConfig if architecture == "mistral" else LlamaConfig
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4} | config
    shape |= {"num_key_value_heads": 2, "initializer_range": 0.3, "tie_word_embeddings": False}
    return AutoModelForCausalLM.from_config(kind(vocab_size=len(tokenizer), **(special | shape)))


def _favour(model: Any, tokens: list[int]) -> None:
    """Make tokens likely everywhere: one channel of the hidden state is about constant, and they alone read it."""
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] = 1.0
        head = model.get_output_embeddings().weight
        head[:, 0] = 0.0
        head[[*range(6), -1], 0] = -4.0  # the other special tokens are rare
        head[tokens, 0] = 2.5
