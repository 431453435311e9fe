"""Trains with aipo-lab, reference pass included, and prints the measurement as one JSON line."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import torch

from aipo_lab.models import load_policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.packing import micro_batches
from aipo_lab.training.pairs import encode_pairs


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    policy = load_policy(Path(given["model"]), "cpu", "float32")
    pairs, _ = encode_pairs(json.loads(Path(given["pairs"]).read_text()), policy.tokenizer, 512, 2048)
    settings = TrainSettings(
        learning_rate=5e-7, batch_size=given["batch_size"], micro_batch_tokens=given["micro_batch_tokens"]
    )
    started = time.perf_counter()
    reference = all_pair_logps(policy.model, pairs, policy.pad_token_id, settings.micro_batch_tokens, lambda *_: None)
    reference_s = time.perf_counter() - started
    trainer = PairTrainer(policy, pairs, reference, get_objective("dpo"), settings, 0)
    curve = trainer.run(lambda *_: None)
    seconds = time.perf_counter() - started
    max_tokens, sharing = settings.micro_batch_tokens, trainer.sharing
    micros = [micro for batch in trainer.batches for micro in micro_batches(batch, pairs, max_tokens, sharing)]
    computed = sum(len(rows) * max(sum(pairs[i].n_tokens for i in row) for row in rows) for rows in micros)
    real = sum(pair.n_tokens for pair in pairs)
    weights = sum(p.numel() for p in policy.model.parameters())
    embedding = policy.model.get_input_embeddings().weight.numel()
    responses = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    # 2 FLOP per weight and token forward, twice that backward; one more forward pass for the reference. The output
    # embedding works on response tokens only, and once more in the backward pass.
    flop = 8 * (weights - embedding) * real + 10 * embedding * responses
    print(
        json.dumps(
            {
                "pairs_per_s": len(pairs) / seconds,
                "tokens_per_s": sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs) / seconds,
                "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "padding_share": 1 - real / computed,
                "gflops": flop / seconds / 1e9,
                "reference_s": reference_s,
                "train_s": seconds - reference_s,
                "final_loss": curve[-1]["loss"],
            }
        )
    )


if __name__ == "__main__":
    main()
