"""MLflow as the tracker: a run per sweep, a child run per trial, iterations and training curves as steps."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import UserError
from aipo_lab.tracking.addresses import hide_secrets, own_uri, resolve_tracking_uri, sqlite_file
from aipo_lab.tracking.mlflow_client import EXPERIMENT, connect, find_experiment
from aipo_lab.tracking.mlflow_content import (
    NOTE_TAG,
    TABLES_TAG,
    TAG_CHARS,
    dataset_inputs,
    run_name,
    stage_table,
    table_json,
    to_ms,
    to_read,
    trial_metrics,
    trial_params,
    trial_span_s,
    trial_tags,
)
from aipo_lab.tracking.mlflow_model import register_model
from aipo_lab.tracking.mlflow_view import VIEW_TAG, view_key, view_text
from aipo_lab.tracking.place import save_place
from aipo_lab.tracking.sqlite_place import follow_moved_artifacts
from aipo_lab.tracking.tracker import (
    TRACKERS,
    WAIT_S,
    WAIT_VARIABLE,
    CheckpointRef,
    Headline,
    Tracker,
    TrackerDefinition,
    TrialRecord,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["EXPERIMENT", "MLflowTracker"]

SWEEP_TAG, TRIAL_TAG, LOGGED_TAG = "aipo_lab.sweep_id", "aipo_lab.trial_id", "aipo_lab.logged"
_PARAMS_TAG, _HEADLINE_TAG = "aipo_lab.params", "aipo_lab.headline"
_PARENT_TAG, SELECTED_TAG = "mlflow.parentRunId", "selected"
_METRICS_PER_BATCH, _PARAMS_PER_BATCH, _RUNS_PER_PAGE = 1000, 100, 200
_MOMENTS = ("started_at", "ended_at")
_PICKED = {"": "no", "objective": "for its objective", "sweep": "in the sweep"}
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
        self._headline = ""  # the digest of what is logged of it
        self._ended_s: float | None = None
        self._logged: dict[str, dict[str, str]] = {}  # run ids and what is logged in them whole, by trial

    @property
    def wait_s(self) -> float:
        """See `Tracker.wait_s`: more for a local database than for a server; the environment may set it."""
        return self._wait_s

    def without_secrets(self, text: str) -> str:
        """See `Tracker.without_secrets`: without user and password of the tracking URI."""
        return hide_secrets(text, self.uri)

    def start_sweep(self, sweep_id: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        """Find the run of this sweep and reopen it, or create it.

        `started_at` and `ended_at` among the `tags`, in ISO format, are when the sweep ran, if that is not now.
        """
        if self.uri == own_uri(self._out):
            follow_moved_artifacts(self._out)
        self._client = connect(self.uri)
        self._experiment_id = find_experiment(self._client, _artifact_location(self.uri, self._out))
        runs = self._find(f"tags.`{SWEEP_TAG}` = '{sweep_id}'")
        run = next((run for run in runs if _is_of(run, params)), None)
        moments = {
            name: datetime.fromisoformat(tags[name]).timestamp() for name in ("started_at", "ended_at") if name in tags
        }
        self._ended_s = moments.get("ended_at")
        own = {tag: text for tag, text in tags.items() if text and tag not in moments}
        if run is None:
            all_tags = {SWEEP_TAG: sweep_id, _PARAMS_TAG: _digest(params), "mlflow.source.name": "aipo-lab", **own}
            run = self._client.create_run(
                self._experiment_id,
                start_time=to_ms(moments.get("started_at", time.time())),
                run_name=name,
                tags=all_tags,
            )
        else:
            self._client.update_run(run.info.run_id, status="RUNNING")
        if run.data.params != params:  # new, or its maker was killed after making it
            self._log_params(run.info.run_id, params)
        self._sweep_run_id = run.info.run_id
        self._headline = run.data.tags.get(_HEADLINE_TAG, "")
        self._logged = self._logged_trials() if runs else {}
        save_place(self._out, self.uri, self._experiment_id, self._sweep_run_id)

    def log_trial(self, record: TrialRecord) -> None:
        """One child run with params, metrics by iteration, curves by training step, datasets and status."""
        client = self._connected()
        logged = False
        for run_id, digest in list(self._logged.get(record.trial, {}).items()):
            if not logged and (digest == record.digest or (digest and not record.whole)):
                logged = True
            else:
                client.delete_run(run_id)
                del self._logged[record.trial][run_id]
        if not logged:
            self._log_new(client, record)

    def log_headline(self, headline: Headline) -> None:
        """Metrics, description, tables and inputs of the sweep's run; each trial's best; the view of the run table."""
        client, runs = self._connected(), {name: next(iter(ids)) for name, ids in self._logged.items() if ids}
        digest = _digest([asdict(headline), sorted(runs.values())])
        if digest == self._headline:
            return
        run_id = self._sweep_run_id
        self._log_values(run_id, headline.metrics, {NOTE_TAG: headline.description[:TAG_CHARS], **headline.tags})
        self._log_tables(run_id, headline.tables)
        if headline.datasets:
            client.log_inputs(run_id, datasets=dataset_inputs(headline.datasets))
        for name, best in headline.trials.items():
            if name in runs:
                values = {f"best/{metric}": to_read(value) for metric, value in best.metrics.items()}
                tags = {SELECTED_TAG: _PICKED[best.pick]}
                self._log_values(runs[name], {"best/iteration": float(best.iteration), **values}, tags)
        if view := view_text(run_id, headline):
            client.set_experiment_tag(self._experiment_id, VIEW_TAG + view_key(run_id), view)
            save_place(self._out, self.uri, self._experiment_id, run_id, view_key(run_id))
        client.set_tag(run_id, _HEADLINE_TAG, digest)  # last: without it, all of this is logged again
        self._headline = digest

    def register_model(self, name: str, checkpoint: CheckpointRef, upload: bool) -> None:
        """See `Tracker.register_model`; a version that is there already stays the only one."""
        run_id = next(iter(self._logged[checkpoint.trial]))
        register_model(self._connected(), name, run_id, checkpoint, upload)

    def finish(self, artifacts: list[Path], state: str) -> None:
        """Attach `artifacts` (a folder under its own name) to the sweep's run and end it."""
        client = self._connected()
        for path in artifacts:
            # File by file: `log_artifacts` starts threads that the program would wait for when it ends.
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            for file in files:
                below = file.parent.relative_to(path.parent)
                client.log_artifact(self._sweep_run_id, str(file), below.as_posix() if below.parts else None)
        ended_ms = None if self._ended_s is None else to_ms(self._ended_s)
        client.set_terminated(self._sweep_run_id, _RUN_STATUS[state], ended_ms)

    def _log_new(self, client: MlflowClient, record: TrialRecord) -> None:
        tags = {TRIAL_TAG: record.trial, _PARENT_TAG: self._sweep_run_id, LOGGED_TAG: record.digest}
        started_s, ended_s = trial_span_s(record)
        run = client.create_run(
            self._experiment_id,
            start_time=to_ms(time.time() if started_s is None else started_s),
            run_name=run_name(record),
            tags=trial_tags(record) | tags,
        )
        run_id = run.info.run_id
        runs = self._logged.setdefault(record.trial, {})
        runs[run_id] = ""  # nothing whole yet
        self._log_params(run_id, trial_params(record))
        metrics = list(trial_metrics(record))
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])
        if record.datasets:
            client.log_inputs(run_id, datasets=dataset_inputs(record.datasets))
        if record.stages:
            self._log_tables(run_id, {"stages": stage_table(record.stages)})
        # Last: a running one counts as half logged.
        client.set_terminated(run_id, _RUN_STATUS[record.state], None if ended_s is None else to_ms(ended_s))
        runs[run_id] = record.digest

    def _log_values(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Metric, RunTag

        now_ms = to_ms(time.time())
        values = [Metric(name, value, now_ms, 0) for name, value in metrics.items() if math.isfinite(value)]
        texts = [RunTag(name, text[:TAG_CHARS]) for name, text in tags.items()]
        self._connected().log_batch(run_id, metrics=values, tags=texts)

    def _log_tables(self, run_id: str, tables: Mapping[str, Sequence[Mapping[str, str | float | None]]]) -> None:
        """Each table as an artifact that the UI shows as one."""
        client = self._connected()
        for name, rows in tables.items():
            client.log_text(run_id, table_json(rows), f"{name}.json")
        listed = [{"path": f"{name}.json", "type": "table"} for name in tables]
        client.set_tag(run_id, TABLES_TAG, json.dumps(listed))

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


def _is_of(run: Run, params: dict[str, str]) -> bool:
    """Whether the run is of the sweep with these parameters; runs of earlier versions say so by them alone."""
    return bool(run.data.tags.get(_PARAMS_TAG) == _digest(params) or run.data.params == params)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


TRACKERS.add("mlflow", TrackerDefinition(make=MLflowTracker))
