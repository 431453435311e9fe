"""What `sweep.yaml` and `summary.json` say: their fields, and reading them when they are torn, foreign or older."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aipo_lab.core.config import parse_yaml
from aipo_lab.core.errors import UserError
from aipo_lab.prompts.reading import FoundData


class _Saved(BaseModel):
    """A section of a file that this program wrote; keys of later versions are let through."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


Saved = TypeVar("Saved", bound=_Saved)


class SavedModel(_Saved):
    """A base model as it was found; `folder` is None for the micro world's."""

    folder: str | None
    fingerprint: str | None


class SavedRanker(_Saved):
    """What a ranker stands on, as it was found (`RankerResources`)."""

    identity: dict[str, Any] = Field(default_factory=dict)
    folders: dict[str, str] = Field(default_factory=dict)


class SavedTrial(_Saved):
    """One trial."""

    name: str
    settings: dict[str, Any]


class SavedSweep(_Saved):
    """`sweep.yaml`. `store` is relative to the folder where that can be; `store_absolute` is where it was."""

    id: str = ""
    name: str
    profile: str
    description: str = ""
    select: str
    split: bool = True
    source: str = ""
    store: str
    store_absolute: str | None = None
    models: dict[str, SavedModel]
    benchmark_files: dict[str, str] = Field(default_factory=dict)
    data: dict[str, FoundData] = Field(default_factory=dict)
    judges: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rankers: dict[str, SavedRanker] = Field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    recipe: dict[str, Any]
    trials: list[SavedTrial] = Field(min_length=1)

    def store_root(self, folder: Path) -> Path:
        """The store's folder: beside this one if it lies there, as after both were moved, else where it was."""
        found = folder.resolve() / self.store
        if self.store_absolute is not None and not found.is_dir():
            return Path(self.store_absolute)
        return Path(os.path.normpath(found))


class SweepSummary(_Saved):
    """`summary.json`: progress of a sweep over all its sessions.

    `reused`: stage runs that were in the store before the first session, by stage. `failures`: reason by
    trial. `duration_s`: seconds spent in sessions that computed something.
    """

    sweep_id: str
    reused: dict[str, int]
    duration_s: float = 0.0
    failures: dict[str, str] = Field(default_factory=dict)
    finished: bool = False


def saved_store(store_root: Path, folder: Path) -> dict[str, str]:
    """How `sweep.yaml` names the store: relative to the folder if the two have a folder in common below the root."""
    root, here = store_root.resolve(), folder.resolve()
    common = Path(os.path.commonpath([root, here]))
    if common == Path(common.anchor):
        return {"store": str(root)}
    return {"store": os.path.relpath(root, here), "store_absolute": str(root)}


def read_sweep(path: Path) -> SavedSweep:
    """The content of a `sweep.yaml`; raises `UserError` naming the file, every problem, and what to do."""
    text = _read_text(path, _SWEEP_LOST)
    try:
        values = parse_yaml(text)
    except (yaml.YAMLError, UserError) as error:
        raise _damaged(path, _first_line(error), _SWEEP_LOST) from None
    return _validated(SavedSweep, values, path, _SWEEP_LOST)


def read_summary(path: Path) -> SweepSummary:
    """The content of a `summary.json`; raises `UserError` naming the file, every problem, and what to do."""
    try:
        values = json.loads(_read_text(path, _SUMMARY_LOST))
    except ValueError as error:
        raise _damaged(path, str(error), _SUMMARY_LOST) from None
    return _validated(SweepSummary, values, path, _SUMMARY_LOST)


_SWEEP_LOST = (
    "restore the file from a copy, or run the sweep's file again with another --out "
    "(what is in the store is not computed again)"
)
_SUMMARY_LOST = "delete it and run the same sweep again: only times and the reasons of failures are lost"


def _validated(model: type[Saved], values: object, path: Path, next_step: str) -> Saved:
    if not isinstance(values, Mapping):
        raise _damaged(path, f"it holds {type(values).__name__}, not a mapping of keys to values", next_step)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise _damaged(path, "; ".join(problems), next_step) from None


def _read_text(path: Path, next_step: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, str(error), next_step) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _damaged(path: Path, reason: str, next_step: str) -> UserError:
    return UserError(f"{path} is damaged, or of another version of aipo-lab: {reason}; {next_step}")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())
