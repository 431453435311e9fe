"""What of a recipe stands on a world with known truth, and what is left where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aipo_lab.benchmarks.catalogue import embedded_names, official_names
from aipo_lab.core.errors import UserError
from aipo_lab.prompts.source import PROMPTS
from aipo_lab.ranking.ranker import RANKERS
from aipo_lab.worlds.world import WorldConfig, WrittenWorld, get_world

if TYPE_CHECKING:
    from aipo_lab.pipeline.recipe import Recipe


def world_problems(world: WorldConfig | None, recipe: Recipe) -> Iterator[str]:
    """What the recipe asks of its world and the world, or its absence, cannot give."""
    yield from _data_problems(recipe)
    if world is None:
        yield from _worldless_problems(recipe)
        return
    if recipe.pairs is not None and recipe.pairs.source == "world" and not _is_written(world):
        yield f"pairs.source world: the world {world.name!r} has no responses by others; use pairs.source: file"
    if recipe.model.source == "micro" and world.name != "micro":
        yield f"model.source micro speaks only of the micro world, not of {world.name!r}"
    if recipe.model.source == "micro" and recipe.model.micro.world_seed != world.seed:
        yield f"model.micro.world_seed {recipe.model.micro.world_seed} must equal world.seed {world.seed}"
    for name, settings in recipe.benchmarks.embedded().items():
        if name != world.name:
            yield f"benchmarks.{name}: answers are checked by the world {world.name!r}; use benchmarks.{world.name}"
        elif problem := _prompts_problem(world, settings.n_prompts):
            yield f"benchmarks.{name}.n_prompts: {problem}"


def _data_problems(recipe: Recipe) -> Iterator[str]:
    """What data of one's own do not go with."""
    pairs = recipe.pairs
    scored = recipe.ranks or (pairs is not None and (pairs.source == "world" or pairs.chosen_score_column is not None))
    if recipe.objective.definition.needs_win_rates and not scored:
        yield (
            f"objective {recipe.objective.name} needs win rates, which follow from scores; set "
            "pairs.chosen_score_column and pairs.rejected_score_column, or use another objective"
        )
    reads_data = pairs is not None or recipe.world is None or PROMPTS.get(recipe.prompts.source).data is not None
    if "held_out" in recipe.benchmarks.official() and not reads_data:
        embedded = [name for name in embedded_names() if name == recipe.world.name] if recipe.world else []
        yield (
            "benchmarks.held_out asks prompts of one's own data, and this recipe's are the world's; set prompts.source "
            f"or pairs, or use {' or '.join(f'benchmarks.{name}' for name in embedded) or 'another benchmark'}"
        )


def _worldless_problems(recipe: Recipe) -> Iterator[str]:
    if recipe.pairs is not None and recipe.pairs.source == "world":
        yield "pairs.source world is the dataset of a world, and the recipe has none; set world, or pairs.source: file"
    if recipe.model.source == "micro":
        yield (
            "model.source micro is trained to speak of the micro world, and the recipe has no world; set model.source "
            "to a model folder, an asset or a hub id"
        )
    if recipe.pairs is None and recipe.prompts.source == "world":
        others = ", ".join(name for name in PROMPTS.names() if name != "world")
        yield f"prompts.source world is the pool of a world, and the recipe has none; use one of {others}"
    if recipe.ranks and RANKERS.get(recipe.rank.ranker).needs_world:
        others = ", ".join(name for name, one in RANKERS.working().items() if not one.needs_world)
        yield (
            f"rank.ranker {recipe.rank.ranker} knows quality from a world, and the recipe has none; use one of {others}"
        )
    training = recipe.rank.training()
    if recipe.pairs is None and training is not None and training.pairs != "file":
        labels = training.labels.ranker
        if RANKERS.get(labels).needs_world:
            yield (
                f"rank.train.labels: {labels} knows quality from a world, and the recipe has none; give labelled pairs "
                "with rank.train.pairs file, or another ranker for the labels"
            )
    usable = ", ".join(official_names())
    for name in recipe.benchmarks.embedded():
        yield f"benchmarks.{name} knows quality from a world, and the recipe has none; set it to null, and use {usable}"


def _is_written(world: WorldConfig) -> bool:
    return isinstance(get_world(world.name, world.seed), WrittenWorld)


def _prompts_problem(world: WorldConfig, n_prompts: int) -> str | None:
    """Why the world cannot give so many benchmark prompts, or None."""
    try:
        get_world(world.name, world.seed).benchmark_prompts(n_prompts)
    except UserError as error:
        return str(error)
    return None
