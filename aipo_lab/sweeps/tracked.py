"""What a tracker is told about a sweep's trials and its sweep as a whole, from the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

from aipo_lab.core.numbers import value_text
from aipo_lab.core.store import Artifact, Store
from aipo_lab.pipeline.graph import TrialGraph
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.results.rows import ResultRow
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.collect import find_artifact, training_curve, trial_datasets
from aipo_lab.sweeps.trial import Trial
from aipo_lab.tracking.tracker import DatasetRef, MadeStage, TrialRecord

SETTINGS = (
    "profile",
    "seed",
    "iterations",
    "reference",
    "data",
    "start",
    "model.source",
    "engine.name",
    "instruct.source",
    "instruct.n_prompts",
    "respond.n_candidates",
    "respond.sampling.temperature",
    "respond.sampling.top_p",
    "respond.sampling.max_new_tokens",
    "rank.ranker",
    "rank.length_bias",
    "pair.select.rule",
    "train.learning_rate",
    "train.batch_size",
    "train.epochs",
    "train.precision",
)
"""Recipe keys that a reader of a result asks for first; those that a recipe does not have are left out."""

ABSENT = "-"
"""What stands for a hyperparameter that an objective does not have, as in MLflow's own tables."""


def trial_record(
    trial: Trial,
    graph: TrialGraph,
    store: Store,
    rows: list[ResultRow],
    stored: Iterable[str],
    reason: str = "",
    commit: str = "",
) -> TrialRecord:
    """The record of a trial that is over, `stored` being the references of its artifacts; a `reason`: it failed."""
    present = set(stored)
    return TrialRecord(
        trial=trial.name,
        objective=trial.objective,
        params=trial.hyperparameters(),
        rows=rows,
        curves=Lazy(lambda: training_curve(graph, store)),
        state="failed" if reason else "complete",
        reason=reason,
        datasets=Lazy(lambda: trial_datasets(graph, store)),
        fingerprint=_fingerprint(trial, graph, present),
        settings=trial_settings(trial.recipe),
        stages=Lazy(lambda: made_stages(graph, store)),
        commit=commit,
        whole=bool(reason) or all(reference in present for reference in graph.nodes()),
    )


def parameter_names(trials: Iterable[Trial]) -> list[str]:
    """The hyperparameters and swept keys of all trials."""
    return list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters()))


def with_absent(record: TrialRecord, names: Iterable[str]) -> TrialRecord:
    """The record with a dash for those parameters of its sweep that the trial does not have.

    Without it a plot of many runs' parameters draws an absent one as the axis's largest number.
    """
    return replace(record, settings={**dict.fromkeys(names, ABSENT), **record.settings})


def trial_settings(recipe: Recipe) -> dict[str, str]:
    """The settings of `SETTINGS` as text, as far as the recipe has them."""
    values = recipe.model_dump()
    found = {key: _value_at(values, key) for key in SETTINGS}
    return {key: value_text(value) for key, value in found.items() if value is not None}


def _value_at(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return None if isinstance(values, dict) else values


def made_stages(graph: TrialGraph, store: Store) -> list[MadeStage]:
    """The stages of a trial that are in the store, by iteration, each once.

    Of an iteration t: what makes theta_t's answers and scores, and what they lead to; theta_t itself, made by the
    training of the iteration before, belongs to t.
    """
    made: dict[str, MadeStage] = {}
    for t, node in _nodes(graph):
        if node.reference not in made and (artifact := find_artifact(store, node)) is not None:
            made[node.reference] = _made(t, node, artifact)
    return list(made.values())


def _nodes(graph: TrialGraph) -> Iterator[tuple[int, StageNode]]:
    for iteration in graph.iterations:
        training = iteration.steps.get("train")
        for node in iteration.nodes():
            yield iteration.t + (node is training), node


def _made(t: int, node: StageNode, artifact: Artifact) -> MadeStage:
    started_s, ended_s = artifact_span_s(artifact)
    return MadeStage(t, node.request.stage, node.reference, str(artifact.path), started_s, ended_s)


def artifact_span_s(artifact: Artifact) -> tuple[float, float]:
    """When an artifact was begun and published, in seconds since 1970, the latter known to a second."""
    ended_s = datetime.fromisoformat(artifact.manifest["created_at"]).timestamp()
    return ended_s - artifact.duration_s, ended_s


def work_span(graphs: Iterable[TrialGraph], store: Store) -> dict[str, str]:
    """When the trials' own work began (their first training: what comes before may be shared) and ended, as tags."""
    spans = [
        artifact_span_s(artifact)
        for graph in graphs
        for iteration in graph.iterations
        for node in (iteration.steps.get("train"), *(iteration.scores.values() if iteration.t else ()))
        if node is not None and (artifact := find_artifact(store, node)) is not None
    ]
    if not spans:
        return {}
    started_s, ended_s = min(span[0] for span in spans), max(span[1] for span in spans)
    return {"started_at": _iso_time(started_s), "ended_at": _iso_time(ended_s)}


def _iso_time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")


Item = TypeVar("Item")


class Lazy(Sequence[Item], Generic[Item]):
    """A sequence that is read when it is first looked at."""

    def __init__(self, load: Callable[[], list[Item]]) -> None:
        self._load = load

    @cached_property
    def _items(self) -> list[Item]:
        return self._load()

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)


def _fingerprint(trial: Trial, graph: TrialGraph, present: set[str]) -> str:
    """What determines a trial's record: its settings and, as an artifact never changes, which of them are there."""
    there = [reference for reference in graph.nodes() if reference in present]
    content = [trial.objective, trial.hyperparameters(), there]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def find_prompts(graphs: Iterable[TrialGraph], store: Store) -> list[DatasetRef]:
    """The prompts that the sweep's first iterations started from, each set once."""
    found: dict[str, DatasetRef] = {}
    for graph in graphs:
        first = graph.iterations[0]
        for node in (first.data, first.steps.get("instruct")):
            if node is not None and (artifact := find_artifact(store, node)) is not None:
                name = f"{node.request.stage}_{len(found)}"
                found.setdefault(node.reference, DatasetRef(name, artifact.key, "prompts", str(artifact.path)))
    return list(found.values())
