"""Checkpoints inside one training: a killed one continues and ends with the same weights, bit for bit."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.jsonl import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

STATE = "state.json"


class TrainingCheckpoints:
    """The newest checkpoint of a training, in a folder of its own that a killed stage leaves behind.

    A checkpoint holds weights, AdamW's moments, the position of the schedule, torch's random state and the curve
    so far, whose length is the number of steps done; that alone says which batch comes next.
    """

    def __init__(self, folder: Path, interval_s: float) -> None:
        self.folder = folder
        self.interval_s = interval_s
        self._saved_at_s = time.monotonic()

    def restore(self, model: Any, optimizer: Any, scheduler: Any) -> list[dict[str, float]]:
        """Load the newest checkpoint into the given objects; returns the curve, empty without one."""
        import torch
        from safetensors.torch import load_file

        newest = self._newest()
        if newest is None:
            return []
        state = read_json(newest / STATE)
        weights = load_file(newest / "model.safetensors")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        moments = load_file(newest / "optimizer.safetensors")
        torch.set_rng_state(moments.pop("random_state"))
        _load_moments(optimizer, moments)
        scheduler.load_state_dict(scheduler.state_dict() | state["scheduler"])
        for group, lr in zip(optimizer.param_groups, state["scheduler"]["_last_lr"], strict=True):
            group["lr"] = lr
        curve: list[dict[str, float]] = state["curve"]
        return curve

    def save_if_due(self, model: Any, optimizer: Any, scheduler: Any, curve: list[dict[str, float]]) -> None:
        """Save after `interval_s` seconds without; the older checkpoint goes when the new one is whole."""
        import torch
        from safetensors.torch import save_file

        if time.monotonic() - self._saved_at_s < self.interval_s:
            return
        target = self.folder / f"step-{len(curve):08d}"
        temporary = self.folder / f".{target.name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(
            {name: weights.detach() for name, weights in model.named_parameters()}, temporary / "model.safetensors"
        )
        moments = _moments(optimizer) | {"random_state": torch.get_rng_state()}
        save_file(moments, temporary / "optimizer.safetensors")
        schedule = scheduler.state_dict()
        kept = {name: schedule[name] for name in ("last_epoch", "_step_count", "_last_lr")}
        write_json(temporary / STATE, {"scheduler": kept, "curve": curve})
        temporary.rename(target)
        for older in self._all()[:-1]:
            shutil.rmtree(older)
        self._saved_at_s = time.monotonic()

    def _newest(self) -> Path | None:
        found = self._all()
        return found[-1] if found else None

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def _moments(optimizer: Any) -> dict[str, Tensor]:
    """AdamW's state as flat tensors, `<parameter number>/<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}/{name}": value for number, values in state.items() for name, value in values.items()}


def _load_moments(optimizer: Any, moments: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        number, moment = name.split("/")
        state.setdefault(int(number), {})[moment] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
