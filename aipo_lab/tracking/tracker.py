"""Tracking: the interface that a sweep reports to, its no-op base, and a guard that no failure gets past.

MLflow is one implementation (`aipo_lab.tracking.mlflow`). Results live in the store and in `results.csv`; a
tracker only shows them, so nothing it does may lose or stop anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aipo_lab.results.rows import ResultRow
from aipo_lab.tracking.sqlite_place import sqlite_uri


@dataclass(frozen=True)
class CurvePoint:
    """Training metrics at a global training step (counted through all iterations of the trial)."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class DatasetRef:
    """A dataset that a trial read: what it is for (`pool`, `pairs`), its digest, and where it lies."""

    name: str
    digest: str
    context: str = "training"
    source: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """All there is to log about one trial. `state` is `complete` or `failed`, `reason` says why it failed."""

    trial: str
    objective: str
    params: dict[str, str]
    rows: list[ResultRow]
    curves: list[CurvePoint] = field(default_factory=list)
    state: str = "complete"
    reason: str = ""
    datasets: list[DatasetRef] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """A digest of everything in the record: equal records need not be logged twice."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Tracker:
    """What a sweep tells: that it starts, each finished trial, and that it is over. This one does nothing."""

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """Open the sweep `sweep_id`, or continue it; equal ids with equal `params` are the same sweep."""

    def log_trial(self, record: TrialRecord) -> None:
        """Log one trial; logging an equal record again changes nothing."""

    def finish(self, artifacts: list[Path], state: str) -> None:
        """Attach files and folders to the sweep and end it: `complete`, `failed` or `stopped`."""


class SafeTracker(Tracker):
    """Passes everything on to another tracker and turns its failures into `warnings`.

    After `max_failures` failures in a row it stops trying, so that a dead server costs seconds, not hours.
    A sweep that could not be opened is not tried again.
    """

    def __init__(self, tracker: Tracker, max_failures: int = 2) -> None:
        self.warnings: list[str] = []
        self._tracker = tracker
        self._max_failures = max_failures
        self._failures = 0
        self._started = False

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """As the tracker's own, but never raises."""
        self._started = self._try("opening the sweep", lambda: self._tracker.start_sweep(sweep_id, name, params, tags))

    def log_trial(self, record: TrialRecord) -> None:
        """As the tracker's own, but never raises; nothing without an open sweep."""
        if self._started and self._failures < self._max_failures:
            self._try(f"logging trial {record.trial}", lambda: self._tracker.log_trial(record))

    def finish(self, artifacts: list[Path], state: str) -> None:
        """As the tracker's own, but never raises; nothing without an open sweep."""
        if self._started and self._failures < self._max_failures:
            self._try("closing the sweep", lambda: self._tracker.finish(artifacts, state))

    def _try(self, what: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # whatever a tracking backend raises, the results matter more
            self._failures += 1
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.warnings.append(
                f"tracking failed while {what}: {first_line}. No result is lost; "
                "run the same command again to log what is missing."
            )
            return False
        self._failures = 0
        return True


class BackgroundTracker(Tracker):
    """Passes everything on, in order, on a thread of its own: a sweep does not wait for a database.

    `finish` waits until all is logged. What the other tracker raises is raised there, so give it a
    `SafeTracker`.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._calls: list[Future[None]] = []

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """As the tracker's own, later."""
        self._calls.append(self._thread.submit(self._tracker.start_sweep, sweep_id, name, params, tags))

    def log_trial(self, record: TrialRecord) -> None:
        """As the tracker's own, later."""
        self._calls.append(self._thread.submit(self._tracker.log_trial, record))

    def finish(self, artifacts: list[Path], state: str) -> None:
        """As the tracker's own, after all that was asked for before it."""
        self._calls.append(self._thread.submit(self._tracker.finish, artifacts, state))
        self._thread.shutdown(wait=True)
        for call in self._calls:
            call.result()


def resolve_tracking_uri(out: Path, uri: str | None = None) -> str:
    """Where to log: `uri`, else the environment's MLFLOW_TRACKING_URI, else SQLite in the sweep's folder."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(out / "mlflow.db")
