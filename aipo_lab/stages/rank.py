"""Stage `rank`: scores and ranks of the candidates of every prompt.

Output `ranking.jsonl`: the rows of `responses.jsonl`, token ids included, with `scores` and `ranks` (1 = best).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.ranking.proxy import ProxyRankerSettings, proxy_scores
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.worlds import WorldConfig, get_world

RankSettings = ProxyRankerSettings


class RankConfig(ProxyRankerSettings):
    """All that determines the ranking besides the responses."""

    seed: int = Field(description="seed of the ranker's noise")
    world: WorldConfig = Field(description="world whose quality the proxy distorts")


@stage("rank", version=1, config=RankConfig)
def rank(context: StageContext[RankConfig]) -> Mapping[str, Any]:
    """Write `ranking.jsonl`; the summary counts rows whose candidates all tie."""
    config = context.config
    world = get_world(config.world.name, config.world.seed)
    rows = read_jsonl(context.inputs["responses"].file("responses.jsonl"))
    for row in rows:
        scores = proxy_scores(row, world, config, config.seed)
        if not all(map(math.isfinite, scores)):
            raise StageFailed(f"the ranker scored prompt {row['id']} with {scores}, which is not finite")
        row["scores"], row["ranks"] = scores, competition_ranks(scores)
    write_jsonl(context.folder / "ranking.jsonl", rows)
    return {"prompts": len(rows), "all_tied": sum(max(row["ranks"]) == 1 for row in rows)}


def competition_ranks(scores: Sequence[float]) -> list[int]:
    """1 + the number of strictly greater scores: ties share the better rank (llm-blender's rule)."""
    return [1 + sum(other > score for other in scores) for score in scores]
