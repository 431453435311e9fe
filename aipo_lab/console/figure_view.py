"""What `aipo-lab figure` does and shows: one figure or table of the paper, from a sweep's results."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.console.running import say
from aipo_lab.core.config import suggest
from aipo_lab.core.errors import UserError
from aipo_lab.figures.catalogue import ROW_FIGURES
from aipo_lab.figures.pairs import FIGURES, draw_pairs
from aipo_lab.figures.style import Look
from aipo_lab.figures.training import draw_training
from aipo_lab.report.paper_tables import published_tables
from aipo_lab.results.rules import parse_rule
from aipo_lab.sweeps.collect import pair_analyses
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.study import Study

if TYPE_CHECKING:
    from aipo_lab.results.rows import ResultRow

TRAINING, TABLE6 = "training", "table6"


@dataclass(frozen=True)
class Entry:
    """A figure or table that can be asked for by `names`, what it is and what it needs."""

    names: tuple[str, ...]
    title: str
    needs: str
    make: Callable[[Study, list[ResultRow], Look, Path | None], list[Path]]


def entries() -> list[Entry]:
    """All figures by the paper's numbers, then the others, then the tables."""
    made = [_of_rows(name) for name in ROW_FIGURES]
    made += [
        Entry(("4", TRAINING), "Rewards and log-probabilities in training", "training curves in the store", _training),
        _of_pairs("5", "figure5_pairs", "Log-probability by length"),
        _of_pairs("6", "figure6_pairs", "s_ref by length difference"),
    ]
    made.sort(key=lambda one: (not one.names[0].isdigit(), one.names[0] if one.names[0].isdigit() else ""))
    made += [_of_table(name) for name in published_tables()]
    made.append(Entry((TABLE6,), "What was searched of each objective", "a trial with a complete iteration", _table6))
    return made


def list_figures() -> None:
    """Say what figures and tables there are, and what each needs."""
    console = Console()
    width = max(len(", ".join(one.names)) for one in entries())
    for one in entries():
        say(console, f"{', '.join(one.names):<{width}}  {one.title}")
        say(console, f"{'':<{width}}    needs {one.needs}")


def make_figure(name: str, path: Path, store_root: Path | None, look: Look, out: Path | None) -> None:
    """Write the files of a figure or table and say where they are; a table is printed too.

    `out`: the folder for them, if not the sweep's own. Raises `UserError` for an unknown name, and where the sweep has
    not what it needs.
    """
    console = Console()
    wanted = re.sub(r"^figure_?(?=\d)", "", name.strip().lower())
    entry = next((one for one in entries() if wanted in one.names), None)
    if entry is None:
        raise UserError(f"there is no {name!r}; {suggest(wanted, [one for e in entries() for one in e.names])}")
    study = Study.reopen(SweepFolder(path), store_root)
    written = entry.make(study, study.pickable_rows(), look, out)
    if not written:
        raise UserError(f"{path} has no data for {entry.names[0]} ({entry.title.lower()}): it needs {entry.needs}")
    for one in written:
        if one.suffix == ".md":
            say(console, one.read_text(encoding="utf-8"))
    for one in written:
        say(console, str(one))


def _stem(study: Study, look: Look, out: Path | None, name: str) -> Path:
    return (out or study.folder.figures) / (name if look.style == "paper" else f"{name}_{look.style}")


def _of_rows(name: str) -> Entry:
    figure = ROW_FIGURES[name]

    def make(study: Study, rows: list[ResultRow], look: Look, out: Path | None) -> list[Path]:
        rule = parse_rule(study.sweep.select)
        shown = f"figure{figure.number}" if figure.number else name
        written = []
        for benchmark in study.benchmarks(rows):
            data = figure.get(rows, BENCHMARK_METRICS[benchmark], rule)
            written += figure.draw(data, _stem(study, look, out, f"{shown}_{benchmark}"), look)
        return written

    return Entry((figure.number, name) if figure.number else (name,), figure.title, figure.needs, make)


def _training(study: Study, rows: list[ResultRow], look: Look, out: Path | None) -> list[Path]:
    data = study.training_data(rows)
    return [] if data is None else draw_training(data, _stem(study, look, out, "figure4"), look)


def _of_pairs(number: str, name: str, title: str) -> Entry:
    def make(study: Study, _: list[ResultRow], look: Look, out: Path | None) -> list[Path]:
        analyses = pair_analyses(study.graph.trials, list(study.graph.trials), study.store)
        return draw_pairs(FIGURES[name](analyses), _stem(study, look, out, name), look)

    return Entry((number, name), title, "analysed pairs; run the sweep with --set analysis.similarity=words", make)


def _of_table(name: str) -> Entry:
    def make(study: Study, rows: list[ResultRow], _: Look, out: Path | None) -> list[Path]:
        return study.write_table(name, rows, out)

    needs = "analysed pairs" if name == "table2" else "a trial with a complete iteration"
    return Entry((name,), str(published_tables()[name]["title"]), needs, make)


def _table6(study: Study, rows: list[ResultRow], _: Look, out: Path | None) -> list[Path]:
    from aipo_lab.report.table_data import get_table6_data, write_table6

    names = study.benchmarks(rows)
    if not names:
        return []
    metrics = BENCHMARK_METRICS[names[0]]
    data = get_table6_data(rows, parse_rule(study.sweep.select), metrics)
    return [] if data.empty else write_table6(data, metrics, out or study.folder.path / "tables")
