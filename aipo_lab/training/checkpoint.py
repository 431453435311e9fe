"""Checkpoints inside one training: a killed one continues (in one process: ends with the same weights, bit for bit)."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from aipo_lab.core.durability import flush_tree, make_folders, rename_into_place
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.training.processes import SINGLE, Processes
from aipo_lab.training.updates import Updater

logger = logging.getLogger(__name__)

STATE = "state.json"
KEPT = 2
"""Checkpoints: when the newest turns out to be damaged, the one before it is there."""


class TrainingCheckpoints:
    """The newest checkpoints of a training, in a folder of its own that a killed stage leaves behind.

    A checkpoint holds what the updater saves (weights, AdamW's moments, the position of the schedule, random state),
    the curve so far, whose length is the number of steps done and alone says which batch comes next, and the hashes of
    its files. It is flushed to disk before its name counts.
    """

    def __init__(self, folder: Path, interval_s: float, processes: Processes = SINGLE) -> None:
        self.folder = folder
        self.interval_s = interval_s
        self.processes = processes
        self._saved_at_s = time.monotonic()

    def restore(self, updater: Updater, device: str = "cpu") -> list[dict[str, float]]:
        """Load the newest whole checkpoint into the updater; returns the curve, empty without one.

        Damaged ones are removed with a warning in the log. `device` is where the processes talk to each other.
        """
        n_steps = self._newest_whole() if self.processes.first else 0
        n_steps = int(self.processes.sum({"steps": float(n_steps)}, device)["steps"])  # all load what the first found
        if n_steps == 0:
            return []
        found = self._path(n_steps)
        updater.load(found)
        curve: list[dict[str, float]] = read_json(found / STATE)["curve"]
        return curve

    def save_if_due(self, updater: Updater, curve: list[dict[str, float]], device: str) -> None:
        """Save after `interval_s` seconds without; all but the last two go when the new one is whole."""
        due = self.processes.first and time.monotonic() - self._saved_at_s >= self.interval_s
        if not self.processes.sum({"due": float(due)}, device)["due"]:
            return
        target = self._path(len(curve))
        temporary = self.folder / f".{target.name}"
        if self.processes.first:
            for leftover in self.folder.glob(".step-*"):  # of savings that were killed
                shutil.rmtree(leftover)
            make_folders(temporary)
        self.processes.barrier()
        updater.save(temporary)
        self.processes.barrier()
        if self.processes.first:
            write_json(temporary / STATE, {"curve": curve, "files": _hashes(temporary)})
            flush_tree(temporary)
            rename_into_place(temporary, target)
            for older in self._all()[:-KEPT]:
                shutil.rmtree(older)
        self._saved_at_s = time.monotonic()

    def _newest_whole(self) -> int:
        """The steps of the newest checkpoint that is whole, 0 without one."""
        for path in reversed(self._all()):
            damage = _damage(path)
            if damage is None:
                return int(path.name.removeprefix("step-"))
            logger.warning("the checkpoint %s is damaged and dropped: %s", path, damage)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return 0

    def _path(self, n_steps: int) -> Path:
        return self.folder / f"step-{n_steps:08d}"

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _damage(folder: Path) -> str | None:
    """Why a checkpoint cannot be trusted, or None."""
    try:
        state: Any = read_json(folder / STATE)
        hashes, curve = state["files"], state["curve"]
        changed = [name for name, sha256 in hashes.items() if sha256_of(folder / name) != sha256]
        if len(curve) != int(folder.name.removeprefix("step-")):
            return f"{STATE} has {len(curve)} steps"
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{STATE} cannot be read"
    return f"{', '.join(changed)} differ from what was written" if changed else None
