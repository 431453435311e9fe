"""What a recipe says about MT-Bench."""

from __future__ import annotations

from pydantic import Field, field_validator

from aipo_lab.benchmarks.official import OfficialBenchmarkSettings


class MtBenchSettings(OfficialBenchmarkSettings):
    """MT-Bench; the temperature of answers goes by category."""

    max_new_tokens: int = Field(1024, ge=1, description="cap on a turn's length in tokens, end token included")

    @field_validator("baseline")
    @classmethod
    def _no_baseline(cls, value: object) -> object:
        if value != "official":
            raise ValueError("MT-Bench grades answers on their own and compares with nobody; leave it out")
        return value
