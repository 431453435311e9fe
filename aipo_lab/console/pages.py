"""Commands that open a page in the browser: `aipo-lab browse` and `aipo-lab ui`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from aipo_lab.core.errors import UserError


def browse(path: Path, store_root: Path | None, port: int, open_browser: bool) -> None:
    """Serve the answers of a sweep's or an evaluation's output folder until Ctrl-C."""
    from tempfile import TemporaryDirectory

    from aipo_lab.browsing.entries import evaluation_entries, missing_answers, sweep_entries, with_baselines
    from aipo_lab.browsing.server import serve
    from aipo_lab.evaluation.evaluation import MANIFEST

    if not any((path / name).is_file() for name in (MANIFEST, "sweep.yaml")):
        below = sorted(str(found.parent) for name in (MANIFEST, "sweep.yaml") for found in path.rglob(name))
        hint = f"; below it there are {', '.join(below[:5])}" if below else "" if path.is_dir() else " (no such folder)"
        raise UserError(f"{path} is not the output folder of a sweep or an evaluation{hint}")
    evaluated = (path / MANIFEST).is_file()
    entries = evaluation_entries(path) if evaluated else sweep_entries(path, store_root)
    missing = [] if evaluated else missing_answers(path, store_root)
    with TemporaryDirectory() as folder:
        shown, notes = with_baselines(entries, Path(folder))
        serve(shown, path.resolve().name, port, open_browser, [*missing, *notes])


def serve_ui(path: Path, port: int) -> NoReturn:
    """Show where a sweep was logged: a server's page by its address, a database by the MLflow UI on 127.0.0.1."""
    from aipo_lab.tracking.addresses import OWN_DATABASE, is_server, own_uri, safe_uri
    from aipo_lab.tracking.place import load_place, uri_to_show
    from aipo_lab.tracking.sqlite_place import follow_moved_artifacts
    from aipo_lab.tracking.ui import run_ui

    uri, place = uri_to_show(path), load_place(path)
    if is_server(uri):
        page = place.page if place is not None and place.uri == safe_uri(uri) else safe_uri(uri)
        print(f"the sweep is on the tracking server {safe_uri(uri)}; its page is\n{page}", flush=True)
        sys.exit(0)
    if uri == own_uri(path) and not (path / OWN_DATABASE).is_file():
        raise UserError(
            f"{path} holds no MLflow database ({OWN_DATABASE}); run a sweep with this output folder first, or set "
            "MLFLOW_TRACKING_URI to where it was logged"
        )
    if uri == own_uri(path):
        follow_moved_artifacts(path)
    print(f"MLflow UI on {safe_uri(uri)}: http://127.0.0.1:{port} in up to a minute; Ctrl-C stops it", flush=True)
    sys.exit(run_ui(uri, port))
