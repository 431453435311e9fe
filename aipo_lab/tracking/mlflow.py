"""MLflow as the tracker: a run per sweep, a child run per trial, iterations and training curves as steps."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.figures.palette import objective_name, setting_label
from aipo_lab.tracking.sqlite_place import follow_moved_artifacts, sqlite_uri
from aipo_lab.tracking.tracker import Tracker, TrialRecord, resolve_tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

EXPERIMENT = "aipo-lab"
SWEEP_TAG, TRIAL_TAG, LOGGED_TAG = "aipo_lab.sweep_id", "aipo_lab.trial_id", "aipo_lab.logged"
_PARENT_TAG, _NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
_METRICS_PER_BATCH, _PARAMS_PER_BATCH, _TAG_CHARS = 1000, 100, 5000
_RUN_STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
# Set before mlflow is imported, unless the user did: no telemetry, no minutes of retries on a dead server.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MLflowTracker(Tracker):
    """Logs to an MLflow server or database.

    Runs are found again by their tags, so a sweep that is run again adds what is missing: a trial whose
    record is logged already is skipped, one logged in part, or differently, is deleted and logged anew.
    """

    def __init__(self, out: Path, uri: str | None = None) -> None:
        self.uri = resolve_tracking_uri(out, uri)
        self._out = out
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._sweep_run_id = ""

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """Find the run of this sweep and reopen it, or create it."""
        if self.uri == sqlite_uri(self._out / "mlflow.db"):
            follow_moved_artifacts(self._out)
        self._client = _connect(self.uri)
        self._experiment_id = _experiment(self._client, _artifact_location(self.uri, self._out))
        runs = self._find(f"tags.`{SWEEP_TAG}` = '{sweep_id}'")
        run = next((run for run in runs if run.data.params == params), None)
        if run is None:
            all_tags = {SWEEP_TAG: sweep_id, "mlflow.source.name": "aipo-lab", **tags}
            run = self._client.create_run(self._experiment_id, run_name=name, tags=all_tags)
            self._log_params(run.info.run_id, params)
        else:
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._sweep_run_id = run.info.run_id

    def log_trial(self, record: TrialRecord) -> None:
        """One child run with params, metrics by iteration, curves by training step, datasets and status."""
        client = self._connected()
        wanted = f"tags.`{TRIAL_TAG}` = '{record.trial}' and tags.`{_PARENT_TAG}` = '{self._sweep_run_id}'"
        logged = False
        for run in self._find(wanted):
            whole = run.info.status != "RUNNING" and run.data.tags.get(LOGGED_TAG) == record.digest
            if whole and not logged:
                logged = True
            else:
                client.delete_run(run.info.run_id)
        if not logged:
            self._log_new(client, record)

    def finish(self, artifacts: list[Path], state: str) -> None:
        """Attach `artifacts` (a folder under its own name) to the sweep's run and end it."""
        client = self._connected()
        for path in artifacts:
            if path.is_dir():
                client.log_artifacts(self._sweep_run_id, str(path), artifact_path=path.name)
            else:
                client.log_artifact(self._sweep_run_id, str(path))
        client.set_terminated(self._sweep_run_id, _RUN_STATUS[state])

    def _log_new(self, client: MlflowClient, record: TrialRecord) -> None:
        tags = {TRIAL_TAG: record.trial, _PARENT_TAG: self._sweep_run_id, "aipo_lab.state": record.state}
        if record.reason:
            tags |= {"aipo_lab.reason": record.reason[:_TAG_CHARS], _NOTE_TAG: record.reason[:_TAG_CHARS]}
        tags[LOGGED_TAG] = record.digest
        run = client.create_run(self._experiment_id, run_name=_run_name(record), tags=tags)
        run_id = run.info.run_id
        self._log_params(run_id, {"objective": record.objective, **record.params})
        metrics = list(_metrics(record))
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])
        if record.datasets:
            client.log_inputs(run_id, datasets=_dataset_inputs(record))
        client.set_terminated(run_id, _RUN_STATUS[record.state])  # last: a running one counts as half logged

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(name, text) for name, text in params.items()]
        for start in range(0, len(entities), _PARAMS_PER_BATCH):
            self._connected().log_batch(run_id, params=entities[start : start + _PARAMS_PER_BATCH])

    def _find(self, where: str) -> list[Run]:
        return list(self._connected().search_runs([self._experiment_id], filter_string=where))

    def _connected(self) -> MlflowClient:
        assert self._client is not None, "start_sweep comes first"
        return self._client


def _connect(uri: str) -> MlflowClient:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # importing mlflow configures both anew
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri)


def _experiment(client: MlflowClient, artifact_location: str | None) -> str:
    """The id of the experiment, created where missing and restored where someone deleted it."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifact_location))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _artifact_location(uri: str, out: Path) -> str | None:
    """Artifacts lie in the sweep's folder, beside a database elsewhere, and where a server wants them."""
    if uri == sqlite_uri(out / "mlflow.db"):
        return (out.resolve() / "mlartifacts").as_uri()
    if uri.startswith("sqlite:///"):
        return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
    return None


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
