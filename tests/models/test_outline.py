"""A policy without weights says of itself what the loaded one says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from model_variants import make_variant

from aipo_lab.models.decoding import ignored_settings
from aipo_lab.models.outline import policy_outline
from aipo_lab.models.policy import load_policy

HABITS: dict[str, dict[str, Any]] = {
    "nothing declared": {},
    "ends declared": {"generation_config": {"eos_token_id": [2, 30], "repetition_penalty": 1.5}},
    "an end in config.json": {"eos_token_id": 30},
    "other positions": {"architecture": "gpt2", "n_positions": 64},
}


@pytest.mark.parametrize("habit", HABITS)
def test_the_outline_is_the_policys(tmp_path: Path, habit: str) -> None:
    folder = make_variant(tmp_path / "model", **HABITS[habit])
    outline, loaded = policy_outline(folder), load_policy(folder, "cpu", "float32")
    for name in ("end_token_ids", "pad_token_id", "n_positions", "vocabulary_size"):
        assert getattr(outline, name) == getattr(loaded, name), name
    told = [ignored_settings(one.model.generation_config.to_dict()) for one in (outline, loaded)]
    assert told[0] == told[1]
