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
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import Completion, EngineChoice, SamplingConfig
from aipo_lab.generation.self_instruct import InstructionFilter, few_shot_prompt, split_instructions, stop_strings
from aipo_lab.models.chat import encode_text_prompt
from aipo_lab.models.policy import Policy
from aipo_lab.prompts.same import PromptSet
from aipo_lab.prompts.source import PROMPTS, PromptChoice
from aipo_lab.prompts.world import WorldPromptSettings
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.kept_back import never_prompted
from aipo_lab.stages.sampling import input_engine, input_policy, sampling_notes
from aipo_lab.worlds.world import World, WorldConfig, get_world


class InstructSettings(StrictModel):
    """What a recipe says about the instruct stage."""

    source: Literal["self_instruct", "pool"] = Field(
        "self_instruct", description="self_instruct: the policy writes new prompts; pool: prompts of the pool"
    )
    n_prompts: int = Field(256, ge=1, description="P, prompts wanted per iteration")
    n_examples: int = Field(8, ge=1, le=50, description="few-shot instructions shown, drawn from the pool")
    n_per_completion: int = Field(1, ge=1, le=10, description="instructions taken from one completion")
    min_tokens: int = Field(4, ge=1, description="shortest instruction kept, in the policy's tokens")
    max_tokens: int = Field(512, ge=1, description="longest instruction kept, in the policy's tokens")
    max_rounds: int = Field(6, ge=1, description="rounds of generation before the stage settles for fewer")
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
    prompts: PromptChoice = Field(default_factory=WorldPromptSettings, description="where the pool comes from")


@stage("instruct", version=2, config=InstructConfig)
def instruct(context: StageContext[InstructConfig]) -> Mapping[str, Any]:
    """Write `prompts.jsonl`; the summary counts what was generated, kept and dropped, by reason."""
    config = context.config
    world = get_world(config.world.name, config.world.seed) if config.world else None
    pool = _pool(context, world)
    if config.source == "pool":
        prompts = random.Random(config.seed).sample(pool, min(config.n_prompts, len(pool)))
        counts: Counter[str] = Counter(kept=len(prompts))
        notes: dict[str, Any] = {}
    else:
        prompts, counts, notes = _self_instruct(context, world, pool)
    if not prompts:
        raise StageFailed(f"no instruction was left of {counts.total()} generated: {_reasons(counts)}")
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


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "none generated"


def _self_instruct(
    context: StageContext[InstructConfig], world: World | None, pool: list[str]
) -> tuple[list[str], Counter[str], dict[str, Any]]:
    """The instructions, the counts of what was generated, and the summary's notes about sampling."""
    config = context.config
    policy = input_policy(context)
    keeper = InstructionFilter(
        lambda text: len(policy.tokenizer(text, add_special_tokens=False)["input_ids"]),
        config.min_tokens,
        config.max_tokens,
        world.is_instruction if world else None,
        known=pool,
        held_out=world.benchmark_prompts() if world else (),
    )
    never = never_prompted(context.inputs["pool"].path) if "pool" in context.inputs else PromptSet()
    prompts: list[str] = []
    shown: list[list[int]] = []
    for number in range(config.max_rounds):
        missing = config.n_prompts - len(prompts)
        if missing <= 0:
            break
        share_kept = max(len(prompts), 1) / max(keeper.counts.total(), 1) if number else 1.0
        n_completions = round(1.1 * missing / share_kept / config.n_per_completion) + 1
        examples = _few_shot_prompts(config, policy, pool, number, min(n_completions, 4 * config.n_prompts))
        texts = _round_of_completions(context, examples, number)
        shown += examples
        found = [item for text in texts for item in split_instructions(text, config.n_per_completion)]
        asked = [instruction for instruction in found if instruction in never]
        if asked:
            keeper.counts["benchmark_prompt"] += len(asked)
        prompts += [instruction for instruction in found if instruction not in asked and keeper.keep(instruction)]
        keeper.counts["empty"] += sum(not split_instructions(text, 1) for text in texts)
        context.progress(min(len(prompts), config.n_prompts), config.n_prompts, "prompts")
    notes = sampling_notes(policy, shown, config.sampling.max_new_tokens)
    return prompts[: config.n_prompts], keeper.counts, notes


def _few_shot_prompts(config: InstructConfig, policy: Policy, pool: list[str], number: int, n: int) -> list[list[int]]:
    """One round's prompts in tokens; raises `StageFailed` if the model has no room after any of them."""
    draw = random.Random(derive_seed(config.seed, "examples", number))
    texts = [few_shot_prompt(draw.sample(pool, min(config.n_examples, len(pool)))) for _ in range(n)]
    prompts = [encode_text_prompt(policy.tokenizer, text) for text in texts]
    if not any(policy.room_tokens(len(prompt)) for prompt in prompts):
        raise StageFailed(
            f"the shortest few-shot prompt of {config.n_examples} examples has {min(map(len, prompts))} tokens, which "
            f"fill the model's {policy.n_positions} positions; lower instruct.n_examples"
        )
    return prompts


def _round_of_completions(context: StageContext[InstructConfig], prompts: list[list[int]], number: int) -> list[str]:
    """One round's completions, from the part on disk if an earlier attempt committed it."""
    config = context.config
    part = context.parts / f"round-{number:03d}.jsonl"
    if not part.is_file():
        completions = input_engine(context).generate(
            prompts,
            1,
            config.sampling,
            derive_seed(config.seed, "sampling", number),
            stop=stop_strings(config.n_examples, config.n_per_completion),
        )
        write_jsonl(part, (vars(row[0]) for row in completions))
    return [Completion(**row).text for row in read_jsonl(part)]
