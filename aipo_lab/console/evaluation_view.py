"""What `aipo-lab evaluate` shows: progress with time left and money, then the scores and where the files are."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typing_extensions import override

from aipo_lab.console.display import PLAIN_INTERVAL_S, spent_text
from aipo_lab.console.running import RunOutcome, say, say_spent, say_stopped, stop_signals
from aipo_lab.core.store import Store, make_writable_folder
from aipo_lab.evaluation.evaluation import (
    Evaluation,
    EvaluationConfig,
    plan_evaluation,
)
from aipo_lab.evaluation.results import choose_output_folder, find_finished, merge, model_name, write_evaluation
from aipo_lab.evaluation.scoring import show
from aipo_lab.execution.executor import StageProgress, make_executor
from aipo_lab.execution.inline import worker_count
from aipo_lab.execution.scheduler import GraphListener, GraphOutcome, Scheduler
from aipo_lab.judging.ledger import SharedBudget, command_ledger, ledger_path
from aipo_lab.pipeline.evaluation_graph import JudgingPlace, check_judges
from aipo_lab.stages.definition import StageNode


def run_evaluation(
    config: EvaluationConfig,
    out: Path | None,
    runs: Path,
    store_root: Path,
    max_cost_usd: float | None,
    as_json: bool,
    program: str,
) -> RunOutcome:
    """Evaluate with live progress on standard error; prints the scores and writes the output folder.

    `program` is how to call this program, for the command that is printed.
    """
    console = Console(stderr=True)
    with stop_signals():
        try:
            return _evaluate(console, config, out, runs, Store(store_root), max_cost_usd, as_json)
        except KeyboardInterrupt:
            say_stopped(console, program)
            return RunOutcome(interrupted=True)


def _evaluate(
    console: Console,
    config: EvaluationConfig,
    out: Path | None,
    runs: Path,
    store: Store,
    max_cost_usd: float | None,
    as_json: bool,
) -> RunOutcome:
    store.prepare()
    ledger = ledger_path(store.root)
    evaluation = plan_evaluation(config, JudgingPlace(store.judge_calls, ledger))
    folder = choose_output_folder(config, evaluation, out, runs / "evaluations")
    judge = config.benchmarks.judge
    limit_usd = max_cost_usd if max_cost_usd is not None or judge is None else judge.max_cost_usd
    with command_ledger(ledger, limit_usd) as budget:
        check_judges(evaluation.nodes(), store)
        make_writable_folder(folder, "output folder", "--out")
        outcome = _run(config, evaluation, store, console, budget)
    found = find_finished(evaluation, store)
    write_evaluation(evaluation, found, folder)
    if found:
        show([merge(model_name(evaluation, found), found)] if as_json else [one.show() for one in found], as_json)
    for reason in outcome.failures.values():
        console.print(f"[red]failed[/red] {escape(reason)}", highlight=False, soft_wrap=True)
    say(console, f"files: {folder}")
    return RunOutcome(outcome.failures)


def _run(
    config: EvaluationConfig, evaluation: Evaluation, store: Store, console: Console, budget: SharedBudget
) -> GraphOutcome:
    executor = make_executor("inline", store, worker_count(config.compute))
    try:
        with _Display(console, evaluation, store, budget) as display:
            return Scheduler(store, executor, display).run(evaluation.nodes())
    finally:
        say_spent(console, budget)
        executor.shutdown()


class _Display(GraphListener):
    """A bar per stage on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, evaluation: Evaluation, store: Store, budget: SharedBudget) -> None:
        self.console = console
        self.budget = budget
        self.names = {node.reference: f"{name}: answers" for name, node in evaluation.answers.items()}
        self.names |= {node.reference: f"{name}: judging" for name, node in evaluation.scores.items()}
        self.started_s = self.last_line_s = time.monotonic()
        self.latest: dict[str, StageProgress] = {}
        self.lock = threading.Lock()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
        )
        self.bars = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self.tasks: dict[str, TaskID] = {}
        for node in evaluation.nodes():
            if store.contains(node.stage, node.key):
                self._line(f"{self._name(node)}: in the store already")

    def __enter__(self) -> _Display:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    @override
    def started(self, node: StageNode) -> None:
        self.tasks[node.reference] = self.bars.add_task(self._name(node), total=None, unit="")

    @override
    def progressed(self, node: StageNode, progress: StageProgress) -> None:
        with self.lock:
            self.latest[self._name(node)] = progress
        total = progress.total or None
        self.bars.update(self.tasks[node.reference], completed=progress.done, total=total, unit=progress.unit)

    @override
    def finished(self, node: StageNode, duration_s: float) -> None:
        self._end(node)
        self._line(f"{self._name(node)}: done in {duration_s:.0f} s")

    @override
    def failed(self, node: StageNode, reason: str) -> None:
        self._end(node)

    @override
    def postponed(self, node: StageNode, reason: str) -> None:
        self._end(node)
        self._line(f"{self._name(node)}: {reason}; it is made again")

    @override
    def tick(self) -> None:
        if not self.console.is_terminal and time.monotonic() - self.last_line_s > PLAIN_INTERVAL_S:
            with self.lock:
                running = [f"{name} {one.done}/{one.total} {one.unit}" for name, one in self.latest.items()]
            judges = f"judges: {spent_text(self.budget)}"
            self._line("; ".join([", ".join(running), judges] if running else [judges]))

    def _end(self, node: StageNode) -> None:
        with self.lock:
            self.latest.pop(self._name(node), None)
        self.bars.remove_task(self.tasks.pop(node.reference))

    def _name(self, node: StageNode) -> str:
        return self.names.get(node.reference, "model")

    def _line(self, text: str) -> None:
        self.last_line_s = time.monotonic()
        self.console.print(text, highlight=False, soft_wrap=True)
