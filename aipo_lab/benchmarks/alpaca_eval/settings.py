"""What a recipe says about AlpacaEval 2."""

from __future__ import annotations

from pydantic import Field

from aipo_lab.benchmarks.official import OfficialBenchmarkSettings


class AlpacaEvalSettings(OfficialBenchmarkSettings):
    """AlpacaEval 2; its rules leave sampling to the model's authors, the defaults are those of AIPO's code."""

    temperature: float = Field(0.7, ge=0, le=10, description="of answers")
    top_k: int = Field(50, ge=0, description="number of likeliest tokens sampled from (0 = all)")
