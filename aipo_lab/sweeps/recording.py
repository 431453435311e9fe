"""Keeps `results.csv` and the tracker up to date on a thread of its own, so that no stage waits for a file."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from aipo_lab.core.store import Store
from aipo_lab.results.rows import ResultRow, ResultsWriter
from aipo_lab.sweeps.collect import Scores, trial_rows
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.sweep import Sweep, Trial
from aipo_lab.sweeps.tracked import parameter_names, trial_record, with_absent
from aipo_lab.tracking.tracker import Tracker

WRITE_INTERVAL_S = 1.0
"""Least seconds between two writings of `results.csv`."""

WRITE_SHARE = 20
"""A writing takes at most one part in so many of the time: its cost grows with the sweep, its frequency falls."""


class Recorder:
    """Told which trials are over; reads their results, tells the tracker, and writes `results.csv`.

    `keep` completes rows with what earlier sessions wrote; `guard` calls a writing and may take note of its failure.
    `commit` of this program is what trials are said to be run with.
    Any other error of the thread is raised by the next call of `trial_ended` or by `close`.
    """

    def __init__(
        self,
        sweep: Sweep,
        graph: SweepGraph,
        store: Store,
        path: Path,
        tracker: Tracker,
        keep: Callable[[list[ResultRow]], list[ResultRow]] = list,
        guard: Callable[[Callable[[], None]], None] = lambda write: write(),
        commit: str = "",
    ) -> None:
        self._graph = graph
        self._store = store
        self._tracker = tracker
        self._keep = keep
        self._guard = guard
        self._commit = commit
        self._parameters = parameter_names(sweep.trials)
        self._scores = Scores(store)
        self._writer = ResultsWriter(path)
        self._trials = {trial.name: trial for trial in sweep.trials}
        self._states: dict[str, str] = {}
        self._ended: queue.SimpleQueue[_Ended | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="recording", daemon=True)
        self._thread.start()

    def trial_ended(self, name: str, stored: Iterable[str], reason: str = "") -> None:
        """A trial is over, with a `reason` if it failed; `stored` are the references of its artifacts."""
        self._raise_error()
        self._ended.put(_Ended(name, reason, tuple(stored)))

    def close(self) -> list[ResultRow]:
        """Wait until all is written; returns the rows of all trials, in the order of the sweep."""
        self._ended.put(None)
        self._thread.join()
        self._raise_error()
        return self._writer.rows()

    def _work(self) -> None:
        try:
            self._record()
        except Exception as error:
            self._error = error

    def _record(self) -> None:
        """Take trials as they end and write when it is time, at last after the end."""
        for trial in self._trials.values():  # what stands already, by trial, in the order of the sweep
            self._update(trial)
        due_s = time.monotonic()
        changed = True
        while True:
            wait_s = max(0.0, due_s - time.monotonic()) if changed else None
            try:
                ended = self._ended.get(timeout=wait_s)
            except queue.Empty:
                due_s, changed = self._write(), False
                continue
            if ended is None:
                break
            self._record_trial(ended)
            changed = True
        self._write()

    def _write(self) -> float:
        """Write the file; returns the time of the next writing."""
        started_s = time.monotonic()
        self._guard(self._writer.write)
        ended_s = time.monotonic()
        return ended_s + max(WRITE_INTERVAL_S, WRITE_SHARE * (ended_s - started_s))

    def _record_trial(self, ended: _Ended) -> None:
        trial = self._trials[ended.name]
        self._states[trial.name] = "failed" if ended.reason else "complete"
        rows = self._update(trial)
        graph = self._graph.trials[trial.name]
        record = trial_record(trial, graph, self._store, rows, ended.stored, ended.reason, self._commit)
        self._tracker.log_trial(with_absent(record, self._parameters))

    def _update(self, trial: Trial) -> list[ResultRow]:
        failed = self._states.get(trial.name) == "failed"
        rows = self._keep(trial_rows(trial, self._graph.trials[trial.name], self._scores, failed))
        self._writer.update(trial.name, rows)
        return rows

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


class _Ended:
    """A trial that is over."""

    def __init__(self, name: str, reason: str, stored: tuple[str, ...]) -> None:
        self.name = name
        self.reason = reason
        self.stored = stored
