"""The graph of a sweep that may be for another machine: sizes and counts are needed, files are not."""

from __future__ import annotations

from dataclasses import dataclass

from aipo_lab.benchmarks.resources import foresee_resources
from aipo_lab.pipeline.base_model import foresee_base_model
from aipo_lab.pipeline.checks import machine_problems
from aipo_lab.pipeline.data import foresee_all_data
from aipo_lab.ranking.resources import foresee_ranker_resources
from aipo_lab.sweeps.plan import FoundThings, SweepGraph, build_graph
from aipo_lab.sweeps.sweep import Sweep


@dataclass(frozen=True)
class ForeseenGraph:
    """The graph, and why this machine cannot run it as it is: then its keys are not those a run will have."""

    graph: SweepGraph
    missing: list[str]


def foresee_graph(sweep: Sweep) -> ForeseenGraph:
    """The graph of a sweep, with stand-ins for models and data files that are not on this machine.

    Raises `UserError` for what no machine has: a folder that is no model, a broken local judge's model.
    """
    recipes = [trial.recipe for trial in sweep.trials]
    missing = machine_problems(recipes)
    models = {}
    for recipe in recipes:
        source = recipe.model.source
        if source not in models:
            models[source], absence = foresee_base_model(source)
            missing += [] if absence is None else [absence]
        models[source].check_speaks(recipe)
    resources, absences = foresee_resources(recipe.benchmarks for recipe in recipes)
    data, more = foresee_all_data(recipes)
    rankers, unranked = foresee_ranker_resources(one.rank for one in recipes if one.ranks)
    found = FoundThings(models, resources, data, rankers)
    return ForeseenGraph(build_graph(sweep, found), missing + absences + more + unranked)
