"""The preference dataset of a world: its pool's prompts, answered by other writers and scored by an annotator.

It stands where UltraFeedback stands. The annotator, in GPT-4's place, sees true quality with some noise and no length.
A pair is made as in UltraFeedback Binarized: the highest score against one of the others, drawn at random.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from aipo_lab.prompts.pairs import PairColumns
from aipo_lab.worlds.world import World, WrittenWorld

ANNOTATOR_NOISE_SD = 0.1
COLUMNS: dict[str, Any] = {
    "prompt_column": "prompt",
    "chosen_column": "chosen",
    "rejected_column": "rejected",
    "chosen_score_column": "chosen_score",
    "rejected_score_column": "rejected_score",
}


def world_columns(settings: PairColumns) -> PairColumns:
    """How `world_rows` are read: the settings' own limit and ranking, the rows' own columns."""
    several = {"responses_column": "responses"} if settings.ranked_by == "ranker" else {}
    return settings.model_copy(update=COLUMNS | several)


def world_rows(world: World) -> Iterator[dict[str, Any]]:
    """One row per prompt of the pool that no benchmark asks, in the pool's order."""
    assert isinstance(world, WrittenWorld), "a recipe is refused where its world has no other writers"
    asked = set(world.benchmark_prompts())
    for prompt in world.pool():
        if prompt not in asked:
            yield _row(prompt, world.written_responses(prompt), world)


def _row(prompt: str, responses: list[str], world: World) -> dict[str, Any]:
    draw = random.Random(f"annotator/{world.name}/{prompt}")
    scores = [world.quality(prompt, text) + draw.gauss(0, ANNOTATOR_NOISE_SD) for text in responses]
    best = scores.index(max(scores))
    other = draw.choice([i for i in range(len(responses)) if i != best])
    return {
        "prompt": prompt,
        "chosen": responses[best],
        "rejected": responses[other],
        "chosen_score": scores[best],
        "rejected_score": scores[other],
        "responses": responses,
    }
