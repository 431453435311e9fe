"""What a recipe says about its benchmarks: which, how many questions, how answers are sampled, and who judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from aipo_lab.benchmarks.catalogue import OFFICIAL_BENCHMARKS
from aipo_lab.benchmarks.embedded import EMBEDDED_BENCHMARKS, EmbeddedBenchmarkSettings
from aipo_lab.core.config import StrictModel
from aipo_lab.judging.settings import JudgeSettings


class OfficialBenchmarkSettings(StrictModel):
    """What a recipe says about an official benchmark."""

    limit: int | None = Field(
        None, ge=1, description="questions (none: all); cut as the benchmark's rules have it, else evenly"
    )
    iterations: Literal["all", "last"] | list[int] = Field(
        "all", description="iterations it is evaluated at, 0 being the base model: all, last, or their numbers"
    )
    baseline: Literal["official", "base_model"] = Field(
        "official", description="whose answers are compared with (mt_bench grades answers on their own)"
    )
    temperature: float | None = Field(
        None, ge=0, le=10, description="of answers; left out: the question's by the benchmark's rules"
    )
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability mass sampled from (1 = all)")
    top_k: int = Field(0, ge=0, description="number of likeliest tokens sampled from (0 = all)")
    max_new_tokens: int = Field(2048, ge=1, description="cap on an answer's length in tokens, end token included")

    @field_validator("iterations")
    @classmethod
    def _some_iterations(cls, value: object) -> object:
        if isinstance(value, list) and (not value or min(value) < 0 or len(set(value)) < len(value)):
            raise ValueError("must be all, last, or a list of different numbers from 0 on")
        return value

    def evaluates(self, iteration: int, last: int) -> bool:
        """Whether iteration t of 0 … `last` is evaluated."""
        if isinstance(self.iterations, list):
            return iteration in self.iterations
        return self.iterations == "all" or iteration == last


class AlpacaEvalSettings(OfficialBenchmarkSettings):
    """AlpacaEval 2; its rules leave sampling to the model's authors, the defaults are those of AIPO's code."""

    temperature: float = Field(0.7, ge=0, le=10, description="of answers")
    top_k: int = Field(50, ge=0, description="number of likeliest tokens sampled from (0 = all)")


class ArenaHardSettings(OfficialBenchmarkSettings):
    """Arena-Hard v0.1; answers are greedy by its rules."""

    max_new_tokens: int = Field(4096, ge=1, description="cap on an answer's length in tokens, end token included")


class MtBenchSettings(OfficialBenchmarkSettings):
    """MT-Bench; the temperature of answers goes by category."""

    max_new_tokens: int = Field(1024, ge=1, description="cap on a turn's length in tokens, end token included")

    @field_validator("baseline")
    @classmethod
    def _no_baseline(cls, value: object) -> object:
        if value != "official":
            raise ValueError("MT-Bench grades answers on their own and compares with nobody; leave it out")
        return value


class BenchmarksConfig(StrictModel):
    """The benchmarks every iteration is evaluated on; at least one."""

    micro: EmbeddedBenchmarkSettings | None = Field(None, description="embedded: questions of the micro world")
    constraints: EmbeddedBenchmarkSettings | None = Field(
        None, description="embedded: instructions with checkable constraints"
    )
    alpaca_eval: AlpacaEvalSettings | None = Field(None, description="AlpacaEval 2, 805 questions")
    arena_hard: ArenaHardSettings | None = Field(None, description="Arena-Hard v0.1, 500 questions")
    mt_bench: MtBenchSettings | None = Field(None, description="MT-Bench, 80 questions of two turns")
    judge: JudgeSettings | None = Field(None, description="who judges the official benchmarks")
    unjudged_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest share of an official benchmark's verdicts that may be missing; its scores are then of the "
        "others, and tell how many",
    )
    judge_length_bias: float | None = Field(
        None,
        ge=-10,
        le=10,
        description="what embedded judges reward per 10 tokens; left out: the ranker's length_bias",
    )

    @model_validator(mode="before")
    @classmethod
    def _official_ones_have_a_judge(cls, values: object) -> object:
        if isinstance(values, Mapping) and any(values.get(name) is not None for name in OFFICIAL_BENCHMARKS):
            return {"judge": {}} | {key: value for key, value in values.items() if value is not None or key != "judge"}
        return values

    def embedded(self) -> dict[str, EmbeddedBenchmarkSettings]:
        """The embedded benchmarks that are set, by name."""
        settings = {name: getattr(self, name) for name in EMBEDDED_BENCHMARKS}
        return {name: value for name, value in settings.items() if value is not None}

    def official(self) -> dict[str, OfficialBenchmarkSettings]:
        """The official benchmarks that are set, by name."""
        settings = {name: getattr(self, name) for name in OFFICIAL_BENCHMARKS}
        return {name: value for name, value in settings.items() if value is not None}

    def names(self) -> list[str]:
        """All benchmarks that are set."""
        return [*self.embedded(), *self.official()]
