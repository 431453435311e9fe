"""Memory in training: gradient checkpointing, garbage collection, and telling lack of memory from other errors."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def gradient_checkpointing(model: Any, wanted: bool) -> Iterator[None]:
    """While inside, activations are computed twice instead of stored, if `wanted`; dropout stays off."""
    if not wanted:
        yield
        return
    dropouts = [module for module in model.modules() if type(module).__name__ == "Dropout"]
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()  # transformers checkpoints in training mode only
    for module in dropouts:
        module.eval()
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.eval()


@contextlib.contextmanager
def frozen_garbage() -> Iterator[None]:
    """While inside, Python's collector passes over what is there already.

    That is mostly the packages' own objects: walking through them stops a training's threads for 0.1 s again and again.
    """
    outermost = gc.get_freeze_count() == 0
    gc.freeze()
    try:
        yield
    finally:
        if outermost:
            gc.unfreeze()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out (on the CPU it is a plain RuntimeError)."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
