"""What an engine is: prompts as token ids in, sampled completions out; and the registry of engines.

Importing a module of this folder registers its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self, runtime_checkable

from pydantic import BeforeValidator, Field, SerializeAsAny

from aipo_lab.core.choice import chosen_settings
from aipo_lab.core.config import StrictModel
from aipo_lab.core.registry import Definition, Registry


class SamplingConfig(StrictModel):
    """How completions are sampled.

    Settings younger than the first stores are left out of dumps, and so of keys, where they change nothing.
    """

    temperature: float = Field(1.0, ge=0, le=10, description="softmax temperature; 0 takes the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability mass sampled from (1 = all)")
    top_k: int = Field(0, ge=0, description="number of likeliest tokens sampled from (0 = all)")
    max_new_tokens: int = Field(128, ge=1, description="cap on a completion's length in tokens, end token included")
    min_p: float = Field(
        0.0,
        ge=0,
        le=1,
        exclude_if=lambda value: value == 0,
        description="tokens below this share of the likeliest token's probability are not sampled (0 = all are)",
    )
    repetition_penalty: float = Field(
        1.0,
        gt=0,
        le=10,
        exclude_if=lambda value: value == 1,
        description="divides positive logits of tokens of prompt and completion, multiplies negative ones (1 = none)",
    )
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        exclude_if=lambda value: value == [],
        description="strings before the first of which a completion ends",
    )


@dataclass(frozen=True)
class Completion:
    """One sampled completion.

    `token_ids`: the tokens the policy wrote, the end token included if it wrote one; what is trained and measured later
    is exactly these. `finish_reason` is `stop` or `length`. `logprobs`, where they were asked for: of every token, the
    natural logarithm of its probability under the model itself (temperature 1, nothing cut off or penalised).
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    logprobs: list[float] | None = None

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
        *,
        logprobs: bool = False,
    ) -> list[list[Completion]]:
        """`n` completions for each prompt (token ids, special tokens included), in the order of the prompts.

        A completion ends with an end token (of the policy's, or of `also_ends`), before the first of the stop strings
        (`stop` and `sampling.stop`; its tokens are the fewest that say all of the text before it), or at the cap:
        `max_new_tokens`, or what the model's positions leave if that is less. A prompt that leaves no room gets an
        empty completion that counts as cut off. The same arguments give the same completions. `logprobs`: whether
        completions carry theirs.
        """
        ...


@runtime_checkable
class KeepsReplies(Protocol):
    """An engine whose replies cost money or come from afar: it stores each at once, and asks for none twice."""

    def keep_replies_in(self, folder: Path) -> None:
        """Store replies in `folder`, and answer from those that are there."""
        ...


class EngineSettings(StrictModel):
    """What every engine's settings have.

    `computing` names the fields that say how an engine computes and not what: they change results by rounding at most,
    so they are in no key, and a stage gets them beside its configuration (`Runtime.engine`).
    """

    computing: ClassVar[frozenset[str]] = frozenset()

    name: str = Field(description="engine")
    shard_prompts: int = Field(256, ge=1, description="prompts per part committed to disk")
    dtype: str = Field("float32", pattern="^(float32|bfloat16|float16)$", description="weights in generation")

    def identity(self) -> dict[str, Any]:
        """The settings that are in keys."""
        return self.model_dump(exclude=set(self.computing))

    def how(self) -> dict[str, Any]:
        """The settings that are not, as JSON values."""
        return self.model_dump(mode="json", include=set(self.computing))

    def with_how(self, how: Mapping[str, Any]) -> Self:
        """These settings with those of `how()` put back."""
        return type(self).model_validate(self.model_dump() | dict(how))


@dataclass(frozen=True, kw_only=True)
class EngineDefinition(Definition):
    """A registered engine: its settings class, and how it is opened on a model folder and a device.

    `problems`: what keeps engines of these settings from work on this machine, as sentences, found in moments.
    `in_process`: whether it computes with the policy that the stage's process loads, which other engines spare it.
    `fixed_weights`: whether it samples from weights that somebody else loaded, which no training changes.
    """

    settings: type[EngineSettings]
    open: Callable[[Any, Path, str], Engine]
    problems: Callable[[Any], Sequence[str]] = lambda _: ()
    in_process: bool = True
    fixed_weights: bool = False


ENGINES: Registry[EngineDefinition] = Registry("engine", "aipo_lab.engines", "aipo_lab.generation")

EngineChoice = Annotated[
    SerializeAsAny[EngineSettings], BeforeValidator(chosen_settings(ENGINES, "name", "transformers"))
]
"""An `engine` section: the settings of the engine it names."""


def open_engine(settings: EngineSettings, folder: Path, device: str) -> Engine:
    """The engine that `settings` name, on the model in `folder`; raises `MissingDependency` without its package."""
    definition = ENGINES.get(settings.name)
    definition.check_installed(f"engine {settings.name}")
    return definition.open(settings, folder, device)
