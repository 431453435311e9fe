"""Stage `answer`: a policy's answers to a benchmark's prompts.

Output `answers.jsonl`: `id`, `prompt`, `prompt_token_ids`, `text`, `tokens`, `token_ids`, `finish_reason`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.generation.engine import EngineChoice, SamplingConfig
from aipo_lab.models.chat import encode_prompt, user_message
from aipo_lab.models.template import ChatSettings
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.respond import response_row
from aipo_lab.stages.sampling import input_policy, sample, sampling_notes
from aipo_lab.worlds.world import WorldConfig, get_world


class AnswerConfig(StrictModel):
    """All that determines the answers besides the policy."""

    benchmark: str = Field(description="benchmark whose prompts are answered")
    world: WorldConfig = Field(description="world the prompts come from")
    n_prompts: int = Field(ge=1, description="prompts answered")
    sampling: SamplingConfig = Field(description="how answers are sampled")
    seed: int = Field(description="seed of sampling, the same at every iteration")
    engine: EngineChoice = Field(description="generation engine")
    chat: ChatSettings = Field(default_factory=ChatSettings, description="how prompts are rendered")


@stage("answer", version=3, config=AnswerConfig)
def answer(context: StageContext[AnswerConfig]) -> Mapping[str, Any]:
    """Write `answers.jsonl`."""
    config = context.config
    policy = input_policy(context)
    prompts = get_world(config.world.name, config.world.seed).benchmark_prompts(config.n_prompts)
    encoded = [encode_prompt(policy.tokenizer, user_message(prompt), config.chat) for prompt in prompts]
    made = sample(context, policy, encoded, 1)
    write_jsonl(
        context.folder / "answers.jsonl",
        (
            {"id": f"{i:06d}", "prompt": prompt, "prompt_token_ids": tokens, **response_row(completions[0])}
            for i, (prompt, tokens, completions) in enumerate(zip(prompts, encoded, made, strict=True))
        ),
    )
    return {
        "answers": len(made),
        "tokens": sum(row[0].n_tokens for row in made),
        **sampling_notes(policy, encoded, config.sampling.max_new_tokens),
    }
