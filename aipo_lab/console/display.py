"""What a person sees while a sweep runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from aipo_lab.console.time_left import TimeEstimate, format_duration
from aipo_lab.execution.executor import StageProgress
from aipo_lab.judging.calls import count_calls
from aipo_lab.judging.ledger import SharedBudget
from aipo_lab.judging.money import usd_text
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.plan import StagePlan, SweepGraph
from aipo_lab.sweeps.study import StudyListener
from aipo_lab.sweeps.sweep import Trial

PLAIN_INTERVAL_S = 30.0


class SweepDisplay(StudyListener):
    """Shows trials, iterations, current stages, shared and reused counts and the time left."""

    def __init__(
        self,
        console: Console,
        graph: SweepGraph,
        plans: Sequence[StagePlan],
        estimate: TimeEstimate,
        budget: SharedBudget | None = None,
    ) -> None:
        self.console = console
        self.budget = budget
        self.graph = graph
        self.estimate = estimate
        self.total = sum(plan.distinct for plan in plans)
        self.reused = sum(plan.stored for plan in plans)
        self.saved = sum(plan.unshared - plan.distinct for plan in plans)
        self.done = self.reused
        self.trials: dict[str, str] = {}
        self.running: dict[str, tuple[StageNode, StageProgress]] = {}
        self.started_s = time.monotonic()
        self.last_line_s = self.started_s
        self._iteration_of = _iterations(graph)
        self.unscored = unscored_iterations(graph, estimate.stored)
        self.evaluated = sum(not missing for missing in self.unscored)
        self._waiting_for: dict[str, list[set[str]]] = defaultdict(list)
        for missing in self.unscored:
            for reference in missing:
                self._waiting_for[reference].append(missing)
        self.iterations = sum(len(trial.iterations) for trial in graph.trials.values())
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> SweepDisplay:
        if self.console.is_terminal:
            self._live = Live(self.render(), console=self.console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)
            self._live = None

    @override
    def started(self, node: StageNode) -> None:
        with self._lock:
            self.running[node.reference] = (node, StageProgress())

    @override
    def progressed(self, node: StageNode, progress: StageProgress) -> None:
        with self._lock:
            if node.reference in self.running:
                self.running[node.reference] = (node, progress)

    @override
    def finished(self, node: StageNode, duration_s: float) -> None:
        with self._lock:
            self.running.pop(node.reference, None)
        self.done += 1
        self.estimate.finished(node, duration_s)
        for missing in self._waiting_for.pop(node.reference, ()):
            missing.discard(node.reference)
            self.evaluated += not missing

    @override
    def failed(self, node: StageNode, reason: str) -> None:
        with self._lock:
            self.running.pop(node.reference, None)
        self._print(f"[red]failed[/red] {escape(f'{node.title} in {self._label(node)}: {_first_line(reason)}')}")

    @override
    def postponed(self, node: StageNode, reason: str) -> None:
        with self._lock:
            self.running.pop(node.reference, None)
        self._print(
            f"[yellow]warning:[/yellow] {escape(f'{node.title} in {self._label(node)}: {reason}')}; it is made again"
        )

    @override
    def trial_ended(self, trial: Trial, state: str, reason: str) -> None:
        known = trial.name in self.trials
        self.trials[trial.name] = state
        computing = self.reused < self.total
        if not known and state == "complete" and computing and self._live is None:
            self._print(f"trial {len(self.trials)}/{len(self.graph.trials)} {trial.name}: {state}; {self._time()}")

    @override
    def tick(self) -> None:
        if self._live is not None:
            self._live.update(self.render())
        elif time.monotonic() - self.last_line_s > PLAIN_INTERVAL_S:
            self._print(f"{self.done}/{self.total} stages; {self._running_text()}; {self._time()}{self._money()}")

    def render(self) -> Group:
        """The panel."""
        states = Counter(self.trials.values())
        n_trials = len(self.graph.trials)
        grid = Table.grid(padding=(0, 2))
        grid.add_row("trials", _bar(states.total(), n_trials), _trial_counts(states, n_trials))
        text = f"{self.evaluated}/{self.iterations} evaluated"
        grid.add_row("iterations", _bar(self.evaluated, self.iterations), text)
        grid.add_row(
            "stages",
            _bar(self.done, self.total),
            f"{self.done}/{self.total}, {self.reused} reused from the store",
        )
        lines: list[Any] = [
            grid,
            Text(f"{self.saved} stage runs saved by sharing; {self._time()}{self._money()}", style="dim"),
        ]
        with self._lock:
            running = list(self.running.values())
        stages = Table.grid(padding=(0, 2))
        for node, progress in running:
            stages.add_row(f"  {node.title}", _bar(progress.done, progress.total), self._label(node), _amount(progress))
        return Group(*lines, stages)

    def _print(self, text: str) -> None:
        self.last_line_s = time.monotonic()
        self.console.print(text, highlight=False, soft_wrap=True)

    def _running_text(self) -> str:
        with self._lock:
            running = [f"{node.title} in {self._label(node)}" for node, _ in self.running.values()]
        return "now " + ", ".join(running) if running else "nothing running"

    def _label(self, node: StageNode) -> str:
        users = self.graph.users[node.reference]
        trial = users[0] if len(users) == 1 else f"{len(users)} trials"
        return f"{trial}, iteration {self._iteration_of[node.reference]}"

    def _time(self) -> str:
        passed = format_duration(time.monotonic() - self.started_s)
        left_s = self.estimate.left_s()
        return f"{passed} passed, " + (
            "time left not known yet" if left_s is None else f"about {format_duration(left_s)} left"
        )

    def _money(self) -> str:
        return "" if self.budget is None else f"; judges: {spent_text(self.budget)}"


def spent_text(budget: SharedBudget) -> str:
    """What judges were asked and cost so far: `412 calls, $1.37 of $10.00`."""
    limit = "" if budget.limit_usd is None else f" of {usd_text(budget.limit_usd)}"
    money = f", {usd_text(budget.spent_usd)}{limit}" if budget.spent_usd or limit else ""
    lost = f" and up to {usd_text(budget.lost_usd)} for calls without an answer" if budget.lost_usd else ""
    return f"{count_calls(budget.n_calls)}{money}{lost}"


def _iterations(graph: SweepGraph) -> dict[str, int]:
    """The iteration each node belongs to, by reference; shared nodes to the first."""
    iteration_of: dict[str, int] = {}
    for trial in graph.trials.values():
        for iteration in trial.iterations:
            for node in iteration.nodes():
                iteration_of.setdefault(node.reference, iteration.t)
        for node in (node for pair in trial.again.values() for node in pair):
            iteration_of.setdefault(node.reference, 0)
    return iteration_of


def unscored_iterations(graph: SweepGraph, stored: set[str]) -> list[set[str]]:
    """For every iteration of every trial (the base model's included) the scores that are not among `stored`."""
    return [
        {node.reference for node in iteration.scores.values()} - stored
        for trial in graph.trials.values()
        for iteration in trial.iterations
    ]


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=done, width=24, pulse=total == 0)


def _trial_counts(states: Mapping[str, int], n_trials: int) -> str:
    failed = f", {states['failed']} failed" if states.get("failed") else ""
    return f"{states.get('complete', 0)}/{n_trials} complete{failed}"


def _amount(progress: StageProgress) -> str:
    return f"{progress.done}/{progress.total} {progress.unit}" if progress.total else progress.unit


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
