"""Stage `given_pairs`: a user's preference pairs in the house format, and prompts kept back for `held_out`.

Output `pairs.jsonl`: `id`, `prompt`, `chosen`, `rejected` and, where the data have them, `chosen_score` and
`rejected_score`; `held_out.jsonl` and `benchmark_prompts.jsonl` as of `pool`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.prompts.pairs import PairColumns, usable_pairs
from aipo_lab.prompts.same import PromptSet
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.kept_back import benchmark_prompts, data_place, kept_back, summary, write_kept_back


class GivenPairsConfig(PairColumns):
    """All that determines the pairs."""

    content: str = Field(description="hash of the data")
    n_held_out: int = Field(description="prompts kept back for the benchmark held_out, with their pairs")
    benchmarks: dict[str, Any] = Field(description="benchmarks whose prompts are left out, with a hash of their files")


@stage("given_pairs", version=1, config=GivenPairsConfig)
def given_pairs(context: StageContext[GivenPairsConfig]) -> Mapping[str, Any]:
    """Write the pairs; the summary counts rows that are none, by reason."""
    config = context.config
    place = data_place(context.runtime, config.content, config.columns(), "pairs")
    asked = benchmark_prompts(config.benchmarks)
    counts: Counter[str] = Counter()
    pairs = list(usable_pairs(place, config, PromptSet(asked), counts))
    if not pairs:
        raise StageFailed(
            f"no row is a usable pair: {dict(counts)}; change the `pairs` section of the recipe, or the data"
        )
    questions = [pair["prompt"][-1]["content"] for pair in pairs if _is_one_turn(pair)]
    back = kept_back(questions, config.n_held_out) if config.n_held_out else []
    never = PromptSet(back)
    left = [pair for pair in pairs if not any(one["content"] in never for one in pair["prompt"])]
    counts["kept"] -= len(pairs) - len(left)
    counts["held_out"] += len(pairs) - len(left)
    if not left:
        raise StageFailed(
            "every pair asks a prompt that is kept back; lower benchmarks.held_out.limit, or give more data"
        )
    write_jsonl(context.folder / "pairs.jsonl", left)
    write_kept_back(context.folder, back, asked)
    return summary(counts, pairs=len(left), held_out=len(back))


def _is_one_turn(pair: Mapping[str, Any]) -> bool:
    """Whether the prompt is a question of one turn, which can be asked on its own."""
    return len(pair["prompt"]) == 1
