"""Keeps `results.csv` and the tracker up to date on a thread of its own, so that no stage waits for a file."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar, overload

from aipo_lab.core.store import Store
from aipo_lab.pipeline.graph import TrialGraph
from aipo_lab.results.rows import ResultRow, ResultsWriter
from aipo_lab.sweeps.collect import Scores, training_curve, trial_datasets, trial_rows
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.sweep import Sweep, Trial
from aipo_lab.tracking.tracker import Tracker, TrialRecord

WRITE_INTERVAL_S = 1.0
"""Least seconds between two writings of `results.csv`."""

WRITE_SHARE = 20
"""A writing takes at most one part in so many of the time: its cost grows with the sweep, its frequency falls."""


class Recorder:
    """Told which trials are over; reads their results, tells the tracker, and writes `results.csv`.

    An error of the thread (a full disk) is raised by the next call of `trial_ended` or by `close`.
    """

    def __init__(self, sweep: Sweep, graph: SweepGraph, store: Store, path: Path, tracker: Tracker) -> None:
        self._graph = graph
        self._store = store
        self._tracker = tracker
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
        self._writer.write()
        ended_s = time.monotonic()
        return ended_s + max(WRITE_INTERVAL_S, WRITE_SHARE * (ended_s - started_s))

    def _record_trial(self, ended: _Ended) -> None:
        trial = self._trials[ended.name]
        self._states[trial.name] = "failed" if ended.reason else "complete"
        rows = self._update(trial)
        graph, store = self._graph.trials[trial.name], self._store
        self._tracker.log_trial(
            TrialRecord(
                trial=trial.name,
                objective=trial.objective,
                params=trial.hyperparameters(),
                rows=rows,
                curves=Lazy(lambda: training_curve(graph, store)),
                state=self._states[trial.name],
                reason=ended.reason,
                datasets=Lazy(lambda: trial_datasets(graph, store)),
                fingerprint=_fingerprint(trial, graph, ended.stored),
            )
        )

    def _update(self, trial: Trial) -> list[ResultRow]:
        failed = self._states.get(trial.name) == "failed"
        rows = trial_rows(trial, self._graph.trials[trial.name], self._scores, failed)
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


Item = TypeVar("Item")


class Lazy(Sequence[Item], Generic[Item]):
    """A sequence that is read when it is first looked at."""

    def __init__(self, load: Callable[[], list[Item]]) -> None:
        self._load = load

    @cached_property
    def _items(self) -> list[Item]:
        return self._load()

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)


def _fingerprint(trial: Trial, graph: TrialGraph, stored: Iterable[str]) -> str:
    """What determines a trial's record: its settings and, as an artifact never changes, which of them are there."""
    known = set(stored)
    present = [reference for reference in graph.nodes() if reference in known]
    content = [trial.objective, trial.hyperparameters(), present]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
