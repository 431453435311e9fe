"""What a recipe's stages take of a device's memory, known before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.training.device_memory import find_model, too_large
from aipo_lab.training.memory_plan import MemoryPlan, plan_reference, plan_training, remedy

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class StageMemory:
    """One kind of stage on a device of `device_gib`. `remedy`: a setting that would make it fit, if it does not."""

    stage: str
    plan: MemoryPlan
    device_gib: float
    remedy: str | None = None

    def __str__(self) -> str:
        return f"{self.stage}: needs {self.plan.gib:.1f} GiB of {self.device_gib:.0f} a device ({self.plan})"

    @property
    def problem(self) -> str | None:
        """Why the stage cannot run, with the remedy."""
        return None if self.remedy is None else too_large(self.stage, self.plan, self.device_gib) + self.remedy


def stage_memory(recipe: Recipe, folder: Path | None, device_gib: float) -> Iterator[StageMemory]:
    """The recipe's stages that hold the policy; nothing for a model whose shape is not known.

    With gradient checkpointing `auto` a training stores activations where that fits.
    """
    model = find_model(recipe.model.source, folder)
    if model is None:
        return
    compute, train = recipe.compute, recipe.train
    if recipe.pairs is None:
        n_bytes = DTYPE_BYTES.get(recipe.engine.dtype, 4) * model.parameters
        shared = getattr(recipe.engine, "tensor_parallel", 1) or 1
        plan = MemoryPlan({"weights; the rest is for keys and values": n_bytes / shared})
        fits = plan.fits(device_gib)
        raise_or_change = (
            "raise engine.tensor_parallel" if shared > 1 or recipe.engine.name == "vllm" else "set engine.name=vllm"
        )
        yield StageMemory("respond", plan, device_gib, None if fits else raise_or_change)
    if not recipe.objective.definition.reference_free:
        plan = plan_reference(model, train, compute, compute.device)
        advice = None if plan.fits(device_gib) else remedy(model, train, compute, compute.device, device_gib)
        yield StageMemory("reference", plan, device_gib, advice)
    plan = plan_training(model, train, compute, compute.device, checkpointing=False)
    if not plan.fits(device_gib):
        plan = plan_training(model, train, compute, compute.device)
    advice = None if plan.fits(device_gib) else remedy(model, train, compute, compute.device, device_gib)
    yield StageMemory("train", plan, device_gib, advice)
