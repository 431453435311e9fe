"""The learning rate of every optimiser step: linear warm-up from 0, then a cosine down to 0."""

from __future__ import annotations

import math
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.training.config import TrainSettings


def make_scheduler(optimizer: Any, settings: TrainSettings, n_steps: int) -> Any:
    """The scheduler of `n_steps` optimiser steps; raises `StageFailed` if all of them would be warm-up."""
    from transformers import get_cosine_schedule_with_warmup

    warmup_steps = math.ceil(settings.warmup_ratio * n_steps)
    if warmup_steps >= n_steps:
        raise StageFailed(
            f"{n_steps} optimiser steps of {settings.batch_size} pairs are all warm-up from a learning rate of 0, so "
            "nothing would be learnt; lower train.batch_size or train.warmup_ratio, or use more pairs"
        )
    return get_cosine_schedule_with_warmup(optimizer, warmup_steps, n_steps)
