"""Stage `given_pairs`: a user's or a world's preference pairs in the house format, and prompts kept for `held_out`.

Output `pairs.jsonl`: `id`, `prompt`, `chosen`, `rejected` and, where the data have them, `chosen_score` and
`rejected_score`; with `ranked_by: ranker` instead `responses.jsonl`: `id`, `prompt` (a text), `responses` (texts).
`held_out.jsonl` and `benchmark_prompts.jsonl` as of `pool`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.prompts.pairs import PairColumns, usable_pairs
from aipo_lab.prompts.reading import read_rows
from aipo_lab.prompts.responses import usable_responses
from aipo_lab.prompts.same import PromptSet
from aipo_lab.prompts.world_pairs import world_columns, world_rows
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.kept_back import benchmark_prompts, data_place, kept_back, summary, write_kept_back
from aipo_lab.worlds.world import WorldConfig, get_world


class GivenPairsConfig(PairColumns):
    """All that determines the pairs."""

    content: str | None = Field(None, description="hash of the data; none for a world's own")
    n_held_out: int = Field(description="prompts kept back for the benchmark held_out, with their pairs")
    benchmarks: dict[str, Any] = Field(description="benchmarks whose prompts are left out, with a hash of their files")
    world: WorldConfig | None = Field(None, description="the world whose pairs these are; none: they are read")


@stage("given_pairs", version=1, config=GivenPairsConfig)
def given_pairs(context: StageContext[GivenPairsConfig]) -> Mapping[str, Any]:
    """Write the pairs, or the responses to rank; the summary counts rows that are none, by reason."""
    config = context.config
    asked = benchmark_prompts(config.benchmarks)
    counts: Counter[str] = Counter()
    columns, rows = _rows(context)
    usable = usable_responses if config.ranked_by == "ranker" else usable_pairs
    made = list(usable(rows, columns, PromptSet(asked), counts))
    if not made:
        raise StageFailed(
            f"no row is a usable pair: {dict(counts)}; change the `pairs` section of the recipe, or the data"
        )
    questions = [prompts[-1] for row in made if len(prompts := _prompts(row)) == 1]
    back = kept_back(questions, config.n_held_out) if config.n_held_out else []
    never = PromptSet(back)
    left = [row for row in made if not any(prompt in never for prompt in _prompts(row))]
    counts["kept"] -= len(made) - len(left)
    counts["held_out"] += len(made) - len(left)
    if not left:
        raise StageFailed(
            "every pair asks a prompt that is kept back; lower benchmarks.held_out.limit, or give more data"
        )
    write_jsonl(context.folder / ("responses.jsonl" if config.ranked_by == "ranker" else "pairs.jsonl"), left)
    write_kept_back(context.folder, back, asked)
    return summary(counts, pairs=len(left), held_out=len(back))


def _rows(context: StageContext[GivenPairsConfig]) -> tuple[PairColumns, Iterable[Mapping[str, Any]]]:
    """The rows of the data, and how they are read."""
    config = context.config
    if config.world is not None:
        return world_columns(config), world_rows(get_world(config.world.name, config.world.seed))
    assert config.content is not None
    place = data_place(context.runtime, config.content, config.columns(), "pairs")
    return config, read_rows(place, config.columns(), "pairs")


def _prompts(row: Mapping[str, Any]) -> Sequence[str]:
    """The turns of a row's prompt: one for a question that can be asked on its own."""
    prompt = row["prompt"]
    return [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
