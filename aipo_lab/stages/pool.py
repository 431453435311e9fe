"""Stage `pool`: the prompts of the user's data, cleaned, and those kept back for the benchmark `held_out`.

Output `pool.jsonl` and `held_out.jsonl`: `id`, `prompt`; `benchmark_prompts.jsonl`: what the recipe's benchmarks ask.
Later stages read these and not the data, which may be gone by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.prompts.own import OwnPrompts, OwnPromptSettings, PromptFilters, kept_prompts
from aipo_lab.prompts.same import PromptSet
from aipo_lab.prompts.source import PROMPTS
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.kept_back import benchmark_prompts, data_place, kept_back, summary, write_kept_back
from aipo_lab.worlds.world import WorldConfig, get_world


class PoolConfig(StrictModel):
    """All that determines the pool: the source's settings but for the place of its data, whose content stands here."""

    prompts: dict[str, Any] = Field(description="the prompt source and its settings, without the place of data")
    content: str | None = Field(None, description="hash of the data; none for a source that reads none")
    n_held_out: int = Field(description="prompts kept back for the benchmark held_out")
    benchmarks: dict[str, Any] = Field(description="benchmarks whose prompts are left out, with a hash of their files")
    world: WorldConfig | None = Field(None, description="the recipe's world, for sources that ask it")


@stage("pool", version=1, config=PoolConfig)
def pool(context: StageContext[PoolConfig]) -> Mapping[str, Any]:
    """Write the pool; the summary counts what was dropped, by reason."""
    config = context.config
    source, filters, counts = _source(context)
    asked = benchmark_prompts(config.benchmarks)
    texts = source.each() if isinstance(source, OwnPrompts) else source.pool()
    prompts = kept_prompts(texts, filters, PromptSet(asked), counts)
    if isinstance(source, OwnPrompts):
        counts.update(source.counts)
    if not prompts:
        raise StageFailed(f"no prompt is left: {dict(counts)}; change the `prompts` section of the recipe, or the data")
    back = kept_back(prompts, config.n_held_out)
    learned = PromptSet(back)
    left = [prompt for prompt in prompts if prompt not in learned]
    write_jsonl(context.folder / "pool.jsonl", ({"id": f"{i:06d}", "prompt": text} for i, text in enumerate(left)))
    write_kept_back(context.folder, back, asked)
    return summary(counts, prompts=len(left), held_out=len(back))


def _source(context: StageContext[PoolConfig]) -> tuple[Any, PromptFilters, Counter[str]]:
    """The opened source, its filters, and an empty count."""
    config = context.config
    definition = PROMPTS.get(config.prompts["source"])
    definition.check_installed(f"prompt source {config.prompts['source']}")
    values = config.prompts
    if config.content is not None:
        place = data_place(context.runtime, config.content, [str(values.get("column", "prompt"))], "prompts")
        values = values | {
            name: value for name, value in place.model_dump().items() if name in definition.settings.model_fields
        }
    settings = definition.settings.model_validate(values)
    world = get_world(config.world.name, config.world.seed) if config.world else None
    filters = settings if isinstance(settings, OwnPromptSettings) else PromptFilters(source=settings.source)
    return definition.open(settings, world), filters, Counter()
