"""Guards around a tracker: its failures become warnings and are made up for, and no sweep waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.tracking.tracker import WAIT_VARIABLE, CheckpointRef, Headline, Tracker, TrialRecord

RETRY_S = 20.0
"""Seconds for which a tracker that failed again and again is left alone."""

_MOST_ATTEMPTS = 3
_LOG_LATER = "No result is lost; run the same command again, or `aipo-lab track` on its folder, to log what is missing."


class SafeTracker(Tracker):
    """Passes everything on to another tracker, turns its failures into `warnings`, and tries again what failed.

    After `max_failures` failures in a row it waits `retry_s` before it asks again, so that a dead server costs seconds,
    not hours. Then, and at the end, it opens the sweep anew, which finds what was logged, and logs what was not: a
    server that was away for a while misses nothing. What is logged after all leaves no warning.
    """

    def __init__(self, tracker: Tracker, max_failures: int = 2, retry_s: float = RETRY_S) -> None:
        self._tracker = tracker
        self._max_failures = max_failures
        self._retry_s = retry_s
        self._failures = 0
        self._asked_s = 0.0
        self._open: Callable[[], None] = lambda: None
        self._started = False
        self._missing: dict[str, _Missing] = {}
        self._warnings: dict[str, str] = {}

    @property
    def warnings(self) -> list[str]:
        """What is not logged, and why."""
        return list(self._warnings.values())

    def warn(self, text: str) -> None:
        """Add a warning that stays."""
        self._warnings[text] = f"{text}. {_LOG_LATER}"

    @property
    def wait_s(self) -> float:
        """The tracker's own."""
        return self._tracker.wait_s

    def without_secrets(self, text: str) -> str:
        """The tracker's own."""
        return self._tracker.without_secrets(text)

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """As the tracker's own, but never raises."""
        self._open = lambda: self._tracker.start_sweep(sweep_id, name, params, tags)
        self._started = self._try(_OPENING, self._open)

    def log_trial(self, record: TrialRecord) -> None:
        """As the tracker's own, but never raises."""
        self._log(f"logging trial {record.trial}", lambda: self._tracker.log_trial(record))

    def log_headline(self, headline: Headline) -> None:
        """As the tracker's own, but never raises."""
        self._log("logging what the sweep came to", lambda: self._tracker.log_headline(headline))

    def register_model(self, name: str, checkpoint: CheckpointRef, upload: bool) -> None:
        """As the tracker's own, but never raises."""
        self._log(f"registering {name}", lambda: self._tracker.register_model(name, checkpoint, upload))

    def finish(self, artifacts: list[Path], state: str) -> None:
        """As the tracker's own, but never raises; what failed before is tried once more."""
        self._missing["closing the sweep"] = _Missing(lambda: self._tracker.finish(artifacts, state))
        self._catch_up()

    def _log(self, what: str, action: Callable[[], None]) -> None:
        self._missing[what] = _Missing(action)
        if self._failures < self._max_failures or time.monotonic() >= self._asked_s + self._retry_s:
            self._catch_up()

    def _catch_up(self) -> None:
        """Log all that is missing, in the order it came, until the tracker fails too often."""
        if (self._failures or not self._started) and not self._reopen():
            return
        in_a_row = 0
        for what, missing in list(self._missing.items()):
            missing.attempts += 1
            if self._try(what, missing.action):
                self._failures = in_a_row = 0
                del self._missing[what]
                continue
            in_a_row += 1
            if missing.attempts == _MOST_ATTEMPTS:  # what the tracker cannot take must not hold up the rest
                del self._missing[what]
            if in_a_row == self._max_failures:
                return

    def _reopen(self) -> bool:
        self._started = self._try(_OPENING, self._open)
        return self._started

    def _try(self, what: str, action: Callable[[], None]) -> bool:
        self._asked_s = time.monotonic()
        try:
            action()
        except Exception as error:  # whatever a tracking backend raises, the results matter more
            self._failures += 1
            text = self.without_secrets(str(error).strip() or type(error).__name__)
            self._warnings[what] = f"tracking failed while {what}: {text.splitlines()[0]}. {_LOG_LATER}"
            return False
        self._warnings.pop(what, None)
        return True


_OPENING = "opening the sweep"


@dataclass
class _Missing:
    """Something to log, and how often that was tried with a tracker that had taken the sweep."""

    action: Callable[[], None]
    attempts: int = 0


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

    def log_headline(self, headline: Headline) -> None:
        """As the tracker's own, later."""
        self._later(lambda: self._tracker.log_headline(headline))

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
        self._tracker.warn(f"tracking was given up {when}: {what} not logged")

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
