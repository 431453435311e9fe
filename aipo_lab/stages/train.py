"""Stage `train`: the next policy from the pairs, the reference log-probabilities and the objective.

Output `model/`, an ordinary Hugging Face folder in safetensors, and `curve.jsonl`, one row per step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from aipo_lab.jsonl import iterate_jsonl, write_jsonl
from aipo_lab.models import POLICIES
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.reference import load_pairs
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.config import ObjectiveSettings, TrainSettings
from aipo_lab.training.loop import train_on_pairs

if TYPE_CHECKING:
    from torch import Tensor


class TrainConfig(TrainSettings):
    """All that determines the new weights besides the inputs."""

    seed: int = Field(description="seed of the order of the pairs")
    objective: ObjectiveSettings = Field(description="objective with this iteration's hyperparameters")


@stage("train", version=1, config=TrainConfig)
def train(context: StageContext[TrainConfig]) -> Mapping[str, Any]:
    """Write `model/` and `curve.jsonl`."""
    config = context.config
    folder, device = context.inputs["policy"].file("model"), context.runtime.device
    policy = POLICIES.take(folder, device, "float32")
    pairs, excluded = load_pairs(context, policy, config.max_prompt_tokens, config.max_response_tokens)
    objective = config.objective.build()
    reference = None if objective.reference_free else _reference_logps(context, pairs)
    started = time.monotonic()
    checkpoints = TrainingCheckpoints(context.parts, context.runtime.checkpoint_interval_s)
    curve = train_on_pairs(policy, pairs, reference, objective, config, config.seed, context.progress, checkpoints)
    training_s = time.monotonic() - started
    write_jsonl(context.folder / "curve.jsonl", curve)
    policy.model.save_pretrained(str(context.folder / "model"))
    policy.tokenizer.save_pretrained(str(context.folder / "model"))
    POLICIES.put(context.final_folder / "model", device, "float32", policy)
    n_tokens = config.epochs * sum(pair.n_tokens for pair in pairs)
    return {
        "pairs": len(pairs),
        "excluded": excluded,
        "steps": len(curve),
        "tokens": n_tokens,
        "tokens_per_s": round(n_tokens / training_s, 1),
        "final_loss": curve[-1]["loss"],
    }


def _reference_logps(context: StageContext[TrainConfig], pairs: list[EncodedPair]) -> Tensor:
    """(len(pairs), 2), in the order of `pairs`."""
    import torch

    rows = {row["id"]: row for row in iterate_jsonl(context.inputs["reference"].file("reference.jsonl"))}
    return torch.tensor([[rows[pair.id]["chosen_logps"], rows[pair.id]["rejected_logps"]] for pair in pairs])
