"""Stage `ema`: the exponential moving average of the policies so far, a reference that follows them slowly.

average_t = decay * average_{t-1} + (1 - decay) * theta_t, with average_0 = theta_0. Output `model/`, in float32, as
differences between iterations are smaller than what 16 bits can add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import POLICIES
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import policy_folder


class EmaConfig(StrictModel):
    """How slowly the average follows."""

    decay: float = Field(ge=0, le=1, description="share of the former average that stays")


@stage("ema", version=1, config=EmaConfig)
def ema(context: StageContext[EmaConfig]) -> Mapping[str, Any]:
    """Write `model/`."""
    import torch

    device = context.runtime.device
    average = POLICIES.take(policy_folder(context, "average"), device, "float32")
    policy = POLICIES.get(policy_folder(context), device, "float32")
    weights, newest = average.model.state_dict(), policy.model.state_dict()
    if {name: value.shape for name, value in weights.items()} != {name: one.shape for name, one in newest.items()}:
        raise StageFailed("the policy has other weights than the average, so the two have no mean")
    seen = set()
    with torch.no_grad():
        for done, (name, value) in enumerate(weights.items()):
            context.progress(done, len(weights), "tensors")
            if value.data_ptr() in seen:  # tied: another name of what is averaged already
                continue
            seen.add(value.data_ptr())
            if value.is_floating_point():
                value.lerp_(newest[name], 1 - context.config.decay)
            else:
                value.copy_(newest[name])
    folder = context.folder / "model"
    average.model.save_pretrained(str(folder))
    policy.tokenizer.save_pretrained(str(folder))
    POLICIES.put(context.final_folder / "model", device, "float32", average)
    return {"decay": context.config.decay, "tensors": len(seen)}
