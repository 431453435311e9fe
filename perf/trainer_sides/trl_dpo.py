"""Trains with TRL's `DPOTrainer` in turns: everything up to the first step, then step by step."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer
from turns import Turns


class TakeTurns(TrainerCallback):  # type: ignore[misc]
    """Ends a turn before the first step and after every step."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.tokens = 0

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.turns.done("start")

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        tokens, self.tokens = self.tokens, 0
        self.turns.done(f"step {state.global_step}", tokens)


class CountingTrainer(DPOTrainer):  # type: ignore[misc]
    """Counts the tokens of the micro-batches, and the most it has in one with padding."""

    take_turns: TakeTurns
    largest_micro_batch = 0

    def training_step(self, model: Any, inputs: Any, *others: Any, **named: Any) -> Any:
        mask = inputs["attention_mask"]
        self.take_turns.tokens += int(mask.sum())
        self.largest_micro_batch = max(self.largest_micro_batch, mask.numel())
        return super().training_step(model, inputs, *others, **named)


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    rows = json.loads(Path(given["pairs"]).read_text())
    data = Dataset.from_list([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])
    turns = Turns(given["device"])
    callback = TakeTurns(turns)
    with tempfile.TemporaryDirectory() as folder:
        trainer = CountingTrainer(
            model=model,
            args=config(given, folder),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[callback],
        )
        trainer.take_turns = callback
        outcome = trainer.train()
    facts = {"padding_free": trainer.padding_free, "liger": trainer.args.use_liger_kernel}
    turns.finish(
        {"final_loss": outcome.training_loss, "largest_micro_batch": trainer.largest_micro_batch, "options": facts}
    )


def config(given: dict[str, Any], folder: str) -> DPOConfig:
    """TRL's best ordinary settings for this work: what costs memory or time for nothing is switched off.

    `padding_free` needs FlashAttention and Liger's kernels need a GPU; each is used where it is installed.
    """
    on_gpu = given["device"] != "cpu"
    has = {name: on_gpu and importlib.util.find_spec(name) is not None for name in ("flash_attn", "liger_kernel")}
    return DPOConfig(
        output_dir=folder,
        per_device_train_batch_size=given["pairs_at_once"],
        gradient_accumulation_steps=given["batch_size"] // given["pairs_at_once"],
        num_train_epochs=1,
        learning_rate=5e-7,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        max_length=None,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        gradient_checkpointing=False,
        precompute_ref_log_probs=True,
        padding_free=has["flash_attn"],
        use_liger_kernel=has["liger_kernel"],
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )


if __name__ == "__main__":
    main()
