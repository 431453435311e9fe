"""The table of models that a plan may name before they are here, held against the totals that the hub shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.models.size import known_models, model_size
from aipo_lab.pipeline.recipe import profile_names, profile_values


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mistralai/Mistral-Nemo-Instruct-2407", 12_247_782_400),
        ("mistralai/Mistral-7B-Instruct-v0.2", 7_241_732_096),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
        ("google/gemma-2-9b-it", 9_241_705_984),
        ("google/gemma-2-27b-it", 27_227_128_320),
        ("meta-llama/Meta-Llama-3-70B-Instruct", 70_553_706_496),
        ("mistralai/Mistral-Large-Instruct-2407", 122_610_069_504),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_the_shapes_give_the_parameters_that_the_hub_shows(name: str, parameters: int) -> None:
    size = model_size(name, None)
    assert size is not None
    assert (size.parameters, size.weight_bytes) == (parameters, 2 * parameters)


def test_every_model_of_a_shipped_profile_is_in_the_table() -> None:
    sources = {profile_values(name)["model"]["source"] for name in profile_names()} - {"micro"}
    assert sources <= known_models().keys()


def test_a_folder_is_measured_and_an_unknown_name_is_unknown(base_model_folder: Path) -> None:
    size = model_size("whatever/it-is", base_model_folder)
    assert size is not None
    (weights,) = base_model_folder.glob("*.safetensors")
    assert size.weight_bytes == weights.stat().st_size
    assert 0 < 4 * size.parameters < size.weight_bytes < 4 * size.parameters + 100_000
    assert model_size("whatever/it-is", None) is None
