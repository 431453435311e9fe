"""Small trainings from files to files, for the tests that run them in several processes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.models.policy import load_policy
from aipo_lab.training.config import ObjectiveSettings, ParallelSettings, TrainConfig
from aipo_lab.training.job import TrainingJob, run_job
from aipo_lab.worlds.micro.tokenizer import build_tokenizer

AIPO = {"name": "aipo", "hyperparameters": {"beta": 0.1, "alpha": 0.05, "lambda_": 0.2, "label_smoothing": 0.0}}


def make_model(folder: Path, tied: bool = True) -> Path:
    """A random model with its tokenizer; its embeddings are tied or not."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                tie_word_embeddings=tied,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pair_rows(n: int) -> list[dict[str, Any]]:
    """Pairs of random words, of very different lengths."""
    words = sorted(word for word in build_tokenizer().get_vocab() if word.isalpha())[:40]
    generator = random.Random(0)

    def message(role: str) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(generator.choices(words, k=generator.randint(1, 15)))}]

    return [
        {"id": str(i), "prompt": message("user"), "chosen": message("assistant"), "rejected": message("assistant")}
        for i in range(n)
    ]


def reference_rows(n: int) -> list[dict[str, Any]]:
    return [{"id": str(i), "chosen_logps": -10.0 - i, "rejected_logps": -12.0} for i in range(n)]


def train_config(**changes: Any) -> TrainConfig:
    values = {"learning_rate": 1e-3, "batch_size": 5, "micro_batch_tokens": 60, "seed": 0}
    return TrainConfig(**(values | {"objective": ObjectiveSettings(**AIPO)} | changes))


def make_job(
    folder: Path, parallel: dict[str, Any] | None = None, n_pairs: int = 16, tied: bool = True, **changes: Any
) -> TrainingJob:
    """A job whose files are in `folder`; the same arguments make the same training anywhere. 16 pairs: 5, 5, 5, 1."""
    folder.mkdir()
    model = make_model(folder / "start", tied)
    write_jsonl(folder / "pairs.jsonl", pair_rows(n_pairs))
    write_jsonl(folder / "reference.jsonl", reference_rows(n_pairs))
    return TrainingJob(
        config=train_config(**changes),
        parallel=ParallelSettings(**(parallel or {})),
        model=model,
        pairs=folder / "pairs.jsonl",
        reference=folder / "reference.jsonl",
        folder=folder,
        parts=folder / "parts",
        device="cpu",
        threads=2,
        checkpoint_interval_s=1e9,
    )


def train_alone(folder: Path, **changes: Any) -> TrainingJob:
    """The same training in this process, done."""
    job = make_job(folder, **changes)
    run_job(job, load_policy(job.model, "cpu", job.config.weights), lambda *_: None)
    return job


def curve(job: TrainingJob) -> list[dict[str, float]]:
    return read_jsonl(job.folder / "curve.jsonl")


def largest_difference(one: TrainingJob, other: TrainingJob) -> float:
    """Of the weights on disk, which must have the same names."""
    first, second = (load_file(job.folder / "model" / "model.safetensors") for job in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def assert_same_training(one: TrainingJob, other: TrainingJob, curve_tolerance: float = 1e-5) -> None:
    """Weights and every number of the curves agree, and the weights are not those of the start."""
    tolerance = 1e-5
    assert largest_difference(one, other) < tolerance
    start = load_file(one.model / "model.safetensors")
    trained = load_file(one.folder / "model" / "model.safetensors")
    assert max(float((start[name] - trained[name]).abs().max()) for name in start) > 100 * tolerance
    assert len(curve(one)) == len(curve(other))
    for ours, theirs in zip(curve(one), curve(other), strict=True):
        assert ours == pytest.approx(theirs, rel=curve_tolerance, abs=curve_tolerance)
