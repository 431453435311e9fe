"""Where a sweep was logged, as a file in its output folder, so that `aipo-lab ui` finds it without the environment."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.tracking.addresses import HIDDEN, OWN_DATABASE, is_server, own_uri, resolve_tracking_uri, safe_uri

PLACE_FILE = "tracking.json"


@dataclass(frozen=True)
class TrackedPlace:
    """`uri` has no secrets in it and is `mlflow.db` for the database in the output folder itself, which may move."""

    uri: str
    experiment_id: str
    run_id: str

    @property
    def page(self) -> str:
        """The page of the sweep's run on a tracking server."""
        return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"


def save_place(out: Path, uri: str, experiment_id: str, run_id: str) -> None:
    """Remember where the sweep of the folder `out` is logged."""
    shown = OWN_DATABASE if uri == own_uri(out) else safe_uri(uri)
    write_json(out / PLACE_FILE, asdict(TrackedPlace(shown, experiment_id, run_id)))


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
