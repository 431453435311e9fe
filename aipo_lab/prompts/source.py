"""What a prompt source is, and the registry of prompt sources. Importing a module of this folder registers its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, Field, SerializeAsAny

from aipo_lab.core.choice import chosen_settings
from aipo_lab.core.config import StrictModel
from aipo_lab.core.registry import Definition, Registry
from aipo_lab.prompts.reading import DataRequest


class PromptSource(Protocol):
    """Gives the pool X^pool that every iteration draws from (paper, Algorithm 1)."""

    def pool(self) -> Sequence[str]:
        """Distinct prompts, always the same ones in the same order; at least one."""
        ...


class PromptSettings(StrictModel):
    """What every prompt source's settings have: its registered name."""

    source: str = Field(description="prompt source")


@dataclass(frozen=True, kw_only=True)
class PromptSourceDefinition(Definition):
    """A registered prompt source: its settings class, and how it is opened with them in the recipe's world.

    Without a world in the recipe, `open` is given None. `data`: for a source that reads data, what it reads; their
    content is then in store keys and the settings that say where they lie (`DataPlace`) are not.
    """

    settings: type[PromptSettings]
    open: Callable[[Any, Any], PromptSource]
    data: Callable[[Any], DataRequest] | None = None


PROMPTS: Registry[PromptSourceDefinition] = Registry("prompt source", "aipo_lab.prompts", "aipo_lab.prompts")

PromptChoice = Annotated[SerializeAsAny[PromptSettings], BeforeValidator(chosen_settings(PROMPTS, "source", "world"))]
"""A recipe's `prompts` section: the settings of the source it names."""
