"""Tracking: the interface that a sweep reports to, its no-op base, and a guard that no failure gets past.

MLflow is one implementation (`aipo_lab.tracking.mlflow`), others are registered beside it. Results live in the store
and in `results.csv`; a tracker only shows them, so nothing it does may lose or stop anything.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aipo_lab.core.registry import Definition, Registry
from aipo_lab.results.rows import ResultRow
from aipo_lab.tracking.addresses import hide_secrets

WAIT_S = 30.0
WAIT_VARIABLE = "AIPO_LAB_TRACKING_WAIT_S"


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
    """All there is to log about one trial. `state` is `complete` or `failed`, `reason` says why it failed.

    `fingerprint` names the content where the caller knows it without reading it, so that what is logged already need
    not be read: curves and datasets may then be sequences that load when first looked at.
    """

    trial: str
    objective: str
    params: dict[str, str]
    rows: list[ResultRow]
    curves: Sequence[CurvePoint] = field(default_factory=list)
    state: str = "complete"
    reason: str = ""
    datasets: Sequence[DatasetRef] = field(default_factory=list)
    fingerprint: str = ""

    @property
    def digest(self) -> str:
        """A digest of everything in the record: equal records need not be logged twice."""
        content = [self.fingerprint, self.state, self.reason] if self.fingerprint else asdict(self)
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Tracker:
    """What a sweep tells: that it starts, each finished trial, and that it is over. This one does nothing."""

    @property
    def wait_s(self) -> float:
        """Seconds that a sweep which is over waits at most for what is not logged yet."""
        return WAIT_S

    def without_secrets(self, text: str) -> str:
        """A message as it may be shown."""
        return hide_secrets(text, "")

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """Open the sweep `sweep_id`, or continue it; equal ids with equal `params` are the same sweep."""

    def log_trial(self, record: TrialRecord) -> None:
        """Log one trial; logging an equal record again changes nothing."""

    def finish(self, artifacts: list[Path], state: str) -> None:
        """Attach files and folders to the sweep and end it: `complete`, `failed` or `stopped`."""


@dataclass(frozen=True, kw_only=True)
class TrackerDefinition(Definition):
    """A registered tracker: `make(folder)` logs the sweep whose output folder that is."""

    make: Callable[[Path], Tracker]


TRACKERS: Registry[TrackerDefinition] = Registry("tracker", "aipo_lab.trackers", "aipo_lab.tracking")


def make_tracker(name: str, folder: Path) -> Tracker:
    """The tracker called `name`.

    Raises `UserError` listing the valid names and `MissingDependency` if its package is not here.
    """
    definition = TRACKERS.get(name)
    definition.check_installed(f"tracker {name}")
    return definition.make(folder)


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

    @property
    def wait_s(self) -> float:
        """The tracker's own."""
        return self._tracker.wait_s

    def without_secrets(self, text: str) -> str:
        """The tracker's own."""
        return self._tracker.without_secrets(text)

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
            text = self.without_secrets(str(error).strip() or type(error).__name__)
            self.warnings.append(f"tracking failed while {what}: {text.splitlines()[0]}. {_LOG_LATER}")
            return False
        self._failures = 0
        return True


_LOG_LATER = "No result is lost; run the same command again to log what is missing."


class BackgroundTracker(Tracker):
    """Passes everything on, in order, on a thread of its own: a sweep does not wait for a database or a server.

    `finish` waits for what is not logged yet, but no longer than `wait_s` (the tracker's own unless it is given) or
    until Ctrl-C. What is left then is given up with a warning; the thread ends with the program.
    """

    def __init__(self, tracker: SafeTracker, wait_s: float | None = None) -> None:
        self._tracker = tracker
        self._wait_s = wait_s
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._trials = _Count()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    @property
    def wait_s(self) -> float:
        """Seconds that `finish` waits at most."""
        return self._tracker.wait_s if self._wait_s is None else self._wait_s

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """As the tracker's own, later."""
        self._later(lambda: self._tracker.start_sweep(sweep_id, name, params, tags))

    def log_trial(self, record: TrialRecord) -> None:
        """As the tracker's own, later."""
        self._trials.asked += 1

        def log() -> None:
            self._tracker.log_trial(record)
            self._trials.done += 1

        self._later(log)

    def finish(self, artifacts: list[Path], state: str) -> None:
        """As the tracker's own, after all that was asked for before it, or a warning once `wait_s` are over."""
        self._later(lambda: self._tracker.finish(artifacts, state))
        self._calls.put(None)
        try:
            self._thread.join(self.wait_s)
        except KeyboardInterrupt:  # who presses Ctrl-C now does not want to wait for a server
            self._give_up("when it was interrupted")
        else:
            if self._thread.is_alive():
                self._give_up(f"{self.wait_s:g} s after the sweep was done (set {WAIT_VARIABLE} to wait longer)")

    def _give_up(self, when: str) -> None:
        self._given_up.set()
        left = self._trials.asked - self._trials.done
        what = f"{left} of {self._trials.asked} trials" if left else "the figures and the end of the sweep"
        self._tracker.warnings.append(f"tracking was given up {when}: {what} not logged. {_LOG_LATER}")

    def _later(self, call: Callable[[], None]) -> None:
        if not self._thread.is_alive() and not self._given_up.is_set():
            self._thread.start()
        self._calls.put(call)

    def _work(self) -> None:
        while not self._given_up.is_set() and (call := self._calls.get()) is not None:
            call()


@dataclass
class _Count:
    """Trials that were to be logged, and those that were dealt with."""

    asked: int = 0
    done: int = 0


TRACKERS.add("none", TrackerDefinition(make=lambda _: Tracker()))
