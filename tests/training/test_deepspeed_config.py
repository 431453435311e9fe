"""DeepSpeed's configuration: made from the recipe, and a user's own only where it agrees with the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.training.config import ParallelSettings, TrainSettings
from aipo_lab.training.deepspeed_config import contradictions, deepspeed_config

SETTINGS = TrainSettings(learning_rate=1e-6, batch_size=64, precision="bfloat16")


def with_json(values: dict[str, Any], parallel: Any = "zero2") -> ParallelSettings:
    return ParallelSettings(processes=2, parallel=parallel, deepspeed=values)


def test_the_recipe_makes_the_configuration() -> None:
    made = deepspeed_config(SETTINGS, ParallelSettings(processes=2, parallel="zero3"))
    assert made["zero_optimization"] == {"stage": 3}
    assert made["bf16"] == {"enabled": False}  # autocast over float32 weights, as without ZeRO
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


# Settings unlike the defaults, so that a value cannot agree by chance.
OTHER = TrainSettings(learning_rate=2e-6, batch_size=32, weight_decay=0.1, max_gradient_norm=0.5)
OWN: dict[str, Any] = {
    "train_batch_size": 32,
    "gradient_clipping": 0.5,
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": 2e-6, "weight_decay": 0.1, "betas": [0.9, 0.999], "eps": 1e-8},
    },
    "bf16": {"enabled": False},
    "fp16": {"enabled": False},
    "zero_optimization": {"stage": 2},
}


def every_leaf(values: dict[str, Any], leaf: Any) -> dict[str, Any]:
    return {name: every_leaf(value, leaf) if isinstance(value, dict) else leaf for name, value in values.items()}


def refused(*overrides: tuple[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        build_recipe(profile_values("micro"), overrides)
    return str(caught.value)


def test_what_agrees_is_accepted() -> None:
    assert contradictions(OTHER, with_json(OWN)) == []
    optimizer = deepspeed_config(OTHER, with_json(OWN))["optimizer"]
    assert optimizer == OWN["optimizer"]


def test_auto_is_filled_in_from_the_recipe_everywhere() -> None:
    automatic = every_leaf(OWN, "auto") | {"train_micro_batch_size_per_gpu": "auto", "steps_per_print": "auto"}
    made = deepspeed_config(OTHER, with_json(automatic))
    assert made["optimizer"] == {"type": "AdamW", "params": {"lr": 2e-6, "weight_decay": 0.1}}
    assert made["zero_optimization"] == {"stage": 2}
    assert "auto" not in json.dumps(made)


CONTRADICTING = [
    ("train_batch_size", {"train_batch_size": 64}, "train.batch_size 32"),
    ("gradient_clipping", {"gradient_clipping": 1.0}, "train.max_gradient_norm 0.5"),
    ("optimizer.type", {"optimizer": {"type": "Adam"}}, "'AdamW'"),
    ("optimizer.params.lr", {"optimizer": {"params": {"lr": 1e-3}}}, "train.learning_rate 2e-06"),
    ("optimizer.params.weight_decay", {"optimizer": {"params": {"weight_decay": 0}}}, "train.weight_decay 0.1"),
    ("optimizer.params.betas", {"optimizer": {"params": {"betas": [0.8, 0.999]}}}, "[0.9, 0.999]"),
    ("optimizer.params.eps", {"optimizer": {"params": {"eps": 1e-6}}}, "1e-08"),
    ("bf16.enabled", {"bf16": {"enabled": True}}, "train.precision bfloat16 is False"),
    ("fp16.enabled", {"fp16": {"enabled": True}}, "train.precision float16 is False"),
    ("zero_optimization.stage", {"zero_optimization": {"stage": 3}}, "parallel zero2 is stage 2"),
]


@pytest.mark.parametrize(("name", "given", "rule"), CONTRADICTING)
def test_a_contradiction_names_both_sides(name: str, given: dict[str, Any], rule: str) -> None:
    (problem,) = contradictions(OTHER, with_json(given))
    assert problem.startswith(f"deepspeed {name} is ")
    assert rule in problem
    assert problem.endswith("make them equal, or set it to 'auto'")


@pytest.mark.parametrize(("name", "value"), [("optimizer", "auto"), ("bf16", True), ("zero_optimization", 2)])
def test_a_value_where_a_section_belongs_is_refused(name: str, value: object) -> None:
    (problem,) = contradictions(OTHER, with_json({name: value}))
    assert problem.startswith(f"deepspeed {name} is {value!r}, but must be a section")


def test_offload_and_other_settings_pass_through() -> None:
    offload = {
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "nvme", "nvme_path": "/scratch"},
        "stage3_param_persistence_threshold": 0,
        "reduce_bucket_size": "auto",
    }
    own = {"zero_optimization": offload, "wall_clock_breakdown": True, "bf16": {"immediate_grad_update": True}}
    made = deepspeed_config(OTHER, with_json(own, "zero3"))
    assert made["zero_optimization"] == {
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "nvme", "nvme_path": "/scratch"},
        "stage3_param_persistence_threshold": 0,
        "stage": 3,
    }
    assert made["wall_clock_breakdown"] is True
    assert made["bf16"] == {"immediate_grad_update": True, "enabled": False}


def test_a_recipe_may_name_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3, "overlap_comm": False}}))
    overrides = [("compute.parallel", "zero3"), ("compute.deepspeed", str(path))]
    recipe = build_recipe(profile_values("micro"), overrides)
    assert recipe.compute.deepspeed == {"zero_optimization": {"stage": 3, "overlap_comm": False}}
    assert recipe.resolved()["compute"]["deepspeed"] == recipe.compute.deepspeed  # runs without the file


def test_a_missing_or_broken_file_is_a_clear_error(tmp_path: Path) -> None:
    missing, broken, listed, binary = (tmp_path / name for name in ("missing", "broken", "listed", "binary"))
    broken.write_text('{"bf16": ')
    listed.write_text("[1]")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in [
        (missing, f"the DeepSpeed file {missing} cannot be read (No such file or directory)"),
        (tmp_path, "cannot be read (Is a directory)"),
        (broken, f"the DeepSpeed file {broken} is not valid JSON"),
        (binary, f"the DeepSpeed file {binary} is not valid JSON"),
        (listed, "compute.deepspeed"),
    ]:
        text = refused(("compute.parallel", "zero2"), ("compute.deepspeed", str(path)))
        assert "compute.deepspeed" in text
        assert message in text


def test_a_recipe_that_contradicts_its_deepspeed_file_is_refused_with_all_reasons(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"train_batch_size": 7, "zero_optimization": {"stage": 3}}))
    text = refused(
        ("compute.parallel", "zero2"), ("compute.deepspeed", str(path)), ("train.lora", {}), ("iterations", 2)
    )
    for part in ("train_batch_size is 7", "zero_optimization.stage is 3", "train.lora does not go with ZeRO"):
        assert part in text


CHANGING = [
    ("communication_data_type", {"communication_data_type": "bf16"}, "set it to None"),
    ("gradient_allreduce_op", {"gradient_allreduce_op": "sum"}, "set it to 'mean'"),
    ("prescale_gradients", {"prescale_gradients": True}, "set it to False"),
    ("data_types.grad_accum_dtype", {"data_types": {"grad_accum_dtype": "bf16"}}, "set it to None"),
    ("torch_autocast.enabled", {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}, "set it to False"),
    ("amp.enabled", {"amp": {"enabled": True}}, "set it to False"),
    ("bf16.bf16_optimizer_states", {"bf16": {"bf16_optimizer_states": True}}, "set it to False"),
    ("optimizer.params.adam_w_mode", {"optimizer": {"params": {"adam_w_mode": False}}}, "set it to True"),
    ("optimizer.params.bias_correction", {"optimizer": {"params": {"bias_correction": False}}}, "set it to True"),
    ("optimizer.params.amsgrad", {"optimizer": {"params": {"amsgrad": True}}}, "set it to False"),
    ("zero_optimization.zero_quantized_weights", {"zero_optimization": {"zero_quantized_weights": True}}, "False"),
    ("zero_optimization.zenflow", {"zero_optimization": {"zenflow": {"topk_ratio": 0.1}}}, "set it to None"),
    ("progressive_layer_drop", {"progressive_layer_drop": {"enabled": True}}, "leave it out"),
    ("optimizer.params.momentum", {"optimizer": {"params": {"momentum": 0.9}}}, "leave it out"),
    ("zero_optimization.made_up", {"zero_optimization": {"made_up": 1}}, "leave it out"),
]


@pytest.mark.parametrize(("name", "given", "step"), CHANGING)
def test_what_changes_results_beyond_rounding_is_refused(name: str, given: dict[str, Any], step: str) -> None:
    problems = contradictions(OTHER, with_json(given))
    assert any(problem.startswith(f"deepspeed {name} is ") and step in problem for problem in problems)


def test_harmless_settings_of_ordinary_files_are_accepted() -> None:
    ordinary = {
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "torch_autocast": {"enabled": False},
        "gradient_predivide_factor": 1.0,
        "prescale_gradients": False,
        "steps_per_print": 2000,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16},
        "zero_optimization": {
            "offload_optimizer": {"device": "cpu", "pin_memory": True},
            "overlap_comm": True,
            "contiguous_gradients": True,
            "sub_group_size": 1e9,
            "stage3_max_live_parameters": 1e9,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    }
    assert contradictions(OTHER, with_json(ordinary, "zero3")) == []


def test_every_setting_that_may_be_given_is_one_of_deepspeeds() -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'aipo-lab[deepspeed]')")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    from aipo_lab.training.deepspeed_settings import ALLOWED

    known = {name for key, one in DeepSpeedZeroConfig.model_fields.items() for name in (key, one.alias or key)}
    assert set(ALLOWED["zero_optimization"]) <= known
