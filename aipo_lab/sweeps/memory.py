"""What the stages of a sweep take of a GPU's memory, and the refusal of those that cannot fit."""

from __future__ import annotations

from aipo_lab.core.errors import UserError
from aipo_lab.pipeline.memory import StageMemory, stage_memory
from aipo_lab.sweeps.plan import SweepGraph


def planned_memory(graph: SweepGraph, gpu_gib: float) -> list[str]:
    """A line for every kind of stage and base model, that of the trial that needs most.

    A recipe's `compute.device_gib` stands in for `gpu_gib`. Raises `UserError` with the settings that would make them
    fit, if some do not.
    """
    most: dict[tuple[str, str], StageMemory] = {}
    seen = set()
    for recipe in graph.recipes.values():
        source = recipe.model.source
        settings = (source, recipe.train.model_dump_json(), recipe.compute.model_dump_json(), recipe.engine.name)
        if settings in seen:
            continue
        seen.add(settings)
        gib = recipe.compute.device_gib or gpu_gib
        for stage in stage_memory(recipe, graph.base_models[source].folder, gib):
            former = most.get((source, stage.stage))
            if former is None or stage.plan.gib > former.plan.gib:
                most[source, stage.stage] = stage
    problems = [f"{source}: {stage.problem}" for (source, _), stage in most.items() if stage.problem is not None]
    if problems:
        raise UserError.from_problems("the sweep does not fit into the GPUs' memory:", problems)
    several = len({source for source, _ in most}) > 1
    return [f"{source} {stage}" if several else str(stage) for (source, _), stage in most.items()]
