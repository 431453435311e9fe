"""Memory in training: gradient checkpointing and garbage collection."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any

from aipo_lab.core.errors import StageFailed


@contextlib.contextmanager
def gradient_checkpointing(model: Any, wanted: bool) -> Iterator[None]:
    """While inside, a layer's activations are computed twice instead of stored, if `wanted`.

    The model stays in evaluation mode: transformers would checkpoint in training mode only, in which modules also drop
    out, add noise or ask for other inputs. Raises `StageFailed` for a model without layers that can be computed twice.
    """
    with contextlib.ExitStack() as stack:
        for layer in _checkpointed_layers(model) if wanted else ():
            vars(layer)["forward"] = functools.partial(_compute_twice, layer.forward)
            stack.callback(vars(layer).pop, "forward")
        yield


def layers_of(model: Any) -> list[Any]:
    """The layers that transformers itself would checkpoint."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _checkpointed_layers(model: Any) -> list[Any]:
    layers = layers_of(model)
    if not layers:
        raise StageFailed(
            f"train.gradient_checkpointing: {type(model).__name__} has no layers that can be computed twice; "
            "set it to false and lower train.micro_batch_tokens"
        )
    return layers


def _compute_twice(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    from torch.utils.checkpoint import checkpoint

    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **options)


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
