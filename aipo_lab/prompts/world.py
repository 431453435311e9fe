"""Prompt source `world`: the pool of the recipe's world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from aipo_lab.prompts.source import PROMPTS, PromptSettings, PromptSourceDefinition
from aipo_lab.worlds.world import World


class WorldPromptSettings(PromptSettings):
    """The world's pool has no settings of its own."""

    source: Literal["world"] = Field("world", description="prompts of the recipe's world")


class WorldPrompts:
    """The pool of a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def pool(self) -> Sequence[str]:
        """See `PromptSource.pool`."""
        return self._world.pool()


PROMPTS.add("world", PromptSourceDefinition(settings=WorldPromptSettings, open=lambda _, world: WorldPrompts(world)))
