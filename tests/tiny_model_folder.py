"""A tiny model folder of random weights for tests, whole until a test damages it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "red", "blue", "one", "two", "the", "sun"]
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


def write_tokenizer(folder: Path, **tokens: Any) -> Any:
    """Write a word tokenizer with one id per word of `WORDS` into `folder`; returns it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", **tokens}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{name: token for name, token in names.items() if token is not None}
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_model(folder: Path, kind: str = "llama", max_shard_size: str = "1GB", **settings: Any) -> Any:
    """Write a random model of `kind`, one embedding per word of `WORDS`, and its tokenizer; returns the model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **settings,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    write_tokenizer(folder)
    return model


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON object on disk; None removes one."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")
