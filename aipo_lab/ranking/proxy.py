"""The `proxy` ranker: true quality plus a bonus for length plus noise. It stands where PairRM stands."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.progress import Progress
from aipo_lab.core.seeds import derive_seed
from aipo_lab.ranking.ranker import RANKERS, RankerContext, RankerDefinition, RankerSettings
from aipo_lab.worlds.taste import biased_quality
from aipo_lab.worlds.world import World


class ProxyRankerSettings(RankerSettings):
    """The proxy's imperfections."""

    ranker: Literal["proxy"] = Field("proxy", description="ranker: proxy")
    length_bias: float = Field(
        0.05, ge=-10, le=10, description="reward per 10 response tokens on top of quality (the dial)"
    )
    noise_sd: float = Field(0.1, ge=0, le=10, description="standard deviation of the noise added to a score")


class ProxyRanker:
    """Scores by the world's truth, distorted."""

    def __init__(self, settings: ProxyRankerSettings, context: RankerContext) -> None:
        assert context.world is not None
        self._settings, self._world, self._seed = settings, context.world, context.seed

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`."""
        for done, row in enumerate(rows, start=1):
            yield proxy_scores(row, self._world, self._settings, self._seed)
            progress(done, len(rows), "prompts")


def proxy_scores(row: Mapping[str, Any], world: World, settings: ProxyRankerSettings, seed: int) -> list[float]:
    """Scores of one row of `responses.jsonl`. The noise depends on the seed and the row's id only."""
    noise = random.Random(derive_seed(seed, row["id"]))
    return [
        biased_quality(world.quality(row["prompt"], response["text"]), response["tokens"], settings.length_bias)
        + noise.gauss(0.0, settings.noise_sd)
        for response in row["responses"]
    ]


RANKERS.add("proxy", RankerDefinition(settings=ProxyRankerSettings, open=ProxyRanker, needs_world=True))
