"""Prompt source `file`: JSON lines, JSON, CSV, TSV, Parquet or Arrow, one file or a folder of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from typing_extensions import override

from aipo_lab.prompts.own import OwnPrompts, OwnPromptSettings
from aipo_lab.prompts.reading import DataPlace
from aipo_lab.prompts.source import PROMPTS, PromptSourceDefinition


class FilePromptSettings(OwnPromptSettings):
    """Which file."""

    source: Literal["file"] = Field("file", description="prompts of a file")
    path: str = Field(min_length=1, description="file or folder, sought from where the command runs")

    @override
    def place(self) -> DataPlace:
        return DataPlace(path=self.path)


PROMPTS.add(
    "file",
    PromptSourceDefinition(
        settings=FilePromptSettings, open=lambda settings, _: OwnPrompts(settings), data=FilePromptSettings.request
    ),
)
