"""What a ranker is, and the registry of rankers. Importing a module of this folder registers its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, runtime_checkable

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


@runtime_checkable
class SummarisingRanker(Protocol):
    """A ranker that has something to say of its work in the stage's summary."""

    def summary(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Mapping[str, Any]:
        """Numbers about all rows of a stage, which have their `scores`; the same whether or not it was interrupted."""
        ...


class RankerSettings(StrictModel):
    """What every ranker's settings have: its registered name."""

    ranker: str = Field(description="ranker")


@dataclass(frozen=True)
class RankerResources:
    """What a ranker stands on beyond its settings, found before anything runs.

    `identity`: what it is, by the name of the setting that says where; it stands in keys instead of that setting.
    `folders`: where it lies on this machine, by a name of the ranker's own; in no key.
    """

    identity: Mapping[str, Any] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


def no_resources(settings: RankerSettings) -> RankerResources:  # noqa: ARG001
    """The resources of a ranker that its settings say all about."""
    return RankerResources()


@dataclass(frozen=True)
class RankerContext:
    """What a ranker may use: the world (None unless its definition `needs_world`), its seed, its device, its folders.

    `folders` are those of its `RankerResources`.
    """

    world: World | None
    seed: int
    device: str
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RankerDefinition(Definition):
    """A registered ranker: its settings class, how it is opened, and whether its scores depend on the world.

    `resources` finds and checks what its settings only point to, such as a model; it raises `UserError` naming every
    problem.
    """

    settings: type[RankerSettings]
    open: Callable[[Any, RankerContext], Ranker]
    needs_world: bool = False
    resources: Callable[[Any], RankerResources] = no_resources


RANKERS: Registry[RankerDefinition] = Registry("ranker", "aipo_lab.rankers", "aipo_lab.ranking")


RankerChoice = Annotated[SerializeAsAny[RankerSettings], BeforeValidator(chosen_settings(RANKERS, "ranker", "proxy"))]
"""A recipe's `rank` section: the settings of the ranker it names."""
