"""Trains the micro base model from scratch and stores it as an ordinary Hugging Face folder."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.progress import Progress
from aipo_lab.worlds.micro.demonstrations import DemonstrationConfig
from aipo_lab.worlds.micro.supervised import Row, SupervisedMix, micro_batches
from aipo_lab.worlds.micro.tokenizer import build_tokenizer
from aipo_lab.worlds.micro.world import MicroWorld

if TYPE_CHECKING:
    import torch

MAX_POSITIONS = 512
# Llama's own 0.02 leaves so narrow a model blind to the prompt for the first 200 steps; with 0.06 it takes 50.
INITIALIZER_RANGE = 0.06
MICRO_BATCH_TOKENS = 2048


class MicroBaseConfig(BaseModel):
    """The micro base model: its world, its size and its supervised training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world_seed: int = Field(0, ge=0, description="Seed the world's knowledge is drawn from, 0 or more.")
    seed: int = Field(0, ge=0, description="Seed of the initial weights and of the training data, 0 or more.")
    hidden_size: int = Field(96, ge=16, le=1024, description="Width of the model in units, 16 to 1024.")
    layers: int = Field(2, ge=1, le=16, description="Number of transformer layers, 1 to 16.")
    heads: int = Field(4, ge=1, le=32, description="Number of attention heads, 1 to 32; divides hidden_size.")
    kv_heads: int = Field(2, ge=1, le=32, description="Number of key-value heads, 1 to 32; divides heads.")
    mlp_size: int = Field(256, ge=16, le=4096, description="Width of the feed-forward layer in units, 16 to 4096.")
    steps: int = Field(300, ge=1, le=100_000, description="Optimiser steps, 1 to 100,000.")
    batch_size: int = Field(64, ge=1, le=4096, description="Demonstrations per optimiser step in rows, 1 to 4096.")
    documents_per_step: int = Field(
        8, ge=0, le=1024, description="Self-instruct documents per optimiser step in rows, 0 to 1024."
    )
    judgments_per_step: int = Field(
        0,
        ge=0,
        le=1024,
        exclude_if=lambda value: value == 0,
        description="Questions to a judge with true replies per optimiser step in rows, 0 (the policy cannot judge) to "
        "1024.",
    )
    learning_rate: float = Field(
        6e-3,
        gt=0.0,
        le=0.1,
        description="Peak learning rate of AdamW, above 0 to 0.1; cosine to zero after warm-up.",
    )
    warmup_steps: int = Field(10, ge=0, le=10_000, description="Steps of linear warm-up, 0 to 10,000.")
    weight_decay: float = Field(0.01, ge=0.0, le=1.0, description="Decoupled weight decay of AdamW, 0 to 1.")
    max_gradient_norm: float = Field(1.0, gt=0.0, le=100.0, description="Gradient norm to clip at, above 0 to 100.")
    demonstrations: DemonstrationConfig = Field(
        default_factory=lambda: DemonstrationConfig(), description="How imperfect the demonstrations are."
    )

    @model_validator(mode="after")
    def _check_heads(self) -> MicroBaseConfig:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"heads {self.heads} must divide hidden_size {self.hidden_size} into even widths")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")
        return self


def build_base_model(config: MicroBaseConfig, out: Path, progress: Progress) -> dict[str, float]:
    """Train a `LlamaForCausalLM` on the supervised mix and save model and tokenizer to the folder `out`.

    `progress(step, total, "steps")` is called after each optimiser step. Uses the current torch threads; the same
    config and thread count give the same bytes, and torch's global random state is left as it was. Returns
    `final_loss` (nats per target token, mean of the last tenth of the steps), `parameters`, `tokens_seen`
    (padding not counted), `target_tokens` and `train_s`. Raises `StageFailed` if the loss is not finite.
    """
    started = time.monotonic()
    tokenizer = build_tokenizer()
    model = _new_model(config, tokenizer)
    mix = SupervisedMix(MicroWorld(config.world_seed), config.demonstrations, tokenizer, config.seed)
    losses, tokens, targets = _train(model, mix, config, progress)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    last = losses[-max(1, len(losses) // 10) :]
    return {
        "final_loss": sum(last) / len(last),
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "tokens_seen": float(tokens),
        "target_tokens": float(targets),
        "train_s": time.monotonic() - started,
    }


def _new_model(config: MicroBaseConfig, tokenizer: Any) -> Any:
    """A randomly initialised Llama with tied embeddings."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.mlp_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LlamaForCausalLM(shape)
    model.generation_config = GenerationConfig(**special)
    return model


def _train(model: Any, mix: SupervisedMix, config: MicroBaseConfig, progress: Progress) -> tuple[list[float], int, int]:
    """Run the optimiser; returns the loss of each step, and the numbers of tokens and target tokens seen."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_factor(step, config))
    losses: list[float] = []
    tokens = targets = 0
    model.train()
    for step in range(config.steps):
        rows = mix.chat_rows(config.batch_size) + mix.documents(config.documents_per_step)
        rows += mix.judgments(config.judgments_per_step)
        step_targets = sum(len(row.ids) - row.start for row in rows)
        losses.append(_accumulate(model, rows, step_targets))
        if not math.isfinite(losses[-1]):
            raise StageFailed(f"the micro base model's loss is {losses[-1]} at step {step}; lower learning_rate")
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        tokens += sum(len(row.ids) for row in rows)
        targets += step_targets
        progress(step + 1, config.steps, "steps")
    model.eval()
    return losses, tokens, targets


def _learning_rate_factor(step: int, config: MicroBaseConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _accumulate(model: Any, rows: Sequence[Row], step_targets: int) -> float:
    """Add the gradients of the mean loss over all target tokens of `rows`; returns that loss in nats."""
    import torch

    total = 0.0
    for batch in micro_batches(rows, MICRO_BATCH_TOKENS):
        loss = _summed_loss(model, batch) / step_targets
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def _summed_loss(model: Any, rows: Sequence[Row]) -> torch.Tensor:
    """Summed cross-entropy of the target tokens.

    Rows are padded on the right, where causal attention keeps the padding out of sight without a mask, and
    logits are computed at the target positions only.
    """
    import torch

    length = max(len(row.ids) for row in rows)
    pad = model.config.pad_token_id
    ids = torch.tensor([row.ids + [pad] * (length - len(row.ids)) for row in rows])
    is_target = torch.tensor([[row.start <= i < len(row.ids) for i in range(length)] for row in rows])[:, 1:]
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[is_target])
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][is_target], reduction="sum")
