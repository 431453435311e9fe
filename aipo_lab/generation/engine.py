"""What an engine is: prompts as token ids in, sampled completions out; and the registry of engines.

Importing a module of this folder registers its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, Field, SerializeAsAny

from aipo_lab.core.choice import chosen_settings
from aipo_lab.core.config import StrictModel
from aipo_lab.core.registry import Definition, Registry


class SamplingConfig(StrictModel):
    """How completions are sampled."""

    temperature: float = Field(1.0, ge=0, le=10, description="softmax temperature; 0 takes the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability mass sampled from (1 = all)")
    top_k: int = Field(0, ge=0, description="number of likeliest tokens sampled from (0 = all)")
    max_new_tokens: int = Field(128, ge=1, description="cap on a completion's length in tokens, end token included")


@dataclass(frozen=True)
class Completion:
    """One sampled completion.

    `token_ids`: the tokens the policy wrote, the end token included if it wrote one; what is trained and measured later
    is exactly these. `finish_reason` is `stop` or `length`.
    """

    text: str
    token_ids: list[int]
    finish_reason: str

    @property
    def n_tokens(self) -> int:
        """Its length in tokens, end token included."""
        return len(self.token_ids)

    @property
    def truncated(self) -> bool:
        """Whether the cap cut it off."""
        return self.finish_reason == "length"


class Engine(Protocol):
    """Generates text with one policy."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seed: int,
        stop: Sequence[str] = (),
        also_ends: Sequence[int] = (),
    ) -> list[list[Completion]]:
        """`n` completions for each prompt (token ids, special tokens included).

        A completion ends with an end token (of the policy's, or of `also_ends`), before the first of the `stop` strings
        (its tokens are those up to there), or at the cap: `max_new_tokens`, or what the model's positions leave if that
        is less. A prompt that leaves no room gets an empty completion that counts as cut off. The same arguments give
        the same completions.
        """
        ...


class EngineSettings(StrictModel):
    """What every engine's settings have."""

    name: str = Field(description="engine")
    shard_prompts: int = Field(256, ge=1, description="prompts per part committed to disk")
    dtype: str = Field("float32", pattern="^(float32|bfloat16|float16)$", description="weights in generation")


@dataclass(frozen=True, kw_only=True)
class EngineDefinition(Definition):
    """A registered engine: its settings class, and how it is opened on a model folder and a device."""

    settings: type[EngineSettings]
    open: Callable[[Any, Path, str], Engine]


ENGINES: Registry[EngineDefinition] = Registry(
    "engine",
    "aipo_lab.engines",
    "aipo_lab.generation",
    awaited={"vllm": "this version has no vLLM engine; use --set engine.name=transformers"},
)

EngineChoice = Annotated[
    SerializeAsAny[EngineSettings], BeforeValidator(chosen_settings(ENGINES, "name", "transformers", EngineSettings))
]
"""An `engine` section: the settings of the engine it names."""


def open_engine(settings: EngineSettings, folder: Path, device: str) -> Engine:
    """The engine that `settings` name, on the model in `folder`; raises `MissingDependency` without its package."""
    definition = ENGINES.get(settings.name)
    definition.check_installed(f"engine {settings.name}")
    return definition.open(settings, folder, device)
