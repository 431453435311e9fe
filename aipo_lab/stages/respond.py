"""Stage `respond`: N sampled candidates for every prompt.

Output `responses.jsonl`: `id`, `prompt`, `prompt_token_ids`, `responses` [{`text`, `tokens`, `token_ids`,
`finish_reason`}]. Prompts are rendered here, once an iteration: all later stages use these tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.generation.engine import Completion, EngineChoice, SamplingConfig
from aipo_lab.models.chat import encode_prompt, user_message
from aipo_lab.models.template import ChatSettings
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.sampling import input_policy, sample, sampling_notes


class RespondSettings(StrictModel):
    """What a recipe says about the respond stage."""

    n_candidates: int = Field(5, ge=2, le=64, description="N, candidates per prompt")
    max_prompt_tokens: int = Field(
        512, ge=1, description="prompts longer than this many tokens (with template) are left out and counted"
    )
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.4, top_k=50, max_new_tokens=2048),
        description="how candidates are sampled",
    )


class RespondConfig(RespondSettings):
    """All that determines the candidates besides the policy and the prompts."""

    seed: int = Field(description="seed of sampling")
    engine: EngineChoice = Field(description="generation engine")
    chat: ChatSettings = Field(default_factory=ChatSettings, description="how prompts are rendered")


@stage("respond", version=3, config=RespondConfig)
def respond(context: StageContext[RespondConfig]) -> Mapping[str, Any]:
    """Write `responses.jsonl`; the summary counts prompts left out, tokens and truncated candidates."""
    config = context.config
    policy = input_policy(context)
    rows = read_jsonl(context.inputs["prompts"].file("prompts.jsonl"))
    encoded = [encode_prompt(policy.tokenizer, user_message(row["prompt"]), config.chat) for row in rows]
    short = [i for i, tokens in enumerate(encoded) if len(tokens) <= config.max_prompt_tokens]
    if not short:
        raise StageFailed(f"all {len(rows)} prompts are longer than max_prompt_tokens = {config.max_prompt_tokens}")
    kept = [i for i in short if policy.room_tokens(len(encoded[i]))]
    if not kept:
        raise StageFailed(f"all {len(short)} prompts fill the model's {policy.n_positions} positions")
    candidates = sample(context, policy, [encoded[i] for i in kept], config.n_candidates)
    write_jsonl(
        context.folder / "responses.jsonl",
        (
            {
                "id": rows[i]["id"],
                "prompt": rows[i]["prompt"],
                "prompt_token_ids": encoded[i],
                "responses": [response_row(one) for one in made],
            }
            for i, made in zip(kept, candidates, strict=True)
        ),
    )
    everything = [one for made in candidates for one in made]
    return {
        "prompts": len(kept),
        "prompts_too_long": len(rows) - len(short),
        "responses": len(everything),
        "tokens": sum(one.n_tokens for one in everything),
        "truncated": sum(one.truncated for one in everything),
        **sampling_notes(policy, [encoded[i] for i in short], config.sampling.max_new_tokens),
    }


def response_row(completion: Completion) -> dict[str, Any]:
    """A completion as the data files hold it."""
    return {
        "text": completion.text,
        "tokens": completion.n_tokens,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
    }
