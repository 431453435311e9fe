"""Recipes: strict validation of every section, schedules, profiles, and what a recipe file may say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from aipo_lab.benchmarks.catalogue import BENCHMARKS
from aipo_lab.core.errors import UserError
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_names, profile_values, recipe_values


def micro(*overrides: tuple[str, Any]) -> Recipe:
    return build_recipe(profile_values("micro"), overrides)


def refused(*overrides: tuple[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        micro(*overrides)
    return str(caught.value)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in get_args(annotation) for model in models_in(part)]


def models_of(field: Any) -> list[type[BaseModel]]:
    """The sections a field may hold; of one that chooses among registered things, the default's."""
    if isinstance(field.default_factory, type) and issubclass(field.default_factory, BaseModel):
        return [field.default_factory]
    return models_in(field.annotation)


def any_key(annotation: Any) -> str:
    """A key of a mapping whose keys are the user's own."""
    return "any." if get_origin(annotation) is dict else ""


def fields(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        yield f"{place}{field.alias or name}", field
        for inner in models_of(field):
            yield from fields(inner, f"{place}{name}.{any_key(field.annotation)}")


def is_list(annotation: Any) -> bool:
    """Whether a field holds a list, whose sections have no dotted name of their own."""
    return get_origin(annotation) is list or any(map(is_list, get_args(annotation)))


def sections(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield place, model
    for name, field in model.model_fields.items():
        for inner in () if is_list(field.annotation) else models_of(field):
            yield from sections(inner, f"{place}{name}.{any_key(field.annotation)}")


BENCHMARK_SETTINGS = {f"benchmarks.{name}.": entry.settings for name, entry in BENCHMARKS.working().items()}
SECTIONS = dict(sections(Recipe)) | {
    place: model for name, settings in BENCHMARK_SETTINGS.items() for place, model in sections(settings, name)
}
FIELDS = dict(fields(Recipe)) | {
    place: field for name, settings in BENCHMARK_SETTINGS.items() for place, field in fields(settings, name)
}


def test_the_walk_over_the_recipe_finds_its_sections() -> None:
    assert {"", "train.", "respond.sampling.", "model.micro.demonstrations.", "benchmarks.micro."} <= SECTIONS.keys()
    assert {"objective.lambda", "pair.drop_urls", "compute.workers"} <= FIELDS.keys()


@pytest.mark.parametrize("place", FIELDS)
def test_every_field_has_a_description(place: str) -> None:
    assert len((FIELDS[place].description or "").strip()) >= 8, place


@pytest.mark.parametrize("section", SECTIONS)
def test_a_typo_in_any_section_is_refused_and_the_valid_keys_are_named(section: str) -> None:
    text = refused((f"{section}xyzzy", 1))
    assert f"{section}xyzzy: unknown key 'xyzzy'" in text
    listed = text.split("valid: ")[1].splitlines()[0].split(", ")
    more = BENCHMARKS.names() if section == "benchmarks." else []
    assert sorted(listed) == sorted([*more, *(f.alias or name for name, f in SECTIONS[section].model_fields.items())])


def test_the_nearest_key_is_offered() -> None:
    assert "did you mean 'learning_rate'?" in refused(("train.learning_rat", 1e-3))


def test_problems_of_different_sections_come_together() -> None:
    text = refused(("train.batchsize", 1), ("iterations", 0), ("respond.sampling.top_p", 2), ("objective.name", "ppo"))
    for part in ("train.batchsize", "iterations", "respond.sampling.top_p", "unknown objective 'ppo'"):
        assert part in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("iterations", 0),
        ("iterations", 101),
        ("iterations", 2.5),
        ("iterations", "many"),
        ("iterations", [1, 2]),
        ("engine.batch_size", 0),
        ("engine.name", "llama.cpp"),
        ("engine.dtype", "int8"),
        ("instruct.source", "chatgpt"),
        ("instruct.n_prompts", 0),
        ("instruct.n_examples", 0),
        ("instruct.sampling.temperature", -0.1),
        ("respond.n_candidates", 1),
        ("respond.n_candidates", 65),
        ("respond.sampling.top_p", 0),
        ("respond.sampling.top_k", -1),
        ("respond.sampling.max_new_tokens", 0),
        ("rank.ranker", "pairrm2"),
        ("rank.noise_sd", -1),
        ("rank.length_bias", float("nan")),
        ("pair.max_response_tokens", 0),
        ("pair.drop_urls", "perhaps"),
        ("train.learning_rate", 0),
        ("train.learning_rate", -1e-4),
        ("train.learning_rate", float("inf")),
        ("train.warmup_ratio", 1),
        ("train.batch_size", 0),
        ("train.epochs", 0),
        ("train.max_gradient_norm", 0),
        ("world.name", "macro"),
        ("world.seed", -1),
        ("benchmarks.micro.n_prompts", 1),
        ("benchmarks.judge_length_bias", 11),
        ("model.micro.heads", 3),
        ("model.micro.learning_rate", float("nan")),
        ("compute.workers", 0),
        ("compute.workers", "some"),
        ("compute.threads", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_key_and_value(key: str, value: object) -> None:
    text = refused((key, value))
    section = key.rpartition(".")[0] if key == "model.micro.heads" else key
    assert section in text
    assert str(value) in text


def test_more_benchmark_prompts_than_the_world_holds_are_refused_before_any_work() -> None:
    assert "512" in refused(("benchmarks.micro.n_prompts", 5000))


@pytest.mark.parametrize(
    ("objective", "key", "value", "rule"),
    [
        ("dpo", "beta", 0, "> 0"),
        ("dpo", "beta", -1, "> 0"),
        ("dpo", "beta", "0.1", "must be a number"),
        ("dpo", "beta", True, "must be a number"),
        ("dpo", "beta", [], "must be a number"),
        ("dpo", "beta", [0.1, "x", 0.1], "must be a number"),
        ("dpo", "beta", [0.1, 0.1, -0.1], "-0.1 must be > 0"),
        ("dpo", "beta", float("nan"), "finite"),
        ("dpo", "alpha", 0.1, "unknown hyperparameter 'alpha' of dpo"),
        ("simpo", "lambda", 0.1, "unknown hyperparameter 'lambda"),
        ("aipo", "label_smoothing", 0.9, "<= 0.5"),
        ("aipo", "gamma", 0.9, "unknown hyperparameter 'gamma' of aipo"),
    ],
)
def test_hyperparameters_are_checked_against_the_objective(objective: str, key: str, value: object, rule: str) -> None:
    text = refused(("objective.name", objective), (f"objective.{key}", value))
    assert "objective" in text
    assert rule in text


def test_a_message_about_lambda_calls_it_what_the_file_calls_it() -> None:
    text = refused(("objective.name", "aipo"), ("objective.lambda", -1))
    assert "lambda = -1" in text
    listed = refused(("objective.name", "aipo"), ("objective.gamma", 1)).split("valid: ")[1]
    assert "lambda," in listed


def test_a_schedule_gives_each_iteration_its_value() -> None:
    objective = {"name": "aipo", "beta": [0.1, 0.2, 0.4], "lambda": 0.3}
    recipe = micro(("iterations", 3), ("objective", objective))
    settings = [recipe.objective.at(t) for t in range(3)]
    assert [one.hyperparameters["beta"] for one in settings] == [0.1, 0.2, 0.4]
    assert [one.hyperparameters["lambda_"] for one in settings] == [0.3] * 3
    assert {one.name for one in settings} == {"aipo"}


@pytest.mark.parametrize("schedule", [[0.1], [0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
def test_a_schedule_of_the_wrong_length_is_refused(schedule: list[float]) -> None:
    text = refused(("iterations", 3), ("objective.beta", schedule))
    assert "objective.beta: a schedule needs one value per iteration, 3" in text
    assert f"but has {len(schedule)}" in text


def test_a_resolved_schedule_builds_the_objective_it_names() -> None:
    recipe = micro(("iterations", 3), ("objective.name", "simpo"), ("objective.gamma", [0.0, 0.5, 1.0]))
    objective = recipe.objective.at(2).build()
    assert (objective.name, objective.hyperparameters["gamma"]) == ("simpo", 1.0)


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_a_recipe(name: str) -> None:
    recipe = build_recipe(profile_values(name))
    assert recipe.profile == name
    assert build_recipe(recipe.resolved()) == recipe


def test_profiles_are_those_of_the_issue_and_micro_is_the_default() -> None:
    assert {"micro", "laptop"} <= set(profile_names())
    assert build_recipe(profile_values("micro")).model.source == "micro"
    assert build_recipe(profile_values("laptop")).model.source == "smollm2-135m"


def test_an_unknown_profile_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match="unknown profile 'mikro'; did you mean 'micro'") as caught:
        profile_values("mikro")
    assert all(name in str(caught.value) for name in profile_names())


def test_building_a_recipe_leaves_the_values_alone() -> None:
    values = profile_values("micro")
    build_recipe(values, [("train.batch_size", 7)])
    assert values == profile_values("micro")


def test_a_recipe_file_changes_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("profile: laptop\ntrain: {batch_size: 7}\nobjective: {name: aipo, lambda: 0.5}\n")
    recipe = build_recipe(recipe_values(str(path)))
    laptop = build_recipe(profile_values("laptop"))
    assert recipe.profile == "laptop"
    assert recipe.train == laptop.train.model_copy(update={"batch_size": 7})
    assert recipe.objective.at(0).hyperparameters["lambda_"] == 0.5


def test_a_recipe_file_without_a_profile_starts_from_micro(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("iterations: 1\n")
    assert build_recipe(recipe_values(str(path))) == micro(("iterations", 1))


def test_what_is_neither_a_profile_nor_a_file_is_refused() -> None:
    with pytest.raises(UserError, match="'lptop' is neither a profile"):
        recipe_values("lptop")
    with pytest.raises(UserError, match="recipe file not found"):
        recipe_values("none.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([("benchmarks", {}), ("benchmarks.micro", None)], "set at least one of micro, constraints"),
        ([("world.name", "constraints")], "model.source micro speaks only of the micro world"),
        ([("world.seed", 3)], "model.micro.world_seed 0 must equal world.seed 3"),
        ([("benchmarks.constraints.n_prompts", 8)], "use benchmarks.micro"),
    ],
)
def test_sections_that_contradict_each_other_are_refused(overrides: list[tuple[str, Any]], message: str) -> None:
    values = profile_values("micro")
    if overrides[0] == ("benchmarks", {}):
        values["benchmarks"], overrides = {}, []
    with pytest.raises(UserError) as caught:
        build_recipe(values, overrides)
    assert message in str(caught.value)
