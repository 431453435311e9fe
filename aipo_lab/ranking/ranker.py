"""What a ranker is, and the registry of rankers. Importing a module of this folder registers its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, Field, SerializeAsAny

from aipo_lab.core.choice import chosen_settings
from aipo_lab.core.config import StrictModel
from aipo_lab.core.progress import Progress
from aipo_lab.core.registry import Definition, Registry
from aipo_lab.worlds.world import World


class Ranker(Protocol):
    """Scores the candidates of prompts; higher is better. Scores of one row do not depend on other rows."""

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """For each row of `responses.jsonl`, in order, one score per response."""
        ...


class RankerSettings(StrictModel):
    """What every ranker's settings have: its registered name."""

    ranker: str = Field(description="ranker")


@dataclass(frozen=True)
class RankerContext:
    """What a ranker may use: the world (None unless its definition `needs_world`), its seed and its device."""

    world: World | None
    seed: int
    device: str


@dataclass(frozen=True, kw_only=True)
class RankerDefinition(Definition):
    """A registered ranker: its settings class, how it is opened, and whether its scores depend on the world."""

    settings: type[RankerSettings]
    open: Callable[[Any, RankerContext], Ranker]
    needs_world: bool = False


RANKERS: Registry[RankerDefinition] = Registry(
    "ranker",
    "aipo_lab.rankers",
    "aipo_lab.ranking",
    awaited={
        "pairrm": "PairRM is not part of this version; install a plug-in that brings it (docs/extending.md), update "
        "aipo-lab when it has it, or take another ranker: --set rank.ranker=NAME (aipo-lab plugins lists them)"
    },
)


def needs_world(name: str) -> bool:
    """Whether a ranker's scores depend on the world; no, for one that is only awaited."""
    return RANKERS.awaited(name) is None and RANKERS.get(name).needs_world


RankerChoice = Annotated[
    SerializeAsAny[RankerSettings], BeforeValidator(chosen_settings(RANKERS, "ranker", "proxy", RankerSettings))
]
"""A recipe's `rank` section: the settings of the ranker it names."""
