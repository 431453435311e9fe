"""One model, or a folder of its answers, on the official benchmarks: the settings and stages of `aipo-lab evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.catalogue import embedded_names, official_entry, portable_names
from aipo_lab.benchmarks.config import BenchmarksConfig
from aipo_lab.benchmarks.official import file_name
from aipo_lab.benchmarks.resources import find_resources
from aipo_lab.core.config import StrictModel, suggest, validate
from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.origins import Origins
from aipo_lab.core.overrides import apply_overrides, parse_overrides
from aipo_lab.generation.engine import EngineChoice
from aipo_lab.generation.transformers_engine import TransformersEngineSettings
from aipo_lab.models.template import DEFAULT_DATE, ChatSettings, TemplateDate, TemplateText, check_has_template
from aipo_lab.pipeline.base_model import find_base_model
from aipo_lab.pipeline.evaluation_graph import EvaluationGraph, JudgingPlace, make_node
from aipo_lab.pipeline.recipe import ComputeConfig
from aipo_lab.stages.definition import Runtime, StageNode
from aipo_lab.sweeps.plan import runtime_of

MANIFEST = "evaluation.json"
"""In the output folder: from which artifacts its files are."""


class EvaluationConfig(StrictModel):
    """All settings of an evaluation."""

    model: str = Field(description="a model folder, an asset's name, a hub id, or a folder of official answer files")
    seed: int = Field(0, ge=0, description="seed of sampling answers")
    engine: EngineChoice = Field(
        default_factory=lambda: TransformersEngineSettings(batch_size=32, shard_prompts=32),
        description="what generates text",
    )
    chat_template: TemplateText = Field(
        None, description="chatml, plain, or a Jinja file, used instead of the model's own chat template"
    )
    template_date: TemplateDate = Field(DEFAULT_DATE, description="the day chat templates are told it is, YYYY-MM-DD")
    benchmarks: BenchmarksConfig = Field(description="the official benchmarks and the judge")
    compute: ComputeConfig = Field(
        default_factory=lambda: ComputeConfig(workers=1, threads="all"), description="use of the machine"
    )

    def chat(self) -> ChatSettings:
        """How conversations with the model are rendered."""
        return ChatSettings(template=self.chat_template, date=self.template_date)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation ready to run: the nodes of answers and scores by benchmark, and what they are made from.

    `model`: its name, or that of the folder of answers. The name is in no stage's key: it is put into the official
    files as they are written into the output folder.
    """

    model: str
    answers: Mapping[str, StageNode]
    scores: Mapping[str, StageNode]
    others: Sequence[StageNode] = field(default_factory=list)

    def nodes(self) -> list[StageNode]:
        """All nodes, inputs before what needs them."""
        return [*self.others, *self.answers.values(), *self.scores.values()]


def plan_evaluation(config: EvaluationConfig, place: JudgingPlace) -> Evaluation:
    """The nodes of an evaluation.

    Raises `UserError`, before anything runs, for missing data files, judges and models, and for a folder that lacks
    answers.
    """
    files = answer_files(Path(config.model), list(config.benchmarks.official()))
    resources = find_resources([config.benchmarks])
    runtime = runtime_of(config.compute)
    graph = EvaluationGraph(config.benchmarks, config.engine, config.seed, resources, runtime, place, config.chat())
    if files is None:
        return _of_model(config, graph, runtime)
    answers = {name: graph.given(name, file, sha256_of(file)) for name, file in files.items()}
    scores = {name: graph.scores(name, node, None) for name, node in answers.items()}
    return Evaluation(Path(config.model).resolve().name, answers, scores)


def _of_model(config: EvaluationConfig, graph: EvaluationGraph, runtime: Runtime) -> Evaluation:
    base_model = find_base_model(config.model)
    if base_model.folder is None:
        raise UserError("the micro world's model is trained by a sweep and speaks only its language; give a folder")
    check_has_template(base_model.folder, config.chat(), "chat_template")
    runtime = base_model.runtime(runtime)
    graph = replace(graph, runtime=runtime)
    base = make_node("base", {"micro": None, "fingerprint": base_model.fingerprint}, {}, runtime)
    path = Path(config.model)
    model = file_name(path.resolve().name if path.exists() else config.model)
    names = config.benchmarks.official()
    answers = {name: graph.answers(name, base) for name in names}
    scores = {name: graph.scores(name, node, node) for name, node in answers.items()}
    return Evaluation(model, answers, scores, [base])


def answer_files(folder: Path, benchmarks: Sequence[str]) -> dict[str, Path] | None:
    """The official answer files in a folder, by benchmark; None if it is not a folder of answers.

    They lie in `<folder>/<benchmark>/`, as `evaluate` writes them, or for a single benchmark in the folder itself.
    Raises one `UserError` for all benchmarks without exactly one.
    """
    if not folder.is_dir() or (folder / "config.json").is_file():
        return None
    found, problems = {}, []
    for name in benchmarks:
        pattern = official_entry(name).answer_file
        places = [f"{name}/{pattern}", pattern] if len(benchmarks) == 1 else [f"{name}/{pattern}"]
        files = next((files for place in places if (files := sorted(folder.glob(place)))), [])
        if len(files) == 1:
            found[name] = files[0]
        else:
            seen = f"{len(files)} files" if files else "no file"
            problems.append(f"{name}: {seen} at {folder / places[0]}, where its answers should be")
    if problems:
        raise UserError.from_problems(
            f"{folder} is neither a model folder (no config.json) nor a folder of answers to these benchmarks:",
            problems,
        )
    return found


def evaluation_config(
    model: str, benchmarks: Sequence[str], limit: int | None, judge: str | None, overrides: Sequence[str]
) -> EvaluationConfig:
    """The settings of a command; `overrides` are texts KEY=VALUE over them.

    Raises `UserError` for an unknown benchmark, and one for everything else that is not valid.
    """
    unknown = [name for name in benchmarks if name not in portable_names()]
    if unknown or not benchmarks:
        problem = f"unknown benchmark {unknown[0]!r}" if unknown else "no benchmark is named"
        if set(unknown) & set(embedded_names()):
            problem += " (it compares with a sweep's base model, so it takes a sweep or run)"
        raise UserError(f"--benchmarks: {problem}; {suggest(unknown[0] if unknown else '', portable_names())}")
    section: dict[str, Any] = {name: {"limit": limit} for name in benchmarks}
    if judge is not None:
        section["judge"] = {"model": judge}
    values = {"model": model, "benchmarks": section}
    problems, origins = apply_overrides(values, parse_overrides(overrides), Origins())
    if problems:
        raise UserError.from_problems("the evaluation is not valid:", problems)
    return validate(EvaluationConfig, values, "the evaluation", origins)
