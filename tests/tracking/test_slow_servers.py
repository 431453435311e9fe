"""A sweep with nothing left to compute ends in time whatever the tracking server does, and a rerun logs the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from made_up_store import make_up

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.sweep import load_sweep
from aipo_lab.tracking.guards import BackgroundTracker, SafeTracker
from aipo_lab.tracking.mlflow import EXPERIMENT, MLflowTracker
from aipo_lab.tracking.tracker import Tracker, TrialRecord
from tracking.servers import RealServer, silent_server, slow_server

N_TRIALS = 6
OVERHEAD_S = 60  # starting Python, figures and report on a machine that does other things too


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    real = RealServer(tmp_path_factory.mktemp("server"))
    yield real
    real.kill()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep file and a store that holds all of its stages."""
    folder = tmp_path_factory.mktemp("stored")
    space = [{"objective": "dpo", "beta": [round(0.1 * (k + 1), 3) for k in range(N_TRIALS)]}]
    (folder / "s.yaml").write_text(yaml.safe_dump({"name": "s", "recipe": {"iterations": 1}, "space": space}))
    make_up(Store(folder / "store"), build_graph(load_sweep(folder / "s.yaml")).nodes.values())
    return folder


def run_sweep(stored: Path, out: Path, uri: str, **environment: str) -> tuple[str, float]:
    """The output and seconds of a sweep with nothing to compute."""
    command = [sys.executable, "-m", "aipo_lab", "sweep", str(stored / "s.yaml")]
    started_s = time.monotonic()
    done = subprocess.run(
        [*command, "--out", str(out), "--store", str(stored / "store")],
        env=os.environ | {"MLFLOW_TRACKING_URI": uri, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "Traceback" not in output
    assert (out / "results.csv").is_file()
    return output, time.monotonic() - started_s


def logged_trials(uri: str) -> list[str]:
    """The trials logged whole, as a client of its own sees them."""
    script = (
        "import sys; from mlflow import MlflowClient; c = MlflowClient(sys.argv[1]); "
        f"e = c.get_experiment_by_name('{EXPERIMENT}'); "
        "print(*sorted(r.data.tags['aipo_lab.trial_id'] for r in c.search_runs([e.experiment_id]) "
        "if 'aipo_lab.trial_id' in r.data.tags and r.info.status == 'FINISHED'))"
    )
    command = [sys.executable, "-c", script, uri]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_slow_server_is_given_up_in_time_and_the_same_command_logs_the_rest(
    server: RealServer, stored: Path, tmp_path: Path
) -> None:
    with slow_server(server, 2.0) as address:  # about 40 requests: more than a minute
        output, seconds = run_sweep(stored, tmp_path / "out", address, AIPO_LAB_TRACKING_WAIT_S="15")
    assert seconds < 15 + OVERHEAD_S
    assert "tracking was given up 15 s after the sweep was done" in output
    assert "run the same command again" in output
    assert len(logged_trials(server.url)) < N_TRIALS
    output, _ = run_sweep(stored, tmp_path / "out", server.url)
    assert "given up" not in output
    trials = logged_trials(server.url)
    assert len(trials) == len(set(trials)) == N_TRIALS


def test_a_server_that_never_answers_and_one_that_is_down_cost_a_warning(stored: Path, tmp_path: Path) -> None:
    with silent_server() as address:
        output, seconds = run_sweep(stored, tmp_path / "out", address, AIPO_LAB_TRACKING_WAIT_S="8")
    assert seconds < 8 + OVERHEAD_S
    assert output.count("warning:") == 1 and "run the same command again" in output
    output, seconds = run_sweep(stored, tmp_path / "out", "http://127.0.0.1:9")
    assert seconds < 30 + OVERHEAD_S
    assert "tracking failed while opening the sweep" in output and "No result is lost" in output


def test_a_server_killed_in_the_middle_costs_warnings_and_its_successor_gets_the_rest(tmp_path: Path) -> None:
    real = RealServer(tmp_path)
    try:
        tracker = SafeTracker(MLflowTracker(tmp_path, real.url))
        tracker.start_sweep("id", "name", {}, {})
        tracker.log_trial(TrialRecord("a", "dpo", {"beta": "1"}, []))
        real.kill()
        for name in "bcd":
            tracker.log_trial(TrialRecord(name, "dpo", {"beta": "1"}, []))
        tracker.finish([], "complete")
    finally:
        real.kill()
    assert len(tracker.warnings) == 2  # then it is not asked again
    again = RealServer(tmp_path)
    try:
        tracker = SafeTracker(MLflowTracker(tmp_path, again.url))
        tracker.start_sweep("id", "name", {}, {})
        for name in "abcd":
            tracker.log_trial(TrialRecord(name, "dpo", {"beta": "1"}, []))
        tracker.finish([], "complete")
        assert tracker.warnings == []
        assert logged_trials(again.url) == ["a", "b", "c", "d"]
    finally:
        again.kill()


class Stuck(Tracker):
    """Hangs in the first trial until it is let go, and counts what came after."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.calls: list[str] = []

    def log_trial(self, record: TrialRecord) -> None:
        self.calls.append(record.trial)
        self.let_go.wait(60)

    def finish(self, artifacts: list[Path], state: str) -> None:
        self.calls.append("finish")


def test_what_is_given_up_is_counted_and_not_taken_up_again() -> None:
    stuck = Stuck()
    safe = SafeTracker(stuck)
    background = BackgroundTracker(safe, wait_s=0.3)
    background.start_sweep("id", "name", {}, {})
    for name in "abc":
        background.log_trial(TrialRecord(name, "dpo", {}, []))
    started_s = time.monotonic()
    background.finish([], "complete")
    assert time.monotonic() - started_s < 10
    assert "3 of 3 trials not logged" in safe.warnings[0]
    stuck.let_go.set()
    background._thread.join(10)
    assert stuck.calls == ["a"]


def test_ctrl_c_while_waiting_gives_up_and_does_not_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck()
    safe = SafeTracker(stuck)
    background = BackgroundTracker(safe, wait_s=60)
    background.start_sweep("id", "name", {}, {})
    background.log_trial(TrialRecord("a", "dpo", {}, []))
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), 2))
    timer.start()
    background.finish([], "complete")
    assert "given up when it was interrupted" in safe.warnings[0]
    stuck.let_go.set()


def test_the_wait_is_a_setting_that_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIPO_LAB_TRACKING_WAIT_S", raising=False)
    assert MLflowTracker(tmp_path, "http://host").wait_s == 30
    assert MLflowTracker(tmp_path, f"sqlite:///{tmp_path}/m.db").wait_s == 90
    monkeypatch.setenv("AIPO_LAB_TRACKING_WAIT_S", "2.5")
    assert MLflowTracker(tmp_path, "http://host").wait_s == 2.5
    for wrong in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("AIPO_LAB_TRACKING_WAIT_S", wrong)
        with pytest.raises(UserError, match="AIPO_LAB_TRACKING_WAIT_S"):
            MLflowTracker(tmp_path, "http://host")
