"""Algorithm 1 of the paper as a graph: a recipe becomes the stages of every iteration, named by their keys.

Nothing runs here. Keys follow from configurations alone, so what two trials have in common is one node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.seeds import derive_seed
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.data import data_node
from aipo_lab.pipeline.evaluation_graph import EvaluationGraph, JudgingPlace, make_node
from aipo_lab.pipeline.iteration_axes import IterationAxes
from aipo_lab.pipeline.ranking_graph import RankingGraph
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.prompts.reading import FoundData
from aipo_lab.ranking.ranker import RankerResources
from aipo_lab.stages.definition import Runtime, StageNode
from aipo_lab.stages.reference import ReferenceConfig

NO_RESOURCES = RankerResources()


@dataclass(frozen=True)
class Iteration:
    """The nodes of one iteration t, by what they make; `answers` and `scores` by benchmark.

    `policy` is theta_t; `data` the stage that read the user's own, if there is one. The last entry of a trial has only
    the policy and its evaluation.
    """

    t: int
    policy: StageNode
    answers: Mapping[str, StageNode]
    scores: Mapping[str, StageNode]
    steps: Mapping[str, StageNode] = field(default_factory=dict)
    data: StageNode | None = None

    def nodes(self) -> list[StageNode]:
        """All nodes of the iteration, inputs before what needs them."""
        data = [] if self.data is None else [self.data]
        return [*data, self.policy, *self.answers.values(), *self.scores.values(), *self.steps.values()]


@dataclass(frozen=True)
class TrialGraph:
    """Everything one trial needs: iterations 0 to T; by benchmark, the base model's second answers and their scores."""

    iterations: tuple[Iteration, ...]
    again: Mapping[str, tuple[StageNode, StageNode]] = field(default_factory=dict)

    def nodes(self) -> Mapping[str, StageNode]:
        """Distinct nodes by reference, inputs before what needs them."""
        return self._nodes

    @cached_property
    def _nodes(self) -> dict[str, StageNode]:
        nodes = [node for iteration in self.iterations for node in iteration.nodes()]
        nodes += [node for pair in self.again.values() for node in pair]
        return {node.reference: node for node in nodes}


class GraphBuilder:
    """Builds the graph of one recipe on a given base model; see `EvaluationGraph` for `place`.

    `ranker` is what the recipe's ranker stands on (see `RankerDefinition.resources`).

    What no iteration changes is dumped once, here: a sweep of 1,000 trials x 20 iterations has 160,000 nodes.
    """

    def __init__(
        self,
        recipe: Recipe,
        base_model: BaseModel,
        runtime: Runtime,
        resources: BenchmarkResources,
        place: JudgingPlace | None = None,
        data: Mapping[str, FoundData] = MappingProxyType({}),
        ranker: RankerResources = NO_RESOURCES,
    ) -> None:
        self.recipe = recipe
        self.ranker = ranker
        self.base_model = base_model
        self.runtime = base_model.runtime(runtime).model_copy(update={"engine": recipe.engine.how()})
        self.data = data_node(recipe, data, resources, self.runtime)
        chat = recipe.model.chat()
        self.official = EvaluationGraph(
            recipe.benchmarks, recipe.engine, recipe.seed, resources, self.runtime, place, chat, self.data
        )
        self.world = recipe.world.model_dump() if recipe.world else None
        self.engine, self.chat = recipe.engine.identity(), chat.model_dump()
        in_world = {} if self.world is None else {"world": self.world}
        instruct = in_world | {"engine": self.engine} | self._pool()
        self.settings = {
            "instruct": recipe.instruct.model_dump(mode="json") | instruct,
            "respond": recipe.respond.model_dump(mode="json") | {"engine": self.engine, "chat": self.chat},
            "pair": recipe.pair.key_values(),
            "train": recipe.train.key_values(),
        }
        self.base = self._node("base", base_model.config(recipe), {})
        asking = {"engine": self.engine, "chat": self.chat}
        self.ranking = RankingGraph(recipe, ranker, self.base, asking, self._node, place)
        self.embedded = recipe.benchmarks.embedded()
        self.answer_configs = {name: self._answer_config(name) for name in self.embedded}
        self.score_configs = {name: self._score_config(name) for name in self.embedded}

    def build(self) -> TrialGraph:
        """The trial's graph."""
        base = policy = self.base
        iterations = []
        axes = IterationAxes(self.recipe, base, self._node)
        for t in range(self.recipe.iterations):
            steps = self._steps(t, policy, axes)
            iterations.append(self._iteration(t, policy, base, steps))
            policy = steps["train"]
        iterations.append(self._iteration(self.recipe.iterations, policy, base, {}))
        return TrialGraph(tuple(iterations), {name: self._again(name) for name in self._with_floor()})

    def _with_floor(self) -> list[str]:
        return [name for name, settings in self.embedded.items() if settings.noise_floor]

    def _again(self, name: str) -> tuple[StageNode, StageNode]:
        """The base model's answers with another seed, and their scores against its first ones."""
        config = self.answer_configs[name] | {"seed": derive_seed(self.recipe.seed, "answer again", name)}
        answers = self._node("answer", config, {"policy": self.base})
        inputs = {"answers": answers, "baseline": self._answers(name, self.base)}
        return answers, self._node("judge", self.score_configs[name], inputs)

    def _iteration(self, t: int, policy: StageNode, base: StageNode, steps: Mapping[str, StageNode]) -> Iteration:
        """The evaluation of theta_t, and the steps that start from it."""
        answers, scores = {}, {}
        for name in self.embedded:
            answers[name] = self._answers(name, policy)
            of_base = answers[name] if policy is base else self._answers(name, base)
            scores[name] = self._node(
                "judge", self.score_configs[name], {"answers": answers[name], "baseline": of_base}
            )
        for name, settings in self.recipe.benchmarks.official().items():
            if settings.evaluates(t, self.recipe.iterations):
                answers[name] = self.official.answers(name, policy)
                against_base = settings.baseline == "base_model"
                baseline = self.official.answers(name, base) if against_base else None
                scores[name] = self.official.scores(name, answers[name], baseline)
        return Iteration(t, policy, answers, scores, steps, self.data)

    def _steps(self, t: int, policy: StageNode, axes: IterationAxes) -> dict[str, StageNode]:
        """The stages that lead from theta_t to theta_{t+1}."""
        recipe = self.recipe
        made = self._generated(t, policy) if recipe.pairs is None else self._given(t, policy)
        data = axes.data(made["pair"])
        inputs = {"policy": axes.start(policy), "pairs": data}
        if data.stage == "accumulate":
            made["accumulate"] = data
        if not recipe.objective.definition.reference_free:
            settings = ReferenceConfig.for_training(recipe.train, derive_seed(recipe.seed, t, "train"))
            measured = axes.reference(t, policy)
            if measured.stage == "ema":
                made["ema"] = measured
            tails = {"tails": True} if recipe.objective.definition.needs_tails else {}
            reference_inputs = {"policy": measured, "pairs": data}
            made["reference"] = self._node(
                "reference", settings.model_dump(exclude_none=True) | tails, reference_inputs
            )
            inputs |= {"reference": made["reference"]}
        if recipe.analysis is not None:
            made |= self._analysed(t, policy, made)
        made["train"] = self._seeded("train", t, inputs, objective=recipe.objective.at(t).model_dump(exclude_none=True))
        return made

    def _analysed(self, t: int, policy: StageNode, made: Mapping[str, StageNode]) -> dict[str, StageNode]:
        """The analysis of theta_t's own pairs under theta_t; the training's reference is used where it is just that."""
        analysis, inputs = self.recipe.analysis, {"policy": policy, "pairs": made["pair"]}
        assert analysis is not None
        known, measured = made.get("reference"), {}
        if known is None or known.request.inputs != {name: node.reference for name, node in inputs.items()}:
            settings = ReferenceConfig.for_training(self.recipe.train, derive_seed(self.recipe.seed, t, "train"))
            known = self._node("reference", settings.model_dump(exclude_none=True), inputs)
            measured = {"pair_logps": known}
        about = {"pairs": made["pair"], "reference": known}
        return {**measured, "analyse": self._node("analyse", analysis.key_values(), about)}

    def _pairs(self, t: int, ranking: StageNode, policy: Mapping[str, StageNode]) -> StageNode:
        """The pairs; a seed and the policy (for its tokenizer) are in their key only where they have a part."""
        pair = self.recipe.pair
        inputs = {"ranking": ranking} | (dict(policy) if pair.filters.needs_tokenizer else {})
        if pair.select.is_random:
            return self._seeded("pair", t, inputs)
        return self._node("pair", self.settings["pair"], inputs)

    def _generated(self, t: int, policy: StageNode) -> dict[str, StageNode]:
        """The stages that make pairs with theta_t."""
        inputs = {"policy": policy}
        pool = {} if self.data is None else {"pool": self.data}
        sliced = self.recipe.instruct.draw == "slices"
        drawn_from = {"part": t, "parts": self.recipe.iterations} if sliced else {}
        prompts = self._seeded("instruct", t, inputs | pool, **drawn_from)
        responses = self._seeded("respond", t, inputs | {"prompts": prompts})
        return {"instruct": prompts, "respond": responses, **self._ranked(t, responses, policy)}

    def _ranked(self, t: int, responses: StageNode, policy: StageNode) -> dict[str, StageNode]:
        """The stages that make pairs of responses."""
        ranking = self.ranking.steps(t, policy, responses)
        return {**ranking, "pair": self._pairs(t, ranking["rank"], {"policy": policy})}

    def _given(self, t: int, policy: StageNode) -> dict[str, StageNode]:
        """The stages that take the pairs of iteration t from given ones, or make them of given responses."""
        pairs = self.recipe.pairs
        assert pairs is not None and self.data is not None
        all_of_them = pairs.slices == "all"
        config = {
            "slices": pairs.slices,
            "part": 0 if all_of_them else t,
            "parts": 1 if all_of_them else self.recipe.iterations,
            "text": pairs.text,
            "chat": self.chat,
        }
        inputs = {"pairs": self.data, "policy": self.base}
        if pairs.ranked_by == "data":
            return {"pair": self._node("slice_pairs", config, inputs)}
        responses = self._node("slice_responses", config, inputs)
        return {"slice_responses": responses, **self._ranked(t, responses, policy)}

    def _answer_config(self, name: str) -> dict[str, Any]:
        """Answers are sampled with the same seed at every iteration, so that iterations compare."""
        settings = self.embedded[name]
        return {
            "benchmark": name,
            "world": self.world,
            "n_prompts": settings.n_prompts,
            "sampling": settings.sampling.model_dump(),
            "seed": derive_seed(self.recipe.seed, "answer", name),
            "engine": self.engine,
            "chat": self.chat,
        }

    def _score_config(self, name: str) -> dict[str, Any]:
        return {
            "benchmark": name,
            "world": self.world,
            "length_bias": self.recipe.benchmarks.judge_length_bias,
        }

    def _pool(self) -> dict[str, Any]:
        """The prompt source, for the key of `instruct`; nothing where the pool follows from the world or an input."""
        prompts = self.recipe.prompts
        return (
            {} if prompts.source == "world" or self.data is not None else {"prompts": prompts.model_dump(mode="json")}
        )

    def _answers(self, name: str, policy: StageNode) -> StageNode:
        return self._node("answer", self.answer_configs[name], {"policy": policy})

    def _seeded(self, stage: str, t: int, inputs: Mapping[str, StageNode], **more: Any) -> StageNode:
        """A stage whose random numbers depend on the iteration."""
        config = self.settings[stage] | {"seed": derive_seed(self.recipe.seed, t, stage)} | more
        return self._node(stage, config, inputs)

    def _node(self, stage: str, config: Mapping[str, Any], inputs: Mapping[str, StageNode]) -> StageNode:
        return make_node(stage, config, inputs, self.runtime)
