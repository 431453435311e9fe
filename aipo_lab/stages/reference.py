"""Stage `reference`: log-probabilities of the pairs under the policy at the start of the iteration.

Output `reference.jsonl`: `id`, `chosen_logps`, `rejected_logps` (sums over response tokens in nats) and, for objectives
that need them, `chosen_tail_logps` and `rejected_tail_logps` (the part past the length of the shorter response).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.models.policy import POLICIES
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import policy_folder
from aipo_lab.training.config import Precision, TrainSettings, WeightType, is_divided
from aipo_lab.training.launch import launch
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.pairs import load_pairs
from aipo_lab.training.reference_job import ReferenceJob, write_reference
from aipo_lab.training.token_sums import TokenSums


class ReferenceConfig(StrictModel):
    """All that determines the reference besides the policy and the pairs."""

    max_prompt_tokens: int = Field(512, ge=1, description="as in the train section")
    max_response_tokens: int = Field(2048, ge=1, description="as in the train section")
    micro_batch_tokens: int = Field(8192, ge=1, description="as in the train section")
    precision: Precision = Field("float32", description="as in the train section")
    weights: WeightType | None = Field(
        None, description="as in the train section, whose rounding of the policy it shares; none: float32"
    )
    batch_size: int | None = Field(
        None, ge=1, description="as in the train section; with a 16-bit precision, whose micro-batches follow from it"
    )
    seed: int | None = Field(
        None, description="the training's order of the pairs; with a 16-bit precision, whose micro-batches follow it"
    )
    tails: bool | None = Field(None, description="whether the sums past the shorter response are written too")

    @classmethod
    def for_training(cls, settings: TrainSettings, seed: int) -> ReferenceConfig:
        """The reference pass of a training with these settings and this seed.

        In float32 batch size and order change nothing beyond rounding, and trainings that differ in them share a
        reference; in 16 bits they do not.
        """
        shared = settings.model_dump(include=set(cls.model_fields) - {"batch_size", "seed", "tails", "weights"})
        order = {} if settings.precision == "float32" else {"batch_size": settings.batch_size, "seed": seed}
        rounded = {} if settings.weights == "float32" else {"weights": settings.weights}
        return cls(**shared, **order, **rounded)


@stage("reference", version=2, config=ReferenceConfig)
def reference(context: StageContext[ReferenceConfig]) -> Mapping[str, Any]:
    """Write `reference.jsonl`."""
    config = context.config
    if is_divided(context.runtime.parallel):
        POLICIES.clear()  # the other processes need the memory
        return launch(_job(context), context.progress)
    policy = POLICIES.get(policy_folder(context), context.runtime.device, config.weights or "float32")
    path = context.inputs["pairs"].file("pairs.jsonl")
    pairs, _ = load_pairs(path, policy.tokenizer, config.max_prompt_tokens, config.max_response_tokens)
    logps = all_pair_logps(
        policy.model,
        pairs,
        policy.pad_token_id,
        config.micro_batch_tokens,
        context.progress,
        config.precision,
        config.batch_size,
        config.seed,
        TokenSums.TAILS if config.tails else TokenSums.PLAIN,
    )
    write_reference(context.folder, pairs, logps)
    return {"pairs": len(pairs)}


def _job(context: StageContext[ReferenceConfig]) -> ReferenceJob:
    config, runtime = context.config, context.runtime
    shared = config.model_dump(include=set(ReferenceJob.model_fields) - {"weights", "tails"})
    return ReferenceJob(
        parallel=runtime.parallel,
        model=policy_folder(context),
        pairs=context.inputs["pairs"].file("pairs.jsonl"),
        folder=context.folder,
        device=runtime.device,
        threads=runtime.threads,
        weights=config.weights or "float32",
        tails=bool(config.tails),
        **shared,
    )
