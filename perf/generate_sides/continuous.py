"""transformers' own continuous batching, `generate_batch`."""

from __future__ import annotations

from typing import Any

import torch
from common import run_side
from transformers import GenerationConfig

from aipo_lab.models.policy import Policy


def generate(policy: Policy, job: dict[str, Any], prompts: list[list[int]]) -> list[list[int]]:
    torch.manual_seed(0)
    config = GenerationConfig(
        do_sample=True,
        temperature=job["temperature"],
        top_k=0,
        num_return_sequences=job["n"],
        max_new_tokens=job["max_new_tokens"],
        eos_token_id=sorted(policy.end_token_ids),
        pad_token_id=policy.pad_token_id,
    )
    with torch.inference_mode():
        made = policy.model.generate_batch(prompts, generation_config=config)
    return [list(one.generated_tokens) for one in made.values()]


run_side(generate)
