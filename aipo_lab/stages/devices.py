"""How many devices a stage computes on: what a plan reckons with, and what a manifest says was used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipo_lab.stages.definition import Runtime

GENERATING = ("instruct", "respond", "answer", "answer_official")
TRAINING = ("reference", "train")


def devices_used(stage: str, config: Mapping[str, Any], runtime: Runtime) -> int:
    """Devices the stage holds while it runs; 0 for one that needs no accelerator.

    A reference pass is counted like its training, since it holds the same model.
    """
    if stage in GENERATING or (stage == "rank" and config.get("engine")):  # a policy that judges its own responses
        if config.get("source") == "pool":
            return 0
        engine = {**config.get("engine", {}), **runtime.engine}
        return int(engine.get("tensor_parallel") or 1) * int(engine.get("data_parallel") or 1)
    if stage in TRAINING:
        return runtime.parallel.processes
    return 1 if stage in ("rank", "train_reward") or config.get("encoder") else 0
