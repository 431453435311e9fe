"""What a world is, and the registry of worlds. Importing a world's folder registers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

from pydantic import Field, field_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.core.registry import Definition, Registry


class World(Protocol):
    """What rankers, benchmarks and the instruct stage ask of a world. Everything is deterministic."""

    name: str

    def is_instruction(self, prompt: str) -> bool:
        """Whether `prompt` is an instruction whose answers this world can check."""
        ...

    def quality(self, prompt: str, response: str) -> float:
        """True quality of `response`; 1.0 is a perfect answer. `prompt` must be an instruction."""
        ...

    def pool(self, n: int | None = None) -> list[str]:
        """The first `n` distinct instructions of the prompt pool (all of them by default)."""
        ...

    def benchmark_prompts(self, n: int | None = None) -> list[str]:
        """The first `n` distinct held-out instructions; none of them is in the pool."""
        ...


@runtime_checkable
class WrittenWorld(Protocol):
    """A world whose instructions have been answered by writers other than the policy, as in a preference dataset."""

    def written_responses(self, prompt: str) -> list[str]:
        """At least two responses to `prompt`, of differing quality; always the same ones in the same order."""
        ...


@dataclass(frozen=True, kw_only=True)
class WorldDefinition(Definition):
    """A registered world: `make(seed)` draws its knowledge."""

    make: Callable[[int], World]


WORLDS: Registry[WorldDefinition] = Registry("world", "aipo_lab.worlds", "aipo_lab.worlds")


class WorldConfig(StrictModel):
    """Which world checks instructions and answers."""

    name: str = Field("micro", description="world: micro, constraints or a plug-in's")
    seed: int = Field(0, ge=0, description="seed the world's knowledge is drawn from")

    @field_validator("name")
    @classmethod
    def _registered(cls, name: str) -> str:
        WORLDS.get(name)
        return name


@lru_cache(maxsize=8)
def get_world(name: str, seed: int = 0) -> World:
    """The world called `name`; `seed` draws its knowledge where a world has any.

    Raises `UserError` for an unknown name.
    """
    return WORLDS.get(name).make(seed)
