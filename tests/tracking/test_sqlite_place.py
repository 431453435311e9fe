"""The sweep's own MLflow database in folders of any name, and after its folder was moved or copied."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aipo_lab.tracking.mlflow import MLflowTracker
from aipo_lab.tracking.sqlite_place import follow_moved_artifacts, sqlite_uri

ODD = "a b?mode=ro#x%25y%zz'&"


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def log(out: Path, name: str) -> None:
    tracker = MLflowTracker(out)
    tracker.start_sweep("id", "sweep", {}, {})
    (out / name).write_text(name)
    tracker.finish([out / name], "complete")


def logged(out: Path) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(sqlite_uri(out / "mlflow.db"))
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    found = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert all(Path(client.download_artifacts(run.info.run_id, name)).read_text() == name for name in found)
    assert str(run.info.artifact_uri).startswith((out / "mlartifacts").as_uri())
    return found


def test_it_lies_in_its_folder_whatever_the_folder_is_called_and_moves_with_it(tmp_path: Path) -> None:
    out = tmp_path / ODD / "out"
    out.mkdir(parents=True)
    log(out, "first.txt")
    assert (out / "mlflow.db").is_file() and [path.name for path in tmp_path.iterdir()] == [ODD]
    assert logged(out) == {"first.txt"}

    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    follow_moved_artifacts(copy)
    assert logged(copy) == {"first.txt"}
    shutil.rmtree(copy)

    moved = tmp_path / "moved"
    (tmp_path / ODD / "out").rename(moved)
    program = (
        "import sys; from test_sqlite_place import *; out = Path(sys.argv[1])\n"
        "log(out, 'second.txt'); print(*logged(out))"
    )
    done = subprocess.run(  # another process: within one, MLflow remembers where a run's artifacts were
        [sys.executable, "-c", program, str(moved)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {"first.txt", "second.txt"}  # the same run goes on, beside what is there
    assert not out.exists()
