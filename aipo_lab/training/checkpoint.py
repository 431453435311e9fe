"""Checkpoints inside one training: a killed one continues (in one process: ends with the same weights, bit for bit)."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.training.processes import SINGLE, Processes
from aipo_lab.training.updates import Updater

STATE = "state.json"


class TrainingCheckpoints:
    """The newest checkpoint of a training, in a folder of its own that a killed stage leaves behind.

    A checkpoint holds what the updater saves (weights, AdamW's moments, the position of the schedule, random state)
    and the curve so far, whose length is the number of steps done; that alone says which batch comes next.
    """

    def __init__(self, folder: Path, interval_s: float, processes: Processes = SINGLE) -> None:
        self.folder = folder
        self.interval_s = interval_s
        self.processes = processes
        self._saved_at_s = time.monotonic()

    def restore(self, updater: Updater) -> list[dict[str, float]]:
        """Load the newest checkpoint into the updater; returns the curve, empty without one."""
        found = self._all()
        if not found:
            return []
        updater.load(found[-1])
        curve: list[dict[str, float]] = read_json(found[-1] / STATE)["curve"]
        return curve

    def save_if_due(self, updater: Updater, curve: list[dict[str, float]], device: str) -> None:
        """Save after `interval_s` seconds without; the older checkpoint goes when the new one is whole."""
        due = self.processes.first and time.monotonic() - self._saved_at_s >= self.interval_s
        if not self.processes.sum({"due": float(due)}, device)["due"]:
            return
        target = self.folder / f"step-{len(curve):08d}"
        temporary = self.folder / f".{target.name}"
        if self.processes.first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self.processes.barrier()
        updater.save(temporary)
        self.processes.barrier()
        if self.processes.first:
            write_json(temporary / STATE, {"curve": curve})
            temporary.rename(target)
            for older in self._all()[:-1]:
                shutil.rmtree(older)
        self._saved_at_s = time.monotonic()

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))
