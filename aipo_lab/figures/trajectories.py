"""Trials as trajectories over their iterations: what every figure is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import (
    SETTING_COLOURS,
    SETTING_MARKERS,
    ObjectiveStyle,
    objective_styles,
    setting_label,
    varying_hyperparameters,
)
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection, SelectionRule, select_per_objective, standard_error


@dataclass(frozen=True)
class Point:
    """One iteration of a trial; lengths in the benchmark's unit, `se` is the standard error of `y`."""

    iteration: int
    x: float
    y: float
    se: float | None


@dataclass(frozen=True)
class Trajectory:
    """The complete points of one trial by iteration; `best_iteration` is set on the best of its objective.

    Where a sweep compares methods, `objective` is the method.
    """

    trial: str
    objective: str
    hyperparameters: dict[str, str]
    points: tuple[Point, ...]
    best_iteration: int | None = None

    @property
    def is_best(self) -> bool:
        """Whether the selection rule chose this trial for its objective."""
        return self.best_iteration is not None

    @property
    def trained(self) -> tuple[Point, ...]:
        """The points after iteration 0."""
        return tuple(point for point in self.points if point.iteration > 0)


@dataclass(frozen=True)
class Legend:
    """How trajectories are told apart: by objective, or by trial where one objective has a few trials."""

    by_trial: bool
    styles: dict[str, ObjectiveStyle]

    def style(self, trajectory: Trajectory) -> ObjectiveStyle:
        """The style the trajectory is drawn in."""
        return self.styles[trajectory.trial if self.by_trial else trajectory.objective]

    def is_bold(self, trajectory: Trajectory) -> bool:
        """Whether the trajectory stands out: the best of its objective, or one with a style of its own."""
        return self.by_trial or trajectory.is_best


def get_legend(rows: Sequence[ResultRow]) -> Legend:
    """Styles for the trials of `rows` that have a complete row."""
    complete = {row.trial: row for row in rows if row.state == "complete"}
    styles = objective_styles(row.contender for row in complete.values())
    if len(styles) != 1 or not 1 < len(complete) <= len(SETTING_COLOURS):
        return Legend(False, styles)
    varying = varying_hyperparameters(complete.values())
    labels = {trial: setting_label(row.hyperparameters, varying) for trial, row in complete.items()}
    looks = zip(labels.items(), SETTING_COLOURS, SETTING_MARKERS, strict=False)
    return Legend(True, {trial: ObjectiveStyle(label or trial, colour, mark) for (trial, label), colour, mark in looks})


def get_trajectories(
    rows: Sequence[ResultRow], x_metric: str | None, y_metric: str, best: dict[str, Selection]
) -> list[Trajectory]:
    """A trajectory per trial with complete points, in palette order; without x_metric, x is the iteration."""
    by_trial: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_trial.setdefault(row.trial, []).append(row)
    order = list(objective_styles(row.contender for row in rows))
    trajectories = [_trajectory(group, x_metric, y_metric, best) for group in by_trial.values()]
    return sorted((t for t in trajectories if t.points), key=lambda t: order.index(t.objective))


def _trajectory(
    group: Sequence[ResultRow], x_metric: str | None, y_metric: str, best: dict[str, Selection]
) -> Trajectory:
    points = []
    for row in sorted(group, key=lambda row: row.iteration):
        x = float(row.iteration) if x_metric is None else row.value(x_metric)
        y = row.value(y_metric)
        if row.state == "complete" and x is not None and y is not None:
            points.append(Point(row.iteration, x, y, standard_error(row, y_metric)))
    chosen = best.get(group[0].contender)
    is_best = chosen is not None and chosen.best.trial == group[0].trial
    best_iteration = chosen.best.iteration if chosen is not None and is_best else None
    return Trajectory(group[0].trial, group[0].contender, group[0].hyperparameters, tuple(points), best_iteration)


def best_trials(rows: Sequence[ResultRow], rule: SelectionRule, metrics: BenchmarkMetrics) -> dict[str, Selection]:
    """The selection of each objective, in palette order."""
    chosen = select_per_objective(rows, rule, metrics)
    return {name: chosen[name] for name in objective_styles(chosen)}


def base_points(trajectories: Sequence[Trajectory]) -> list[tuple[float, float]]:
    """The distinct (x, y) of iteration 0: one, unless the sweep varies the base model or how it is judged."""
    return list(dict.fromkeys((p.x, p.y) for t in trajectories for p in t.points if p.iteration == 0))


def benchmarks_in(rows: Sequence[ResultRow]) -> list[str]:
    """The known benchmarks whose headline metric some complete row carries, in registry order."""
    names = {name for row in rows if row.state == "complete" for name in row.metrics}
    return [name for name in BENCHMARK_METRICS if BENCHMARK_METRICS[name].win_rate in names]
