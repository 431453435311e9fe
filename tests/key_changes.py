"""Which stages have a setting in their key, found by changing it; run as a program it prints rows for docs/keys.md."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from model_variants import make_variant
from pydantic import BaseModel as Model

from aipo_lab.benchmarks.catalogue import BENCHMARKS, embedded_names, official_names
from aipo_lab.benchmarks.config import BenchmarksConfig
from aipo_lab.benchmarks.resources import BenchmarkResources, judge_name
from aipo_lab.core.registry import Registry
from aipo_lab.generation.engine import ENGINES
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.graph import GraphBuilder
from aipo_lab.pipeline.objective import ObjectiveTerm
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_values
from aipo_lab.prompts.dataset import DatasetPromptSettings
from aipo_lab.prompts.reading import DataPlace, FoundData
from aipo_lab.prompts.source import PROMPTS
from aipo_lab.ranking.known_answer import KnownAnswerSettings
from aipo_lab.ranking.llm_judge.settings import LLMJudgeSettings
from aipo_lab.ranking.pairrm.settings import PairRMSettings
from aipo_lab.ranking.ranker import RANKERS
from aipo_lab.ranking.reward_model import RewardModelSettings
from aipo_lab.stages.definition import STAGE_NAMES, StageNode
from aipo_lab.sweeps.plan import runtime_of

KEYS_TABLE = Path(__file__).parents[1] / "docs" / "keys.md"

EVERYTHING: list[tuple[str, Any]] = [
    ("benchmarks.alpaca_eval", {}),
    ("benchmarks.arena_hard", {}),
    ("benchmarks.mt_bench", {}),
    ("benchmarks.ifeval", {}),
    ("benchmarks.ifbench", {}),
    ("train.lora", {}),
]
AIPO = [("objective.name", "aipo")]
CONSTRAINTS = [
    ("model.source", "folder"),
    ("world.name", "constraints"),
    ("benchmarks.constraints", {}),
]
OWN_DATA: list[tuple[str, Any]] = [
    ("model.source", "folder"),
    ("world", None),
    ("rank", {"ranker": "length"}),
    ("benchmarks.held_out", {}),
    ("prompts", {"source": "dataset"}),
]
OWN_PAIRS = [*OWN_DATA, ("pairs", {"source": "dataset", "dataset": "owner/name"})]
RANKED_PAIRS = [*OWN_PAIRS, ("pairs.ranked_by", "ranker")]
LOCAL = [("benchmarks.judge.engine", "local")]
JUDGED = {"ranker": "llm_judge", "meta": {}, "judge": {"model": "gpt-4"}}
REWARD_TRAINING: dict[str, Any] = {"ranker": "reward_model", "train": {}}
CONTEXTS: Mapping[str, list[tuple[str, Any]]] = {
    "objective.alpha": AIPO,
    "objective.lambda_": AIPO,
    "objective.label_smoothing": AIPO,
    "objective.gamma": [("objective.name", "simpo")],
    "benchmarks.constraints": CONSTRAINTS,
    "ema_decay": [("reference", "ema")],
    "analysis": [("analysis", {"similarity": "words"})],
    "benchmarks.held_out": OWN_DATA,
    "pairs.responses_column": RANKED_PAIRS,
    "pairs": OWN_PAIRS,
    "rank.least_quality": [("rank", {"ranker": "correct"})],
    **{
        f"rank.{name}": [("rank", {"ranker": "known_answer", "answers": "owner/name"})]
        for name in KnownAnswerSettings.model_fields
        if name != "ranker"
    },
    **{
        f"rank.judge.{name}": [("rank", {**JUDGED, "judge": {"engine": "local", "model": "folder"}})]
        for name in ("dtype", "chat_template", "template_date")
    },
    **{
        f"rank.{name}": [("rank", JUDGED)]
        for name in LLMJudgeSettings.model_fields
        if name not in ("ranker", "model", "mode")
    },
    "rank.train.path": [("rank", {"ranker": "reward_model", "train": {"pairs": "file", "path": "pairs.jsonl"}})],
    "rank.train": [("rank", REWARD_TRAINING)],
    "rank.target_tokens": [("rank", {"ranker": "length"})],
    **{
        f"rank.{name}": [("rank", {"ranker": "reward_model", "model": "owner/name"})]
        for name in RewardModelSettings.model_fields.keys() - PairRMSettings.model_fields.keys() - {"train"}
    },
    **{f"rank.{name}": [("rank", {"ranker": "pairrm"})] for name in PairRMSettings.model_fields if name != "ranker"},
    **{f"prompts.{name}": OWN_DATA for name in DatasetPromptSettings.model_fields if name != "source"},
    **{f"benchmarks.judge.{name}": LOCAL for name in ("dtype", "chat_template", "template_date")},
}
"""Where a setting, or a section, only counts beside others, which are set for it."""

CHOICES: Mapping[str, Registry[Any]] = {"prompts": PROMPTS, "rank": RANKERS}
"""Sections whose settings are those of the thing they choose: all of them are looked at."""

OTHER = "other"
"""A name that is registered while a name's change is looked at."""

OTHER_VALUES: Mapping[str, Any] = {
    "objective.name": "aipo",
    "objective.label_smoothing": 0.25,
    "objective.terms": [ObjectiveTerm(name="dpo", weight=0.5)],
    "world.name": "constraints",
    "model.chat_template": "chatml",
    "benchmarks.judge.chat_template": "chatml",
    "benchmarks.judge.template_date": "2000-01-02",
    "model.template_date": "2000-01-02",
    "train.precision": "bfloat16",
    "train.weights": "bfloat16",
    "train.optimizer": "adamw_8bit",
    "rank.train.labels.ranker": OTHER,
    "rank.judge.engine": "azure",
    "rank.judge.prices": {},
    "rank.judge.chat_template": "chatml",
    "rank.judge.template_date": "2000-01-02",
    "rank.train.pairs": "current",
    "rank.meta.iterations": 1,
    "rank.meta.max_chosen_tokens": 7,
    "reference": "base",
    "data": "accumulated",
    "start": "base",
    "analysis.similarity": "none",
    "engine.name": OTHER,
    "rank.ranker": OTHER,
    "prompts.source": OTHER,
    **{f"{own}.{name}": OTHER for own in ("prompts", "pairs") for name in ("path", "subset", "revision")},
    **{f"pairs.{name}_score_column": OTHER for name in ("chosen", "rejected")},
    "pairs.text": "raw",
    "pairs.slices": "all",
    "pairs.ranked_by": "ranker",
    "pairs.responses_column": OTHER,
    "instruct.draw": "slices",
    "pairs.source": "file",
    "benchmarks.judge.engine": "azure",
    "benchmarks.judge.prices": {},
    "compute.parallel": "zero3",
    "compute.deepspeed": {"zero_optimization": {"reduce_bucket_size": 7}},
}
"""Where another number or text would not do; `baseline` and `iterations` of official benchmarks are below."""


def leaves(model: type[Model], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields that are no sections, by Python name."""
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is None:
            yield prefix + name
        else:
            sections = (
                [section, *(one.settings for one in CHOICES[name].working().values())] if name in CHOICES else [section]
            )
            yield from dict.fromkeys(leaf for one in sections for leaf in leaves(one, f"{prefix}{name}."))
    if model is BenchmarksConfig:
        for name in [*embedded_names(), *official_names()]:
            yield from leaves(BENCHMARKS.get(name).settings, f"{prefix}{name}.")


def _section(field: Any) -> type[Model] | None:
    """The section a field holds; of one that chooses among registered things, the default's settings."""
    made = field.default_factory
    return made if isinstance(made, type) and issubclass(made, Model) else _model_in(field.annotation)


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
    return None


def changed_stages(dotted: str, folder: Path) -> list[str]:
    """The stages whose key holds the setting itself (others follow by their inputs), in pipeline order."""
    context = next((more for start, more in CONTEXTS.items() if f"{dotted}.".startswith(f"{start}.")), [])
    context = [(key, str(folder) if value == "folder" else value) for key, value in context]
    if ("benchmarks.judge.engine", "local") in context:
        context = [*context, ("benchmarks.judge.model", str(folder))]
    values = profile_values("micro")
    if ("world.name", "constraints") in context or ("world", None) in context:
        del values["benchmarks"]["micro"]
    recipe = build_recipe(values, [*EVERYTHING, *context])
    with ENGINES.restored(), RANKERS.restored(), PROMPTS.restored():
        ENGINES.add(OTHER, ENGINES.get("transformers"))
        RANKERS.add(OTHER, RANKERS.get("proxy"))
        PROMPTS.add(OTHER, PROMPTS.get("world"))
        before = _configs(recipe, folder)
        after = _configs(_changed(recipe, dotted.split("."), dotted), folder)
    stages = {before[place][0] for place in before.keys() & after.keys() if before[place] != after[place]}
    return [stage for stage in STAGE_NAMES if stage in stages]


def _changed(section: Any, path: list[str], dotted: str) -> Any:
    """A copy with one value replaced, unchecked: only that keys change is asked, not whether the value makes sense."""
    name, *below = path
    value = getattr(section, name)
    new = _changed(value, below, dotted) if below else _other(dotted, value)
    return section.model_copy(update={name: new})


def _other(dotted: str, value: Any) -> Any:
    if dotted in OTHER_VALUES:
        return OTHER_VALUES[dotted]
    if dotted.endswith(".baseline"):
        return "base_model"
    if dotted.endswith(".iterations"):
        return "last"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "other"]
    return f"{value or ''}other" if isinstance(value, str) else 1


class AnyData(dict[str, FoundData]):
    """The same content wherever a recipe's data lie."""

    def __missing__(self, key: str) -> FoundData:
        return FoundData(place=DataPlace(), content="content")


def _configs(recipe: Recipe, folder: Path) -> dict[tuple[int, str], tuple[str, str]]:
    """By place in the trial: the stage and all of its key but which artifacts its inputs are."""
    judge = recipe.benchmarks.judge
    assert judge is not None
    resources = BenchmarkResources(dict.fromkeys(official_names(), "files"), {judge_name(judge): judge.identity()})
    source = recipe.model.source
    base = BaseModel() if source == "micro" else BaseModel(folder, f"content of {Path(source).name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values are deliberately of no legal kind
        trial = GraphBuilder(recipe, base, runtime_of(recipe.compute), resources, data=AnyData()).build()
    found = {}
    for iteration in trial.iterations:
        nodes = {"policy": iteration.policy, **iteration.steps}
        nodes |= {"data": iteration.data} if iteration.data else {}
        nodes |= {f"answers {name}": node for name, node in iteration.answers.items()}
        nodes |= {f"scores {name}": node for name, node in iteration.scores.items()}
        found |= {(iteration.t, name): (node.stage, _identity(node)) for name, node in nodes.items()}
    return found


def _identity(node: StageNode) -> str:
    return json.dumps([node.request.version, node.request.config, sorted(node.request.inputs)], sort_keys=True)


def classified(heading: str, text: str | None = None) -> dict[str, tuple[list[str], str]]:
    """The rows of docs/keys.md below a heading: by setting, the stages that have it in their key, and the remark."""
    whole = KEYS_TABLE.read_text(encoding="utf-8") if text is None else text
    section = whole.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE)
    return {
        name: ([] if stages.strip() == "none" else stages.strip().split(", "), why.strip())
        for name, stages, why in rows
    }


def unclassified(model: type[Model], heading: str) -> list[str]:
    """Settings of a model class that docs/keys.md does not have below the heading."""
    return sorted(set(leaves(model)) - classified(heading).keys())


def make_judge_folder(folder: Path) -> Path:
    """A folder of a tiny model, for a local judge and for other worlds than the micro one."""
    return make_variant(folder)


def main() -> None:
    """Print a row for every setting, with the remarks there are."""
    old = classified("Recipe") if KEYS_TABLE.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = make_judge_folder(Path(name))
        for dotted in leaves(Recipe):
            stages = ", ".join(changed_stages(dotted, folder)) or "none"
            sys.stdout.write(f"| `{dotted}` | {stages} | {old.get(dotted, ([], ''))[1]} |\n")


if __name__ == "__main__":
    main()
