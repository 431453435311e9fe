"""MLflow as the tracker: a run per sweep, a child run per trial, iterations and training curves as steps."""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import UserError
from aipo_lab.figures.palette import objective_name, setting_label
from aipo_lab.tracking.addresses import hide_secrets, own_uri, resolve_tracking_uri, sqlite_file
from aipo_lab.tracking.mlflow_client import EXPERIMENT, connect, find_experiment
from aipo_lab.tracking.place import save_place
from aipo_lab.tracking.tracker import TRACKERS, WAIT_S, WAIT_VARIABLE, Tracker, TrackerDefinition, TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

__all__ = ["EXPERIMENT", "MLflowTracker"]

SWEEP_TAG, TRIAL_TAG, LOGGED_TAG = "aipo_lab.sweep_id", "aipo_lab.trial_id", "aipo_lab.logged"
_PARENT_TAG, _NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
_METRICS_PER_BATCH, _PARAMS_PER_BATCH, _TAG_CHARS, _RUNS_PER_PAGE = 1000, 100, 5000, 200
_RUN_STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_LOCAL_WAIT_S = 90.0  # this machine's own disk: never gone, only busy, and MLflow takes up to 20 s to make its tables


class MLflowTracker(Tracker):
    """Logs to an MLflow server or database.

    Runs are found again by their tags, so a sweep that is run again adds what is missing: a trial whose
    record is logged already is skipped, one logged in part, or differently, is deleted and logged anew.
    """

    def __init__(self, out: Path, uri: str | None = None) -> None:
        self.uri = resolve_tracking_uri(out, uri)
        self._wait_s = _wait_s(self.uri)
        self._out = out
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._sweep_run_id = ""
        self._logged: dict[str, dict[str, str]] = {}  # run ids and what is logged in them whole, by trial

    @property
    def wait_s(self) -> float:
        """See `Tracker.wait_s`: more for a local database than for a server; the environment may set it."""
        return self._wait_s

    def without_secrets(self, text: str) -> str:
        """See `Tracker.without_secrets`: without user and password of the tracking URI."""
        return hide_secrets(text, self.uri)

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """Find the run of this sweep and reopen it, or create it."""
        self._client = connect(self.uri)
        self._experiment_id = find_experiment(self._client, _artifact_location(self.uri, self._out))
        runs = self._find(f"tags.`{SWEEP_TAG}` = '{sweep_id}'")
        run = next((run for run in runs if run.data.params == params), None)
        if run is None:
            all_tags = {SWEEP_TAG: sweep_id, "mlflow.source.name": "aipo-lab", **tags}
            run = self._client.create_run(self._experiment_id, run_name=name, tags=all_tags)
            self._log_params(run.info.run_id, params)
        else:
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._sweep_run_id = run.info.run_id
        self._logged = self._logged_trials() if runs else {}
        save_place(self._out, self.uri, self._experiment_id, self._sweep_run_id)

    def log_trial(self, record: TrialRecord) -> None:
        """One child run with params, metrics by iteration, curves by training step, datasets and status."""
        client = self._connected()
        logged = False
        for run_id, digest in list(self._logged.get(record.trial, {}).items()):
            if digest == record.digest and not logged:
                logged = True
            else:
                client.delete_run(run_id)
                del self._logged[record.trial][run_id]
        if not logged:
            self._log_new(client, record)

    def finish(self, artifacts: list[Path], state: str) -> None:
        """Attach `artifacts` (a folder under its own name) to the sweep's run and end it."""
        client = self._connected()
        for path in artifacts:
            # File by file: `log_artifacts` starts threads that the program would wait for when it ends.
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            for file in files:
                below = file.parent.relative_to(path.parent)
                client.log_artifact(self._sweep_run_id, str(file), below.as_posix() if below.parts else None)
        client.set_terminated(self._sweep_run_id, _RUN_STATUS[state])

    def _log_new(self, client: MlflowClient, record: TrialRecord) -> None:
        tags = {TRIAL_TAG: record.trial, _PARENT_TAG: self._sweep_run_id, "aipo_lab.state": record.state}
        if record.reason:
            tags |= {"aipo_lab.reason": record.reason[:_TAG_CHARS], _NOTE_TAG: record.reason[:_TAG_CHARS]}
        tags[LOGGED_TAG] = record.digest
        run = client.create_run(self._experiment_id, run_name=_run_name(record), tags=tags)
        run_id = run.info.run_id
        runs = self._logged.setdefault(record.trial, {})
        runs[run_id] = ""  # nothing whole yet
        self._log_params(run_id, {"objective": record.objective, **record.params})
        metrics = list(_metrics(record))
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])
        if record.datasets:
            client.log_inputs(run_id, datasets=_dataset_inputs(record))
        client.set_terminated(run_id, _RUN_STATUS[record.state])  # last: a running one counts as half logged
        runs[run_id] = record.digest

    def _logged_trials(self) -> dict[str, dict[str, str]]:
        """The runs of the sweep's trials and the digests logged in them, empty where a run is not whole."""
        logged: dict[str, dict[str, str]] = defaultdict(dict)
        for run in self._find(f"tags.`{_PARENT_TAG}` = '{self._sweep_run_id}'"):
            tags, whole = run.data.tags, run.info.status != "RUNNING"
            logged[tags.get(TRIAL_TAG, "")][run.info.run_id] = tags.get(LOGGED_TAG, "") if whole else ""
        return dict(logged)

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(name, text) for name, text in params.items()]
        for start in range(0, len(entities), _PARAMS_PER_BATCH):
            self._connected().log_batch(run_id, params=entities[start : start + _PARAMS_PER_BATCH])

    def _find(self, where: str) -> list[Run]:
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._connected().search_runs(
                [self._experiment_id], filter_string=where, max_results=_RUNS_PER_PAGE, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _connected(self) -> MlflowClient:
        assert self._client is not None, "start_sweep comes first"
        return self._client


def _wait_s(uri: str) -> float:
    given = os.environ.get(WAIT_VARIABLE)
    if not given:
        return WAIT_S if sqlite_file(uri) is None else _LOCAL_WAIT_S
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{WAIT_VARIABLE} is {given!r}; it must be a number of seconds, 0 or more")
    return seconds


def _artifact_location(uri: str, out: Path) -> str | None:
    """Artifacts lie in the sweep's folder, beside a database elsewhere, and where a server wants them."""
    if uri == own_uri(out):
        return (out.resolve() / "mlartifacts").as_uri()
    database = sqlite_file(uri)
    return None if database is None else (database.parent / "mlartifacts").as_uri()


def _run_name(record: TrialRecord) -> str:
    return " ".join(part for part in (objective_name(record.objective), setting_label(record.params)) if part)


def _metrics(record: TrialRecord) -> Iterator[Metric]:
    """`<benchmark>/<metric>` by iteration, `train/<name>` by training step; only finite values."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    for row in record.rows:
        for name, value in row.metrics.items():
            if math.isfinite(value):
                yield Metric(name, value, now_ms, row.iteration)
    for point in record.curves:
        for name, value in point.values.items():
            if math.isfinite(value):
                yield Metric(f"train/{name}", value, now_ms, point.step)


def _dataset_inputs(record: TrialRecord) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            Dataset(data.name, data.digest, source_type="local", source=json.dumps({"uri": data.source})),
            [InputTag("mlflow.data.context", data.context)],
        )
        for data in record.datasets
    ]


TRACKERS.add("mlflow", TrackerDefinition(make=MLflowTracker))
