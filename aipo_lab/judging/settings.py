"""The settings of a judge, and which of them decide what it replies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import UserError
from aipo_lab.judging.money import Price
from aipo_lab.models.template import DEFAULT_DATE, ChatSettings, TemplateDate, TemplateText

MODEL_VARIABLE = "AIPO_LAB_JUDGE_MODEL"
DEFAULT_MODEL = "gpt-4-1106-preview"
"""The judge of AlpacaEval 2 and Arena-Hard v0.1."""


def _model_from_environment() -> str:
    return os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL


class JudgeSettings(StrictModel):
    """Who judges, and how carefully it is called. `identity()` holds what determines replies, and nothing else."""

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
    base_url: str | None = Field(
        None, description="server; default: $OPENAI_BASE_URL, else OpenAI's; for azure $AZURE_OPENAI_ENDPOINT"
    )
    deployment: str | None = Field(None, min_length=1, description="azure: the deployment's name, if not the model's")
    api_key_variable: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable that holds the key; default OPENAI_API_KEY, for azure AZURE_OPENAI_API_KEY",
    )
    concurrency: int = Field(16, ge=1, le=256, description="calls under way at once; for local: prompts per batch")
    requests_per_minute: float | None = Field(None, gt=0, description="most calls started per minute (none: unlimited)")
    tokens_per_minute: float | None = Field(
        None, gt=0, description="most tokens per minute, prompts (estimated) and caps of replies together"
    )
    timeout_s: float = Field(180, gt=0, description="seconds until a call counts as lost")
    attempts: int = Field(6, ge=1, description="times a call is tried before it is left unanswered")
    backoff_s: float = Field(1.0, gt=0, description="longest first wait between tries in seconds; doubles with each")
    deadline_s: float | None = Field(
        None, gt=0, description="seconds after which an evaluation starts no more calls (none: no deadline)"
    )
    max_cost_usd: float | None = Field(None, ge=0, description="most this run may spend in USD (none: no limit)")
    prices: dict[str, Price] = Field(
        default_factory=dict, description="prices by model name, over the built-in table; USD per million tokens"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="local: the weights' number format")
    chat_template: TemplateText = Field(
        None, description="local: chatml, plain, or a Jinja file, used instead of the model's own chat template"
    )
    template_date: TemplateDate = Field(
        DEFAULT_DATE, description="local: the day chat templates are told it is, YYYY-MM-DD"
    )

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
