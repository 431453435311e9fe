"""Trains with TRL's `DPOTrainer` on the same pairs and prints the measurement as one JSON line."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer


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
        started = time.perf_counter()
        trainer = DPOTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
        outcome = trainer.train()
        seconds = time.perf_counter() - started
    template = [
        tokenizer.apply_chat_template(row["prompt"] + row[role], tokenize=False)
        for row in rows
        for role in ("chosen", "rejected")
    ]
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in template]
    weights = sum(p.numel() for p in model.parameters())
    print(
        json.dumps(
            {
                "pairs_per_s": len(rows) / seconds,
                "tokens_per_s": sum(lengths) / seconds,
                "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "padding_share": float("nan"),
                "gflops": 8 * weights * sum(lengths) / seconds / 1e9,
                "final_loss": outcome.training_loss,
            }
        )
    )


if __name__ == "__main__":
    main()
