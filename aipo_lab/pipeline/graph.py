"""Algorithm 1 of the paper as a graph: a recipe becomes the stages of every iteration, named by their keys.

Nothing runs here. Keys follow from configurations alone, so what two trials have in common is one node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aipo_lab.benchmarks.embedded import JUDGE_LENGTH_BIAS
from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.config import StrictModel
from aipo_lab.core.seeds import derive_seed
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.evaluation_graph import EvaluationGraph, JudgingPlace, make_node
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.ranking.ranker import RANKERS
from aipo_lab.stages.definition import Runtime, StageNode
from aipo_lab.stages.reference import ReferenceConfig


@dataclass(frozen=True)
class Iteration:
    """The nodes of one iteration t, by what they make; `answers` and `scores` by benchmark.

    `policy` is theta_t. The last entry of a trial has only the policy and its evaluation.
    """

    t: int
    policy: StageNode
    answers: Mapping[str, StageNode]
    scores: Mapping[str, StageNode]
    steps: Mapping[str, StageNode] = field(default_factory=dict)

    def nodes(self) -> list[StageNode]:
        """All nodes of the iteration, inputs before what needs them."""
        return [self.policy, *self.answers.values(), *self.scores.values(), *self.steps.values()]


@dataclass(frozen=True)
class TrialGraph:
    """Everything one trial needs: iterations 0 to T."""

    iterations: tuple[Iteration, ...]

    def nodes(self) -> dict[str, StageNode]:
        """Distinct nodes by reference, inputs before what needs them."""
        return {node.reference: node for iteration in self.iterations for node in iteration.nodes()}


class GraphBuilder:
    """Builds the graph of one recipe on a given base model; see `EvaluationGraph` for `place`."""

    def __init__(
        self,
        recipe: Recipe,
        base_model: BaseModel,
        runtime: Runtime,
        resources: BenchmarkResources,
        place: JudgingPlace | None = None,
    ) -> None:
        self.recipe = recipe
        self.base_model = base_model
        self.runtime = runtime
        self.official = EvaluationGraph(
            recipe.benchmarks, recipe.engine, recipe.seed, resources, runtime, place, recipe.model.chat()
        )

    def build(self) -> TrialGraph:
        """The trial's graph."""
        base = self._node("base", self.base_model.config(self.recipe), {}, self.base_model.runtime(self.runtime))
        iterations = []
        policy = base
        for t in range(self.recipe.iterations):
            steps = self._steps(t, policy)
            iterations.append(self._iteration(t, policy, base, steps))
            policy = steps["train"]
        iterations.append(self._iteration(self.recipe.iterations, policy, base, {}))
        return TrialGraph(tuple(iterations))

    def _iteration(self, t: int, policy: StageNode, base: StageNode, steps: Mapping[str, StageNode]) -> Iteration:
        """The evaluation of theta_t, and the steps that start from it."""
        answers, scores = {}, {}
        for name in self.recipe.benchmarks.embedded():
            answers[name] = self._answers(name, policy)
            scores[name] = self._score(name, answers[name], self._answers(name, base))
        for name, settings in self.recipe.benchmarks.official().items():
            if settings.evaluates(t, self.recipe.iterations):
                answers[name] = self.official.answers(name, policy)
                against_base = settings.baseline == "base_model"
                baseline = self.official.answers(name, base) if against_base else None
                scores[name] = self.official.scores(name, answers[name], baseline)
        return Iteration(t, policy, answers, scores, steps)

    def _steps(self, t: int, policy: StageNode) -> dict[str, StageNode]:
        """The stages that lead from theta_t to theta_{t+1}."""
        recipe = self.recipe
        world, engine = recipe.world.model_dump(), recipe.engine.model_dump()
        inputs = {"policy": policy}
        prompts = self._stage(
            "instruct",
            recipe.instruct,
            inputs,
            seed=self._seed(t, "instruct"),
            world=world,
            engine=engine,
            **self._pool(),
        )
        responses = self._stage(
            "respond",
            recipe.respond,
            inputs | {"prompts": prompts},
            seed=self._seed(t, "respond"),
            engine=engine,
            chat=recipe.model.chat().model_dump(),
        )
        known = {"world": world} if RANKERS.get(recipe.rank.ranker).needs_world else {}
        ranking = self._stage("rank", recipe.rank, {"responses": responses}, seed=self._seed(t, "rank"), **known)
        pairs = self._stage("pair", recipe.pair, {"ranking": ranking})
        made = {"instruct": prompts, "respond": responses, "rank": ranking, "pair": pairs}
        inputs |= {"pairs": pairs}
        objective = recipe.objective.at(t)
        if not recipe.objective.definition.reference_free:
            settings = ReferenceConfig.for_training(recipe.train, self._seed(t, "train"))
            made["reference"] = self._node("reference", settings.model_dump(exclude_none=True), inputs)
            inputs |= {"reference": made["reference"]}
        made["train"] = self._stage(
            "train", recipe.train, inputs, seed=self._seed(t, "train"), objective=objective.model_dump()
        )
        return made

    def _answers(self, name: str, policy: StageNode) -> StageNode:
        """Answers are sampled with the same seed at every iteration, so that iterations compare."""
        settings = self.recipe.benchmarks.embedded()[name]
        config = {
            "benchmark": name,
            "world": self.recipe.world.model_dump(),
            "n_prompts": settings.n_prompts,
            "sampling": settings.sampling.model_dump(),
            "seed": derive_seed(self.recipe.seed, "answer", name),
            "engine": self.recipe.engine.model_dump(),
            "chat": self.recipe.model.chat().model_dump(),
        }
        return self._node("answer", config, {"policy": policy})

    def _score(self, name: str, answers: StageNode, baseline: StageNode) -> StageNode:
        bias = self.recipe.benchmarks.judge_length_bias
        config = {
            "benchmark": name,
            "world": self.recipe.world.model_dump(),
            "length_bias": getattr(self.recipe.rank, "length_bias", JUDGE_LENGTH_BIAS) if bias is None else bias,
        }
        return self._node("judge", config, {"answers": answers, "baseline": baseline})

    def _pool(self) -> dict[str, Any]:
        """The prompt source, for the key of `instruct`; the world's own pool follows from the world."""
        prompts = self.recipe.prompts
        return {} if prompts.source == "world" else {"prompts": prompts.model_dump(mode="json")}

    def _seed(self, t: int, stage: str) -> int:
        return derive_seed(self.recipe.seed, t, stage)

    def _stage(self, stage: str, settings: StrictModel, inputs: Mapping[str, StageNode], **more: Any) -> StageNode:
        return self._node(stage, {**settings.model_dump(mode="json"), **more}, inputs)

    def _node(
        self,
        stage: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, StageNode],
        runtime: Runtime | None = None,
    ) -> StageNode:
        return make_node(stage, config, inputs, runtime or self.runtime)
