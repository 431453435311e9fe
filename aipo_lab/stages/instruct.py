"""Stage `instruct`: the policy writes new instructions from few-shot examples of the prompt pool.

Output `prompts.jsonl`: `id`, `prompt`, `source` (`self_instruct` or `pool`). The pool is that of the world, or what the
stage `pool` made of the user's data; the prompts of benchmarks and those kept back are in neither.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.generation.engine import EngineChoice, SamplingConfig
from aipo_lab.prompts.source import PROMPTS, PromptChoice
from aipo_lab.prompts.world import WorldPromptSettings
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.self_instruct import reasons, self_instruct
from aipo_lab.worlds.world import World, WorldConfig, get_world


class InstructSettings(StrictModel):
    """What a recipe says about the instruct stage."""

    source: Literal["self_instruct", "pool"] = Field(
        "self_instruct", description="self_instruct: the policy writes new prompts; pool: prompts of the pool"
    )
    draw: Literal["all", "slices"] = Field(
        "all",
        exclude_if=lambda value: value == "all",
        description="what of the pool iteration t of T draws from: all of it, or slices: every T-th prompt, another "
        "set at every iteration",
    )
    n_prompts: int = Field(256, ge=1, description="P, prompts wanted per iteration")
    n_examples: int = Field(8, ge=1, le=50, description="few-shot instructions shown, drawn from the pool")
    n_per_completion: int = Field(1, ge=1, le=10, description="instructions taken from one completion")
    min_tokens: int = Field(4, ge=1, description="shortest instruction kept, in the policy's tokens")
    max_tokens: int = Field(512, ge=1, description="longest instruction kept, in the policy's tokens")
    max_rounds: int = Field(6, ge=1, description="rounds of generation before the stage settles for fewer")
    style: Literal["clean", "official"] = Field(
        "clean",
        exclude_if=lambda value: value == "clean",
        description="clean: the official format without its defects; official: AIPO's prompt, stop strings and filters "
        "to the letter, min_tokens and max_tokens in cl100k tokens",
    )
    near_duplicates: float | None = Field(
        None,
        gt=0,
        le=1,
        exclude_if=lambda value: value is None,
        description="least similarity in words (ROUGE-L F) to one of the pool or one kept from which an instruction is "
        "dropped; none: only repeats are",
    )
    shortfall: Literal["state", "fail"] = Field(
        "state",
        exclude_if=lambda value: value == "state",
        description="what falling short of n_prompts is: state: a warning with the results; fail: an error, as soon "
        "as it is to be expected",
    )
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.5, top_p=0.9, top_k=50, max_new_tokens=1024),
        description="how instructions are sampled",
    )


class InstructConfig(InstructSettings):
    """All that determines the prompts besides the policy."""

    seed: int = Field(description="seed of the examples drawn and of sampling")
    world: WorldConfig | None = Field(
        None, description="world whose pool is drawn from and whose grammar filters, where the recipe has one"
    )
    engine: EngineChoice = Field(description="generation engine")
    part: int = Field(0, ge=0, exclude_if=lambda value: value == 0, description="with slices: which, the iteration")
    parts: int = Field(1, ge=1, exclude_if=lambda value: value == 1, description="with slices: how many there are")
    prompts: PromptChoice = Field(default_factory=WorldPromptSettings, description="where the pool comes from")


@stage("instruct", version=3, config=InstructConfig)
def instruct(context: StageContext[InstructConfig]) -> Mapping[str, Any]:
    """Write `prompts.jsonl`; the summary counts what was generated, kept and dropped, by reason."""
    config = context.config
    world = get_world(config.world.name, config.world.seed) if config.world else None
    pool = _pool(context, world)[config.part :: config.parts]
    if not pool:
        raise StageFailed(f"the pool holds fewer prompts than its {config.parts} slices; set instruct.draw: all")
    if config.source == "pool":
        prompts = random.Random(config.seed).sample(pool, min(config.n_prompts, len(pool)))
        counts: Counter[str] = Counter(kept=len(prompts))
        notes: dict[str, Any] = {}
    else:
        prompts, counts, notes = self_instruct(context, world, pool)
    if not prompts:
        raise StageFailed(f"no instruction was left of {counts.total()} generated: {reasons(counts)}")
    write_jsonl(
        context.folder / "prompts.jsonl",
        ({"id": f"{i:06d}", "prompt": text, "source": config.source} for i, text in enumerate(prompts)),
    )
    return {"prompts": len(prompts), "wanted": config.n_prompts, "counts": dict(sorted(counts.items())), **notes}


def _pool(context: StageContext[InstructConfig], world: World | None) -> list[str]:
    """The prompt pool, without what the policy will be judged on."""
    config = context.config
    if "pool" in context.inputs:
        return [row["prompt"] for row in read_jsonl(context.inputs["pool"].file("pool.jsonl"))]
    assert world is not None, "without a world the pool is an artifact"
    held_out = set(world.benchmark_prompts())
    source = PROMPTS.get(config.prompts.source).open(config.prompts, world)
    return [prompt for prompt in source.pool() if prompt not in held_out]
