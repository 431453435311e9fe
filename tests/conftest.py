"""Shared fixtures: torch on one thread, a tokenizer, tiny policies and a tiny trained micro base model."""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from aipo_lab.models import Policy

# The machine that runs the tests may be busy: slowness is no failure of a property.
settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.load_profile("lab")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The micro world's tokenizer."""
    from aipo_lab.worlds.micro.tokenizer import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="session")
def make_policy(tokenizer: Any) -> Callable[..., Policy]:
    """Makes policies with random weights: the same `seed` and `dtype` give the same weights."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    def make(seed: int = 0, dtype: str = "float32") -> Policy:
        special = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        shape = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=0.3,  # far from uniform, so that a wrong position or mask shows
            **special,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(shape)
        model.generation_config = GenerationConfig(**special)
        return Policy(model.to(getattr(torch, dtype)).eval(), tokenizer)

    return make


@pytest.fixture(scope="session")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    """One random policy, for tests that do not change its weights."""
    return make_policy()


@pytest.fixture(scope="session")
def base_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny micro base model, trained far enough to end its responses and to write some instructions."""
    from aipo_lab.worlds.micro.base_model import MicroBaseConfig, build_base_model

    folder = tmp_path_factory.mktemp("base") / "model"
    config = MicroBaseConfig(
        hidden_size=64, layers=2, mlp_size=128, steps=60, batch_size=48, documents_per_step=8, learning_rate=8e-3
    )
    build_base_model(config, folder, lambda *_: None)
    return folder
