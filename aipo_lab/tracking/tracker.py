"""Tracking: the interface that a sweep reports to, what it is told, and its no-op base.

MLflow is one implementation (`aipo_lab.tracking.mlflow`), others are registered beside it. Results live in the store
and in `results.csv`; a tracker only shows them, so nothing it does may lose or stop anything (see
`aipo_lab.tracking.guards`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.registry import Definition, Registry
from aipo_lab.results.rows import ResultRow
from aipo_lab.tracking.addresses import hide_secrets

WAIT_S = 30.0
WAIT_VARIABLE = "AIPO_LAB_TRACKING_WAIT_S"
COMMIT_TAG = "mlflow.source.git.commit"
"""The tag of a sweep that says which commit of this program ran it, as MLflow calls it."""
LAYOUT = 2
"""Raised when trials are logged in another way: those logged in an older one are then logged anew."""


@dataclass(frozen=True)
class CurvePoint:
    """Training metrics at a global training step (counted through all iterations of the trial).

    `time_s` is when the step ended, in seconds since 1970; None where nobody knows.
    """

    step: int
    values: dict[str, float]
    time_s: float | None = None


@dataclass(frozen=True)
class DatasetRef:
    """A dataset that a trial read: what it is for (`pool`, `pairs`), its digest, and where it lies."""

    name: str
    digest: str
    context: str = "training"
    source: str = ""


@dataclass(frozen=True)
class MadeStage:
    """A stage of a trial that was made: its artifact's reference and folder, and when it was made.

    `iteration` is t of the iteration it belongs to; the model theta_t, its answers and scores belong to t. Times are in
    seconds since 1970.
    """

    iteration: int
    stage: str
    reference: str
    path: str
    started_s: float
    ended_s: float


@dataclass(frozen=True)
class TrialRecord:
    """All there is to log about one trial. `state` is `complete` or `failed`, `reason` says why it failed.

    `params` distinguish the trial within its sweep, `settings` are what else of its recipe matters, by dotted key.
    `fingerprint` names the content where the caller knows it without reading it, so that what is logged already need
    not be read: curves, datasets and stages may then be sequences that load when first looked at. `whole` is false
    where the store no longer has all that the trial was made from: a record logged from more is then better.
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
    settings: dict[str, str] = field(default_factory=dict)
    stages: Sequence[MadeStage] = field(default_factory=list)
    commit: str = ""
    whole: bool = True

    @property
    def digest(self) -> str:
        """A digest of everything in the record: equal records need not be logged twice."""
        known: Any = [self.fingerprint, self.state, self.reason, self.settings] if self.fingerprint else asdict(self)
        content = [LAYOUT, known]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrialBest:
    """What a trial came to: its best iteration by the sweep's rule, the headline metrics there, and whether the rule
    picks the trial, for its objective or among all (`pick`: "", "objective" or "sweep")."""

    iteration: int
    metrics: Mapping[str, float]
    pick: str = ""


@dataclass(frozen=True)
class Headline:
    """What a sweep came to.

    `metrics` of the sweep as a whole; `shown` names the metrics to look at first, the one to sort by leading, and
    `varied` the parameters that differ between trials. `description` is Markdown, `tables` are rows by column.
    """

    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    description: str
    tables: Mapping[str, Sequence[Mapping[str, str | float | None]]]
    trials: Mapping[str, TrialBest]
    shown: Sequence[str] = ()
    varied: Sequence[str] = ()
    datasets: Sequence[DatasetRef] = ()


@dataclass(frozen=True)
class CheckpointRef:
    """A trial's model after an iteration: its artifact's reference, and the folder with its files."""

    trial: str
    iteration: int
    reference: str
    folder: Path


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

    def log_headline(self, headline: Headline) -> None:
        """Log what the sweep came to, after its trials; logging it again changes nothing."""

    def register_model(self, name: str, checkpoint: CheckpointRef, upload: bool) -> None:
        """Register the model of a logged trial under a name, by reference, or with its files where `upload`.

        Raises `UserError` for a tracker without a registry of models.
        """
        kind = "the files" if upload else "a reference"
        raise UserError(
            f"this tracker has no registry of models for {kind} of {checkpoint.reference}; {name} needs MLflow"
        )

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


TRACKERS.add("none", TrackerDefinition(make=lambda _: Tracker()))
