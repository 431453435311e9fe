"""Worlds in which true quality is known: instructions a program can write, and answers it can check."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Literal, Protocol

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import UserError

WORLD_NAMES = ("micro", "constraints")


class WorldConfig(StrictModel):
    """Which world checks instructions and answers."""

    name: Literal["micro", "constraints"] = Field("micro", description="world: micro or constraints")
    seed: int = Field(0, ge=0, description="seed the world's knowledge is drawn from")


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


@lru_cache(maxsize=8)
def get_world(name: str, seed: int = 0) -> World:
    """The world called `name`; `seed` draws its knowledge where a world has any.

    Raises `UserError` for an unknown name.
    """
    if name not in WORLD_NAMES:
        raise UserError(f"unknown world {name!r}; choose one of {', '.join(WORLD_NAMES)}")
    world: World = importlib.import_module(f"aipo_lab.worlds.{name}").make_world(seed)
    return world
