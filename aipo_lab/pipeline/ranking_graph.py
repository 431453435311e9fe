"""The stages that rank an iteration's responses, with what the ranker needs first: labels and a reward model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aipo_lab.core.seeds import derive_seed
from aipo_lab.pipeline.evaluation_graph import JudgingPlace
from aipo_lab.ranking.ranker import RANKERS, RankerResources, RankerSettings
from aipo_lab.ranking.reward_model import RewardModelSettings
from aipo_lab.stages.definition import JudgingRuntime, StageNode

if TYPE_CHECKING:
    from aipo_lab.pipeline.recipe import Recipe

MakeNode = Callable[[str, Mapping[str, Any], Mapping[str, StageNode]], StageNode]


class RankingGraph:
    """Makes the nodes of one trial, iteration after iteration. Without a `place` a judge cannot be asked.

    `asking`: what a ranker that asks the policy has in its key: the engine, and how the policy is spoken to.
    """

    def __init__(
        self,
        recipe: Recipe,
        resources: RankerResources,
        base: StageNode,
        asking: Mapping[str, Any],
        make: MakeNode,
        place: JudgingPlace | None,
    ) -> None:
        self.recipe = recipe
        self.resources = resources
        self.base = base
        self.asking = asking
        self.make = make
        self.place = place
        self._reward: StageNode | None = None

    def steps(self, t: int, policy: StageNode, responses: StageNode) -> dict[str, StageNode]:
        """The nodes of iteration t by what they make, the ranking last; `policy` is theta_t."""
        settings = self.recipe.rank.at(t)
        made: dict[str, StageNode] = {}
        inputs = {"responses": responses}
        config = settings.key_values()
        if settings.training() is None:
            config |= dict(self.resources.identity)
        else:
            made |= self._trained(t, responses)
            assert self._reward is not None
            inputs["reward"] = self._reward
        if settings.asks_policy():
            inputs["policy"] = policy
            config |= dict(self.asking)
        made["rank"] = self._placed(self._ranked(t, "rank", settings, config, inputs))
        return made

    def _trained(self, t: int, responses: StageNode) -> dict[str, StageNode]:
        """What is new in iteration t of the reward model that ranks: its labels and its training."""
        rank = self.recipe.rank
        assert isinstance(rank, RewardModelSettings) and rank.train is not None
        if self._reward is not None and rank.train.pairs != "current":
            return {}
        made: dict[str, StageNode] = {}
        inputs = {"policy": self.base}
        config = {
            **rank.train.trainer_values(),
            **self.resources.identity,
            "seed": derive_seed(self.recipe.seed, t, "train_reward"),
            "max_tokens": rank.max_tokens,
            "chat": rank.chat().model_dump(),
        }
        if rank.train.pairs != "file":
            labels = rank.train.labels
            made["label"] = self._ranked(t, "label", labels, labels.key_values(), {"responses": responses})
            inputs["ranking"] = made["label"]
        self._reward = made["train_reward"] = self._placed(self.make("train_reward", config, inputs))
        return made

    def _ranked(
        self, t: int, purpose: str, settings: RankerSettings, config: Mapping[str, Any], inputs: Mapping[str, StageNode]
    ) -> StageNode:
        world = self.recipe.world
        known = {"world": world.model_dump()} if world and RANKERS.get(settings.ranker).needs_world else {}
        return self.make("rank", {**config, **known, "seed": derive_seed(self.recipe.seed, t, purpose)}, inputs)

    def _placed(self, node: StageNode) -> StageNode:
        """The node, told where what it reads lies, and how its judge is asked."""
        changes: dict[str, Any] = {}
        if self.resources.folders:
            changes["ranker_folders"] = dict(self.resources.folders)
        judge = self.recipe.rank.asked_judge()
        if judge is not None and self.place is not None:
            calls, ledger = str(self.place.calls), str(self.place.ledger)
            changes["judging"] = JudgingRuntime(settings=judge, calls=calls, ledger=ledger)
        return replace(node, runtime=node.runtime.model_copy(update=changes)) if changes else node
