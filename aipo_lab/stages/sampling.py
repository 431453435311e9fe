"""What the stages that generate text share: the input policy in memory, and sampling from it in shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aipo_lab.generation.engine import Completion, Engine, open_engine
from aipo_lab.generation.sharded import generate_in_shards
from aipo_lab.models.policy import POLICIES, Policy
from aipo_lab.stages.definition import StageContext
from aipo_lab.stages.policy_folder import policy_folder


def input_policy(context: StageContext[Any]) -> Policy:
    """The stage's `policy` input, in the data type of its engine."""
    return POLICIES.get(policy_folder(context), context.runtime.device, context.config.engine.dtype)


def input_engine(context: StageContext[Any]) -> Engine:
    """The engine of the stage's settings on its `policy` input."""
    return open_engine(context.config.engine, policy_folder(context), context.runtime.device)


def sample(context: StageContext[Any], prompts: Sequence[Sequence[int]], n: int) -> list[list[Completion]]:
    """`n` completions of each prompt (token ids) by the stage's `engine`, `sampling` and `seed` settings."""
    config = context.config
    return generate_in_shards(
        input_engine(context),
        prompts,
        n,
        config.sampling,
        config.seed,
        config.engine.shard_prompts,
        context.parts,
        context.progress,
    )
