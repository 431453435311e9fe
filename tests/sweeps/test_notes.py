"""Notes about base models: what their generation settings ask for is said once, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.sweeps.notes import model_notes


def test_ignored_generation_settings_are_named_with_the_model(tmp_path: Path) -> None:
    folders = {}
    for name, settings in (("a", {"repetition_penalty": 1.3, "eos_token_id": 2}), ("b", {"eos_token_id": 2})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "generation_config.json").write_text(json.dumps(settings))
        folders[name] = BaseModel(tmp_path / name)
    (note,) = model_notes(folders | {"micro": BaseModel()})
    assert note.startswith("a: its generation_config.json asks for repetition_penalty 1.3; this is ignored")
