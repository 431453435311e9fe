"""What a person should know of the base models before a sweep starts."""

from __future__ import annotations

from collections.abc import Mapping

from aipo_lab.models.decoding import ignored_settings_of_folder
from aipo_lab.pipeline.base_model import BaseModel


def model_notes(base_models: Mapping[str, BaseModel]) -> list[str]:
    """One sentence per base model (by source) whose `generation_config.json` asks for what nobody follows."""
    notes = []
    for source, model in base_models.items():
        ignored = ignored_settings_of_folder(model.folder) if model.folder is not None else {}
        if ignored:
            listed = ", ".join(f"{name} {value}" for name, value in ignored.items())
            notes.append(
                f"{source}: its generation_config.json asks for {listed}; this is ignored, the recipe's sampling "
                "sections alone say how text is sampled"
            )
    return notes
