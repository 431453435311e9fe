"""Stage `base`: the policy before the first iteration, as a Hugging Face folder under `model/`.

The micro world trains its policy here; any other model is linked to where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.worlds.micro.base_model import MicroBaseConfig


class BaseConfig(StrictModel):
    """What the base model is: exactly one of the two is set."""

    micro: MicroBaseConfig | None = Field(None, description="train the micro world's policy with these settings")
    fingerprint: str | None = Field(None, description="content hash of the model folder to link to")


@stage("base", version=1, config=BaseConfig)
def base(context: StageContext[BaseConfig]) -> Mapping[str, Any]:
    """Write or link `model/`."""
    if context.config.micro is not None:
        from aipo_lab.worlds.micro.base_model import build_base_model

        return build_base_model(context.config.micro, context.folder / "model", context.progress)
    assert context.runtime.model_folder is not None
    (context.folder / "model").symlink_to(Path(context.runtime.model_folder).resolve())
    return {"linked_to": context.runtime.model_folder}
