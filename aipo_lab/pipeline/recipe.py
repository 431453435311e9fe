"""Recipes: all settings of one iterative run, composed from the stages' own settings; and the named profiles."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aipo_lab.benchmarks.catalogue import embedded_names, official_names
from aipo_lab.benchmarks.config import BenchmarksConfig
from aipo_lab.core.config import StrictModel, apply_override, parse_yaml, read_yaml_document, suggest, validate
from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins
from aipo_lab.core.paths import is_there
from aipo_lab.core.yaml_text import YamlDocument
from aipo_lab.generation.engine import EngineChoice
from aipo_lab.generation.transformers_engine import TransformersEngineSettings
from aipo_lab.models.template import DEFAULT_DATE, ChatSettings, TemplateDate, TemplateText
from aipo_lab.pipeline.iteration_axes import ReferencePolicy, TrainingData, TrainingStart
from aipo_lab.pipeline.objective import ObjectiveConfig
from aipo_lab.pipeline.world_use import world_problems
from aipo_lab.prompts.pairs import PairsSettings
from aipo_lab.prompts.source import PromptChoice
from aipo_lab.prompts.world import WorldPromptSettings
from aipo_lab.ranking.proxy import ProxyRankerSettings
from aipo_lab.ranking.ranker import RankerChoice
from aipo_lab.stages.analyse import AnalysisSettings
from aipo_lab.stages.instruct import InstructSettings
from aipo_lab.stages.pair import PairSettings
from aipo_lab.stages.respond import RespondSettings
from aipo_lab.training.config import ParallelSettings, TrainSettings
from aipo_lab.training.deepspeed_config import contradictions, read_deepspeed
from aipo_lab.worlds.micro.base_model import MicroBaseConfig
from aipo_lab.worlds.world import WorldConfig


class ModelConfig(StrictModel):
    """The base model."""

    source: str = Field(
        "micro",
        description="micro (trained here), an asset's name, a model folder (sought from where the command runs), "
        "or a hub id owner/name",
    )
    micro: MicroBaseConfig = Field(
        default_factory=MicroBaseConfig, description="how the micro world's policy is trained"
    )
    chat_template: TemplateText = Field(
        None,
        description="chatml, plain, or a Jinja file (its text is kept), used instead of the model's own; none: its own",
    )
    template_date: TemplateDate = Field(
        DEFAULT_DATE, description="the day chat templates are told it is, YYYY-MM-DD, whatever the clock says"
    )

    def chat(self) -> ChatSettings:
        """How the stages that show the model a conversation render it."""
        return ChatSettings(template=self.chat_template, date=self.template_date)


DeviceName = Annotated[str, Field(pattern=r"^[^,\s-][^,\s]*$")]
"""A device as `CUDA_VISIBLE_DEVICES` names it: a number or a UUID."""


class ComputeConfig(ParallelSettings):
    """How the work is spread over the machine. Results do not depend on it but for rounding."""

    workers: int | Literal["auto"] = Field(
        "auto",
        description="stages run side by side, >= 1; auto: one per device, or without devices as many as the cores "
        "allow; beside those that hold a device, as many run that hold none",
    )
    threads: int | Literal["all"] = Field(1, description="CPU threads of a stage, >= 1; all: every core")
    device: str = Field("cpu", description="torch device: cpu, cuda (all of them), cuda:1 (that one alone), …")
    devices: Literal["auto"] | list[DeviceName] = Field(
        "auto",
        min_length=1,
        description="devices that stages are divided among, as CUDA_VISIBLE_DEVICES names them; auto: those that are "
        "here (on cpu: none)",
    )
    checkpoint_interval_s: float = Field(
        300, ge=0, description="seconds between checkpoints inside a training; a killed one continues from the last"
    )

    @field_validator("deepspeed", mode="before")
    @classmethod
    def _read_deepspeed(cls, value: object) -> object:
        return read_deepspeed(value)

    @field_validator("devices", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: object) -> object:
        if isinstance(value, list):
            return [str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in value]
        return value

    @field_validator("devices")
    @classmethod
    def _each_once(cls, value: object) -> object:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError(f"{', '.join(value)}: a device is named twice; name each once")
        return value

    @field_validator("workers", "threads")
    @classmethod
    def _at_least_one(cls, value: object) -> object:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1")
        return value


class Recipe(StrictModel):
    """All settings of one iterative run (paper Algorithm 1)."""

    profile: str = Field(description="profile the recipe is based on")
    seed: int = Field(0, ge=0, description="seed all random numbers derive from")
    iterations: int = Field(3, ge=1, le=100, description="T, iterations of the loop")
    model: ModelConfig = Field(default_factory=ModelConfig, description="the base model")
    world: WorldConfig | None = Field(
        default_factory=WorldConfig,
        description="the prompt pool and the truth about it; null, or the name none: there is none, as with own data",
    )
    prompts: PromptChoice = Field(
        default_factory=WorldPromptSettings, description="where the pool of prompts comes from"
    )
    pairs: PairsSettings | None = Field(
        None, description="existing preference pairs to train on, instead of prompts, responses and a ranking"
    )
    engine: EngineChoice = Field(default_factory=TransformersEngineSettings, description="what generates text")
    instruct: InstructSettings = Field(default_factory=InstructSettings, description="new prompts")
    respond: RespondSettings = Field(default_factory=RespondSettings, description="candidates")
    rank: RankerChoice = Field(default_factory=ProxyRankerSettings, description="scores of candidates")
    pair: PairSettings = Field(default_factory=PairSettings, description="which pairs are kept")
    train: TrainSettings = Field(default_factory=TrainSettings, description="preference training")
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig, description="the preference loss")
    reference: ReferencePolicy = Field(
        "previous",
        description="what the objective measures against at iteration t: previous (theta_t), base (theta_0), or ema "
        "(the moving average of theta_0 to theta_t); reference-free objectives measure against nothing",
    )
    ema_decay: float = Field(
        0.5, ge=0, le=1, description="with reference ema: share of the former average that stays (0: previous, 1: base)"
    )
    data: TrainingData = Field(
        "fresh",
        description="pairs of a training: fresh (the iteration's own), or accumulated (of all iterations so far)",
    )
    start: TrainingStart = Field(
        "previous", description="a training starts from: previous (theta_t), or base (theta_0)"
    )
    analysis: AnalysisSettings | None = Field(
        None, description="what every iteration's pairs are examined for (none: nothing is examined)"
    )
    benchmarks: BenchmarksConfig = Field(description="what every iteration is evaluated on")
    compute: ComputeConfig = Field(default_factory=ComputeConfig, description="use of the machine")

    @field_validator("world", mode="before")
    @classmethod
    def _none_is_no_world(cls, value: object) -> object:
        return None if isinstance(value, Mapping) and value.get("name") == "none" else value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems = [
            f"objective.{key}: a schedule needs one value per iteration, {self.iterations}, but has {len(value)}"
            for key, value in self.objective.schedules().items()
            if len(value) != self.iterations
        ]
        if not self.benchmarks.names():
            known = [*embedded_names(), *official_names()]
            problems.append(f"benchmarks: set at least one of {', '.join(known)}")
        problems += [
            f"benchmarks.{name}.iterations: {max(settings.iterations)} is beyond the last one, {self.iterations}"
            for name, settings in self.benchmarks.official().items()
            if isinstance(settings.iterations, list) and max(settings.iterations) > self.iterations
        ]
        if "ema_decay" in self.model_fields_set and self.reference != "ema":
            problems.append(
                f"ema_decay: has no effect with reference {self.reference!r}; set reference: ema, or drop it"
            )
        problems += [f"compute: {problem}" for problem in contradictions(self.train, self.compute)]
        problems += world_problems(self.world, self)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def ranks(self) -> bool:
        """Whether the ranker has anything to do: not with pairs whose order is given."""
        return self.pairs is None or self.pairs.ranked_by == "ranker"

    def resolved(self) -> dict[str, Any]:
        """The whole recipe as plain values, keys as written in YAML."""
        unused = set() if self.reference == "ema" else {"ema_decay"}  # given, it is refused without effect
        values = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=unused)
        return values if self.world else {**values, "world": None}


@cache
def profile_names() -> list[str]:
    """The profiles shipped with the package."""
    folder = resources.files("aipo_lab.pipeline") / "profiles"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def profile_values(name: str) -> dict[str, Any]:
    """The values of a shipped profile, which may itself be another one (`profile:`) and changes to it.

    Raises `UserError` listing the valid names.
    """
    if name not in profile_names():
        raise UserError(f"unknown profile {name!r}; {suggest(str(name), profile_names())}")
    changes = _profile_file(name)
    values = profile_values(changes.pop("profile")) if "profile" in changes else {}
    for dotted, value in changes.items():
        apply_override(values, dotted, value)
    return {"profile": name, **values} | {"profile": name}


def profile_lineage(name: str) -> list[str]:
    """A shipped profile and those it builds on, itself first."""
    base = _profile_file(name).get("profile")
    return [name] if base is None else [name, *profile_lineage(base)]


def _profile_file(name: str) -> dict[str, Any]:
    """What the file of a shipped profile says."""
    text = (resources.files("aipo_lab.pipeline") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    values = parse_yaml(text)
    assert isinstance(values, dict)
    return values


def recipe_values(recipe_or_profile: str) -> dict[str, Any]:
    """The values of a profile, or of a recipe file: a `profile` to start from and changes to it."""
    changes = dict(recipe_document(recipe_or_profile).value)
    values = profile_values(changes.pop("profile", "micro"))
    for dotted, value in changes.items():
        apply_override(values, dotted, value)
    return values


def recipe_document(recipe_or_profile: str) -> YamlDocument:
    """A recipe file, or one that says no more than the name of a profile."""
    if recipe_or_profile in profile_names():
        return YamlDocument({"profile": recipe_or_profile})
    path = Path(recipe_or_profile)
    if path.suffix not in (".yaml", ".yml") and not is_there(path):
        raise UserError(
            f"{recipe_or_profile!r} is neither a profile ({', '.join(profile_names())}) nor a recipe file (.yaml)"
        )
    document = read_yaml_document(path, "recipe file")
    if "space" in document.value:
        raise UserError(f"{path} is a sweep file, not a recipe; run it with: aipo-lab sweep {path}")
    return document


def is_recipe(path: Path) -> bool:
    """Whether a path is a profile's name or a file that says nothing that sweep files must; False for no file.

    Raises `UserError` for a file that is no YAML mapping.
    """
    if str(path) in profile_names():
        return True
    return path.is_file() and not {"name", "space"} & read_yaml_document(path, "sweep or recipe file").value.keys()


def build_recipe(
    values: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]] = (),
    source: str = "the recipe",
    origins: Origins | None = None,
) -> Recipe:
    """Validate `values` with dotted `overrides` applied; raises one `UserError` with every problem.

    `origins` say where the values were written, for the error.
    """
    changed = copy.deepcopy(dict(values))
    for dotted, value in overrides:
        apply_override(changed, dotted, value)
    return validate(Recipe, changed, source, origins)
