"""Tracking against a real MLflow on SQLite: what was logged is searched back; failures never get out."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from synthetic_results import fail_trial, synthetic_rows

from aipo_lab.tracking.addresses import resolve_tracking_uri
from aipo_lab.tracking.guards import BackgroundTracker, SafeTracker
from aipo_lab.tracking.mlflow import EXPERIMENT, MLflowTracker
from aipo_lab.tracking.tracker import (
    CurvePoint,
    DatasetRef,
    Tracker,
    TrialRecord,
)

SWEEP = ("sweep-1", "table6", {"profile": "micro", "search.strategy": "grid"}, {"commit": "abc"})


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def out(tmp_path, new_database):
    shutil.copy(new_database[0], tmp_path / "mlflow.db")
    return tmp_path


def records(n=20, steps=2, objective=None):
    rows = synthetic_rows()
    trials = list(dict.fromkeys(row.trial for row in rows if objective in (None, row.objective)))[:n]
    curve = [CurvePoint(step, {f"series_{k}": 0.1 * k + step for k in range(12)}) for step in range(steps)]
    return [
        TrialRecord(
            trial,
            next(row.objective for row in rows if row.trial == trial),
            next(row.hyperparameters for row in rows if row.trial == trial),
            [row for row in rows if row.trial == trial],
            curve,
            datasets=[DatasetRef("pool", "d1"), DatasetRef("pairs", "d2", source="store/pair")],
        )
        for trial in trials
    ]


def client_of(out):
    from mlflow import MlflowClient

    return MlflowClient(resolve_tracking_uri(out))


def runs_of(out):
    """The sweep's run and its children by trial, as a second client sees them."""
    client = client_of(out)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return parents, {run.data.tags["aipo_lab.trial_id"]: run for run in children}, children


def test_a_sweep_is_a_run_with_a_child_per_trial(out, tmp_path):
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "pareto.png").write_bytes(b"png")
    tracker = MLflowTracker(out)
    tracker.start_sweep(*SWEEP)
    for record in records(3):
        tracker.log_trial(record)
    tracker.finish([report, figures], "complete")

    (parent,), by_trial, children = runs_of(out)
    assert parent.info.run_name == "table6"
    assert parent.info.status == "FINISHED"
    assert parent.data.params == SWEEP[2]
    assert parent.data.tags["commit"] == "abc"
    assert len(children) == 3
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children)
    client = client_of(out)
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {"report.html", "figures"}
    assert parent.info.artifact_uri.startswith((out / "mlartifacts").as_uri())

    run = by_trial["dpo-00"]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "DPO β=0.1"
    assert run.data.params == {"objective": "dpo", "beta": "0.1"}
    history = client.get_metric_history(run.info.run_id, "micro/length_tokens")
    rows = records(1)[0].rows
    assert [(m.step, m.value) for m in history] == [(r.iteration, r.metrics["micro/length_tokens"]) for r in rows]
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "train/series_3")]
    assert steps == [0, 1]
    names = {(item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs}
    assert names == {("pool", "d1"), ("pairs", "d2")}


def test_a_rerun_logs_nothing_twice_and_adds_what_is_missing(out):
    first = MLflowTracker(out)
    first.start_sweep(*SWEEP)
    for record in records(2):
        first.log_trial(record)
    _, before, _ = runs_of(out)
    second = MLflowTracker(out)
    second.start_sweep(*SWEEP)
    for record in records(3):
        second.log_trial(record)
    second.finish([], "complete")
    parents, after, children = runs_of(out)
    assert len(parents) == 1
    assert len(children) == 3
    assert all(after[trial].info.run_id == run.info.run_id for trial, run in before.items())


def test_a_half_logged_trial_is_made_anew(out):
    (record,) = records(1)
    tracker = MLflowTracker(out)
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(record)
    _, by_trial, _ = runs_of(out)
    half = by_trial[record.trial].info.run_id
    client_of(out).update_run(half, status="RUNNING")  # what a session killed before its last write leaves
    again = MLflowTracker(out)
    again.start_sweep(*SWEEP)
    again.log_trial(record)
    _, by_trial, children = runs_of(out)
    assert len(children) == 1
    assert by_trial[record.trial].info.run_id != half


def test_a_changed_record_replaces_the_old_run(out):
    (record,) = records(1)
    tracker = MLflowTracker(out)
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(replace(record, rows=record.rows[:2]))
    tracker.log_trial(record)
    _, by_trial, children = runs_of(out)
    assert len(children) == 1
    history = client_of(out).get_metric_history(by_trial[record.trial].info.run_id, "micro/quality")
    assert len(history) == len(record.rows)


def test_another_sweep_in_the_same_database_is_another_run(out):
    tracker = MLflowTracker(out)
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(records(1)[0])
    tracker.start_sweep("sweep-2", "other", {}, {})
    tracker.log_trial(records(1)[0])
    parents, _, children = runs_of(out)
    assert (len(parents), len(children)) == (2, 2)


def test_a_failed_trial_says_why_and_nan_is_never_logged(out):
    (record,) = records(1)
    failed = replace(
        record,
        rows=fail_trial(record.rows, record.trial, 2),
        curves=[
            CurvePoint(0, {"loss": 0.7}),
            CurvePoint(1, {"loss": math.nan}),
            CurvePoint(2, {"loss": math.inf}),
        ],
        state="failed",
        reason="train: the loss is NaN at step 1",
    )
    tracker = MLflowTracker(out)
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(failed)
    tracker.finish([], "failed")
    (parent,), by_trial, _ = runs_of(out)
    run = by_trial[record.trial]
    assert (parent.info.status, run.info.status) == ("FAILED", "FAILED")
    assert run.data.tags["aipo_lab.reason"] == failed.reason
    client = client_of(out)
    assert [m.value for m in client.get_metric_history(run.info.run_id, "train/loss")] == [0.7]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "micro/quality")] == [0, 1]


def test_more_metrics_than_fit_in_one_batch_are_all_there(out):
    (record,) = records(1, steps=300)
    tracker = MLflowTracker(out)
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(record)
    _, by_trial, _ = runs_of(out)
    history = client_of(out).get_metric_history(by_trial[record.trial].info.run_id, "train/series_11")
    assert [m.step for m in history] == list(range(300))


class BrokenTracker(Tracker):
    """Fails in every method the test names, and remembers the calls."""

    def __init__(self, *broken):
        self.broken, self.calls = broken, []

    def _call(self, name):
        self.calls.append(name)
        if name in self.broken:
            raise ConnectionError("server gone\nwith a long trace")

    def start_sweep(self, sweep_id, name, params, tags):
        self._call("start_sweep")

    def log_trial(self, record):
        self._call("log_trial")

    def finish(self, artifacts, state):
        self._call("finish")


def test_failures_become_warnings_and_a_dead_server_is_asked_again_only_at_the_end():
    broken = BrokenTracker("log_trial")
    tracker = SafeTracker(broken, max_failures=2)
    tracker.start_sweep(*SWEEP)
    for record in records(5, steps=0):
        tracker.log_trial(record)
    assert broken.calls.count("log_trial") == 3  # the first, and at the second both
    tracker.finish([], "complete")
    assert broken.calls.count("log_trial") == 5 and "finish" not in broken.calls
    assert len(tracker.warnings) == 2
    assert "server gone" in tracker.warnings[0]
    assert "dpo-00" in tracker.warnings[0]
    assert "long trace" not in tracker.warnings[0]


def test_in_the_background_all_is_logged_in_order_when_finish_returns(out):
    tracker = BackgroundTracker(SafeTracker(MLflowTracker(out)))
    tracker.start_sweep(*SWEEP)
    for record in records(3):
        tracker.log_trial(record)
    tracker.finish([], "complete")
    (parent,), by_trial, _ = runs_of(out)
    assert parent.info.status == "FINISHED"
    assert sorted(by_trial) == ["dpo-00", "dpo-01", "dpo-02"]


def test_in_the_background_failures_still_become_warnings():
    safe = SafeTracker(BrokenTracker("log_trial"))
    tracker = BackgroundTracker(safe)
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(records(1)[0])
    tracker.finish([], "complete")
    assert len(safe.warnings) == 1


def test_a_sweep_that_cannot_be_opened_is_reported_once():
    broken = BrokenTracker("start_sweep", "log_trial")
    tracker = SafeTracker(broken)
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(records(1)[0])
    tracker.finish([], "complete")
    assert set(broken.calls) == {"start_sweep"}
    assert len(tracker.warnings) == 1


def test_an_unreachable_server_costs_a_warning_not_the_sweep(tmp_path):
    tracker = SafeTracker(MLflowTracker(tmp_path, "http://127.0.0.1:9"))
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(records(1)[0])
    tracker.finish([], "complete")
    assert len(tracker.warnings) == 1
    assert "No result is lost" in tracker.warnings[0]


def test_the_no_op_tracker_takes_everything(tmp_path):
    tracker = SafeTracker(Tracker())
    tracker.start_sweep(*SWEEP)
    tracker.log_trial(records(1)[0])
    tracker.finish([tmp_path / "missing"], "complete")
    assert tracker.warnings == []


def test_the_uri_is_the_argument_then_the_environment_then_the_sweeps_own_database(tmp_path, monkeypatch):
    assert resolve_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve_tracking_uri(tmp_path) == "http://server:5000"
    assert resolve_tracking_uri(tmp_path, "sqlite:////elsewhere.db") == "sqlite:////elsewhere.db"


def test_the_modules_import_without_mlflow():
    check = "import sys, aipo_lab.tracking.tracker, aipo_lab.tracking.mlflow; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_mlflow_says_nothing_on_the_console(new_database):
    assert new_database[1] == ""
