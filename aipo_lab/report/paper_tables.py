"""The paper's tables with a sweep's own numbers beside them: what stands in them.

Numbers of the paper and of the sweep are never in one block: benchmarks, models and sizes differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.config import parse_yaml, suggest
from aipo_lab.core.errors import UserError
from aipo_lab.figures.palette import objective_name, setting_label
from aipo_lab.report.tables import headline_metrics
from aipo_lab.results.repeats import NORMAL_95, estimate
from aipo_lab.results.rows import PAIRS, ResultRow

HIGHEST_ITERATION = ("table3",)
"""Tables of the iteration that wins most; the others are of the last one."""
OF_PAIRS = ("table2",)
"""Tables about the pairs that the base model's policy is trained on first."""
PAIR_METRICS = {
    f"{PAIRS}/word_similarity": "Shared words",
    f"{PAIRS}/s_ref": "s_ref",
    f"{PAIRS}/agreement": "s_ref > 0 (%)",
}


@dataclass(frozen=True)
class Number:
    """A value and, for the sweep's own, half the width of its 95 % interval."""

    value: float
    half_width: float | None = None


@dataclass(frozen=True)
class TableRow:
    """A row: whose numbers they are, and the row of the paper a sweep's own stands beside."""

    label: str
    beside: str
    numbers: dict[str, Number]
    seeds: int = 1


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper and the sweep's. `columns`: headings by metric, in order, of either block."""

    name: str
    title: str
    source: str
    paper_columns: dict[str, str]
    paper: list[TableRow]
    sweep_name: str
    sweep_columns: dict[str, str]
    sweep: list[TableRow]


@cache
def published_tables() -> Mapping[str, Any]:
    """The paper's tables as the data file has them."""
    text = (resources.files("aipo_lab.report") / "paper_tables.yaml").read_text(encoding="utf-8")
    tables: Mapping[str, Any] = parse_yaml(text)
    return tables


def get_paper_table(name: str, sweep_name: str, rows: Sequence[ResultRow]) -> PaperTable:
    """The table `table1` to `table5` with the results of a sweep.

    A sweep's number is the mean over seeds with its 95 % interval (`aipo_lab.results.repeats`); with one seed the
    interval is over the benchmark's prompts alone. Raises `UserError` for an unknown table and where the sweep has no
    complete row that belongs into it.
    """
    if name not in published_tables():
        raise UserError(f"{name!r} is no table that can be set beside a sweep; {suggest(name, [*published_tables()])}")
    published = published_tables()[name]
    columns: dict[str, str] = dict(published["columns"])
    paper = [TableRow(row["label"], "", _printed(row["values"], list(columns))) for row in published["rows"]]
    sweep_columns = _sweep_columns(name, columns, rows)
    chosen = _chosen_rows(name, rows)
    sweep = [_sweep_row(name, group, sweep_columns, published["rows"]) for group in chosen]
    if not sweep or not sweep_columns:
        needed = "analysed pairs (recipe section analysis)" if name in OF_PAIRS else "a complete trained iteration"
        raise UserError(f"{sweep_name} has nothing to set beside {name}: it needs {needed}")
    return PaperTable(name, published["title"], published["source"], columns, paper, sweep_name, sweep_columns, sweep)


def _printed(values: Sequence[float | None], metrics: Sequence[str]) -> dict[str, Number]:
    return {metric: Number(value) for metric, value in zip(metrics, values, strict=True) if value is not None}


def _sweep_columns(name: str, columns: Mapping[str, str], rows: Sequence[ResultRow]) -> dict[str, str]:
    """The paper's columns that the sweep has, then those of its own benchmarks that stand where the paper's do."""
    present = {metric for row in rows if row.state == "complete" for metric in row.metrics}
    own = {metric: heading for metric, heading in columns.items() if metric in present}
    if name in OF_PAIRS:
        return own | {metric: heading for metric, heading in PAIR_METRICS.items() if metric in present}
    for benchmark, metrics in BENCHMARK_METRICS.items():
        found = {metric: f"{benchmark}: {label}" for label, metric in headline_metrics(metrics) if metric in present}
        own |= {metric: label for metric, label in found.items() if metric not in own}
    return own


def _chosen_rows(name: str, rows: Sequence[ResultRow]) -> list[list[ResultRow]]:
    """The rows behind each line, those that differ in their seed alone together."""
    groups: dict[str, dict[int, list[ResultRow]]] = {}
    for row in rows:
        if row.state == "complete" and (row.iteration > 0) == (name not in OF_PAIRS):
            if name in OF_PAIRS and row.value(f"{PAIRS}/s_ref") is None:
                continue
            groups.setdefault(_configuration(row), {}).setdefault(row.iteration, []).append(row)
    return [_iteration(name, by_iteration) for by_iteration in groups.values()]


def _configuration(row: ResultRow) -> str:
    return repr((row.objective, sorted((k, v) for k, v in row.hyperparameters.items() if k != "seed")))


def _iteration(name: str, by_iteration: Mapping[int, list[ResultRow]]) -> list[ResultRow]:
    """The last iteration that as many seeds reached as any, or the one that wins most."""
    most = max(map(len, by_iteration.values()))
    whole = {t: group for t, group in by_iteration.items() if len(group) == most}
    metric = _headline(next(iter(whole.values())))
    if name not in HIGHEST_ITERATION or metric is None:
        return whole[max(whole)]
    return max(whole.values(), key=lambda group: sum(row.metrics.get(metric, 0.0) for row in group))


def _headline(group: Sequence[ResultRow]) -> str | None:
    """The win rate that chooses an iteration: Arena-Hard's, as in the paper, else the first there is."""
    wanted = ["arena_hard/win_rate", *(metrics.win_rate for metrics in BENCHMARK_METRICS.values())]
    return next((metric for metric in wanted if metric in group[0].metrics), None)


def _sweep_row(
    name: str, group: list[ResultRow], columns: Mapping[str, str], published: Sequence[Mapping[str, Any]]
) -> TableRow:
    first = group[0]
    left_out = ("seed", *(key for key in first.hyperparameters if key.startswith("objective.")))  # shown by symbol
    settings = {key: value for key, value in first.hyperparameters.items() if key not in left_out}
    method = settings.pop("method", None)
    where = "" if name in OF_PAIRS else f", iteration {first.iteration}"
    label = f"{method or objective_name(first.objective)} {setting_label(settings)}".strip() + where
    numbers = {metric: number for metric in columns if (number := _number(group, metric)) is not None}
    return TableRow(label, _beside(first, published), numbers, len(group))


def _number(group: Sequence[ResultRow], metric: str) -> Number | None:
    made = estimate(group, metric)
    if made is None:
        return None
    if made.half_width is not None or len(group) > 1:
        return Number(made.mean, made.half_width)
    low, high = group[0].value(f"{metric}_ci_low"), group[0].value(f"{metric}_ci_high")
    if low is not None and high is not None:
        return Number(made.mean, (high - low) / 2)
    error = group[0].standard_error(metric)
    return Number(made.mean, None if error is None else NORMAL_95 * error)


def _beside(row: ResultRow, published: Sequence[Mapping[str, Any]]) -> str:
    """The paper's row that the settings of a sweep's row make it, if one."""
    for one in published:
        where = one.get("where") or {}
        if where and where.items() <= row.hyperparameters.items():
            return str(one["label"])
    return ""
