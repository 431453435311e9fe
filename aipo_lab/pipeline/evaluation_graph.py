"""The stages that evaluate a model on the official benchmarks: answers and scores, shared by trials and `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.catalogue import needs_judge, official_entry
from aipo_lab.benchmarks.config import BenchmarksConfig
from aipo_lab.benchmarks.official import OfficialBenchmarkSettings
from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.seeds import derive_seed
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.generation.engine import EngineSettings
from aipo_lab.models.chat import MODEL_TEMPLATE
from aipo_lab.models.template import ChatSettings
from aipo_lab.pipeline.plugins import used_plugins
from aipo_lab.stages.definition import JudgingRuntime, Runtime, StageNode, get_stage

SAMPLING_KEYS = ("temperature", "top_p", "top_k", "max_new_tokens")


@dataclass(frozen=True)
class JudgingPlace:
    """Where judges keep their replies, and the file of the money a command spends."""

    calls: Path
    ledger: Path


@dataclass(frozen=True)
class EvaluationGraph:
    """Makes the nodes of official benchmarks. Without a `place` they can be looked up, but not run.

    `own_prompts`: the stage that kept prompts of the recipe's data back, for the benchmark that asks them.
    """

    benchmarks: BenchmarksConfig
    engine: EngineSettings
    seed: int
    resources: BenchmarkResources
    runtime: Runtime
    place: JudgingPlace | None = None
    chat: ChatSettings = MODEL_TEMPLATE
    own_prompts: StageNode | None = None

    def answers(self, name: str, policy: StageNode) -> StageNode:
        """The policy's answers, sampled with the same seed at every iteration so that iterations compare."""
        settings = self.benchmarks.official()[name]
        config = {
            **self._questions(name, settings),
            **settings.model_dump(include=set(SAMPLING_KEYS)),
            "seed": derive_seed(self.seed, "answer", name),
            "engine": self.engine.identity(),
            "chat": self.chat.model_dump(),
        }
        runtime = self.runtime.model_copy(update={"engine": self.engine.how()})
        return make_node("answer_official", config, {"policy": policy} | self._asked(name), runtime)

    def given(self, name: str, file: Path, sha256: str) -> StageNode:
        """The answers of an official answer file."""
        config = self._questions(name, self.benchmarks.official()[name]) | {"sha256": sha256}
        return make_node("given_answers", config, {}, self.runtime.model_copy(update={"answer_file": str(file)}))

    def scores(self, name: str, answers: StageNode, base_answers: StageNode | None) -> StageNode:
        """The judge's scores, against `base_answers` where the settings say so, else the official baseline."""
        settings = self.benchmarks.official()[name]
        judge = self.benchmarks.judge if needs_judge(name) else None
        config = {
            **self._questions(name, settings),
            "judge": {} if judge is None else self.resources.identity(judge),
            "unjudged_share": self.benchmarks.unjudged_share,
        }
        inputs = {"answers": answers} | self._asked(name)
        if settings.baseline == "base_model":
            assert base_answers is not None
            inputs["baseline"] = base_answers
        runtime = self.runtime
        if self.place is not None and judge is not None:
            judging = JudgingRuntime(settings=judge, calls=str(self.place.calls), ledger=str(self.place.ledger))
            runtime = runtime.model_copy(update={"judging": judging})
        return make_node("judge_official", config, inputs, runtime)

    def _asked(self, name: str) -> dict[str, StageNode]:
        """The input that holds the questions, where they are no data file of the benchmark's."""
        if not official_entry(name).asks_own_prompts:
            return {}
        assert self.own_prompts is not None, "a recipe that asks its own prompts keeps some back"
        return {"questions": self.own_prompts}

    def _questions(self, name: str, settings: OfficialBenchmarkSettings) -> dict[str, Any]:
        return {"benchmark": name, "limit": settings.limit, "files": self.resources.files[name]}


def check_judges(nodes: Iterable[StageNode], store: Store) -> None:
    """Raise `UserError`, before anything is computed, if a judge left to be asked has no key, address or price."""
    judging = {
        node.runtime.judging.settings.model_dump_json(): node.runtime
        for node in nodes
        if node.runtime.judging is not None and not store.contains(node.stage, node.key)
    }
    for runtime in judging.values():
        assert runtime.judging is not None
        runtime.judging.open(runtime.device)


def make_node(stage: str, config: Mapping[str, Any], inputs: Mapping[str, StageNode], runtime: Runtime) -> StageNode:
    """A node of the present version of a stage."""
    references = {name: node.reference for name, node in inputs.items()}
    request = ArtifactRequest(stage, get_stage(stage).version, config, references, used_plugins(config))
    return StageNode(request, runtime)
