"""What a recipe says about its benchmarks: which, each with its own settings, and who judges."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from aipo_lab.benchmarks.catalogue import BENCHMARKS, needs_judge
from aipo_lab.benchmarks.embedded import JUDGE_LENGTH_BIAS, EmbeddedBenchmarkSettings
from aipo_lab.benchmarks.official import OfficialBenchmarkSettings
from aipo_lab.core.choice import located, problem
from aipo_lab.core.config import StrictModel, suggest
from aipo_lab.judging.settings import JudgeSettings


class BenchmarksConfig(StrictModel):
    """The benchmarks every iteration is evaluated on, at least one, by registered name; and how they are judged."""

    model_config = ConfigDict(extra="allow")

    judge: JudgeSettings | None = Field(None, description="who judges the official benchmarks")
    unjudged_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest share of an official benchmark's verdicts that may be missing; its scores are then of the "
        "others, and tell how many",
    )
    judge_length_bias: float = Field(
        JUDGE_LENGTH_BIAS,
        ge=-10,
        le=10,
        description="what embedded judges reward per 10 tokens, whatever the ranker does",
    )

    @model_validator(mode="before")
    @classmethod
    def _each_with_its_settings(cls, values: object) -> object:
        """Keys that are no field are benchmarks: their sections become the settings of the registered one."""
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if key in cls.model_fields}
        chosen: dict[str, StrictModel] = {}
        problems: list[InitErrorDetails] = []
        for name, section in values.items():
            if name in given or section is None:
                continue
            if name not in BENCHMARKS.names():
                valid = [*BENCHMARKS.names(), *cls.model_fields]
                problems.append(problem(f"unknown key {name!r}; {suggest(name, valid)}", name))
                continue
            settings = BENCHMARKS.get(name).settings
            try:
                chosen[name] = section if isinstance(section, settings) else settings.model_validate(section)
            except ValidationError as error:
                problems += located(settings, error, name)
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        if any(needs_judge(name) for name in chosen):
            given["judge"] = given.get("judge") or {}
        return given | chosen

    def embedded(self) -> dict[str, EmbeddedBenchmarkSettings]:
        """The embedded benchmarks that are set, by name."""
        return {name: value for name, value in self._chosen() if isinstance(value, EmbeddedBenchmarkSettings)}

    def official(self) -> dict[str, OfficialBenchmarkSettings]:
        """The official benchmarks that are set, by name."""
        return {name: value for name, value in self._chosen() if isinstance(value, OfficialBenchmarkSettings)}

    def names(self) -> list[str]:
        """All benchmarks that are set."""
        return [*self.embedded(), *self.official()]

    def _chosen(self) -> list[tuple[str, object]]:
        """The benchmarks that are set with their settings, in the order of the registry."""
        chosen = self.model_extra or {}
        return [(name, chosen[name]) for name in BENCHMARKS.names() if name in chosen]
