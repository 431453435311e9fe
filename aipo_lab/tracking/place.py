"""Where a sweep was logged, as a file in its output folder, so that `aipo-lab ui` finds it without the environment."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.tracking.addresses import HIDDEN, OWN_DATABASE, is_server, own_uri, resolve_tracking_uri, safe_uri
from aipo_lab.tracking.mlflow_view import table_page

PLACE_FILE = "tracking.json"


@dataclass(frozen=True)
class TrackedPlace:
    """Where a sweep was logged.

    `uri` has no secrets in it and is `mlflow.db` for the database in the output folder itself, which may move. `view`
    is the key of the sweep's view of the run table, empty until there is one.
    """

    uri: str
    experiment_id: str
    run_id: str
    view: str = ""

    def pages(self, server: str) -> tuple[str, str]:
        """The pages of the sweep's trials, as a table, and of the sweep's own run, on a server at this address."""
        run = f"{server.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return table_page(server, self.experiment_id, self.view), run


def save_place(out: Path, uri: str, experiment_id: str, run_id: str, view: str = "") -> None:
    """Remember where the sweep of the folder `out` is logged; a `view` of the same run is kept."""
    shown = OWN_DATABASE if uri == own_uri(out) else safe_uri(uri)
    known = load_place(out)
    if known is not None and (known.uri, known.experiment_id, known.run_id) == (shown, experiment_id, run_id):
        view = view or known.view
    write_json(out / PLACE_FILE, asdict(TrackedPlace(shown, experiment_id, run_id, view)))


def load_place(out: Path) -> TrackedPlace | None:
    """Where the sweep was last logged; None if it never was."""
    try:
        return TrackedPlace(**read_json(out / PLACE_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):  # a damaged note is no reason not to look at the database
        return None


def uri_to_show(out: Path) -> str:
    """The URI that the sweep of the folder `out` was logged to.

    Raises `UserError` where it holds a password that only the environment can supply.
    """
    place, given = load_place(out), os.environ.get("MLFLOW_TRACKING_URI")
    if place is None:
        return resolve_tracking_uri(out)
    if place.uri == OWN_DATABASE:
        return own_uri(out)
    if given and safe_uri(given) == place.uri:
        return given
    if HIDDEN in place.uri and not is_server(place.uri):
        raise UserError(
            f"{out} was logged to {place.uri}, whose user and password are never stored; set MLFLOW_TRACKING_URI to "
            "the whole address"
        )
    return place.uri
