"""What the stages that generate text share: the input policy in memory, and sampling from it in shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aipo_lab.generation.engine import Completion
from aipo_lab.generation.sharded import generate_in_shards
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.policy import POLICIES, Policy
from aipo_lab.stages.definition import StageContext
from aipo_lab.stages.policy_folder import policy_folder


def input_policy(context: StageContext[Any]) -> Policy:
    """The stage's `policy` input, in the data type of its engine."""
    return POLICIES.get(policy_folder(context), context.runtime.device, context.config.engine.dtype)


def sample(
    context: StageContext[Any], policy: Policy, prompts: Sequence[Sequence[int]], n: int
) -> list[list[Completion]]:
    """`n` completions of each prompt (token ids) by the stage's `engine`, `sampling` and `seed` settings."""
    config = context.config
    return generate_in_shards(
        TransformersEngine(policy, config.engine.batch_size),
        prompts,
        n,
        config.sampling,
        config.seed,
        config.engine.shard_prompts,
        context.parts,
        context.progress,
    )
