"""What a ranker is, and the registry of rankers. Importing a module of this folder registers its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, Self, runtime_checkable

from pydantic import BeforeValidator, Field, SerializeAsAny

from aipo_lab.core.choice import chosen_settings
from aipo_lab.core.config import StrictModel
from aipo_lab.core.progress import Progress
from aipo_lab.core.registry import Definition, Registry
from aipo_lab.judging.calls import Judge
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.models.template import ChatSettings
from aipo_lab.worlds.world import World

if TYPE_CHECKING:
    from aipo_lab.generation.engine import Engine
    from aipo_lab.ranking.reward_training import RewardTrainingSettings


class Ranker(Protocol):
    """Scores the candidates of prompts; higher is better. Scores of one row do not depend on other rows."""

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[Sequence[float | None]]:
        """For each row of `responses.jsonl`, in order, one score per response.

        None for a response that no score could be had for: it is left out of the ranking and counted.
        """
        ...


@runtime_checkable
class RecordingRanker(Protocol):
    """A ranker that has more to keep of a row than its scores: what a judge said, say, and pairs that follow from it.

    Records are committed with the scores, so that a killed stage asks for none of them again.
    """

    def record(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is kept of a row that the latest call of `scores` scored, as JSON values."""
        ...

    def conclude(self, records: Sequence[Mapping[str, Any]]) -> Conclusion:
        """What the records of all rows of a stage, in their order, come to."""
        ...


@dataclass(frozen=True)
class Conclusion:
    """Numbers for the stage's summary, and preference pairs about judging in the format of `pairs.jsonl`."""

    summary: Mapping[str, Any]
    judge_pairs: Sequence[Mapping[str, Any]] = ()


@runtime_checkable
class SummarisingRanker(Protocol):
    """A ranker that has something to say of its work in the stage's summary."""

    def summary(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Mapping[str, Any]:
        """Numbers about all rows of a stage, which have their `scores`; the same whether or not it was interrupted."""
        ...


class JudgeQuestions(NamedTuple):
    """Questions of one kind about a prompt: how many, what each shows besides the prompt, and the longest reply.

    `chars`: of the question's own words. `tokens`: of other texts than candidates.
    """

    n: int
    chars: int
    candidates: int
    tokens: int
    most_reply_tokens: int


class RankerSettings(StrictModel):
    """What every ranker's settings have: its registered name."""

    ranker: str = Field(description="ranker")

    def at(self, iteration: int) -> Self:  # noqa: ARG002
        """The settings at iteration t = 0, 1, …"""
        return self

    def key_values(self) -> dict[str, Any]:
        """The settings as they stand in the key of `rank`, before what `RankerResources.identity` puts in place."""
        return self.model_dump(mode="json")

    def asks_policy(self) -> bool:
        """Whether the ranker asks theta_t."""
        return False

    def asked_judge(self) -> JudgeSettings | None:
        """The judge that the ranker asks, if it asks one besides theta_t."""
        return None

    def questions(self, n_candidates: int) -> Sequence[JudgeQuestions]:  # noqa: ARG002
        """What a prompt with so many candidates asks of theta_t or the judge, at most; nothing if neither is asked."""
        return ()

    def training(self) -> RewardTrainingSettings | None:
        """How the ranker's model is trained first, if it is."""
        return None


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
class AskedPolicy:
    """theta_t as a ranker may ask it: its engine, its tokenizer and limits, and how it is spoken to.

    `also_ends`: see `Engine.generate`. `policy` has no weights where the engine has them elsewhere.
    """

    policy: Any
    engine: Engine
    chat: ChatSettings
    also_ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class RankerContext:
    """What a ranker may use: the world (None unless its definition `needs_world`), its seed, its device, its folders.

    `folders` are those of its `RankerResources`; the model that was trained for it is in `model`. `policy` and `judge`
    open what its settings say it asks.
    """

    world: World | None
    seed: int
    device: str
    folders: Mapping[str, str] = field(default_factory=dict)
    policy: Callable[[], AskedPolicy] | None = None
    judge: Callable[[], Judge] | None = None


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
