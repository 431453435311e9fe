"""What the stages that generate text share: the input policy in memory, sampling from it in shards, and what their
summaries say about how it was sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aipo_lab.generation.engine import ENGINES, Completion, Engine, EngineSettings, KeepsReplies, open_engine
from aipo_lab.generation.sharded import generate_in_shards
from aipo_lab.models.chat import turn_end_token
from aipo_lab.models.decoding import ignored_settings
from aipo_lab.models.outline import policy_outline
from aipo_lab.models.policy import POLICIES, Policy
from aipo_lab.models.template import ChatSettings
from aipo_lab.stages.definition import StageContext
from aipo_lab.stages.devices import data_parallel_of
from aipo_lab.stages.policy_folder import policy_folder


def input_policy(context: StageContext[Any]) -> Policy:
    """The stage's `policy` input, in the data type of its engine; without weights if the engine has them elsewhere."""
    engine, folder = _settings(context), policy_folder(context)
    in_process = ENGINES.get(engine.name).in_process and getattr(engine, "data_parallel", 1) == 1
    if not in_process:
        return policy_outline(folder)
    return POLICIES.get(folder, context.runtime.device, engine.dtype)


def _settings(context: StageContext[Any]) -> EngineSettings:
    """The engine's settings, those that are in no key included."""
    settings: EngineSettings = context.config.engine.with_how(context.runtime.engine)
    if getattr(settings, "data_parallel", None) == "auto":
        return settings.model_copy(update={"data_parallel": data_parallel_of(context.runtime)})
    return settings


def input_engine(context: StageContext[Any]) -> Engine:
    """The engine of the stage's settings on its `policy` input."""
    engine = open_engine(_settings(context), policy_folder(context), context.runtime.device)
    if isinstance(engine, KeepsReplies):
        engine.keep_replies_in(context.parts / "replies")
    return engine


def sample(
    context: StageContext[Any], policy: Policy, prompts: Sequence[Sequence[int]], n: int
) -> list[list[Completion]]:
    """`n` completions of each prompt (token ids) by the stage's `engine`, `chat`, `sampling` and `seed` settings."""
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
        other_ends(policy, config.chat),
    )


def other_ends(policy: Policy, chat: ChatSettings) -> tuple[int, ...]:
    """End tokens besides the policy's own: with which a template that stands in for the model's own ends a turn."""
    turn_end = turn_end_token(policy.tokenizer, chat) if chat.template is not None else None
    return () if turn_end is None else (turn_end,)


def sampling_notes(policy: Policy, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> dict[str, Any]:
    """What a summary adds where there is something to say.

    `caps_lowered`: prompts after which the model's positions leave less than the wanted cap; `prompts_without_room`:
    those that leave nothing; `ignored_generation_settings`: what the model folder asked for and the recipe overrules.
    """
    rooms = [policy.room_tokens(len(prompt)) for prompt in prompts]
    notes = {
        "caps_lowered": sum(0 < room < max_new_tokens for room in rooms),
        "prompts_without_room": sum(room == 0 for room in rooms),
        "ignored_generation_settings": ignored_settings(policy.model.generation_config.to_dict()),
    }
    return {name: note for name, note in notes.items() if note}
