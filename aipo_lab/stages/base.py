"""Stage `base`: the policy before the first iteration.

The micro world trains its policy here, as a Hugging Face folder under `model/`. Any other model is its content: the
artifact holds the fingerprint alone (its key contains it), and stages open the folder that this run was given, through
`policy_folder`. Older stores have a link `model` in that artifact, which nobody follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import check_base_folder
from aipo_lab.worlds.micro.base_model import MicroBaseConfig


class BaseConfig(StrictModel):
    """What the base model is: exactly one of the two is set."""

    micro: MicroBaseConfig | None = Field(None, description="train the micro world's policy with these settings")
    fingerprint: str | None = Field(None, description="content hash of the model folder")


# The version stays although the link is gone: the policy that the key names is the same.
@stage("base", version=1, config=BaseConfig)
def base(context: StageContext[BaseConfig]) -> Mapping[str, Any]:
    """Write `model/`, or check the given folder."""
    if context.config.micro is not None:
        from aipo_lab.worlds.micro.base_model import build_base_model

        return build_base_model(context.config.micro, context.folder / "model", context.progress)
    assert context.config.fingerprint is not None
    check_base_folder(context.runtime, context.config.fingerprint)
    return {"fingerprint": context.config.fingerprint}
