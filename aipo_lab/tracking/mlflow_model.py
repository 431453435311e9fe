"""A sweep's checkpoint in MLflow's model registry: by reference, or with its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from aipo_lab.tracking.tracker import CheckpointRef

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "model"
REFERENCE_FILE = "reference.json"


def register_model(client: MlflowClient, name: str, run_id: str, checkpoint: CheckpointRef, upload: bool) -> str:
    """Register a trial's checkpoint as a version of the model `name`; returns the version.

    What the registry holds is the folder `model` of the trial's run: a note of where the checkpoint lies and, where
    `upload`, its files. The same checkpoint is registered once under a name.
    """
    from mlflow.exceptions import MlflowException

    tags = {"checkpoint": checkpoint.reference, "iteration": str(checkpoint.iteration), "files": str(upload).lower()}
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.run_id == run_id and known.tags == tags:
            return str(known.version)
    note = {"artifact": checkpoint.reference, "folder": str(checkpoint.folder), "trial": checkpoint.trial}
    client.log_text(run_id, json.dumps(note, indent=2), f"{FOLDER}/{REFERENCE_FILE}")
    for file in _files(checkpoint.folder) if upload else []:
        below = file.parent.relative_to(checkpoint.folder).as_posix()
        client.log_artifact(run_id, str(file), FOLDER if below == "." else f"{FOLDER}/{below}")
    source = f"{client.get_run(run_id).info.artifact_uri.rstrip('/')}/{FOLDER}"
    text = f"Trial `{checkpoint.trial}`, iteration {checkpoint.iteration}: `{checkpoint.folder}`"
    return str(client.create_model_version(name, source, run_id, tags=tags, description=text).version)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
