"""Where the weights of a stage's policy are: in its artifact, or in the folder given for a base model.

The folder is checked against the fingerprint in the artifact's key whenever a stage opens it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.models.policy import POLICIES
from aipo_lab.stages.definition import Runtime, StageContext

_OPENED: dict[str, str] = {}
"""The fingerprint that each folder had when this process last opened it."""
HOW_TO_SUPPLY = "--set model.source=FOLDER (for evaluate: --model FOLDER)"


def policy_folder(context: StageContext[Any], name: str = "policy") -> Path:
    """The model folder of the stage's input `name`; raises `StageFailed` if a base model is gone or has changed."""
    artifact = context.inputs[name]
    fingerprint = artifact.manifest["config"].get("fingerprint") if artifact.stage == "base" else None
    return artifact.file("model") if fingerprint is None else check_base_folder(context.runtime, fingerprint)


def check_base_folder(runtime: Runtime, fingerprint: str) -> Path:
    """The folder of the base model on this machine; raises `StageFailed` unless its content has the fingerprint."""
    assert runtime.model_folder is not None, "every stage of a run is told where the base model is"
    folder = Path(runtime.model_folder)
    if not folder.is_dir():
        raise StageFailed(
            f"the base model's folder {folder} is gone; put it back, or say where the model is now with "
            f"{HOW_TO_SUPPLY}, and run again: a folder of the same content continues this work"
        )
    found = fingerprint_folder(folder)
    if found != fingerprint:
        raise StageFailed(
            f"the base model in {folder} has changed since this run began: its content has the fingerprint {found}, "
            f"and this work is about {fingerprint}; put the files back or give another folder with {HOW_TO_SUPPLY}, or "
            "run again to work with the changed model"
        )
    if _OPENED.setdefault(str(folder), found) != found:  # this process has the former content in memory
        POLICIES.clear()
        _OPENED[str(folder)] = found
    return folder
