"""Trains with TRL's `DPOTrainer` in turns: everything up to the first step, then step by step."""

from __future__ import annotations

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

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.turns.done("start")

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self.turns.done(f"step {state.global_step}")


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    rows = json.loads(Path(given["pairs"]).read_text())
    data = Dataset.from_list([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=given["batch_size"],
            num_train_epochs=1,
            learning_rate=5e-7,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            precompute_ref_log_probs=given["precompute"],
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        turns = Turns()
        trainer = DPOTrainer(
            model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[TakeTurns(turns)]
        )
        outcome = trainer.train()
    turns.finish({"final_loss": outcome.training_loss})


if __name__ == "__main__":
    main()
