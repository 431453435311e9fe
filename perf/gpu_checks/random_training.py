"""Trains a random Llama of a given size for a few steps and says how much memory and time that took.

    python perf/gpu_checks/random_training.py '{"shape": "1b", "device": "cuda", "pairs": 32, "batch_size": 8}'

The last line is a JSON object. On a GPU the products are in bfloat16, as with `train.precision: bfloat16`; weights and
AdamW are in float32. Memory is torch's own peak (on the processor what the process grew by).
"""

from __future__ import annotations

import json
import math
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "trainer_sides"))
from memory import peak_gib, synchronise
from workload import llama_config, realistic_pairs, short_pairs, write_tokenizer

from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.pairs import encode_pairs


def main() -> None:
    given = json.loads(sys.argv[1])
    print(json.dumps(train(**given)))


def train(shape: str, device: str, pairs: int, batch_size: int, realistic: bool = True) -> dict[str, Any]:
    """One epoch of DPO on random pairs, of realistic lengths or short ones."""
    policy = random_policy(shape, device)
    n_parameters = sum(one.numel() for one in policy.model.parameters())
    before_gib = 0.0 if device != "cpu" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    weights_gib = 4 * n_parameters / 2**30
    precision = "float32" if device == "cpu" else "bfloat16"
    settings = TrainSettings(
        learning_rate=1e-6, batch_size=batch_size, precision=precision, gradient_checkpointing=True
    )
    rows = (realistic_pairs if realistic else short_pairs)(pairs)
    encoded, _ = encode_pairs(rows, policy.tokenizer, settings.max_prompt_tokens, settings.max_response_tokens)
    order = (None, None) if precision == "float32" else (batch_size, 0)
    reference = all_pair_logps(
        policy.model, encoded, policy.pad_token_id, settings.micro_batch_tokens, lambda *_: None, precision, *order
    )
    trainer = PairTrainer(policy, encoded, reference, get_objective("dpo", beta=0.1), settings, 0)
    started_s = time.perf_counter()
    curve = trainer.run(lambda *_: None)
    synchronise(device)
    seconds = time.perf_counter() - started_s
    n_tokens = sum(row["tokens"] for row in curve)
    return {
        "parameters": n_parameters,
        "steps": len(curve),
        "first_loss": curve[0]["loss"],
        "finite": all(math.isfinite(row["loss"]) for row in curve),
        "reference_gap": curve[0]["reference_gap_max"],
        "tokens_per_s": n_tokens / seconds,
        "tflops": 8 * n_parameters * n_tokens / seconds / 1e12,
        "states_gib": 4 * weights_gib,
        "peak_gib": peak_gib(device) - (before_gib - weights_gib if device == "cpu" else 0.0),
    }


def random_policy(shape: str, device: str) -> Policy:
    """A Llama with random float32 weights, made where it computes, and a tokenizer of words."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(llama_config(shape)).eval()
    with tempfile.TemporaryDirectory() as folder:
        return Policy(model, write_tokenizer(Path(folder)))


if __name__ == "__main__":
    main()
