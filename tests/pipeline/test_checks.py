"""What a recipe asks for and cannot have is refused before any work, all of it at once; what works is not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aipo_lab.core import devices
from aipo_lab.core.devices import Device
from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins
from aipo_lab.pipeline.checks import check_recipes, model_positions
from aipo_lab.pipeline.recipe import build_recipe, profile_values


def check(*overrides: tuple[str, Any], profile: str = "micro", origins: Origins | None = None) -> None:
    recipe = build_recipe(profile_values(profile), overrides)
    check_recipes([(recipe, origins or Origins())], "the test")


def refused(*overrides: tuple[str, Any], **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(*overrides, **more)
    return str(caught.value)


@pytest.mark.parametrize("profile", ["micro", "laptop"])
def test_shipped_profiles_can_run(profile: str) -> None:
    check(profile=profile)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ([("train.batch_size", 257)], ("train.batch_size: 257", "256 prompts (instruct.n_prompts)")),
        ([("instruct.n_prompts", 8)], ("train.batch_size: 32", "at most 8 pairs")),
        (
            [("instruct.source", "pool"), ("instruct.n_prompts", 4096), ("train.batch_size", 3000)],
            ("train.batch_size: 3000", "the pool holds 2048", "at most 2048 pairs"),
        ),
        ([("train.batch_size", 256)], ("train.warmup_ratio: ", "1 optimiser step(s), all of them warm-up")),
        ([("train.warmup_ratio", 0.9), ("train.batch_size", 64)], ("4 optimiser step(s)", "train.warmup_ratio 0.9")),
        ([("respond.sampling.temperature", 0)], ("respond.sampling.temperature: 0", "4 candidates")),
        ([("respond.sampling.top_k", 1)], ("respond.sampling.top_k: 1", "4 candidates")),
        (
            [("engine.name", "openai"), ("engine.model", "m")],
            ("engine.name: openai samples from the weights that a server loaded", "use transformers or vllm"),
        ),
        (
            [("engine.name", "vllm"), ("engine.python", "/nowhere/python")],
            ("'/nowhere/python' cannot be run", "give the path of a Python that has vLLM"),
        ),
        ([("compute.device", "gpu")], ("'gpu' is no torch device", "valid: cpu, cuda")),
        ([("compute.device", "a/b")], ("'a/b' is no torch device",)),
        ([("compute.device", "meta")], ("torch finds no meta device",)),
        ([("respond.max_prompt_tokens", 400)], ("prompts of 400 tokens and responses of 160", "512 positions")),
        ([("benchmarks.micro.sampling.max_new_tokens", 512)], ("benchmarks.micro.sampling.max_new_tokens: 512",)),
    ],
)
def test_what_cannot_be_is_refused_with_value_rule_and_next_step(
    overrides: list[tuple[str, Any]], parts: tuple[str, ...]
) -> None:
    text = refused(*overrides)
    assert all(part in text for part in parts), text
    assert "lower" in text or "raise" in text or "valid:" in text or "use " in text or "give " in text


@pytest.mark.parametrize(
    "overrides",
    [
        [("train.batch_size", 256), ("train.warmup_ratio", 0.0)],
        [("train.batch_size", 256), ("train.epochs", 2)],
        [("instruct.sampling.temperature", 0)],
        [("benchmarks.micro.sampling.temperature", 0)],
        [("compute.device", "cpu:0")],
        [("compute.processes", 64)],
        [("model.source", "somebody/model-of-the-hub")],
        [("respond.max_prompt_tokens", 352)],
    ],
)
def test_what_can_be_is_not_refused(overrides: list[tuple[str, Any]]) -> None:
    check(*overrides)


def test_all_problems_come_at_once_each_with_where_it_was_written() -> None:
    origins = Origins({("train",): "line 3", ("respond", "sampling", "temperature"): "--set 'x=0'"})
    text = refused(
        ("train.batch_size", 999), ("respond.sampling.temperature", 0), ("compute.device", "gpu"), origins=origins
    )
    assert "  - line 3: train.batch_size: 999" in text
    assert "  - --set 'x=0': respond.sampling.temperature: 0" in text
    assert "  - compute.device: 'gpu'" in text


@pytest.mark.parametrize(
    ("package", "setting", "remedy"),
    [
        ("peft", ("train.lora", {"rank": 4}), "pip install 'aipo-lab[lora]'"),
        ("deepspeed", ("compute.parallel", "zero2"), "pip install 'aipo-lab[deepspeed]'"),
    ],
)
def test_a_missing_package_is_named_with_how_to_install_it(
    package: str, setting: tuple[str, Any], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *at: None if name == package else find(name, *at))
    text = refused(setting)
    assert setting[0] in text and remedy in text


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two CUDA devices that lack bfloat16."""
    monkeypatch.setattr(devices, "_all_devices", lambda: [("", Device("0")), ("", Device("1"))])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_refused() -> None:
    assert "cuda: no cuda device is found here; use compute.device=cpu" in refused(("compute.device", "cuda"))


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([("compute.device", "cuda:9")], "cuda:9: the 2 cuda devices here are numbered from 0 to 1"),
        ([("compute.device", "cuda"), ("compute.processes", 8)], "compute.processes: 8 processes need a device each"),
        (
            [("compute.device", "cuda:1"), ("compute.processes", 2)],
            "need a device each, but there is 1 (1)",
        ),
        (
            [("compute.device", "cuda"), ("compute.devices", [1, 2])],
            "compute.devices: 2 is not here; found: 0, 1",
        ),
        ([("compute.device", "cuda:0"), ("compute.devices", [1])], "compute.devices: says which, and so does"),
        ([("compute.device", "mps"), ("compute.devices", [1])], "compute.devices: names CUDA devices, but"),
        (
            [("compute.device", "cuda"), ("engine.data_parallel", 3)],
            "engine.data_parallel: 3 engines of 1 devices each (engine.tensor_parallel) need 3, but there are 2 (0, 1)",
        ),
        ([("compute.devices", ["a"]), ("compute.processes", 2)], "compute.processes: 2 processes need a device each"),
        ([("compute.device", "cuda"), ("train.precision", "bfloat16")], "train.precision: bfloat16 is not what cuda"),
        ([("compute.device", "cuda"), ("engine.dtype", "bfloat16")], "engine.dtype: bfloat16 is not what cuda"),
    ],
)
def test_more_than_the_devices_here_can_do_is_refused(overrides: list[tuple[str, Any]], said: str) -> None:
    assert said in refused(*overrides)
    check(("compute.device", "cuda:1"), ("train.precision", "float16"))
    check(("compute.device", "cuda"), ("compute.processes", 2))
    check(("compute.device", "cuda"), ("compute.devices", [1]))


@pytest.mark.parametrize("names", [[], ["0", "0"], ["-1"], ["0,1"], [""], "0"])
def test_device_names_are_checked(names: Any) -> None:
    with pytest.raises(UserError, match="devices"):
        build_recipe(profile_values("micro"), [("compute.devices", names)])


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 128}, 128),
        ({"n_positions": 64}, 64),
        ({"text_config": {"max_position_embeddings": 32}, "max_position_embeddings": 9}, 32),
        ({"model_type": "mamba"}, None),
        ({"max_position_embeddings": None}, None),
        ([1], None),
    ],
)
def test_a_models_positions_are_read_from_its_config(tmp_path: Path, config: Any, positions: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_positions(tmp_path) == positions


def test_a_folder_whose_model_is_too_short_is_refused(tmp_path: Path) -> None:
    assert model_positions(tmp_path) is None
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 200}')
    text = refused(("model.source", str(tmp_path)))
    assert "prompts of 64 tokens and responses of 160" in text
    assert f"the 200 positions of model.source {tmp_path}" in text


def test_a_source_that_can_be_no_path_is_no_traceback() -> None:
    check(("model.source", "x" * 5000))
