"""What `aipo-lab compare` shows: sweeps overlaid, paired differences with intervals, and where their recipes differ."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.console.running import say
from aipo_lab.core.jsonl import write_text_atomically
from aipo_lab.figures.pareto import draw_pareto, get_pareto_data
from aipo_lab.report.contender_tables import contender_table, difference_table
from aipo_lab.report.ordering import check_claims
from aipo_lab.report.tables import Cell, Table
from aipo_lab.report.verdict import verdict_sentences
from aipo_lab.results.rows import csv_text
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_per_objective
from aipo_lab.sweeps.comparing import Comparison, compare_sweeps


def show_comparison(folders: tuple[Path, ...], store_root: Path | None, out: Path | None) -> None:
    """Print how sweeps compare, benchmark by benchmark; with `out` also tables (CSV) and figures there.

    Raises `UserError` as `compare_sweeps` does.
    """
    console = Console()
    comparison = compare_sweeps(folders, store_root)
    _say_recipes(console, comparison)
    for benchmark in comparison.benchmarks():
        _show_benchmark(console, comparison, benchmark, out)


def _say_recipes(console: Console, comparison: Comparison) -> None:
    first = comparison.names[0]
    for name, found in comparison.recipes.items():
        differing = "; ".join(change.text() for change in found) or "nothing"
        say(console, f"recipe of {name} against that of {first}: {differing}")
    if unlike := comparison.unlike():
        text = "not the same prompts or base model, so that differences are of more than the training"
        say(console, f"warning: {text}: {'; '.join(unlike)}")


def _show_benchmark(console: Console, comparison: Comparison, benchmark: str, out: Path | None) -> None:
    metrics, rule = BENCHMARK_METRICS[benchmark], parse_rule(comparison.select)
    rows = list(comparison.rows)
    selections = select_per_objective(rows, rule, metrics)
    n_benchmarks = len(comparison.benchmarks())
    ordering = check_claims(rows, selections, metrics, comparison.values, n_benchmarks)
    if ordering.field is None:
        say(console, f"{benchmark}: no sweep has a trained point with a length to compare")
        return
    tables = {"contenders": contender_table(ordering.field)}
    if len(ordering.field.contenders) > 1:
        tables["differences"] = difference_table(ordering.field)
    title = f"{benchmark}: the best configuration of each by {comparison.select}; ±: half of a 95 % interval"
    console.print(_rich(title, tables["contenders"]))
    if "differences" in tables:
        between = Table(tables["differences"].columns, _between_sweeps(tables["differences"]))
        console.print(_rich("between sweeps: the first less the second, prompt by prompt", between))
    for sentence in verdict_sentences(ordering, benchmark, n_benchmarks > 1):
        say(console, sentence)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        lines = [table.columns, *([cell.text for cell in row] for row in table.rows)]
        write_text_atomically(out / f"{name}_{benchmark}.csv", csv_text(lines))
    figures = draw_pareto(get_pareto_data(rows, metrics, rule), out / f"pareto_{benchmark}")
    say(console, f"{benchmark}: {', '.join(str(path) for path in figures)}")


def _between_sweeps(table: Table) -> list[list[Cell]]:
    """The pairs of different sweeps: what stands within one is in its own report."""
    ends = [[side.rpartition(" (")[2] for side in row[0].text.split(" – ")] for row in table.rows]
    return [row for row, (one, other) in zip(table.rows, ends, strict=True) if one != other]


def _rich(title: str, table: Table) -> RichTable:
    made = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(table.columns):
        made.add_column(column, justify="right" if table.is_number(number) else "left", overflow="fold")
    for row in table.rows:
        made.add_row(*(cell.text for cell in row))
    return made
