"""What `aipo-lab sweep` and `aipo-lab run` show: progress, the final table, and where everything is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.console.display import SweepDisplay
from aipo_lab.console.result_table import result_table
from aipo_lab.console.running import (
    RunOutcome,
    command_text,
    say,
    say_spent,
    say_stopped,
    say_unwritten,
    stop_signals,
)
from aipo_lab.console.time_left import TimeEstimate, format_duration
from aipo_lab.core.store import Store
from aipo_lab.execution.executor import EXECUTORS, Executor, make_executor
from aipo_lab.judging.ledger import SharedBudget, ledger_path
from aipo_lab.pipeline.evaluation_graph import check_judges
from aipo_lab.report.pick_text import pick_lines
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection
from aipo_lab.sweeps.folder_lock import try_lock
from aipo_lab.sweeps.linted import grouped
from aipo_lab.sweeps.notes import model_notes
from aipo_lab.sweeps.plan import StagePlan, sweep_workers
from aipo_lab.sweeps.plan_judging import limit_warning, open_budget
from aipo_lab.sweeps.stage_warnings import stage_warnings
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import Sweep
from aipo_lab.tracking.tracker import TRACKERS, BackgroundTracker, SafeTracker, make_tracker


def run_sweep(
    sweep: Sweep,
    out: Path | None,
    runs: Path,
    store_root: Path,
    executor: str,
    program: str,
    max_cost_usd: float | None = None,
    tracker: str = "mlflow",
) -> RunOutcome:
    """Run a sweep with live progress; prints the final table and where everything is.

    The results go to `out`, else below `runs`. `executor` and `tracker` are registered names. `program` is how to call
    this program, for the commands that are printed. `max_cost_usd` limits what judges may cost in this session, over
    the recipe's `benchmarks.judge.max_cost_usd`.
    """
    console = Console()
    EXECUTORS.get(executor)
    TRACKERS.get(tracker)
    with stop_signals():
        try:
            study = Study.open(sweep, Store(store_root), out, runs, lambda text: say(console, text))
        except KeyboardInterrupt:
            say_stopped(console, program)
            return RunOutcome(interrupted=True)
        try:
            outcome = _run_study(console, study, executor, tracker, program, max_cost_usd)
        except KeyboardInterrupt:
            study.tracker.finish([], "stopped")
            say_stopped(console, program)
            outcome = RunOutcome(study.failures, interrupted=True, unwritten=study.unwritten)
        say_unwritten(console, outcome, study.folder.path, study.store.root, program)
        return outcome


def _run_study(
    console: Console, study: Study, executor: str, tracker: str, program: str, max_cost_usd: float | None
) -> RunOutcome:
    folder, store = study.folder, study.store
    safe = SafeTracker(make_tracker(tracker, folder.path))
    if (lock := try_lock(folder.lock)) is not None:
        study.tracker = BackgroundTracker(safe)
    else:
        console.print("another process runs this sweep too: stages are shared, and the other one tracks it")
    plans, workers = study.plan(), sweep_workers(study.sweep)
    _announce(console, study, plans)
    with open_budget(study.graph, ledger_path(store.root), max_cost_usd) as budget:
        rows = _run_stages(console, study, plans, budget, lambda: make_executor(executor, store, workers))
    study.draw_report(rows)
    made = [path for path in (folder.figures, folder.report, folder.results) if path.exists()]  # no results, no figures
    study.tracker.finish(made, "failed" if study.failures else "complete")
    if lock is not None:
        lock.release()
    _conclude(console, study, rows, program)
    for warning in [*stage_warnings(study.graph.trials, store), *grouped(study.lint()), *safe.warnings]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    return RunOutcome(study.failures, unwritten=study.unwritten)


def _run_stages(
    console: Console,
    study: Study,
    plans: Sequence[StagePlan],
    budget: SharedBudget | None,
    executor: Callable[[], Executor],
) -> list[ResultRow]:
    """Run what is missing with live progress; KeyboardInterrupt passes through."""
    graph, store = study.graph, study.store
    check_judges(graph.nodes.values(), store)
    if budget is not None and (warning := limit_warning(graph, store, budget)):
        console.print(warning, highlight=False, soft_wrap=True)
    display = SweepDisplay(console, graph, plans, TimeEstimate(graph, store, sweep_workers(study.sweep)), budget)
    try:
        with display:
            return study.run(executor, display)
    finally:
        if budget is not None:
            say_spent(console, budget)


def _announce(console: Console, study: Study, plans: Sequence[StagePlan]) -> None:
    needed, stored = sum(p.distinct for p in plans), sum(p.stored for p in plans)
    console.print(
        f"[bold]{study.sweep.name}[/bold]: {len(study.sweep.trials)} trials of profile {study.sweep.profile}, "
        f"{sum(p.unshared for p in plans)} stage runs of which sharing leaves {needed}; {stored} already stored",
        highlight=False,
        soft_wrap=True,
    )
    for note in model_notes(study.graph.base_models):
        console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False, soft_wrap=True)


def _configuration(selection: Selection) -> ResultRow:
    """The row to report, named as the configuration that it is the mean of, where it is one."""
    n_seeds = len(selection.seeds)
    if n_seeds < 2:
        return selection.reported
    name = re.sub(r"-seed=\d+", "", selection.reported.trial)
    return replace(selection.reported, trial=f"{name} ({n_seeds} seeds)")


def _conclude(console: Console, study: Study, rows: list[ResultRow], program: str) -> None:
    """The final table, failures, and where everything is."""
    notes = study.notes()
    for benchmark, picks in study.picks(rows).by_benchmark.items():
        single = len(study.sweep.trials) == 1
        best = list(picks.by_contender.values())
        title = f"Results ({benchmark})" if single else f"Best trial of each objective ({benchmark})"
        if not single and any(selection.halved for selection in best):
            title += ", on prompts that did not pick it"
        shown = [row for row in rows if row.state == "complete"] if single else [_configuration(one) for one in best]
        console.print(result_table(title, benchmark, shown))
        if picks.overall is not None and not single:
            for sentence in pick_lines(picks.overall, BENCHMARK_METRICS[benchmark]):
                console.print(f"  {escape(sentence)}", highlight=False, soft_wrap=True)
        for note in notes.get(benchmark, []):
            console.print(note, highlight=False, soft_wrap=True)
    n_failed = len(study.failures)
    console.print(
        f"{len(study.sweep.trials) - n_failed} of {len(study.sweep.trials)} trials complete"
        + (f", [red]{n_failed} failed[/red]" if n_failed else "")
        + f"; computing took {format_duration(study.summary.duration_s)}",
        highlight=False,
    )
    for trial, reason in study.failures.items():
        console.print(f"[red]failed[/red] {trial}: {escape(reason)}", highlight=False, soft_wrap=True)
    folder = study.folder
    if missing := study.missing_text():
        say(console, missing)
    for name, path in (("results", folder.results), ("report", folder.report)):
        if path.name not in study.unwritten:
            say(console, f"{name + ':':10} {path}")
    say(console, f"MLflow UI: {command_text(program, 'ui', folder.path)}")
