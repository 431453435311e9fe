"""Stage `rank`: scores and ranks of the candidates of every prompt.

Output `ranking.jsonl`: the rows of `responses.jsonl`, token ids included, with `scores` and `ranks` (1 = best).
Candidates that a judge could not score are left out, and so are prompts none of whose candidates has a score; both are
counted. Where a judge was asked, `judgments.jsonl` has its words, and `judge_pairs.jsonl` pairs of its judgments in the
format of `pairs.jsonl`, if it made any. Scores are committed shard by shard, so that a killed stage continues behind
its last shard and ends with the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.core.parts import part_rows
from aipo_lab.generation.engine import EngineChoice
from aipo_lab.judging.calls import Judge
from aipo_lab.models.template import ChatSettings
from aipo_lab.ranking.ranker import (
    RANKERS,
    AskedPolicy,
    Ranker,
    RankerChoice,
    RankerContext,
    RecordingRanker,
    SummarisingRanker,
)
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.sampling import input_engine, input_policy, other_ends
from aipo_lab.worlds.world import WorldConfig, get_world

JUDGE_PAIRS = "judge_pairs.jsonl"
SHARD_ROWS = 64
"""Rows that a ranker scores at a time and that a kill loses at most."""


class RankConfig(StrictModel):
    """All that determines the ranking besides the responses: the ranker's settings, and what it is given."""

    settings: RankerChoice = Field(description="the ranker and its settings")
    seed: int = Field(description="seed of the ranker's noise")
    world: WorldConfig | None = Field(None, description="world whose quality the ranker knows, where it needs one")
    engine: EngineChoice | None = Field(None, description="generation engine, where the ranker asks the policy")
    chat: ChatSettings | None = Field(None, description="how the policy is spoken to, where the ranker asks it")

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """In keys and manifests the ranker's settings stand beside the rest."""
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        return {"settings": {name: value for name, value in values.items() if name not in own}, **own}


@stage("rank", version=1, config=RankConfig)
def rank(context: StageContext[RankConfig]) -> Mapping[str, Any]:
    """Write the ranking; the summary counts rows whose candidates all tie, and says what the ranker says.

    `mean_score` and `mean_best_score`: of all candidates, and of the best of each prompt, in the ranker's own unit.
    """
    rows = read_jsonl(context.inputs["responses"].file("responses.jsonl"))
    shards = _Shards(context, rows)
    ranked: list[dict[str, Any]] = []
    records: list[Mapping[str, Any]] = []
    for start in range(0, len(rows), SHARD_ROWS):
        for row, made in zip(rows[start : start + SHARD_ROWS], shards.made(start), strict=True):
            ranked.append(_ranked(row, made.scores))
            records.append({"id": row["id"], **made.record})
    kept = [row for row in ranked if row["scores"]]
    summary = {"prompts": len(kept), "all_tied": sum(max(row["ranks"]) == 1 for row in kept)}
    summary |= _left_out(rows, ranked)
    if isinstance(shards.ranker, RecordingRanker):
        summary |= _conclude(context, shards.ranker, records)
    if not kept:
        raise StageFailed(f"{_name(context.config)} gave no candidate of {len(rows)} prompts a score: {summary}")
    summary |= _mean_scores(kept)
    if isinstance(shards.ranker, SummarisingRanker):
        summary |= shards.ranker.summary(kept, context.progress)
    write_jsonl(context.folder / "ranking.jsonl", kept)
    return summary


def _ranked(row: Mapping[str, Any], scores: Sequence[float | None]) -> dict[str, Any]:
    """The row with the scores and ranks of those candidates that have one."""
    having = [(one, score) for one, score in zip(row["responses"], scores, strict=True) if score is not None]
    found = [score for _, score in having]
    return {**row, "responses": [one for one, _ in having], "scores": found, "ranks": competition_ranks(found)}


def _left_out(rows: Sequence[Mapping[str, Any]], ranked: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many candidates and prompts have no score; nothing where all have."""
    unscored = sum(len(row["responses"]) for row in rows) - sum(len(row["responses"]) for row in ranked)
    return {"unscored": unscored, "prompts_unscored": sum(not row["scores"] for row in ranked)} if unscored else {}


def _mean_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    everything = [score for row in rows for score in row["scores"]]
    return {"mean_score": fmean(everything), "mean_best_score": fmean(max(row["scores"]) for row in rows)}


def _conclude(
    context: StageContext[RankConfig], ranker: RecordingRanker, records: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Write what the ranker keeps besides scores; returns its part of the summary."""
    concluded = ranker.conclude(records)
    write_jsonl(context.folder / "judgments.jsonl", records)
    if concluded.judge_pairs:
        write_jsonl(context.folder / JUDGE_PAIRS, concluded.judge_pairs)
    return concluded.summary


def _name(config: RankConfig) -> str:
    judge = config.settings.asked_judge()
    asked = " (the policy)" if config.settings.asks_policy() else f" ({judge.model})" if judge else ""
    return f"the ranker {config.settings.ranker}{asked}"


class _Made(NamedTuple):
    """What was made of a row."""

    scores: list[float | None]
    record: Mapping[str, Any]


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
        trained = self._context.inputs.get("reward")
        folders = runtime.ranker_folders | ({} if trained is None else {"model": str(trained.file("model"))})
        return definition.open(
            config.settings,
            RankerContext(world, config.seed, runtime.device, folders, self._policy, self._judge),
        )

    def _policy(self) -> AskedPolicy:
        """theta_t, for a ranker that asks it."""
        config = self._context.config
        assert config.chat is not None
        policy = input_policy(self._context)
        return AskedPolicy(policy, input_engine(self._context), config.chat, other_ends(policy, config.chat))

    def _judge(self) -> Judge:
        """The judge, for a ranker that asks one."""
        runtime = self._context.runtime
        assert runtime.judging is not None, "a run of a recipe whose ranker asks a judge says where replies are kept"
        return runtime.judging.open(runtime.device)

    def made(self, start: int) -> list[_Made]:
        """What was made of the shard that begins at row `start`, from its part or made now and committed."""
        if len(self._rows) <= SHARD_ROWS:  # a stage of one shard ends as soon as its part would be written
            return self._made(start)
        part = self._context.parts / f"scores-{start // SHARD_ROWS:05d}.jsonl"
        shard = self._rows[start : start + SHARD_ROWS]
        made_from = [[row["id"], row["prompt"], [one["text"] for one in row["responses"]]] for row in shard]
        rows = part_rows(part, made_from, lambda: self._rows_of(start))
        return [_Made(row["scores"], row.get("record", {})) for row in rows]

    def _rows_of(self, start: int) -> Iterator[dict[str, Any]]:
        """The rows of a shard's part."""
        for one in self._made(start):
            yield {"scores": one.scores} | ({"record": one.record} if one.record else {})

    def _made(self, start: int) -> list[_Made]:
        rows, total = self._rows[start : start + SHARD_ROWS], len(self._rows)

        def progress(done: int, _: int, unit: str) -> None:
            self._context.progress(start + done, total, unit)

        made = [list(scores) for scores in self.ranker.scores(rows, progress)]
        if len(made) != len(rows):
            raise StageFailed(f"the ranker scored {len(made)} of {len(rows)} prompts; it must score each")
        for row, scores in zip(rows, made, strict=True):
            if len(scores) != len(row["responses"]) or not all(math.isfinite(one) for one in scores if one is not None):
                raise StageFailed(
                    f"the ranker scored the {len(row['responses'])} candidates of prompt {row['id']} with {scores}; "
                    "it must give one finite number each"
                )
        records = [self.ranker.record(row) if isinstance(self.ranker, RecordingRanker) else {} for row in rows]
        return [_Made(*pair) for pair in zip(made, records, strict=True)]


def competition_ranks(scores: Sequence[float]) -> list[int]:
    """1 + the number of strictly greater scores: ties share the better rank (llm-blender's rule)."""
    return [1 + sum(other > score for other in scores) for score in scores]
