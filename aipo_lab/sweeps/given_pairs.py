"""How many given pairs each training of a sweep has, for plans: counted in the data where they are on this machine.

Those of a world are made and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from statistics import fmean
from typing import Any

from aipo_lab.core.offline import without_hub
from aipo_lab.pipeline.data import data_request
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.prompts.pairs import PairColumns, PairsSettings, usable_pairs
from aipo_lab.prompts.reading import FoundData, read_rows
from aipo_lab.prompts.same import PromptSet
from aipo_lab.prompts.world_pairs import world_columns, world_rows
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.throughputs import throughputs
from aipo_lab.sweeps.work import PairCount
from aipo_lab.worlds.world import get_world

LOOKED_AT_PAIRS = 2000
"""Pairs whose lengths are looked at; all rows are counted."""


class GivenPairs:
    """The given pairs of a sweep's trainings."""

    def __init__(self, graph: SweepGraph) -> None:
        self._graph = graph
        self._counts: dict[str, PairCount] = {}

    def of(self, node: StageNode, recipe: Recipe) -> PairCount | None:
        """The pairs that a node trains on or scores; None where they are generated."""
        if recipe.pairs is None or "pairs" not in node.request.inputs:
            return None
        request, world = data_request(recipe), recipe.world
        key = f"{recipe.pairs.model_dump_json()} {world}"
        if key not in self._counts:
            if request is not None:
                self._counts[key] = _count(recipe.pairs, self._graph.data[request.key])
            else:
                assert world is not None, "pairs that are read from nowhere are a world's"
                rows = list(world_rows(get_world(world.name, world.seed)))
                self._counts[key] = _counted(rows, len(rows), world_columns(recipe.pairs.reading()))
        whole = self._counts[key]
        share = self._slices(node) / (1 if recipe.pairs.slices == "all" else recipe.iterations)
        return PairCount(whole.pairs * share, whole.prompt_tokens, whole.response_tokens)

    def _slices(self, node: StageNode) -> int:
        """Iterations' pairs that a training reads: several where they are accumulated."""
        pairs = self._graph.nodes.get(node.request.inputs["pairs"])
        return len(pairs.request.inputs) if pairs is not None and pairs.stage == "accumulate" else 1


def _count(settings: PairsSettings, found: FoundData) -> PairCount:
    if not found.is_here:
        rows = throughputs().counts["given_pairs"].value
        return PairCount(min(rows, settings.limit or rows))
    with without_hub():  # a dataset of the hub that is here lies in its cache
        n_rows = sum(1 for _ in read_rows(found.place, settings.columns(), "pairs"))
        return _counted(read_rows(found.place, settings.columns(), "pairs"), n_rows, settings.reading())


def _counted(rows: Iterable[Mapping[str, Any]], n_rows: int, columns: PairColumns) -> PairCount:
    """The pairs among `n_rows` rows, by those that are looked at."""
    counts: Counter[str] = Counter()
    looked_at = list(islice(usable_pairs(rows, columns, PromptSet(()), counts), LOOKED_AT_PAIRS))
    if not looked_at:
        return PairCount(0)
    pairs = n_rows * len(looked_at) / counts.total()
    per_character = throughputs().lengths["character"].value
    prompts = [sum(len(turn["content"]) for turn in pair["prompt"]) for pair in looked_at]
    responses = [len(pair[role][0]["content"]) for pair in looked_at for role in ("chosen", "rejected")]
    return PairCount(
        min(pairs, columns.limit or pairs), per_character * fmean(prompts), per_character * fmean(responses)
    )
