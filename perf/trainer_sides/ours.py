"""Trains with aipo-lab in turns: encoding and reference pass, then step by step."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch._dynamo  # torch's optimisers import it when they are made; TRL has it before its clock starts
from turns import Turns

from aipo_lab.models.policy import load_policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.batches import collate
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.packing import micro_batches
from aipo_lab.training.pairs import EncodedPair, encode_pairs


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    policy = load_policy(Path(given["model"]), given["device"], "float32")
    rows = json.loads(Path(given["pairs"]).read_text())
    settings = TrainSettings(
        learning_rate=5e-7,
        batch_size=given["batch_size"],
        micro_batch_tokens=given["micro_batch_tokens"],
        precision="float32" if given["device"] == "cpu" else "bfloat16",
    )
    turns = Turns(given["device"])
    pairs, _ = encode_pairs(rows, policy.tokenizer, settings.max_prompt_tokens, settings.max_response_tokens)
    reference = all_pair_logps(
        policy.model,
        pairs,
        policy.pad_token_id,
        settings.micro_batch_tokens,
        lambda *_: None,
        settings.precision,
        *((None, None) if settings.precision == "float32" else (settings.batch_size, 0)),
    )
    trainer = PairTrainer(policy, pairs, reference, get_objective("dpo"), settings, 0)
    turns.done("start")
    tokens = [sum(tokens_of(pairs[i]) for i in batch) for batch in trainer.batches]
    curve = trainer.run(lambda step, *_: turns.done(f"step {step}", tokens[step - 1]))
    turns.finish(facts(trainer, pairs, settings.micro_batch_tokens) | {"final_loss": curve[-1]["loss"]})


def tokens_of(pair: EncodedPair) -> int:
    """Tokens of a pair as its two sequences have them, the prompt in each."""
    return 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


def facts(trainer: PairTrainer, pairs: list[EncodedPair], max_tokens: int) -> dict[str, float]:
    """The work of a training with its reference pass, and how little of it is padding.

    2 FLOP per weight and token forward, twice that backward, one more forward pass for the reference; attention's own
    products are left out. The output embedding works where a response token is predicted.
    """
    model, sharing = trainer.policy.model, trainer.sharing
    weights = sum(p.numel() for p in model.parameters())
    embedding = model.get_input_embeddings().weight.numel()

    def flop_per_pass(batches: list[list[int]]) -> tuple[float, int, int]:
        flop, computed, padding = 0.0, 0, 0
        for indices in batches:
            for rows in micro_batches(indices, pairs, max_tokens, sharing):
                batch = collate([[pairs[i] for i in row] for row in rows], 0, "cpu", sharing)
                computed += batch.input_ids.numel()
                padding += 0 if batch.segments is None else int((batch.segments < 0).sum())
                flop += 2.0 * ((weights - embedding) * batch.input_ids.numel() + embedding * len(batch.targets))
        return flop, computed, padding

    of_reference, *_ = flop_per_pass([list(range(len(pairs)))])
    of_training, computed, padding = flop_per_pass(trainer.batches)
    return {
        "pairs": len(pairs),
        "tokens": sum(map(tokens_of, pairs)),
        "computed_tokens": computed,
        "padding_share": padding / computed,
        "flop": of_reference + 3 * of_training,
    }


if __name__ == "__main__":
    main()
