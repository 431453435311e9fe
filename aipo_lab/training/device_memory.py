"""Whether a training or a reference pass fits into its device: asked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from aipo_lab.core.devices import find_devices
from aipo_lab.core.errors import StageFailed
from aipo_lab.models.size import model_shape, model_size
from aipo_lab.training.config import ParallelSettings, TrainConfig
from aipo_lab.training.memory_plan import MemoryPlan, Model, plan_training, remedy


def find_model(source: str, folder: Path | None) -> Model | None:
    """What is known of a model without loading it; None where a plan cannot be made."""
    shape, size = model_shape(source, folder), model_size(source, folder)
    if shape is None or size is None:
        return None
    return Model(shape, size.parameters)


def device_gib(device: str, parallel: ParallelSettings) -> float | None:
    """GiB of a device: as given, else what the smallest of the GPUs here has; None for a processor."""
    if parallel.device_gib is not None or not device.startswith("cuda"):
        return parallel.device_gib
    return min((one.memory_gib for one in find_devices() if one.memory_gib is not None), default=None)


def settle_checkpointing(config: TrainConfig, parallel: ParallelSettings, folder: Path, device: str) -> TrainConfig:
    """The settings with gradient checkpointing `auto` decided: on where activations would not fit.

    Raises `StageFailed`, naming a setting that would, if the training does not fit into its device even so.
    """
    gib, model = device_gib(device, parallel), find_model(str(folder), folder)
    if gib is None or model is None:
        return config.model_copy(update={"gradient_checkpointing": config.gradient_checkpointing is True})
    stored = plan_training(model, config, parallel, device, checkpointing=False)
    on = not stored.fits(gib) if config.gradient_checkpointing == "auto" else config.gradient_checkpointing
    settled = config.model_copy(update={"gradient_checkpointing": on})
    plan = plan_training(model, settled, parallel, device)
    if not plan.fits(gib):
        raise StageFailed(too_large("the training", plan, gib) + remedy(model, settled, parallel, device, gib))
    return settled


def too_large(what: str, plan: MemoryPlan, gib: float) -> str:
    """What does not fit into a device; the remedy follows."""
    return f"{what} needs {plan.gib:.1f} GiB on a device of {gib:.0f} ({plan}): "
