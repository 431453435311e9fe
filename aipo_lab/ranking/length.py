"""The `length` ranker: nearest to a length, or shortest, is best. A baseline for experiments, no judge of quality.

It needs no world, no model and no network: with it a recipe on any prompts runs from end to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.progress import Progress
from aipo_lab.ranking.ranker import RANKERS, RankerContext, RankerDefinition, RankerSettings


class LengthRankerSettings(RankerSettings):
    """Which length is best."""

    ranker: Literal["length"] = Field("length", description="ranker: length")
    target_tokens: int | None = Field(None, ge=1, description="best length in tokens (none: the shorter the better)")


class LengthRanker:
    """Scores a response by its length alone."""

    def __init__(self, settings: LengthRankerSettings, _: RankerContext) -> None:
        self._target_tokens = settings.target_tokens or 0

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`: minus the tokens between a response's length and the best one."""
        for done, row in enumerate(rows, start=1):
            yield [-float(abs(response["tokens"] - self._target_tokens)) for response in row["responses"]]
            progress(done, len(rows), "prompts")


RANKERS.add("length", RankerDefinition(settings=LengthRankerSettings, open=LengthRanker))
