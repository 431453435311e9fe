"""Runs a sweep: its graph on an executor, results after every trial, and in the end figures and report."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.jsonl import write_json
from aipo_lab.core.store import Store
from aipo_lab.execution.executor import Executor, StageProgress
from aipo_lab.execution.scheduler import GraphListener, GraphOutcome, Scheduler
from aipo_lab.judging.ledger import ledger_path
from aipo_lab.pipeline.evaluation_graph import JudgingPlace
from aipo_lab.results.per_prompt import PromptValues
from aipo_lab.results.rows import ResultRow, write_results
from aipo_lab.results.rules import parse_rule
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.stored import find_stored
from aipo_lab.sweeps.benchmark_notes import benchmark_notes
from aipo_lab.sweeps.claiming import claim_folder, sweep_id
from aipo_lab.sweeps.collect import pair_analyses, pipeline_counts, sweep_rows, training_curves, trial_samples
from aipo_lab.sweeps.folder import SweepFolder, git_commit
from aipo_lab.sweeps.keeping import EarlierRows, keep_earlier, read_earlier
from aipo_lab.sweeps.linted import LintedPoint, lint_sweep
from aipo_lab.sweeps.picking import SweepPicks, halved_rows, pick_all, picks_record
from aipo_lab.sweeps.plan import StagePlan, SweepGraph, build_graph, plan_stages
from aipo_lab.sweeps.prompt_values import load_prompt_values
from aipo_lab.sweeps.recording import Recorder
from aipo_lab.sweeps.reproducing import commands_again, stage_seconds
from aipo_lab.sweeps.saved import SweepSummary
from aipo_lab.sweeps.sweep import Sweep, Trial
from aipo_lab.tracking.tracker import COMMIT_TAG, Tracker

if TYPE_CHECKING:
    from pandas import DataFrame


class StudyListener(GraphListener):
    """Told about stages, and about trials as they end."""

    def trial_ended(self, trial: Trial, state: str, reason: str) -> None:
        """A trial is `complete` or `failed`."""


@dataclass
class Study:
    """A sweep in its folder, with the store its artifacts go to."""

    sweep: Sweep
    store: Store
    folder: SweepFolder
    graph: SweepGraph
    tracker: Tracker
    summary: SweepSummary
    failures: dict[str, str] = field(default_factory=dict)
    earlier: EarlierRows = field(default_factory=dict)
    unwritten: dict[str, str] = field(default_factory=dict)
    _values: PromptValues | None = field(default=None, repr=False)
    _picked: tuple[list[ResultRow], SweepPicks] | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        sweep: Sweep,
        store: Store,
        out: Path | None,
        runs: Path,
        say: Callable[[str], None] = lambda _: None,
    ) -> Study:
        """Check base models, benchmarks, folder and store, and save the resolved sweep, before any work starts.

        See `claim_folder` for `out`, `runs` and `say`.
        """
        graph = build_graph(sweep, place=JudgingPlace(store.judge_calls, ledger_path(store.root)))
        identity = sweep_id(sweep.name, graph)

        def enter(folder: SweepFolder) -> None:
            folder.save_sweep(sweep, identity, graph, store.root)
            if folder.load_summary() is None:
                reused = {plan.stage: plan.stored for plan in plan_stages(graph, store)}
                folder.save_summary(SweepSummary(sweep_id=identity, reused=reused))

        store.prepare()
        folder = claim_folder(sweep.name, identity, out, runs, store.root, enter, say)
        summary = folder.load_summary()
        assert summary is not None
        earlier = read_earlier(folder.results, sweep)
        summary.finished = False
        folder.save_summary(summary)
        return cls(sweep, store, folder, graph, Tracker(), summary, earlier=earlier)

    @classmethod
    def reopen(cls, folder: SweepFolder, store_root: Path | None = None) -> Study:
        """The study of a folder, to look at its results; nothing can run in it.

        `store_root`: where its store is, if not where `sweep.yaml` says.
        """
        sweep, found, saved_root = folder.load_sweep()
        graph = build_graph(sweep, found)
        summary = folder.load_summary() or SweepSummary(sweep_id=sweep_id(sweep.name, graph), reused={})
        earlier = read_earlier(folder.results, sweep)
        store = Store(store_root or saved_root)
        return cls(sweep, store, folder, graph, Tracker(), summary, dict(summary.failures), earlier)

    def run(self, executor: Callable[[], Executor], listener: StudyListener) -> list[ResultRow]:
        """Run what is missing; returns the rows. KeyboardInterrupt leaves results so far in the folder."""
        started = time.monotonic()
        commit = git_commit() or ""
        self.tracker.start_sweep(self.summary.sweep_id, self.sweep.name, self.params(), {COMMIT_TAG: commit})
        stored = find_stored(self.graph.nodes.values(), self.store)
        missing = [node for reference, node in self.graph.nodes.items() if reference not in stored]
        recorder = Recorder(
            self.sweep,
            self.graph,
            self.store,
            self.folder.results,
            self.tracker,
            keep=lambda rows: keep_earlier(rows, self.earlier),
            guard=lambda write: self._write(self.folder.results, write),
            commit=commit,
        )
        try:
            progress = _TrialProgress(self, listener, recorder, stored)
            if missing:
                workers = executor()
                try:
                    progress.outcome = Scheduler(self.store, workers, progress).run(missing, self.graph.nodes)
                finally:
                    workers.shutdown()
            progress.end_failed_again()
        finally:
            if missing:
                self.summary.duration_s += time.monotonic() - started
            self.summary.failures = self.failures
            self._values = None  # the store has more of them now
            rows = recorder.close()
            self._save_summary()
        self.summary.finished = True
        self._save_summary()
        return rows

    def rows(self) -> list[ResultRow]:
        """The results: what the store has, and what an earlier session wrote of what it no longer has."""
        return keep_earlier(self._stored_rows(), self.earlier)

    def write_results(self) -> list[ResultRow]:
        """Write `results.csv`; returns its rows."""
        rows = self.rows()
        self._write(self.folder.results, lambda: write_results(self.folder.results, rows))
        return rows

    def _stored_rows(self) -> list[ResultRow]:
        return sweep_rows(self.sweep, self.graph, self.store, self.failures)

    def _save_summary(self) -> None:
        self._write(self.folder.summary, lambda: self.folder.save_summary(self.summary))

    def _write(self, path: Path, write: Callable[[], object]) -> None:
        """Write a file of the folder; what cannot be written now is in `unwritten` and stops no work.

        A full disk under the folder loses nothing: all of it can be made again from the store.
        """
        try:
            write()
        except OSError as error:
            self.unwritten[path.name] = str(error)
        else:
            self.unwritten.pop(path.name, None)

    def missing_text(self) -> str:
        """What the store lacks of results that once were complete, in a sentence; empty if nothing."""
        stored = self._stored_rows()
        kept = sum(row.state != "complete" and (row.trial, row.iteration) in self.earlier for row in stored)
        if kept:
            return (
                f"the store {self.store.root} lacks what {kept} of {len(stored)} rows were made from; they are kept as "
                f"{self.folder.results} has them. If the store lies elsewhere, give it with --store"
            )
        if self.summary.finished and any(row.state == "pending" for row in stored):
            return (
                f"the store {self.store.root} lacks results of this finished sweep, and {self.folder.results} does not "
                "have them either. If the store lies elsewhere, give it with --store; else run the sweep again"
            )
        return ""

    def plan(self) -> list[StagePlan]:
        """What is done and what is left, by stage."""
        return plan_stages(self.graph, self.store)

    def benchmarks(self, rows: list[ResultRow]) -> list[str]:
        """Benchmarks with a result."""
        present = {name.split("/")[0] for row in rows for name in row.metrics}
        return [name for name in BENCHMARK_METRICS if name in present]

    def write_table(self, name: str, rows: list[ResultRow], out: Path | None = None) -> list[Path]:
        """Write a table of the paper with these results beside it, in three formats; see `get_paper_table`."""
        from aipo_lab.report.paper_tables import get_paper_table
        from aipo_lab.report.table_files import write_paper_table

        return write_paper_table(get_paper_table(name, self.sweep.name, rows), out or self.folder.path / "tables")

    def lint(self) -> list[LintedPoint]:
        """What the data linter finds in the pairs and trainings that are stored."""
        return lint_sweep(self.graph.trials, self.graph.recipes, self.store)

    def prompt_values(self) -> PromptValues:
        """The results prompt by prompt, as far as the store has them."""
        if self._values is None:
            self._values = load_prompt_values(self.graph, self.store, self.folder.prompt_values)
        return self._values

    def notes(self) -> dict[str, list[str]]:
        """By benchmark: its judge's taste, the noise floor, and what is no longer known prompt by prompt."""
        notes = benchmark_notes(self.graph, self.store)
        missing = self.prompt_values().missing_text()
        return {name: [*said, f"Note: {missing}."] if missing else said for name, said in notes.items()}

    def picks(self, rows: list[ResultRow]) -> SweepPicks:
        """The best trial over all and of each objective, by benchmark, with how sure that is."""
        if self._picked is None or self._picked[0] != rows:
            rule, benchmarks = parse_rule(self.sweep.select), self.benchmarks(rows)
            self._picked = rows, pick_all(rows, benchmarks, rule, self.prompt_values(), self.sweep.split)
        return self._picked[1]

    def pickable_rows(self) -> list[ResultRow]:
        """The rows as every pick is made from them: with the halves of the prompts, unless `select.split` is off."""
        rows = self.rows()
        return halved_rows(rows, self.benchmarks(rows), self.prompt_values()) if self.sweep.split else rows

    def draw_report(self, rows: list[ResultRow]) -> None:
        """Draw the figures and write the HTML report, as far as that can be done; see `unwritten`.

        A report that shows what the store no longer has stays as it is.
        """
        self._write(self.folder.report, lambda: self._draw_report(rows))

    def keeps_report(self) -> bool:
        """Whether there is a report that can no longer be made from the store."""
        if not self.folder.report.exists():
            return False
        return bool(self.missing_text()) or all(row.state != "complete" for row in self._stored_rows())

    def _draw_report(self, rows: list[ResultRow]) -> None:
        from aipo_lab.figures.draw import draw_figures
        from aipo_lab.figures.pairs import draw_pair_figures
        from aipo_lab.report.report import ReportData, build_report

        if self.keeps_report():
            return
        picks = self.picks(rows)
        selections, rows = picks.selections(), picks.rows
        write_json(self.folder.picks, picks_record(picks))
        shown = {one.best.trial for chosen in selections.values() for one in chosen.values()}
        figures = draw_figures(rows, parse_rule(self.sweep.select), self.folder.figures)
        figures |= self._draw_training(rows)
        figures |= draw_pair_figures(pair_analyses(self.graph.trials, shown, self.store), self.folder.figures)
        trials = [trial for trial in self.sweep.trials if trial.name in shown]
        data = ReportData(
            name=self.sweep.name,
            profile=self.sweep.profile,
            rows=rows,
            benchmarks=self.benchmarks(rows),
            select=self.sweep.select,
            selections=selections,
            values=self.prompt_values(),
            notes=self.notes(),
            overall={name: one.overall for name, one in picks.by_benchmark.items() if one.overall is not None},
            samples=[
                sample for trial in trials for sample in trial_samples(trial, self.graph.trials[trial.name], self.store)
            ],
            failures=self.failures,
            stage_counts=self._stage_counts(),
            stage_seconds=stage_seconds(self.graph, self.store),
            reproduce=commands_again(self.folder.configuration, self.sweep.source, self.sweep.profile),
            duration_s=self.summary.duration_s,
            configuration_yaml=self.folder.configuration.read_text(encoding="utf-8"),
            pipeline_counts=[
                row
                for trial in self.sweep.trials
                for row in pipeline_counts(trial, self.graph.trials[trial.name], self.store)
            ],
            figures=figures,
            warnings=[point.row for point in self.lint()],
        )
        build_report(data, self.folder.report)
        if (table := re.match(r"table[1-5](?!\d)", self.sweep.name)) is not None and selections:
            self.write_table(table[0], rows)

    def training_data(self, rows: list[ResultRow]) -> DataFrame | None:
        """The trainings of the best trials by the sweep's first benchmark (Figure 4); None without a result."""
        from aipo_lab.figures.training import curve_trials, get_training_data

        if not (names := self.benchmarks(rows)):
            return None
        rule, metrics = parse_rule(self.sweep.select), BENCHMARK_METRICS[names[0]]
        shown = [trial for group in curve_trials(rows, rule, metrics) for trial in group]
        return get_training_data(rows, training_curves(self.graph.trials, shown, self.store), rule, metrics)

    def _draw_training(self, rows: list[ResultRow]) -> dict[str, Path]:
        from aipo_lab.figures.training import draw_training

        data = self.training_data(rows)
        drawn = [] if data is None else draw_training(data, self.folder.figures / "training")
        return {"training": drawn[0]} if drawn else {}

    def _stage_counts(self) -> dict[str, dict[str, int]]:
        """By stage: computed in this sweep, shared between its trials, reused from earlier work."""
        counts = {}
        for plan in self.plan():
            reused = min(self.summary.reused.get(plan.stage, 0), plan.stored)
            counts[plan.stage] = {
                "computed": plan.stored - reused,
                "shared": plan.unshared - plan.distinct,
                "reused": reused,
            }
        return counts

    def params(self) -> dict[str, str]:
        """What a tracker is told about the sweep as a whole."""
        recipe = self.sweep.trials[0].recipe
        return {
            "profile": self.sweep.profile,
            "trials": str(len(self.sweep.trials)),
            "iterations": str(recipe.iterations),
            "model": recipe.model.source,
            "select": self.sweep.select,
            "seed": str(recipe.seed),
        }


class _TrialProgress(GraphListener):
    """Follows which trials are done as their stages finish; what each event costs does not grow with the sweep."""

    def __init__(self, study: Study, listener: StudyListener, recorder: Recorder, stored: set[str]) -> None:
        self.study = study
        self.listener = listener
        self.recorder = recorder
        self.stored = stored
        self.outcome = GraphOutcome()
        self.ended: set[str] = set()
        self.left = {name: graph.nodes().keys() - stored for name, graph in study.graph.trials.items()}
        self.trials = {trial.name: trial for trial in study.sweep.trials}
        for name, needed in self.left.items():
            if not needed:
                self._end(name)

    def end_failed_again(self) -> None:
        """Record failed trials once more: other stages of theirs may have ended since."""
        for name, reason in self.study.failures.items():
            self._record(name, reason)

    @override
    def started(self, node: StageNode) -> None:
        self.listener.started(node)

    @override
    def progressed(self, node: StageNode, progress: StageProgress) -> None:
        self.listener.progressed(node, progress)

    @override
    def finished(self, node: StageNode, duration_s: float) -> None:
        self.listener.finished(node, duration_s)
        self.stored.add(node.reference)
        for name in self.study.graph.users[node.reference]:
            self.left[name].discard(node.reference)
            if not self.left[name] and name not in self.study.failures:
                self._end(name)

    @override
    def failed(self, node: StageNode, reason: str) -> None:
        self.listener.failed(node, reason)
        for name in self.study.graph.users[node.reference]:
            if name not in self.study.failures:
                self._end(name, f"{node.title} failed: {reason}")

    @override
    def postponed(self, node: StageNode, reason: str) -> None:
        self.listener.postponed(node, reason)

    @override
    def tick(self) -> None:
        self.listener.tick()

    def _end(self, name: str, reason: str = "") -> None:
        if name in self.ended:  # an artifact that it needs no more was damaged and is made again
            return
        self.ended.add(name)
        if reason:
            self.study.failures[name] = reason
        self._record(name, reason)
        self.listener.trial_ended(self.trials[name], "failed" if reason else "complete", reason)

    def _record(self, name: str, reason: str) -> None:
        self.recorder.trial_ended(name, self.study.graph.trials[name].nodes().keys() & self.stored, reason)
