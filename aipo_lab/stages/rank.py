"""Stage `rank`: scores and ranks of the candidates of every prompt.

Output `ranking.jsonl`: the rows of `responses.jsonl`, token ids included, with `scores` and `ranks` (1 = best). Scores
are committed shard by shard, so that a killed stage continues behind its last shard and ends with the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field, model_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.core.parts import part_rows
from aipo_lab.ranking.ranker import RANKERS, Ranker, RankerChoice, RankerContext, SummarisingRanker
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.worlds.world import WorldConfig, get_world

SHARD_ROWS = 64
"""Rows that a ranker scores at a time and that a kill loses at most."""


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
    """Write `ranking.jsonl`; the summary counts rows whose candidates all tie, and says what the ranker says."""
    rows = read_jsonl(context.inputs["responses"].file("responses.jsonl"))
    shards = _Shards(context, rows)
    for start in range(0, len(rows), SHARD_ROWS):
        for row, scores in zip(rows[start : start + SHARD_ROWS], shards.scores(start), strict=True):
            row["scores"], row["ranks"] = scores, competition_ranks(scores)
    summary = {"prompts": len(rows), "all_tied": sum(max(row["ranks"]) == 1 for row in rows)}
    if isinstance(shards.ranker, SummarisingRanker):
        summary |= shards.ranker.summary(rows, context.progress)
    write_jsonl(context.folder / "ranking.jsonl", rows)
    return summary


class _Shards:
    """The scores of rows, shard by shard; the ranker is opened when the first shard that is not stored needs it."""

    def __init__(self, context: StageContext[RankConfig], rows: Sequence[Mapping[str, Any]]) -> None:
        self._context, self._rows = context, rows

    @cached_property
    def ranker(self) -> Ranker:
        """The configured ranker."""
        config, runtime = self._context.config, self._context.runtime
        definition = RANKERS.get(config.settings.ranker)
        definition.check_installed(f"ranker {config.settings.ranker}")
        world = get_world(config.world.name, config.world.seed) if config.world else None
        return definition.open(
            config.settings, RankerContext(world, config.seed, runtime.device, runtime.ranker_folders)
        )

    def scores(self, start: int) -> list[list[float]]:
        """The scores of the shard that begins at row `start`, from its part or made and committed."""
        if len(self._rows) <= SHARD_ROWS:  # a stage of one shard ends as soon as its part would be written
            return self._made(start)
        part = self._context.parts / f"scores-{start // SHARD_ROWS:05d}.jsonl"
        shard = self._rows[start : start + SHARD_ROWS]
        made_from = [[row["id"], row["prompt"], [one["text"] for one in row["responses"]]] for row in shard]
        rows = part_rows(part, made_from, lambda: ({"scores": scores} for scores in self._made(start)))
        return [row["scores"] for row in rows]

    def _made(self, start: int) -> list[list[float]]:
        rows, total = self._rows[start : start + SHARD_ROWS], len(self._rows)

        def progress(done: int, _: int, unit: str) -> None:
            self._context.progress(start + done, total, unit)

        made = [list(scores) for scores in self.ranker.scores(rows, progress)]
        if len(made) != len(rows):
            raise StageFailed(f"the ranker scored {len(made)} of {len(rows)} prompts; it must score each")
        for row, scores in zip(rows, made, strict=True):
            if len(scores) != len(row["responses"]) or not all(map(math.isfinite, scores)):
                raise StageFailed(
                    f"the ranker scored the {len(row['responses'])} candidates of prompt {row['id']} with {scores}; "
                    "it must give one finite number each"
                )
        return made


def competition_ranks(scores: Sequence[float]) -> list[int]:
    """1 + the number of strictly greater scores: ties share the better rank (llm-blender's rule)."""
    return [1 + sum(other > score for other in scores) for score in scores]
