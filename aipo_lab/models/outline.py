"""A policy without its weights: its tokenizer, its end tokens and its positions, for stages whose engine has the model
in another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from aipo_lab.models.policy import Policy, load_tokenizer


@dataclass(frozen=True)
class ModelOutline:
    """What a model's files say of it, apart from its weights; stands where a `Policy` has its model."""

    config: Any
    generation_config: Any


@lru_cache(maxsize=2)
def policy_outline(folder: Path) -> Policy:
    """The policy of a model folder without its weights; raises `StageFailed` if its tokenizer has no end token."""
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(str(folder))
    try:
        generation_config = GenerationConfig.from_pretrained(str(folder))
    except OSError:  # there is no such file
        generation_config = GenerationConfig.from_model_config(config)
    return Policy(ModelOutline(config, generation_config), load_tokenizer(folder))
