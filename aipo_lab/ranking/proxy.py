"""The `proxy` ranker: true quality plus a bonus for length plus noise. It stands where PairRM stands."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.seeds import derive_seed
from aipo_lab.worlds import World

LENGTH_UNIT_TOKENS = 10


class ProxyRankerSettings(StrictModel):
    """The proxy's imperfections."""

    ranker: Literal["proxy"] = Field("proxy", description="ranker: proxy")
    length_bias: float = Field(
        0.05, ge=-10, le=10, description="reward per 10 response tokens on top of quality (the dial)"
    )
    noise_sd: float = Field(0.1, ge=0, le=10, description="standard deviation of the noise added to a score")


def biased_quality(quality: float, n_tokens: int, length_bias: float) -> float:
    """What a judge with a taste for length perceives: quality + length_bias * tokens / 10."""
    return quality + length_bias * n_tokens / LENGTH_UNIT_TOKENS


def proxy_scores(row: Mapping[str, Any], world: World, settings: ProxyRankerSettings, seed: int) -> list[float]:
    """Scores of one row of `responses.jsonl`. The noise depends on the seed and the row's id only."""
    noise = random.Random(derive_seed(seed, row["id"]))
    return [
        biased_quality(world.quality(row["prompt"], response["text"]), response["tokens"], settings.length_bias)
        + noise.gauss(0.0, settings.noise_sd)
        for response in row["responses"]
    ]
