"""An MLflow database without runs, made once: its tables take seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def new_database(tmp_path_factory):
    """A database with MLflow's tables only, and what making it printed: it takes seconds, copying nothing."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    script = (
        "import sys; from aipo_lab.tracking.mlflow_client import connect; connect(sys.argv[1]).search_experiments()"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{path}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return path, done.stdout + done.stderr
