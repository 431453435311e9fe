"""Trials as paths over their iterations, in one tidy table: what the figures of results are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

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
from aipo_lab.results.points import mean_row, standard_error
from aipo_lab.results.repeats import NORMAL_95, estimate, repeated_rows
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule
from aipo_lab.results.selection import Selection, select_per_objective

if TYPE_CHECKING:
    from pandas import DataFrame

ITERATION = "iteration"
TRUE_LABEL = "Win rate by true quality (%)"
LC_LABEL = "Length-controlled win rate (%)"
PATH_COLUMNS = (
    *("x_metric", "y_metric", "trial", "objective", "setting", "iteration"),
    *("x", "x_se", "y", "y_se", "best_trial", "best"),
)


def get_paths(
    rows: Sequence[ResultRow],
    metrics: BenchmarkMetrics,
    rule: SelectionRule,
    x_metric: str | None,
    y_metrics: Sequence[str | None],
) -> DataFrame:
    """The complete points of all trials, a line for each and for each of `y_metrics` that it has.

    Columns: `x_metric`, `y_metric`; `trial`, `objective` (the method, where methods compete), `setting` (what varies
    within the objective), `iteration`; `x`, `x_se`, `y`, `y_se` with standard errors, NaN where there are none; then
    each hyperparameter under its name, as text. `best` marks the point that the rule picks for its objective,
    `best_trial` all points of that trial. Without `x_metric`, x is the iteration. Trials that differ in their seed
    alone are one, their mean, named after the first. Objectives are in palette order, a path's points by iteration.
    """
    import pandas as pd

    means = mean_rows(rows)
    best = {one.best.trial: one.best.iteration for one in best_points(means, rule, metrics).values()}
    settings = _settings(means)
    order = {name: place for place, name in enumerate(objective_styles(row.contender for row in rows))}
    lines = [
        _line(row, x_metric, y_metric, best) | {"setting": settings[row.trial]} | _texts(row)
        for y_metric in y_metrics
        for row in sorted(means, key=lambda row: (order[row.contender], row.trial, row.iteration))
        if y_metric is not None and row.state == "complete" and row.value(y_metric) is not None
        if x_metric is None or row.value(x_metric) is not None
    ]
    names = dict.fromkeys([*PATH_COLUMNS, *(name for line in lines for name in line)])
    return pd.DataFrame(lines, columns=list(names))


def _line(row: ResultRow, x_metric: str | None, y_metric: str, best: dict[str, int]) -> dict[str, object]:
    x = float(row.iteration) if x_metric is None else row.value(x_metric)
    x_se = None if x_metric is None else standard_error(row, x_metric)
    y_se = standard_error(row, y_metric)
    return {
        **{"x_metric": x_metric or ITERATION, "y_metric": y_metric, "trial": row.trial, "objective": row.contender},
        **{"iteration": row.iteration, "x": x, "x_se": math.nan if x_se is None else x_se},
        **{"y": row.value(y_metric), "y_se": math.nan if y_se is None else y_se},
        **{"best_trial": row.trial in best, "best": best.get(row.trial) == row.iteration},
    }


def _texts(row: ResultRow) -> dict[str, str]:
    return {name: text for name, text in row.hyperparameters.items() if name not in PATH_COLUMNS}


def _settings(rows: Sequence[ResultRow]) -> dict[str, str]:
    """By trial: the hyperparameters that vary within its objective, as printed."""
    by_objective: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_objective.setdefault(row.contender, []).append(row)
    varying = {name: varying_hyperparameters(group) for name, group in by_objective.items()}
    return {row.trial: short_label(row.hyperparameters, varying[row.contender]) for row in rows}


def short_label(hyperparameters: dict[str, str], only: Sequence[str]) -> str:
    """`setting_label` with the last parts of recipe keys and of paths, where they tell the settings apart."""
    ends = [name.rpartition(".")[2] for name in only]
    short = {end if ends.count(end) == 1 else name: name for name, end in zip(only, ends, strict=True)}
    known = {end: hyperparameters[name].rpartition("/")[2] for end, name in short.items() if name in hyperparameters}
    return setting_label(known)


def mean_rows(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows with repeats under other seeds replaced by their mean; errors then hold the variance between seeds."""
    means = []
    for group in repeated_rows(rows).values():
        metrics: dict[str, float] = {}
        for name in group[0].metrics:
            found = estimate(group, name) if not name.endswith("_se") else None
            if found is not None:
                metrics[name] = found.mean
                errors = [one for row in group if (one := standard_error(row, name)) is not None]
                error = found.half_width / NORMAL_95 if found.half_width is not None else fmean(errors or [math.nan])
                metrics |= {f"{name}_se": error} if math.isfinite(error) else {}
        kept = {name: text for name, text in group[0].hyperparameters.items() if name != "seed"}
        means.append(replace(mean_row(group), hyperparameters=kept, metrics=metrics))
    return means or list(rows)


def best_points(rows: Sequence[ResultRow], rule: SelectionRule, metrics: BenchmarkMetrics) -> dict[str, Selection]:
    """The selection of each objective, in palette order."""
    chosen = select_per_objective(rows, rule, metrics)
    return {name: chosen[name] for name in objective_styles(chosen)}


def axis_label(metric: str) -> str:
    """What an axis of a metric says, with its unit."""
    if metric == ITERATION:
        return "Iteration"
    metrics = BENCHMARK_METRICS[metric.split("/")[0]]
    known = {
        metrics.win_rate: metrics.win_rate_label,
        metrics.length: metrics.length_label,
        metrics.true_win_rate: TRUE_LABEL,
        metrics.lc_win_rate: LC_LABEL,
        metrics.quality: "True quality",
    }
    return known[metric]


@dataclass(frozen=True)
class Legend:
    """How paths are told apart: by objective, or by trial where one objective has a few trials."""

    by_trial: bool
    styles: dict[str, ObjectiveStyle]

    def style(self, trial: str, objective: str) -> ObjectiveStyle:
        """The style a trial's path is drawn in."""
        return self.styles[trial if self.by_trial else objective]


def get_legend(paths: DataFrame) -> Legend:
    """Styles for the trials of a table of paths."""
    trials = paths.drop_duplicates("trial")
    styles = objective_styles(paths["objective"])
    if len(styles) != 1 or not 1 < len(trials) <= len(SETTING_COLOURS):
        return Legend(False, styles)
    looks = zip(trials["trial"], trials["setting"], SETTING_COLOURS, SETTING_MARKERS, strict=False)
    return Legend(True, {trial: ObjectiveStyle(label or trial, colour, mark) for trial, label, colour, mark in looks})


def joined(paths: DataFrame) -> tuple[list[float], list[float]]:
    """The x and y of many trials as one line with a gap after each, which draws fast however many there are."""
    xs: list[float] = []
    ys: list[float] = []
    for _, path in paths.groupby("trial", sort=False):
        xs += [*path["x"], math.nan]
        ys += [*path["y"], math.nan]
    return xs, ys


def base_points(paths: DataFrame) -> DataFrame:
    """The distinct points of iteration 0: one, unless the sweep varies the base model or how it is judged."""
    return paths[paths["iteration"] == 0].drop_duplicates(["x", "y"])


def benchmarks_in(rows: Sequence[ResultRow]) -> list[str]:
    """The known benchmarks whose headline metric some complete row carries, in registry order."""
    names = {name for row in rows if row.state == "complete" for name in row.metrics}
    return [name for name in BENCHMARK_METRICS if BENCHMARK_METRICS[name].win_rate in names]
