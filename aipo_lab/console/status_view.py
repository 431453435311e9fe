"""What `aipo-lab status` shows: how far a sweep is, and its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.console.result_table import shown_value, win_rate_heading
from aipo_lab.console.running import say
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.linted import grouped
from aipo_lab.sweeps.study import Study


def show_status(path: Path, store_root: Path | None) -> dict[str, str]:
    """Print how far a sweep is and its results, and change nothing; returns failure reasons by trial.

    `store_root`: where the store is, if not where the folder says.
    """
    console = Console()
    study = Study.reopen(SweepFolder(path), store_root)
    rows = study.rows()
    table = Table(title=f"{study.sweep.name} ({study.sweep.profile})", title_justify="left")
    for name, justify in (("trial", "left"), ("state", "left"), ("iterations", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    benchmark = next(iter(study.benchmarks(rows)), None)
    metrics = BENCHMARK_METRICS[benchmark] if benchmark else None
    for title in (win_rate_heading(metrics) if metrics else "win %", "length"):
        table.add_column(title, justify="right")
    for trial in study.sweep.trials:
        own = [row for row in rows if row.trial == trial.name]
        done = [row for row in own if row.state == "complete"]
        unfinished = "in part" if len(done) > 1 else "pending"
        state = "failed" if trial.name in study.failures else "complete" if len(done) == len(own) else unfinished
        shown = [shown_value(done[-1], name) if done else "" for name in _headline(metrics)]
        table.add_row(trial.name, state, f"{max(len(done) - 1, 0)}/{trial.recipe.iterations}", *shown)
    console.print(table)
    plans = study.plan()
    console.print(f"{sum(p.stored for p in plans)} of {sum(p.distinct for p in plans)} stages stored")
    if missing := study.missing_text():
        say(console, missing)
    for warning in grouped(study.lint()):
        say(console, f"data: {warning}")
    for trial_name, reason in study.failures.items():
        console.print(f"[red]failed[/red] {trial_name}: {escape(reason)}", highlight=False, soft_wrap=True)
    return study.failures


def _headline(metrics: Any) -> tuple[str | None, str | None]:
    return (metrics.win_rate, metrics.length) if metrics else (None, None)
