"""Result rows as a table for 80 columns."""

from __future__ import annotations

from rich.table import Table

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.results.rows import ResultRow


def result_table(title: str, benchmark: str, rows: list[ResultRow]) -> Table:
    """The headline metrics of `rows` on one benchmark; only the win rate with its standard error, for 80 columns."""
    metrics = BENCHMARK_METRICS[benchmark]
    table = Table(title=title, title_justify="left")
    table.add_column("trial", overflow="fold")
    table.add_column("iter.", justify="right")
    shown = {
        win_rate_heading(metrics): metrics.win_rate,
        "LC %": metrics.lc_win_rate,
        "true %": metrics.true_win_rate,
        "quality": metrics.quality,
        "length": metrics.length,
    }
    columns = {title: name for title, name in shown.items() if name is not None}
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = (shown_value(row, name, with_error=name == metrics.win_rate) for name in columns.values())
        table.add_row(row.trial, str(row.iteration), *cells)
    return table


def win_rate_heading(metrics: BenchmarkMetrics) -> str:
    """What the column of a benchmark's headline metric is called."""
    if metrics.win_rate.endswith("/score"):
        return "score"
    name = metrics.win_rate.split("/")[1]
    if "win_rate" not in name:  # a benchmark that compares with nobody
        return f"{name} %"
    return "judged %" if metrics.true_win_rate else "win %"


def shown_value(row: ResultRow, metric: str | None, with_error: bool = True) -> str:
    """A value, with its standard error where it has one."""
    value = None if metric is None else row.value(metric)
    if metric is None or value is None:
        return ""
    error = row.standard_error(metric)
    digits = 1 if abs(value) >= 5 else 2
    return f"{value:.{digits}f}" + (f"±{error:.{digits}f}" if error and with_error else "")
