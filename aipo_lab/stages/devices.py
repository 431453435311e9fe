"""How many devices a stage computes on, and which it may be given: what the executor divides among its workers, what a
plan reckons with, and what a manifest says was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aipo_lab.generation.engine import ENGINES
from aipo_lab.stages.definition import Runtime, StageNode
from aipo_lab.training.config import is_divided

GENERATING = ("instruct", "respond", "answer", "answer_official")


class Demand(NamedTuple):
    """How many of which devices a stage holds while it runs; none of any where nothing is placed."""

    n_devices: int
    names: tuple[str, ...]


def demand_of(node: StageNode) -> Demand:
    """What the executor has to keep free for a stage."""
    names = tuple(node.runtime.devices)
    return Demand(devices_used(node.stage, node.request.config, node.runtime) if names else 0, names)


def devices_used(stage: str, config: Mapping[str, Any], runtime: Runtime) -> int:
    """Devices the stage holds while it runs; 0 for one that needs no accelerator, as judges that are asked elsewhere.

    A reference pass computes in the stage's own process, on one, unless the policy is divided.
    """
    if stage in GENERATING or (stage == "rank" and config.get("engine")):  # a policy that judges its own responses
        return 0 if config.get("source") == "pool" else _engine_devices(config.get("engine", {}), runtime)
    if stage == "train" or (stage == "reference" and is_divided(runtime.parallel)):
        return runtime.parallel.processes
    if stage == "judge_official":
        return int(runtime.judging is not None and runtime.judging.settings.engine == "local")
    if stage == "rank" and config.get("judge"):
        return int(config["judge"].get("engine") == "local")
    return 1 if stage in ("rank", "train_reward", "reference", "ema") or config.get("encoder") else 0


def _engine_devices(engine: Mapping[str, Any], runtime: Runtime) -> int:
    """The devices of a generation: those of one model times the models side by side."""
    settings = {**engine, **runtime.engine}
    if "name" in settings and ENGINES.get(settings["name"]).fixed_weights:
        return 0  # a server computes
    side_by_side = settings.get("data_parallel") or 1
    if side_by_side == "auto":
        side_by_side = data_parallel_of(runtime)
    return int(settings.get("tensor_parallel") or 1) * int(side_by_side)


def data_parallel_of(runtime: Runtime) -> int:
    """What `engine.data_parallel: auto` stands for: a trial generates on as many devices as it trains on.

    On the processor that is one, which uses all its threads.
    """
    placed = bool(runtime.devices) or runtime.device != "cpu"
    return runtime.parallel.processes if placed else 1
