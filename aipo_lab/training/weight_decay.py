"""Which weights decay: all but norms and biases, by the rule of Hugging Face's `Trainer`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aipo_lab.training.config import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

_SPARED = re.compile(r"bias|layernorm|rmsnorm|(?:^|[._])norm(?:$|\.)")
"""Parts of the names of norms and biases (transformers 5.23, `Trainer.get_decay_parameter_names`)."""


def parameter_groups(
    model: Any, parameters: Iterable[tuple[str, Tensor]], settings: TrainSettings
) -> list[dict[str, Any]]:
    """AdamW's groups of the named parameters of `model`: those that decay, then those that do not, if there are any."""
    import torch

    norms = [name for name, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm)]
    decaying: list[Tensor] = []
    spared: list[Tensor] = []
    for name, parameter in parameters:
        is_spared = _SPARED.search(name.lower()) or any(name.startswith(f"{norm}.") for norm in norms)
        (spared if is_spared and not settings.decay_norms_and_biases else decaying).append(parameter)
    groups = [(decaying, settings.weight_decay), (spared, 0.0)]
    return [{"params": members, "weight_decay": decay} for members, decay in groups if members]
