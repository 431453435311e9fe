"""Sweeps that start at once on one new SQLite file all log; a file that another process holds is waited for."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from mlflow import MlflowClient

from aipo_lab.tracking.mlflow import EXPERIMENT, MLflowTracker
from aipo_lab.tracking.tracker import TrialRecord

N_PROCESSES = 4
LOGS = """
import sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store  # so that all get to the database at the same moment
from aipo_lab.tracking.mlflow import MLflowTracker
from aipo_lab.tracking.guards import SafeTracker
from aipo_lab.tracking.tracker import TrialRecord
safe = SafeTracker(MLflowTracker(Path(sys.argv[1]), sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
safe.start_sweep(sys.argv[3], sys.argv[3], {}, {})
for trial in "ab":
    safe.log_trial(TrialRecord(trial, "dpo", {"beta": "1"}, []))
safe.finish([], "complete")
print(*safe.warnings, sep="\\n")
"""


def test_sweeps_that_start_together_on_a_new_file_all_log(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    processes = []
    for number in range(N_PROCESSES):
        (tmp_path / str(number) / "tmp").mkdir(parents=True)
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", LOGS, str(tmp_path / str(number)), uri, f"sweep-{number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**_environment(), "TMPDIR": str(tmp_path / str(number) / "tmp")},  # MLflow's own lock lies there
            )
        )
    for process in processes:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in processes]
    assert said == [""] * N_PROCESSES
    client = MlflowClient(uri)
    experiments = [one for one in client.search_experiments() if one.name == EXPERIMENT]
    assert len(experiments) == 1
    runs = client.search_runs([experiments[0].experiment_id])
    assert len(runs) == 3 * N_PROCESSES
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_database_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    tracker = MLflowTracker(tmp_path)
    tracker.start_sweep("id", "name", {}, {})
    holder = sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(8, holder.rollback)  # longer than the 5 s that the driver waits by itself
    timer.start()
    tracker.log_trial(TrialRecord("a", "dpo", {"beta": "1"}, []))
    timer.join()
    holder.close()
    (run,) = [r for r in MlflowClient(tracker.uri).search_runs(["1"]) if "aipo_lab.trial_id" in r.data.tags]
    assert run.info.status == "FINISHED"


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
