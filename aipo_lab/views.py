"""What the commands show: the plan, the run with its final table, the status, and the MLflow UI."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aipo_lab.benchmarks.metrics import BENCHMARK_METRICS, BenchmarkMetrics
from aipo_lab.display import SweepDisplay, TimeEstimate, format_duration, plan_table, spent_text
from aipo_lab.errors import UserError
from aipo_lab.evaluation_graph import check_judges
from aipo_lab.execution import make_executor
from aipo_lab.execution.executor import Executor
from aipo_lab.judging.ledger import SharedBudget
from aipo_lab.plan import StagePlan, build_graph, estimate_duration_s, plan_stages, sweep_workers
from aipo_lab.plan_judging import judging_costs, limit_warning, open_budget
from aipo_lab.results import ResultRow
from aipo_lab.store import Store
from aipo_lab.study import Study
from aipo_lab.sweep import Sweep
from aipo_lab.sweep_folder import SweepFolder
from aipo_lab.tracking import BackgroundTracker, SafeTracker, Tracker


@dataclass
class RunOutcome:
    """How a run ended."""

    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def run_sweep(
    sweep: Sweep, folder: SweepFolder, store_root: Path, executor: str, program: str, max_cost_usd: float | None = None
) -> RunOutcome:
    """Run a sweep with live progress; prints the final table and where everything is.

    `program` is how to call this program, for the commands that are printed. `max_cost_usd` limits what judges may
    cost in this session, over the recipe's `benchmarks.judge.max_cost_usd`.
    """
    from filelock import FileLock, Timeout

    from aipo_lab.mlflow_tracking import MLflowTracker

    console = Console()
    store = Store(store_root)
    safe = SafeTracker(MLflowTracker(folder.path))
    study = Study.open(sweep, store, folder, Tracker())
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
        study.tracker = BackgroundTracker(safe)
    except Timeout:
        console.print("another process runs this sweep too: stages are shared, and the other one logs to MLflow")
    plans, workers = study.plan(), sweep_workers(sweep)
    _announce(console, study, plans)
    try:
        with open_budget(study.graph, folder.judge_costs, max_cost_usd) as budget:
            rows = _run_stages(console, study, plans, budget, lambda: make_executor(executor, store, workers))
    except KeyboardInterrupt:
        study.tracker.finish([], "stopped")
        say_stopped(console, program)
        return RunOutcome(study.failures, interrupted=True)
    report = study.draw_report(rows)
    made = [path for path in (folder.figures, report, folder.results) if path.exists()]  # no results, no figures
    study.tracker.finish(made, "failed" if study.failures else "complete")
    _conclude(console, study, rows, program)
    for warning in safe.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}", soft_wrap=True)
    return RunOutcome(study.failures)


def _run_stages(
    console: Console,
    study: Study,
    plans: Sequence[StagePlan],
    budget: SharedBudget | None,
    executor: Callable[[], Executor],
) -> list[ResultRow]:
    """Run what is missing with live progress; KeyboardInterrupt passes through, SIGTERM becomes one."""
    graph, store = study.graph, study.store
    check_judges(graph.nodes.values(), store)
    if budget is not None and (warning := limit_warning(graph, store, budget)):
        console.print(warning, highlight=False, soft_wrap=True)
    display = SweepDisplay(console, graph, plans, TimeEstimate(graph, store, sweep_workers(study.sweep)), budget)
    previous = signal.signal(signal.SIGTERM, raise_interrupt)
    try:
        with display:
            return study.run(executor, display)
    finally:
        signal.signal(signal.SIGTERM, previous)
        if budget is not None:
            say_spent(console, budget)


def say_stopped(console: Console, program: str) -> None:
    """What a person reads after Ctrl-C: how to go on."""
    again = shlex.join([program, *sys.argv[1:]])
    console.print(f"\nstopped; nothing finished is lost. Resume with:\n  {again}", highlight=False, soft_wrap=True)


def say_spent(console: Console, budget: SharedBudget) -> None:
    """What judges were asked and cost in the end."""
    console.print(f"judges: {spent_text(budget)}", highlight=False)


def raise_interrupt(*_: Any) -> NoReturn:
    """A signal handler: ends the work as Ctrl-C does."""
    raise KeyboardInterrupt


def _announce(console: Console, study: Study, plans: Sequence[StagePlan]) -> None:
    needed, stored = sum(p.distinct for p in plans), sum(p.stored for p in plans)
    console.print(
        f"[bold]{study.sweep.name}[/bold]: {len(study.sweep.trials)} trials of profile {study.sweep.profile}, "
        f"{sum(p.unshared for p in plans)} stage runs of which sharing leaves {needed}; {stored} already stored",
        highlight=False,
        soft_wrap=True,
    )


def _conclude(console: Console, study: Study, rows: list[ResultRow], program: str) -> None:
    """The final table, failures, and where everything is."""
    for benchmark, chosen in study.selections(rows).items():
        best = [selection.best for selection in chosen.values()]
        single = len(study.sweep.trials) == 1
        title = f"Results ({benchmark})" if single else f"Best trial of each objective ({benchmark})"
        console.print(result_table(title, benchmark, [r for r in rows if r.state == "complete"] if single else best))
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
    for name, value in (
        ("results", folder.results),
        ("report", folder.report),
        ("MLflow UI", f"{program} ui {folder.path}"),
    ):
        console.print(f"{name + ':':10} {value}", highlight=False, soft_wrap=True)


def result_table(title: str, benchmark: str, rows: list[ResultRow]) -> Table:
    """The headline metrics of `rows` on one benchmark; only the win rate with its standard error, for 80 columns."""
    metrics = BENCHMARK_METRICS[benchmark]
    table = Table(title=title, title_justify="left")
    table.add_column("trial", overflow="fold")
    table.add_column("iter.", justify="right")
    shown = {
        _win_rate_heading(metrics): metrics.win_rate,
        "LC %": metrics.lc_win_rate,
        "true %": metrics.true_win_rate,
        "quality": metrics.quality,
        "length": metrics.length,
    }
    columns = {title: name for title, name in shown.items() if name is not None}
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = (_shown(row, name, with_error=name == metrics.win_rate) for name in columns.values())
        table.add_row(row.trial, str(row.iteration), *cells)
    return table


def _win_rate_heading(metrics: BenchmarkMetrics) -> str:
    if metrics.win_rate.endswith("/score"):
        return "score"
    return "judged %" if metrics.true_win_rate else "win %"


def _shown(row: ResultRow, metric: str | None, with_error: bool = True) -> str:
    """A value, with its standard error where it has one."""
    value = None if metric is None else row.value(metric)
    if metric is None or value is None:
        return ""
    error = row.standard_error(metric)
    digits = 1 if abs(value) >= 5 else 2
    return f"{value:.{digits}f}" + (f"±{error:.{digits}f}" if error and with_error else "")


def show_plan(sweep: Sweep, store_root: Path) -> None:
    """Print what a sweep would do."""
    console = Console()
    store = Store(store_root)
    graph = build_graph(sweep)
    plans = plan_stages(graph, store)
    trials = Table(title=f"{sweep.name}: {len(sweep.trials)} trials, profile {sweep.profile}", title_justify="left")
    trials.add_column("trial", overflow="fold")
    trials.add_column("objective")
    trials.add_column("settings")
    trials.add_column("iterations", justify="right")
    for trial in sweep.trials:
        settings = " ".join(f"{name}={value}" for name, value in trial.hyperparameters().items())
        trials.add_row(trial.name, trial.objective, settings, str(trial.recipe.iterations))
    console.print(trials)
    console.print(plan_table(plans))
    saved = sum(plan.unshared - plan.distinct for plan in plans)
    console.print(f"sharing saves {saved} stage runs")
    costs = judging_costs(graph, store)
    for benchmark, cost in costs.items():
        console.print(f"judging {benchmark}: {cost}", highlight=False, soft_wrap=True)
    if not costs:
        console.print("judge calls: 0, money: 0 (embedded benchmarks)")
    left_s = estimate_duration_s(graph, store, sweep_workers(sweep))
    console.print(
        "time: not known before stages of every kind have run once"
        if left_s is None
        else f"time: about {format_duration(left_s)} on this machine",
        highlight=False,
    )


def show_status(path: Path) -> dict[str, str]:
    """Print how far a sweep is and its results; returns failure reasons by trial."""
    console = Console()
    study = Study.reopen(SweepFolder(path))
    rows = study.write_results() if study.store.root.is_dir() else []
    table = Table(title=f"{study.sweep.name} ({study.sweep.profile})", title_justify="left")
    for name, justify in (("trial", "left"), ("state", "left"), ("iterations", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    benchmark = next(iter(study.benchmarks(rows)), None)
    metrics = BENCHMARK_METRICS[benchmark] if benchmark else None
    for title in (_win_rate_heading(metrics) if metrics else "win %", "length"):
        table.add_column(title, justify="right")
    for trial in study.sweep.trials:
        own = [row for row in rows if row.trial == trial.name]
        done = [row for row in own if row.state == "complete"]
        unfinished = "in part" if len(done) > 1 else "pending"
        state = "failed" if trial.name in study.failures else "complete" if len(done) == len(own) else unfinished
        shown = [_shown(done[-1], name) if done else "" for name in _headline(metrics)]
        table.add_row(trial.name, state, f"{max(len(done) - 1, 0)}/{trial.recipe.iterations}", *shown)
    console.print(table)
    plans = study.plan()
    console.print(f"{sum(p.stored for p in plans)} of {sum(p.distinct for p in plans)} stages stored")
    for trial_name, reason in study.failures.items():
        console.print(f"[red]failed[/red] {trial_name}: {escape(reason)}", highlight=False, soft_wrap=True)
    return study.failures


def _headline(metrics: Any) -> tuple[str | None, str | None]:
    return (metrics.win_rate, metrics.length) if metrics else (None, None)


def show_assets() -> None:
    """Print the assets and where they are."""
    from aipo_lab.assets import list_assets

    console = Console()
    for asset in list_assets():
        here = str(asset.path) if asset.present else f"not yet; obtain it with: aipo-lab assets fetch {asset.name}"
        console.print(f"[bold]{asset.name}[/bold]  {asset.size_bytes / 1e6:.0f} MB, {asset.licence}", highlight=False)
        for name, text in (("what", asset.description), ("from", asset.source), ("here", here)):
            console.print(f"  {name}  {text}", highlight=False, soft_wrap=True)


def browse(path: Path, port: int, open_browser: bool) -> None:
    """Serve the answers of a sweep's or an evaluation's output folder until Ctrl-C."""
    from tempfile import TemporaryDirectory

    from aipo_lab.browsing.entries import evaluation_entries, sweep_entries, with_baselines
    from aipo_lab.browsing.server import serve
    from aipo_lab.evaluation import MANIFEST

    if not any((path / name).is_file() for name in (MANIFEST, "sweep.yaml")):
        below = sorted(str(found.parent) for name in (MANIFEST, "sweep.yaml") for found in path.rglob(name))
        hint = f"; below it there are {', '.join(below[:5])}" if below else "" if path.is_dir() else " (no such folder)"
        raise UserError(f"{path} is not the output folder of a sweep or an evaluation{hint}")
    entries = evaluation_entries(path) if (path / MANIFEST).is_file() else sweep_entries(path)
    with TemporaryDirectory() as folder:
        serve(with_baselines(entries, Path(folder)), path.resolve().name, port, open_browser)


def serve_ui(path: Path, port: int) -> NoReturn:
    """Replace this process by the MLflow UI on the sweep's database, bound to 127.0.0.1."""
    from aipo_lab.tracking import resolve_tracking_uri

    uri = resolve_tracking_uri(path)
    database = SweepFolder(path).tracking_database
    if uri.startswith("sqlite") and str(database.resolve()) in uri and not database.is_file():
        raise UserError(f"{path} holds no MLflow database (mlflow.db); run a sweep with this output folder first")
    print(f"MLflow UI on {uri}: http://127.0.0.1:{port} in up to a minute; Ctrl-C stops it", flush=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    arguments = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*arguments, "--host", "127.0.0.1", "--port", str(port)])
