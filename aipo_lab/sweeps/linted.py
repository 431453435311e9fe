"""What the data linter finds in a sweep: its rules applied to every iteration's data and training in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import Artifact, Store
from aipo_lab.curation.pair_statistics import PairStatistics
from aipo_lab.pipeline.graph import Iteration, TrialGraph
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.report.linting import DataFacts, Finding, TrainingDrift, lint, training_drift
from aipo_lab.sweeps.collect import find_artifact

OF_TRAINING = ("chosen_falls", "margin_by_rejected")
"""Rules about what a training did; all others are about the pairs."""


@dataclass(frozen=True)
class LintedPoint:
    """A finding, and the first trial and iteration it was found in."""

    trial: str
    iteration: int
    finding: Finding
    stage_key: str

    @property
    def row(self) -> tuple[str, str, int, str]:
        """As the report lists it: rule, trial, iteration and what was found."""
        return self.finding.rule.name, self.trial, self.iteration, self.finding.what

    @property
    def text(self) -> str:
        """Where and what."""
        of = "training" if self.finding.rule.name in OF_TRAINING else "pairs"
        return f"{of} of {self.trial}, iteration {self.iteration}: {self.finding.text}"


def lint_sweep(trials: Mapping[str, TrialGraph], recipes: Mapping[str, Recipe], store: Store) -> list[LintedPoint]:
    """The findings of all trials and iterations, as far as their stages are stored; what trials share is said once."""
    found: dict[tuple[str, str], LintedPoint] = {}
    for name, graph in trials.items():
        earlier: float | None = None
        for iteration in graph.iterations:
            facts = _facts(iteration, recipes[name], store, earlier)
            earlier = facts.pair_yield
            for finding in lint(facts):
                key = _key(iteration, finding)
                found.setdefault((key, finding.text), LintedPoint(name, iteration.t, finding, key))
    return list(found.values())


def grouped(points: list[LintedPoint]) -> list[str]:
    """One line a rule for the terminal: the first place it was found in, and how many more there are."""
    by_rule: dict[str, list[LintedPoint]] = {}
    for point in points:
        by_rule.setdefault(point.finding.rule.name, []).append(point)
    lines = []
    for several in by_rule.values():
        more = len(several) - 1
        lines.append(several[0].text + (f" (and {more} more like it: see the report)" if more else ""))
    return lines


def _key(iteration: Iteration, finding: Finding) -> str:
    steps = iteration.steps
    node = steps.get("train") if finding.rule.name in OF_TRAINING else steps.get("pair")
    assert node is not None, "a finding is about a stage"
    return node.key


def _facts(iteration: Iteration, recipe: Recipe, store: Store, earlier: float | None) -> DataFacts:
    found = {
        stage: artifact
        for stage in ("respond", "rank", "pair", "train")
        if (node := iteration.steps.get(stage)) is not None and (artifact := find_artifact(store, node)) is not None
    }
    respond, rank, pair = (_summary(found.get(stage)) for stage in ("respond", "rank", "pair"))
    statistics = pair.get("statistics")  # pairs made by an earlier version have none
    counts = dict(pair.get("counts", {}))
    counts.pop("other_iterations", None)
    return DataFacts(
        statistics=None if statistics is None else PairStatistics.from_summary(statistics),
        counts=counts,
        earlier_yield=earlier,
        prompts=rank.get("prompts"),
        all_tied=rank.get("all_tied"),
        responses=respond.get("responses"),
        truncated=respond.get("truncated"),
        drift=_drift(found.get("train"), iteration.t, recipe),
    )


def _summary(artifact: Artifact | None) -> dict[str, Any]:
    return {} if artifact is None else artifact.summary


def _drift(training: Artifact | None, t: int, recipe: Recipe) -> TrainingDrift | None:
    if training is None:
        return None
    definition = recipe.objective.definition
    beta = recipe.objective.at(t).hyperparameters.get("beta", 1.0)
    curve = read_jsonl(training.file("curve.jsonl"))
    return training_drift(curve, beta, definition.reference_free, definition.length_normalised)
