"""Stage `rank`: scores and ranks of the candidates of every prompt.

Output `ranking.jsonl`: the rows of `responses.jsonl`, token ids included, with `scores` and `ranks` (1 = best).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.ranking.ranker import RANKERS, Ranker, RankerChoice, RankerContext
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.worlds.world import WorldConfig, get_world


class RankConfig(StrictModel):
    """All that determines the ranking besides the responses: the ranker's settings, and what it is given."""

    settings: RankerChoice = Field(description="the ranker and its settings")
    seed: int = Field(description="seed of the ranker's noise")
    world: WorldConfig | None = Field(None, description="world whose quality the ranker knows, where it needs one")

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """In keys and manifests the ranker's settings stand beside the rest."""
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        return {"settings": {name: value for name, value in values.items() if name not in own}, **own}


@stage("rank", version=1, config=RankConfig)
def rank(context: StageContext[RankConfig]) -> Mapping[str, Any]:
    """Write `ranking.jsonl`; the summary counts rows whose candidates all tie."""
    rows = read_jsonl(context.inputs["responses"].file("responses.jsonl"))
    for row, scores in zip(rows, _ranker(context).scores(rows, context.progress), strict=True):
        if len(scores) != len(row["responses"]) or not all(map(math.isfinite, scores)):
            raise StageFailed(
                f"the ranker scored the {len(row['responses'])} candidates of prompt {row['id']} with {scores}; "
                "it must give one finite number each"
            )
        row["scores"], row["ranks"] = scores, competition_ranks(scores)
    write_jsonl(context.folder / "ranking.jsonl", rows)
    return {"prompts": len(rows), "all_tied": sum(max(row["ranks"]) == 1 for row in rows)}


def _ranker(context: StageContext[RankConfig]) -> Ranker:
    config = context.config
    definition = RANKERS.get(config.settings.ranker)
    definition.check_installed(f"ranker {config.settings.ranker}")
    world = get_world(config.world.name, config.world.seed) if config.world else None
    return definition.open(config.settings, RankerContext(world, config.seed, context.runtime.device))


def competition_ranks(scores: Sequence[float]) -> list[int]:
    """1 + the number of strictly greater scores: ties share the better rank (llm-blender's rule)."""
    return [1 + sum(other > score for other in scores) for score in scores]
