"""Weight decay shrinks weights by its rate and spares norms and biases as Hugging Face's trainer does."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from training_jobs import make_job, train_alone
from transformers import AutoModelForCausalLM

from aipo_lab.training.config import TrainSettings
from aipo_lab.training.job import TrainingJob
from aipo_lab.training.launch import launch
from aipo_lab.training.weight_decay import parameter_groups

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MODELS = {
    "GPT2": {"n_layer": 1, "n_embd": 32, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2},
    "Llama": {"intermediate_size": 32, "attention_bias": True},
    "Qwen3": {"intermediate_size": 32},
    "Gemma2": {"intermediate_size": 32},
    "Phi": {"intermediate_size": 32},
    "OPT": {"ffn_dim": 32, "word_embed_proj_dim": 32},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_that_decay_are_those_of_the_hugging_face_trainer(name: str) -> None:
    pytest.importorskip("accelerate", reason="transformers' trainer needs accelerate")
    values = ({} if name == "GPT2" else SMALL) | {"vocab_size": 50} | MODELS[name]
    model = AutoModelForCausalLM.from_config(getattr(transformers, f"{name}Config")(**values))
    theirs = set(transformers.Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    named = dict(model.named_parameters())
    decaying, spared = parameter_groups(model, named.items(), TrainSettings(weight_decay=0.1))
    members = {id(one) for one in decaying["params"]}
    assert {name for name, one in named.items() if id(one) in members} == theirs & named.keys()
    assert len(decaying["params"]) + len(spared["params"]) == len(named)
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


DECAY = 0.5
RATE = 1e-3
ONE_STEP: dict[str, Any] = {"n_pairs": 5, "warmup_ratio": 0.0, "learning_rate": RATE}


def saved(job: TrainingJob) -> dict[str, torch.Tensor]:
    return load_file(job.folder / "model" / "model.safetensors")


def assert_decayed(without: TrainingJob, with_decay: TrainingJob, spared: bool) -> None:
    """One step with decay differs from one without by rate * decay * weight, and for norms by nothing if `spared`."""
    start, one, other = load_file(without.model / "model.safetensors"), saved(without), saved(with_decay)
    for name, weights in start.items():
        expected = 0.0 if spared and "norm" in name else RATE * DECAY * weights
        assert torch.allclose(one[name] - other[name], expected * torch.ones_like(weights), rtol=0, atol=2e-7), name


@pytest.mark.parametrize("spared", [True, False])
def test_one_step_shrinks_weights_by_rate_times_decay(tmp_path: Path, spared: bool) -> None:
    without = train_alone(tmp_path / "without", **ONE_STEP)
    changes = ONE_STEP | {"weight_decay": DECAY, "decay_norms_and_biases": not spared}
    assert_decayed(without, train_alone(tmp_path / "with", **changes), spared)


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.timeout(280)
@pytest.mark.parametrize("own", [{}, {"optimizer": {"type": "AdamW", "params": {"torch_adam": True}}}])
def test_zero_decays_the_same_weights(tmp_path: Path, own: dict[str, Any]) -> None:
    parallel = {"processes": 1, "parallel": "zero2", "deepspeed": own}
    jobs = [make_job(tmp_path / str(decay), parallel, weight_decay=decay, **ONE_STEP) for decay in (0.0, DECAY)]
    for job in jobs:
        launch(job, lambda *_: None)
    assert_decayed(*jobs, spared=True)


@pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
def test_adapters_decay(tmp_path: Path) -> None:
    from aipo_lab.models.policy import load_policy
    from aipo_lab.training.adapters import LoraSettings, add_adapters

    policy = load_policy(make_job(tmp_path / "job").model, "cpu", "float32")
    add_adapters(policy.model, LoraSettings(rank=4), seed=0)
    named = [(name, one) for name, one in policy.model.named_parameters() if one.requires_grad]
    (group,) = parameter_groups(policy.model, named, TrainSettings(weight_decay=0.1))
    assert len(group["params"]) == len(named)
    assert group["weight_decay"] == 0.1
