"""LoRA through peft: only small adapters are trained, and merged into the weights for the next iteration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import MissingDependency, StageFailed


class LoraSettings(StrictModel):
    """Low-rank adapters (Hu et al. 2021) instead of all weights."""

    rank: int = Field(16, ge=1, description="rank of the adapters")
    alpha: int = Field(32, ge=1, description="scale of the adapters: their output is multiplied by alpha / rank")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="names of the layers that get an adapter; all-linear: all but the output embedding"
    )


def add_adapters(model: Any, settings: LoraSettings, seed: int) -> Any:
    """Put adapters into `model` itself and freeze the rest; returns the peft model around it.

    Raises `MissingDependency` without peft, `StageFailed` if no layer has one of the names.
    """
    try:
        import peft
    except ImportError:
        raise MissingDependency("train.lora needs peft; install it with: pip install 'aipo-lab[lora]'") from None
    import torch

    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=settings.target_modules,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            raise StageFailed(f"train.lora.target_modules {settings.target_modules}: {error}") from None
    return adapted.eval()


def merge_adapters(adapted: Any) -> Any:
    """The model with its adapters added to the weights and taken out, all of it trainable again."""
    model = adapted.merge_and_unload()
    return model.requires_grad_(True)
