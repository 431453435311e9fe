"""The tables of the report: what stands in their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import objective_name, objective_styles, setting_label
from aipo_lab.figures.repeats import get_repeated_paths, labels
from aipo_lab.report.claims import Measure, Ordering
from aipo_lab.results.repeats import Configuration, Estimate, estimate, repeated_rows
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection, standard_error

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """What a cell shows and, for numbers, the value it sorts by."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """Column headings and rows of cells."""

    columns: list[str]
    rows: list[list[Cell]]

    def is_number(self, column: int) -> bool:
        """Whether the column holds numbers, and is therefore set flush right."""
        return any(row[column].value is not None for row in self.rows)


def best_table(rows: Sequence[ResultRow], selections: Mapping[str, Selection], metrics: BenchmarkMetrics) -> Table:
    """The chosen trial of each objective, with its metrics, growth in length and the runner-up's distance."""
    shown = headline_metrics(metrics)
    growth = ["length / base"] if metrics.length else []
    columns = ["objective", "hyperparameters", "iteration", *(label for label, _ in shown), *growth]
    table = Table([*columns, "runner-up", "lead in SE"], [])
    for objective in objective_styles(selections):
        selection = selections[objective]
        best, other = selection.best, selection.runner_up
        setting = setting_label(best.hyperparameters) or best.trial
        cells = [Cell(objective_name(objective)), Cell(setting), number_cell(best.iteration, 0)]
        cells += [metric_cell(best, metric) for _, metric in shown]
        if metrics.length:
            cells.append(number_cell(_growth(rows, best, metrics.length), 2))
        runner_up = MISSING if other is None else f"{_setting(other)}, iteration {other.iteration}"
        cells += [Cell(runner_up), number_cell(selection.gap_se, 1, signed=True)]
        table.rows.append(cells)
    return table


def contender_table(ordering: Ordering, metrics: BenchmarkMetrics) -> Table:
    """The numbers behind the claims: best trial of each objective at the last common iteration."""
    true = any(c.true_win_rate is not None for c in ordering.contenders)
    columns = ["objective", "hyperparameters", "iteration", metrics.length_label, metrics.win_rate_label]
    columns += ["Win rate by true quality (%)"] if true else []
    if ordering.matched_length is not None:
        columns.append(f"Win rate at length {ordering.matched_length:.1f} (%)")
    table = Table(columns, [])
    for c in ordering.contenders:
        cells = [Cell(objective_name(c.objective)), Cell(setting_label(c.hyperparameters) or c.trial)]
        cells += [number_cell(c.iteration, 0), measure_cell(c.length), measure_cell(c.win_rate)]
        cells += [measure_cell(c.true_win_rate)] if true else []
        cells += [measure_cell(c.matched_win_rate)] if ordering.matched_length is not None else []
        table.rows.append(cells)
    return table


def result_table(rows: Sequence[ResultRow], benchmarks: Sequence[str]) -> Table:
    """Every row with the headline metrics of every benchmark."""
    several = len(benchmarks) > 1
    shown = [
        (f"{name}: {label}" if several else label, metric)
        for name in benchmarks
        for label, metric in headline_metrics(BENCHMARK_METRICS[name])
    ]
    table = Table(["trial", "objective", "hyperparameters", "iteration", "state", *(s[0] for s in shown)], [])
    for row in rows:
        cells = [
            Cell(row.trial),
            Cell(objective_name(row.objective)),
            Cell(setting_label(row.hyperparameters)),
        ]
        cells += [number_cell(row.iteration, 0), Cell(row.state)]
        table.rows.append(cells + [metric_cell(row, metric) for _, metric in shown])
    return table


def repeats_table(rows: Sequence[ResultRow], metrics: BenchmarkMetrics) -> Table:
    """The configurations that ran with several seeds, after their last iteration; no rows without several seeds."""
    shown = headline_metrics(metrics)
    table = Table(["configuration", "iteration", "seeds", *(label for label, _ in shown), "on the front"], [])
    if metrics.length is None:
        return table
    groups = repeated_rows(rows)
    names = labels(rows)
    front = {path.label: path.on_front for path in get_repeated_paths(rows, metrics.length, metrics.win_rate)}
    last: dict[str, Configuration] = {}
    for one in sorted(groups, key=lambda one: one.iteration):
        last[names[replace(one, iteration=0)]] = one
    for label in front:
        group = groups[last[label]]
        cells = [Cell(label), number_cell(last[label].iteration, 0), number_cell(len(group), 0)]
        cells += [estimate_cell(estimate(group, metric), metric) for _, metric in shown]
        table.rows.append([*cells, Cell("yes" if front[label] else "")])
    return table


def estimate_cell(one: Estimate | None, metric: str) -> Cell:
    """`mean ± half of the 95 % interval`; quality, a small number, gets one more decimal."""
    if one is None:
        return Cell(MISSING)
    decimals = 2 if metric.endswith("/quality") else 1
    interval = "" if one.half_width is None else f" ± {one.half_width:.{decimals}f}"
    return Cell(f"{one.mean:.{decimals}f}{interval}", one.mean)


def stage_table(stage_counts: Mapping[str, Mapping[str, int]]) -> Table:
    """How many artifacts of each stage were computed, shared between trials and reused from the store."""
    kinds = ("computed", "shared", "reused")
    rows = [
        [Cell(stage), *(number_cell(counts.get(kind, 0), 0) for kind in kinds)]
        for stage, counts in stage_counts.items()
    ]
    return Table(["stage", *kinds], rows)


def counts_table(pipeline_counts: Sequence[Mapping[str, Any]]) -> Table:
    """What the pipeline counted per trial and iteration; the columns are the keys met, in order."""
    columns = list(dict.fromkeys(key for counts in pipeline_counts for key in counts))
    rows = [[_any_cell(counts.get(column)) for column in columns] for counts in pipeline_counts]
    return Table([column.replace("_", " ") for column in columns], rows)


def headline_metrics(metrics: BenchmarkMetrics) -> list[tuple[str, str]]:
    """(column heading, metric) of what a benchmark is about."""
    candidates = [
        (metrics.win_rate_label, metrics.win_rate),
        ("Length-controlled win rate (%)", metrics.lc_win_rate),
        ("Win rate by true quality (%)", metrics.true_win_rate),
        ("True quality", metrics.quality),
        (metrics.length_label, metrics.length),
    ]
    return [(label, metric) for label, metric in candidates if metric is not None]


def number_cell(value: float | None, decimals: int, signed: bool = False) -> Cell:
    """A number with so many decimals; a dash where there is none."""
    if value is None:
        return Cell(MISSING)
    return Cell(f"{value:{'+' if signed else ''}.{decimals}f}", float(value))


def metric_cell(row: ResultRow, metric: str) -> Cell:
    """A metric with its standard error; quality, a small number, gets one more decimal."""
    value = row.value(metric)
    if value is None:
        return Cell(MISSING)
    return measure_cell(Measure(value, standard_error(row, metric)), 2 if metric.endswith("/quality") else 1)


def measure_cell(measure: Measure | None, decimals: int = 1) -> Cell:
    """`value ± standard error`."""
    if measure is None:
        return Cell(MISSING)
    error = "" if measure.se is None else f" ± {measure.se:.{decimals}f}"
    return Cell(f"{measure.value:.{decimals}f}{error}", measure.value)


def describe(selection: Selection, metrics: BenchmarkMetrics) -> str:
    """One sentence on a selected point: which, how good, how long, and how clearly ahead."""
    best, other = selection.best, selection.runner_up
    length = ""
    if metrics.length is not None:
        length = f", {metrics.length_label.lower()} {metric_cell(best, metrics.length).text}"
    text = f"{_point(best)}: {selection.metric} {metric_cell(best, selection.metric).text}{length}."
    if other is None:
        return text
    gap = "" if selection.gap_se is None else f", {selection.gap_se:+.1f} standard errors from it"
    return f"{text} Runner-up: {_point(other)}{gap}."


def _point(row: ResultRow) -> str:
    return f"{objective_name(row.contender)} {_setting(row)} at iteration {row.iteration}"


def _any_cell(value: Any) -> Cell:
    if value is None:
        return Cell(MISSING)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(f"{value:g}" if is_number else str(value), float(value) if is_number else None)


def _setting(row: ResultRow) -> str:
    return setting_label(row.hyperparameters) or row.trial


def _growth(rows: Sequence[ResultRow], best: ResultRow, length: str) -> float | None:
    """The length as a multiple of that of the trial's own base model."""
    base = [row.value(length) for row in rows if row.trial == best.trial and row.iteration == 0]
    after = best.value(length)
    if not base or not base[0] or after is None:
        return None
    return after / base[0]
