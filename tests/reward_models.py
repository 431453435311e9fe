"""A tiny reward model of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_model_folder import WORDS, write_tokenizer


def write_reward_model(folder: Path, kind: str = "llama", seed: int = 0, **settings: Any) -> Path:
    """Write a sequence-classification model with one output and its tokenizer; returns the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    values = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "num_labels": 1,
        "initializer_range": 0.3,
    }
    config = AutoConfig.for_model(kind, **values | settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder
