"""A sweep with nothing left to compute ends in time whatever the tracking server does, and a rerun logs the rest."""

from __future__ import annotations

import os
import shutil
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
    warnings = [line for line in output.splitlines() if line.startswith("warning:")]
    assert len([line for line in warnings if not line.startswith("warning: pairs of ")]) == 1
    assert "run the same command again" in output
    output, seconds = run_sweep(stored, tmp_path / "out", "http://127.0.0.1:9")
    assert seconds < 30 + OVERHEAD_S
    assert "tracking failed while opening the sweep" in output and "No result is lost" in output


@pytest.mark.slow
def test_a_server_killed_in_the_middle_and_restarted_has_it_all_when_the_sweep_ends(tmp_path: Path) -> None:
    real = RealServer(tmp_path)
    records = [TrialRecord(name, "dpo", {"beta": "1"}, []) for name in "abcd"]
    try:
        tracker = SafeTracker(MLflowTracker(tmp_path, real.url))
        tracker.start_sweep("id", "name", {}, {})
        tracker.log_trial(records[0])
        real.kill()
        for record in records[1:]:
            tracker.log_trial(record)
        assert tracker.warnings and "No result is lost" in tracker.warnings[0]
        real = RealServer(tmp_path, real.port)
        tracker.finish([], "complete")
        assert tracker.warnings == []
        assert logged_trials(real.url) == ["a", "b", "c", "d"]
    finally:
        real.kill()


def test_a_run_whose_making_was_not_answered_is_not_made_twice(
    tmp_path: Path, new_database: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server made it, but its answer was lost: the sweep is opened anew, which finds it."""
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(new_database[0], tmp_path / "mlflow.db")
    inner = MLflowTracker(tmp_path)
    tracker = SafeTracker(inner)
    made, answers = MlflowClient.create_run, iter([False, True, False, True])

    def create_run(self: MlflowClient, *given: object, **named: object) -> object:
        run = made(self, *given, **named)
        if not next(answers, True):
            raise ConnectionError("no answer")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    tracker.start_sweep("id", "name", {"select": "corner"}, {})
    tracker.log_trial(TrialRecord("a", "dpo", {"beta": "1"}, []))
    tracker.log_trial(TrialRecord("b", "dpo", {"beta": "2"}, []))
    tracker.finish([], "complete")
    assert tracker.warnings == []
    client = MlflowClient(inner.uri)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert sorted(run.data.tags.get("aipo_lab.trial_id", "") for run in runs) == ["", "a", "b"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.params.get("select") for run in runs} == {"corner", None}


class Away(Tracker):
    """Takes nothing while it is away, and trial `bad` never; remembers what it took."""

    def __init__(self) -> None:
        self.away = False
        self.opened = 0
        self.taken: list[str] = []

    def start_sweep(self, *_: object) -> None:
        self._check("")
        self.opened += 1

    def log_trial(self, record: TrialRecord) -> None:
        self._check(record.trial)
        self.taken.append(record.trial)

    def finish(self, artifacts: list[Path], state: str) -> None:
        self._check("")
        self.taken.append(state)

    def _check(self, trial: str) -> None:
        if self.away or trial == "bad":
            raise ConnectionError("away")


def test_what_failed_while_the_tracker_was_away_is_logged_in_order_once_it_is_back() -> None:
    away = Away()
    tracker = SafeTracker(away, retry_s=0.2)
    tracker.start_sweep("id", "name", {}, {})
    for name in "abcdef":
        away.away = name in "bcd"
        if name == "e":
            time.sleep(0.3)
        tracker.log_trial(TrialRecord(name, "dpo", {}, []))
    assert away.taken == ["a", "b", "c", "d", "e", "f"] and away.opened == 2
    assert tracker.warnings == []


def test_a_trial_that_is_never_taken_does_not_hold_up_the_others() -> None:
    away = Away()
    tracker = SafeTracker(away)
    tracker.start_sweep("id", "name", {}, {})
    for name in ("a", "bad", "b", "c", "d"):
        tracker.log_trial(TrialRecord(name, "dpo", {}, []))
    tracker.finish([], "complete")
    assert away.taken == ["a", "b", "c", "d", "complete"]
    assert len(tracker.warnings) == 1 and "logging trial bad" in tracker.warnings[0]


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
