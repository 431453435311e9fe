"""Prompt source `dataset`: a dataset of the Hugging Face hub, or a copy of one on this machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from typing_extensions import override

from aipo_lab.prompts.own import OwnPrompts, OwnPromptSettings
from aipo_lab.prompts.reading import DataPlace
from aipo_lab.prompts.source import PROMPTS, PromptSourceDefinition

ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
"""The paper's pool."""


class DatasetPromptSettings(OwnPromptSettings):
    """Which dataset; the paper's by default."""

    source: Literal["dataset"] = Field("dataset", description="prompts of a dataset")
    dataset: str = Field(ULTRAFEEDBACK, min_length=1, description="dataset of the hub, owner/name")
    subset: str | None = Field(None, description="its configuration, where it has several")
    split: str = Field("train_prefs", min_length=1, description="its split")
    revision: str | None = Field(None, description="its commit, branch or tag (none: the newest, or what is cached)")
    path: str | None = Field(None, min_length=1, description="a copy on this machine, instead of the hub's")

    @override
    def place(self) -> DataPlace:
        return DataPlace(**self.model_dump(include=set(DataPlace.model_fields)))


PROMPTS.add(
    "dataset",
    PromptSourceDefinition(
        settings=DatasetPromptSettings,
        open=lambda settings, _: OwnPrompts(settings),
        data=DatasetPromptSettings.request,
    ),
)
