"""What a recipe says about Arena-Hard v0.1."""

from __future__ import annotations

from pydantic import Field

from aipo_lab.benchmarks.official import OfficialBenchmarkSettings


class ArenaHardSettings(OfficialBenchmarkSettings):
    """Arena-Hard v0.1; answers are greedy by its rules."""

    max_new_tokens: int = Field(4096, ge=1, description="cap on an answer's length in tokens, end token included")
