"""docs/keys.md says of every setting which stages have it in their key: it is complete, and it is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from key_changes import changed_stages, classified, leaves, make_judge_folder, unclassified
from pydantic import Field

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.evaluation.evaluation import EvaluationConfig
from aipo_lab.generation.engine import ENGINES
from aipo_lab.generation.transformers_engine import TransformersEngineSettings
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.graph import GraphBuilder, TrialGraph
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_values
from aipo_lab.stages.definition import STAGE_NAMES, Runtime
from aipo_lab.sweeps.plan import runtime_of


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_judge_folder(tmp_path_factory.mktemp("judge"))


def test_every_setting_is_classified() -> None:
    how = "say in docs/keys.md which keys they are in (rows: python tests/key_changes.py)"
    assert unclassified(Recipe, "Recipe") == [], how
    assert unclassified(Runtime, "Runtime") == [], how
    assert set(EvaluationConfig.model_fields) == classified("Evaluation").keys(), how
    for heading, model in (("Recipe", Recipe), ("Runtime", Runtime)):
        assert classified(heading).keys() - set(leaves(model)) == set(), "docs/keys.md names settings there are not"


def test_a_new_setting_is_missed_wherever_it_is() -> None:
    class MoreEngine(TransformersEngineSettings):
        new: int = Field(0, description="new")

    class MoreRecipe(Recipe):
        new: str = Field("", description="new")
        engine: MoreEngine = Field(default_factory=MoreEngine, description="engine")

    class MoreRuntime(Runtime):
        new: MoreEngine | None = Field(None, description="new")

    assert unclassified(MoreRecipe, "Recipe") == ["engine.new", "new"]
    assert "new.new" in unclassified(MoreRuntime, "Runtime")


def test_the_stages_named_are_those_whose_keys_change(judge_folder: Path) -> None:
    said = {name: stages for name, (stages, _) in classified("Recipe").items()}
    found = {name: changed_stages(name, judge_folder) for name in leaves(Recipe)}
    assert {name: found[name] for name in found if found[name] != said.get(name)} == {}, "found, but not said so"
    assert {stage for stages in said.values() for stage in stages} == set(STAGE_NAMES) - {
        "given_answers",
        "accumulate",
        "slice_responses",
    }


def test_what_is_in_no_key_says_why() -> None:
    for heading in ("Recipe", "Runtime", "Evaluation"):
        assert [name for name, (stages, why) in classified(heading).items() if not stages and not why] == []
    assert {tuple(stages) for stages, _ in classified("Runtime").values()} == {()}


def test_every_engines_settings_are_classified_by_what_its_keys_hold() -> None:
    """The default engine's are in the recipe's table."""
    said = classified("Engines")
    found = {
        f"{name}.{field}": field in definition.settings.computing
        for name, definition in ENGINES.working().items()
        if name != "transformers"
        for field in definition.settings.model_fields
    }
    assert {name: not stages for name, (stages, _) in said.items()} == found
    assert [name for name, (stages, why) in said.items() if not stages and not why] == []


def test_how_an_engine_computes_reaches_the_stage_and_no_key() -> None:
    values = [("engine.name", "vllm"), ("engine.python", "/opt/python"), ("engine.max_sequence_tokens", 99)]
    del (engine := profile_values("micro"))["engine"]
    recipe = build_recipe(engine, values)
    nodes = [node for node in graph_of(recipe).nodes().values() if "engine" in node.request.config]
    assert {node.stage for node in nodes} == {"instruct", "respond", "answer"}
    for node in nodes:
        assert "python" not in node.request.config["engine"]
        settings = ENGINES.get("vllm").settings.model_validate(node.request.config["engine"])
        assert settings.with_how(node.runtime.engine) == recipe.engine


def graph_of(recipe: Recipe) -> TrialGraph:
    resources = BenchmarkResources({}, {})
    return GraphBuilder(recipe, BaseModel(), runtime_of(recipe.compute), resources).build()


def test_a_model_is_its_content_and_not_its_place() -> None:
    recipe = build_recipe(profile_values("laptop"), [("model.source", "/somewhere")])
    places = (("/a", "x"), ("/b", "x"), ("/a", "y"))
    configs = [BaseModel(Path(place), content).config(recipe) for place, content in places]
    assert configs[0] == configs[1] != configs[2]
