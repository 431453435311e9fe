"""Our engine, all prompts in one call."""

from __future__ import annotations

from typing import Any

from common import run_side

from aipo_lab.generation.engine import SamplingConfig
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.policy import Policy


def generate(policy: Policy, job: dict[str, Any], prompts: list[list[int]]) -> list[list[int]]:
    sampling = SamplingConfig(temperature=job["temperature"], max_new_tokens=job["max_new_tokens"])
    made = TransformersEngine(policy).generate(prompts, job["n"], sampling, seed=0)
    return [one.token_ids for row in made for one in row]


run_side(generate)
