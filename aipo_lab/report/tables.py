"""The tables of the report: what stands in their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import objective_name, objective_styles, setting_label
from aipo_lab.figures.repeats import get_repeated_paths, labels
from aipo_lab.report.pick_text import point_text, share_text, tie_count_text
from aipo_lab.results.effects import Effect
from aipo_lab.results.per_prompt import NO_VALUES, PromptValues
from aipo_lab.results.points import standard_error
from aipo_lab.results.repeats import Configuration, Estimate, estimate, repeated_rows
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """What a cell shows and, for numbers, the value it sorts by."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """Column headings and rows of cells; `points`: the trial and iteration that each row is about, or nothing."""

    columns: list[str]
    rows: list[list[Cell]]
    points: list[tuple[str, int]] = field(default_factory=list)

    def is_number(self, column: int) -> bool:
        """Whether the column holds numbers, and is therefore set flush right."""
        return any(row[column].value is not None for row in self.rows)


def best_table(rows: Sequence[ResultRow], selections: Mapping[str, Selection], metrics: BenchmarkMetrics) -> Table:
    """The chosen point of each objective: the values to report, growth in length, how sure the pick is, runner-up."""
    shown = headline_metrics(metrics)
    growth = ["length / base"] if metrics.length else []
    columns = ["objective", "hyperparameters", "iteration", *(label for label, _ in shown), *growth]
    table = Table([*columns, "picked again", "not separable", "runner-up"], [])
    for objective in objective_styles(selections):
        selection = selections[objective]
        best, other, certainty = selection.best, selection.runner_up, selection.certainty
        setting = setting_label(best.hyperparameters) or best.trial
        cells = [Cell(objective_name(objective)), Cell(setting), number_cell(best.iteration, 0)]
        cells += [metric_cell(selection.reported, metric) for _, metric in shown]
        table.points.append((best.trial, best.iteration))
        if metrics.length:
            cells.append(number_cell(_growth(rows, selection, metrics.length), 2))
        stability = None if certainty is None else certainty.stability
        cells.append(Cell(MISSING) if stability is None else Cell(share_text(stability), stability))
        cells.append(Cell(tie_count_text(certainty) or MISSING))
        table.rows.append(
            [*cells, Cell(MISSING if other is None else f"{_setting(other)}, iteration {other.iteration}")]
        )
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
        table.points.append((row.trial, row.iteration))
        table.rows.append(cells + [metric_cell(row, metric) for _, metric in shown])
    return table


def repeats_table(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, values: PromptValues = NO_VALUES) -> Table:
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
        cells += [estimate_cell(estimate(group, metric, values), metric) for _, metric in shown]
        table.rows.append([*cells, Cell("yes" if front[label] else "")])
    return table


def estimate_cell(one: Estimate | None, metric: str) -> Cell:
    """`mean ± half of the 95 % interval`; quality, a small number, gets one more decimal."""
    if one is None:
        return Cell(MISSING)
    decimals = 2 if metric.endswith("/quality") else 1
    interval = "" if one.half_width is None else f" ± {one.half_width:.{decimals}f}"
    return Cell(f"{one.mean:.{decimals}f}{interval}", one.mean)


def stage_table(stage_counts: Mapping[str, Mapping[str, int]], seconds: Mapping[str, float]) -> Table:
    """How many artifacts of each stage were computed, shared between trials and reused, and the work in them."""
    kinds = ("computed", "shared", "reused")
    total = sum(seconds.values())
    rows = [
        [
            Cell(stage),
            *(number_cell(counts.get(kind, 0), 0) for kind in kinds),
            number_cell(seconds.get(stage), 1),
            number_cell(100 * seconds[stage] / total if total and stage in seconds else None, 0),
        ]
        for stage, counts in stage_counts.items()
    ]
    return Table(["stage", *kinds, "seconds of work", "% of the work"], rows)


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
    return measure_cell(Effect(value, standard_error(row, metric)), 2 if metric.endswith("/quality") else 1)


def measure_cell(measure: Effect | None, decimals: int = 1) -> Cell:
    """`value ± standard error`."""
    if measure is None:
        return Cell(MISSING)
    error = "" if measure.se is None else f" ± {measure.se:.{decimals}f}"
    return Cell(f"{measure.value:.{decimals}f}{error}", measure.value)


def describe(selection: Selection, metrics: BenchmarkMetrics) -> str:
    """A selected point in a few words: which, how good and how long, on the prompts that report."""
    row, metric = selection.reported, selection.metric
    labels = {metrics.win_rate: metrics.win_rate_label} | {m: label for label, m in headline_metrics(metrics)}
    shown = [metric] if metrics.length is None else [metric, metrics.length]
    measured = [f"{_lower(labels.get(name, name))} {metric_cell(row, name).text}" for name in shown]
    return ", ".join([point_text(selection.best), *measured])


def _lower(label: str) -> str:
    """A label within a sentence: names like AlpacaEval keep their capitals."""
    return label[0].lower() + label[1:] if label[1:2].islower() and label.split()[0].istitle() else label


def _any_cell(value: Any) -> Cell:
    if value is None:
        return Cell(MISSING)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(f"{value:g}" if is_number else str(value), float(value) if is_number else None)


def _setting(row: ResultRow) -> str:
    return setting_label(row.hyperparameters) or row.trial


def _growth(rows: Sequence[ResultRow], selection: Selection, length: str) -> float | None:
    """The length as a multiple of that of the configuration's own base models, both on the same prompts."""
    trials = {row.trial for row in selection.seeds}
    bases = [row for row in rows if row.trial in trials and row.iteration == 0]
    before = [(row.reported_on if selection.halved else row.metrics).get(length) for row in bases]
    known = [value for value in before if value is not None]
    after = selection.reported.value(length)
    return None if not known or not any(known) or after is None else after / fmean(known)
