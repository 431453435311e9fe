"""The settings of a judge, and which of them decide what it replies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from aipo_lab.core.errors import UserError
from aipo_lab.judging.server import ServerSettings
from aipo_lab.models.template import DEFAULT_DATE, ChatSettings, TemplateDate, TemplateText

MODEL_VARIABLE = "AIPO_LAB_JUDGE_MODEL"
DEFAULT_MODEL = "gpt-4-1106-preview"
"""The judge of AlpacaEval 2 and Arena-Hard v0.1."""


def _model_from_environment() -> str:
    return os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL


class JudgeSettings(ServerSettings):
    """Who judges, and how carefully it is called. `identity()` holds what determines replies, and nothing else."""

    who: ClassVar[str] = "judge"
    work: ClassVar[str] = "evaluation"
    limit_setting: ClassVar[str] = "--max-cost"

    engine: Literal["openai", "azure", "local"] = Field(
        "openai", description="openai: any OpenAI-compatible server; azure: Azure OpenAI; local: a model folder"
    )
    model: str = Field(
        default_factory=_model_from_environment,
        min_length=1,
        description=f"model name; for local a model folder or asset; default: ${MODEL_VARIABLE}, else {DEFAULT_MODEL}",
    )
    label: str = Field(
        "",
        description="tells apart judges whose servers give different models the same name; replies are kept per label",
    )
    deployment: str | None = Field(None, min_length=1, description="azure: the deployment's name, if not the model's")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="local: the weights' number format")
    chat_template: TemplateText = Field(
        None, description="local: chatml, plain, or a Jinja file, used instead of the model's own chat template"
    )
    template_date: TemplateDate = Field(
        DEFAULT_DATE, description="local: the day chat templates are told it is, YYYY-MM-DD"
    )

    @property
    def is_azure(self) -> bool:
        """See `ServerSettings.is_azure`."""
        return self.engine == "azure"

    @property
    def served_model(self) -> str:
        """See `ServerSettings.served_model`."""
        return self.deployment or self.model

    def chat(self) -> ChatSettings:
        """How a local judge's prompts are rendered."""
        return ChatSettings(template=self.chat_template, date=self.template_date)

    def identity(self) -> dict[str, Any]:
        """What determines replies, as JSON values: stages and the call store hash this.

        The server's address is left out, so that a judge may move; give two servers that serve different
        models under one name different labels. Raises `UserError` if a local judge's model is missing or unusable.
        """
        if self.engine == "local":
            from aipo_lab.models.fingerprint import fingerprint_folder
            from aipo_lab.models.model_folder.check import check_folder

            check_folder(self.local_folder(), "the local judge's model")
            fingerprint = fingerprint_folder(self.local_folder())
            chat = self.chat().model_dump()
            own = {"fingerprint": fingerprint, "dtype": self.dtype, "chat": chat}
            return {"engine": "local", **own, "label": self.label}
        return {"engine": self.engine, "model": self.model, "label": self.label}

    def local_folder(self) -> Path:
        """The model folder of a local judge; raises `UserError` if there is none."""
        from aipo_lab.assets.library import find, list_assets

        if self.model in [asset.name for asset in list_assets()]:
            return find(self.model)
        folder = Path(self.model).expanduser()
        if not (folder / "config.json").is_file():
            raise UserError(
                f"the local judge's model {self.model!r} is not a model folder (there is no {folder / 'config.json'}) "
                "nor an asset of `aipo-lab assets list`; give the folder's path"
            )
        return folder
