"""Commands that open a page in the browser: `aipo-lab browse` and `aipo-lab ui`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from aipo_lab.core.errors import UserError
from aipo_lab.sweeps.folder import SweepFolder


def browse(path: Path, store_root: Path | None, port: int, open_browser: bool) -> None:
    """Serve the answers of a sweep's or an evaluation's output folder until Ctrl-C."""
    from tempfile import TemporaryDirectory

    from aipo_lab.browsing.entries import evaluation_entries, sweep_entries, with_baselines
    from aipo_lab.browsing.server import serve
    from aipo_lab.evaluation.evaluation import MANIFEST

    if not any((path / name).is_file() for name in (MANIFEST, "sweep.yaml")):
        below = sorted(str(found.parent) for name in (MANIFEST, "sweep.yaml") for found in path.rglob(name))
        hint = f"; below it there are {', '.join(below[:5])}" if below else "" if path.is_dir() else " (no such folder)"
        raise UserError(f"{path} is not the output folder of a sweep or an evaluation{hint}")
    entries = evaluation_entries(path) if (path / MANIFEST).is_file() else sweep_entries(path, store_root)
    with TemporaryDirectory() as folder:
        serve(with_baselines(entries, Path(folder)), path.resolve().name, port, open_browser)


def serve_ui(path: Path, port: int) -> NoReturn:
    """Replace this process by the MLflow UI on the sweep's database, bound to 127.0.0.1."""
    from aipo_lab.tracking.sqlite_place import follow_moved_artifacts, sqlite_uri
    from aipo_lab.tracking.tracker import resolve_tracking_uri

    uri = resolve_tracking_uri(path)
    database = SweepFolder(path).tracking_database
    if uri == sqlite_uri(database):
        if not database.is_file():
            raise UserError(f"{path} holds no MLflow database (mlflow.db); run a sweep with this output folder first")
        follow_moved_artifacts(path)
    print(f"MLflow UI on {uri}: http://127.0.0.1:{port} in up to a minute; Ctrl-C stops it", flush=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    arguments = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*arguments, "--host", "127.0.0.1", "--port", str(port)])
