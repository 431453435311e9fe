"""`aipo-lab ui`: a server's page by its address, a database by MLflow's own UI, which ends as a whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from aipo_lab.tracking.mlflow import MLflowTracker
from aipo_lab.tracking.place import save_place
from tracking.servers import free_port, wait_until_up

PASSWORD = "hunter2-s3cr3t"


def ui(out: Path, port: int = 5000, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-m", "aipo_lab", "ui", str(out), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=kept | environment,
    )


def said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output
    return output


def command_lines() -> dict[int, str]:
    """Every process by id, as `ps` shows it; zombies have no command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[int(path.parent.name)] = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def mentioning(text: str) -> list[str]:
    return [line for pid, line in command_lines().items() if text in line and pid != os.getpid()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_ui_works_and_leaves_no_process_behind(tmp_path: Path, number: int) -> None:
    MLflowTracker(tmp_path).start_sweep("id", "the sweep", {}, {})
    port = free_port()
    process = ui(tmp_path, port)
    wait_until_up(f"http://127.0.0.1:{port}", process)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search",
        json.dumps({"experiment_ids": ["1"]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["runs"][0]["info"]["run_name"] == "the sweep"
    assert len(mentioning(f"--port {port}")) >= 3  # this program, MLflow, its worker
    process.send_signal(number)
    output = said(process)
    assert process.returncode == 128 + number
    assert f"MLflow UI on sqlite:///{tmp_path}/mlflow.db: http://127.0.0.1:{port}" in output
    time.sleep(0.2)
    assert mentioning(f"--port {port}") == []


def test_a_sweep_logged_to_a_server_has_its_page_with_and_without_the_environment(tmp_path: Path) -> None:
    secret = f"https://me:{PASSWORD}@mlflow.example/base/"
    save_place(tmp_path, secret, "7", "run1")
    for environment in ({}, {"MLFLOW_TRACKING_URI": secret}, {"MLFLOW_TRACKING_URI": "http://other:5000"}):
        process = ui(tmp_path, **environment)
        output = said(process)
        assert process.returncode == 0, output
        assert "mlflow.example/base/#/experiments/7/runs/run1" in output
        assert PASSWORD not in output
    assert PASSWORD not in (tmp_path / "tracking.json").read_text()


def test_a_folder_without_any_tracking_says_what_to_do(tmp_path: Path) -> None:
    process = ui(tmp_path)
    assert "holds no MLflow database" in said(process)
    assert process.returncode == 2
    process = ui(tmp_path, MLFLOW_TRACKING_URI=f"http://me:{PASSWORD}@host:5000")
    output = said(process)
    assert process.returncode == 0 and "http://***@host:5000" in output and PASSWORD not in output


def test_a_database_whose_password_is_not_stored_asks_for_it(tmp_path: Path) -> None:
    save_place(tmp_path, f"postgresql://me:{PASSWORD}@host/db", "7", "run1")
    process = ui(tmp_path)
    output = said(process)
    assert process.returncode == 2
    assert "set MLFLOW_TRACKING_URI" in output and "postgresql://***@host/db" in output


def test_the_own_database_is_found_after_the_folder_moved(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    MLflowTracker(tmp_path / "a").start_sweep("id", "the sweep", {}, {})
    (tmp_path / "a").rename(tmp_path / "b")
    from aipo_lab.tracking.place import uri_to_show

    assert uri_to_show(tmp_path / "b") == f"sqlite:///{tmp_path}/b/mlflow.db"
