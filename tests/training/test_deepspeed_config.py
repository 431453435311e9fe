"""DeepSpeed's configuration: made from the recipe, and a user's own only where it agrees with the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.errors import UserError
from aipo_lab.training.config import ParallelSettings, TrainSettings
from aipo_lab.training.deepspeed_config import contradictions, deepspeed_config

SETTINGS = TrainSettings(learning_rate=1e-6, batch_size=64, precision="bfloat16")


def with_json(values: dict[str, Any], parallel: Any = "zero2") -> ParallelSettings:
    return ParallelSettings(processes=2, parallel=parallel, deepspeed=values)


def test_the_recipe_makes_the_configuration() -> None:
    made = deepspeed_config(SETTINGS, ParallelSettings(processes=2, parallel="zero3"))
    assert made["zero_optimization"] == {"stage": 3}
    assert made["bf16"]["enabled"] is True
    assert made["gradient_clipping"] == 1.0


def test_all_contradictions_are_named_at_once() -> None:
    wrong = {
        "train_batch_size": 32,
        "gradient_clipping": 0.5,
        "optimizer": {"type": "Lamb", "params": {"lr": 1e-3, "weight_decay": 0.1}},
        "scheduler": {"type": "WarmupLR"},
        "bf16": {"enabled": False},
        "fp16": {"enabled": True},
        "zero_optimization": {"stage": 3},
    }
    with pytest.raises(UserError) as caught:
        deepspeed_config(SETTINGS, with_json(wrong))
    for words in (
        "train_batch_size is 32, but train.batch_size 64",
        "gradient_clipping is 0.5",
        "optimizer.type is 'Lamb'",
        "optimizer.params.lr is 0.001, but train.learning_rate 1e-06",
        "optimizer.params.weight_decay is 0.1",
        "scheduler",
        "bf16.enabled is False",
        "fp16.enabled is True",
        "zero_optimization.stage is 3, but parallel zero2 is stage 2",
    ):
        assert words in str(caught.value)


def test_what_agrees_or_is_left_to_the_recipe_passes_and_the_rest_goes_through() -> None:
    given = {
        "train_batch_size": "auto",
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": "auto"},
        "wall_clock_breakdown": False,
    }
    made = deepspeed_config(SETTINGS, with_json(given))
    assert made["zero_optimization"] == {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    assert made["wall_clock_breakdown"] is False
    assert "train_batch_size" not in made


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"precision": "float16"}, "float16 does not go with ZeRO"),
        ({"lora": {"rank": 4}}, "lora does not go with ZeRO"),
    ],
)
def test_what_zero_cannot_do_is_refused(train: dict[str, Any], words: str) -> None:
    problems = contradictions(TrainSettings(**train), ParallelSettings(processes=2, parallel="zero2"))
    assert any(words in problem for problem in problems)


def test_a_configuration_without_zero_is_refused() -> None:
    assert contradictions(SETTINGS, with_json({}, "data")) == []
    assert "set zero2 or zero3" in contradictions(SETTINGS, with_json({"a": 1}, "data"))[0]


def test_a_recipe_reads_the_file_it_names(tmp_path: Path) -> None:
    from aipo_lab.config import validate
    from aipo_lab.recipe import ComputeConfig

    (tmp_path / "good.json").write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    (tmp_path / "bad.json").write_text("{")
    values = {"processes": 2, "parallel": "zero2"}
    made = validate(ComputeConfig, values | {"deepspeed": str(tmp_path / "good.json")}, "recipe")
    assert made.deepspeed == {"zero_optimization": {"stage": 2}}
    for name, words in (("bad.json", "is not valid JSON"), ("none.json", "cannot be read")):
        with pytest.raises(UserError, match=words):
            validate(ComputeConfig, values | {"deepspeed": str(tmp_path / name)}, "recipe")
