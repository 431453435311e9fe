"""A recipe's own data, prompts or pairs: which it needs, found before any work, and the stages that read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARKS, official_entry
from aipo_lab.benchmarks.held_out import HeldOutSettings
from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.offline import without_hub
from aipo_lab.pipeline.evaluation_graph import make_node
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.prompts.reading import NOT_HERE, DataPlace, DataRequest, FoundData, find_data
from aipo_lab.prompts.source import PROMPTS
from aipo_lab.stages.definition import Runtime, StageNode

PLACE_KEYS = set(DataPlace.model_fields)


def data_request(recipe: Recipe) -> DataRequest | None:
    """The data a recipe reads, if any: its pairs, or else the pool of its prompts."""
    if recipe.pairs is not None:
        return recipe.pairs.request()  # None for those of the world itself
    find = PROMPTS.get(recipe.prompts.source).data
    return None if find is None else find(recipe.prompts)


def find_all_data(recipes: Iterable[Recipe]) -> dict[str, FoundData]:
    """The data of all recipes by `DataRequest.key`; see `find_data` for errors."""
    requests = {request.key: request for recipe in recipes if (request := data_request(recipe)) is not None}
    return {key: find_data(request) for key, request in requests.items()}


def foresee_all_data(recipes: Iterable[Recipe]) -> tuple[dict[str, FoundData], list[str]]:
    """The data for a plan, which downloads none: stand-ins for datasets of the hub that are not here, and why not.

    Raises `UserError` as `find_data` does for files.
    """
    requests = {request.key: request for recipe in recipes if (request := data_request(recipe)) is not None}
    found, missing = {}, []
    for key, request in requests.items():
        try:
            with without_hub():
                found[key] = find_data(request)
        except (UserError, MissingDependency) as error:
            if request.place.path is not None:
                raise
            found[key] = FoundData(place=request.place, content=f"{NOT_HERE}{request.place.text()}")
            missing.append(str(error))
    return found, missing


def data_node(
    recipe: Recipe, data: Mapping[str, FoundData], resources: BenchmarkResources, runtime: Runtime
) -> StageNode | None:
    """The stage that makes pairs or a pool of prompts from data; None where the world itself is the pool."""
    request = data_request(recipe)
    if request is None and recipe.world is not None and recipe.pairs is None:
        return None
    config: dict[str, Any] = {"n_held_out": _n_held_out(recipe), "benchmarks": _benchmarks(recipe, resources)}
    if request is not None:
        found = data[request.key]
        config["content"] = found.content
        runtime = runtime.model_copy(update={"data": found.place.model_dump()})
    if recipe.pairs is not None:
        of_world = {} if recipe.world is None or request is not None else {"world": recipe.world.model_dump()}
        config |= of_world | recipe.pairs.reading().model_dump(mode="json")
        return make_node("given_pairs", config, {}, runtime)
    prompts = recipe.prompts.model_dump(mode="json", exclude=PLACE_KEYS if request else None)
    world = {} if recipe.world is None else {"world": recipe.world.model_dump()}
    return make_node("pool", config | world | {"prompts": prompts}, {}, runtime)


def _n_held_out(recipe: Recipe) -> int:
    settings = recipe.benchmarks.official().get("held_out")
    return settings.limit if isinstance(settings, HeldOutSettings) else 0


def _benchmarks(recipe: Recipe, resources: BenchmarkResources) -> dict[str, str]:
    """The benchmarks with questions of their own that the recipe is evaluated on, each with what determines them."""
    return {
        name: json.dumps([resources.files[name], BENCHMARKS.identity(name)], sort_keys=True)
        for name in recipe.benchmarks.official()
        if not official_entry(name).asks_own_prompts
    }
