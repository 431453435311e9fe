"""The `correct` ranker: 1 for an answer that is right by the world's truth, 0 for any other (Iterative RPO).

The criterion of Pang et al. 2024 (arXiv 2404.19733), whose answers are right or wrong, on worlds that know how good an
answer is. All candidates right or all wrong is a tie, and makes no pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.progress import Progress
from aipo_lab.ranking.ranker import RANKERS, RankerContext, RankerDefinition, RankerSettings


class CorrectRankerSettings(RankerSettings):
    """From which quality on an answer counts as right."""

    ranker: Literal["correct"] = Field("correct", description="ranker: correct")
    least_quality: float = Field(
        1.0, ge=-10, le=10, description="true quality from which an answer is correct; 1: nothing is missing or wrong"
    )


class CorrectRanker:
    """Scores by the world's truth alone, in two steps."""

    def __init__(self, settings: CorrectRankerSettings, context: RankerContext) -> None:
        assert context.world is not None
        self._least, self._world = settings.least_quality, context.world

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`."""
        for done, row in enumerate(rows, start=1):
            qualities = [self._world.quality(row["prompt"], response["text"]) for response in row["responses"]]
            yield [float(quality >= self._least) for quality in qualities]
            progress(done, len(rows), "prompts")


RANKERS.add("correct", RankerDefinition(settings=CorrectRankerSettings, open=CorrectRanker, needs_world=True))
