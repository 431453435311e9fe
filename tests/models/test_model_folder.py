"""Model folders before work: what loads passes, and what would go wrong later is named, all of it at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model_folder import WORDS, change_json, write_model, write_tokenizer

from aipo_lab.core.errors import UserError
from aipo_lab.models.model_folder.check import check_folder


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_model(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def problems_of(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_folder(folder, "model.source")
    return str(caught.value)


MIXTURE = {"num_local_experts": 2, "num_experts_per_tok": 1}
PASSING: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "sharded": {"max_shard_size": "2KB"},
    "more embeddings than tokens": {"vocab_size": 16},
    "pad token left out": {"pad_token_id": None},
    "several end tokens": {"eos_token_id": [2, 3]},
    "gpt2": {"kind": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "experts merged on loading": {"kind": "mixtral", "max_shard_size": "2KB", **MIXTURE},
    "gemma3": {"kind": "gemma3_text", "head_dim": 8},
}


@pytest.mark.parametrize("case", PASSING)
def test_what_loads_passes(tmp_path: Path, case: str) -> None:
    write_model(tmp_path / "model", **PASSING[case])
    check_folder(tmp_path / "model", "model.source")


def test_low_precision_and_a_hub_snapshot_of_links_pass(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / "model.safetensors")
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        (snapshot / path.name).symlink_to(path)
    check_folder(snapshot, "model.source")


def test_files_that_loading_ignores_are_ignored(folder: Path) -> None:
    """Other weights beside those of the index, as Mistral's repositories have, and foreign JSON."""
    save_file({"x": torch.zeros(1)}, folder / "consolidated.safetensors")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    (folder / "trainer_state.json").write_text("{")
    check_folder(folder, "model.source")


def test_a_known_type_whose_folder_carries_code_runs_without_it(folder: Path) -> None:
    change_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_other.Model"})
    check_folder(folder, "model.source")


def test_tokens_for_pictures_may_lie_beyond_a_text_models_embeddings(folder: Path) -> None:
    """Gemma 3's 1B model has 262144 embeddings, and its tokenizer the larger models' <image_soft_token> 262144."""
    tokenizer = write_tokenizer(folder, image_token="<image>")
    assert tokenizer.convert_tokens_to_ids("<image>") == len(WORDS)
    check_folder(folder, "model.source")


TokenCase = tuple[Callable[[Path], Any], str]
TOKENS: dict[str, TokenCase] = {
    "late pad": (lambda at: write_tokenizer(at, pad_token="[PAD]"), r"pad_token '\[PAD\]' has id 10"),
    "late end": (lambda at: write_tokenizer(at, eos_token="<end>"), "eos_token '<end>' has id 10"),
    "no end": (lambda at: write_tokenizer(at, eos_token=None), "has no end token"),
    "added": (lambda at: add_token(at, "<tool>", special=False), r"1 tokens .* beyond the 10 embeddings .*<tool>"),
    "special": (lambda at: add_token(at, "<tool>", special=True), r"1 tokens .* beyond the 10 embeddings .*<tool>"),
    "end id": (lambda at: change_json(at / "generation_config.json", eos_token_id=[2, 99]), r"\[2, 99\] in generation"),
    "end text": (lambda at: change_json(at / "generation_config.json", eos_token_id="2"), "must be a token's number"),
    "end id below": (
        lambda at: change_json(at / "generation_config.json", eos_token_id=-5),
        "must be a token's number",
    ),
    "config's end": (lambda at: only_config_names_the_end(at, 77), "eos_token_id 77 in config.json lies beyond"),
    "no words": (lambda at: (at / "tokenizer.json").unlink(), "tokenizer"),
}


def add_token(folder: Path, token: str, special: bool) -> None:
    tokenizer = write_tokenizer(folder)
    tokenizer.add_tokens([token], special_tokens=special)
    tokenizer.save_pretrained(folder)


def only_config_names_the_end(folder: Path, token: int) -> None:
    (folder / "generation_config.json").unlink()
    change_json(folder / "config.json", eos_token_id=token)


@pytest.mark.parametrize("case", TOKENS)
def test_tokens_the_model_cannot_look_up_or_end_with_are_named(folder: Path, case: str) -> None:
    change, message = TOKENS[case]
    change(folder)
    with pytest.raises(UserError, match=message):
        check_folder(folder, "model.source")


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


ROWS = "model.embed_tokens.weight"
TENSORS = {
    "no head": (without("lm_head.weight"), "lack 1 tensors, which would be random numbers: lm_head.weight"),
    "no norm": (without("model.layers.1.input_layernorm.weight"), "random numbers: model.layers.1.input_layernorm"),
    "smaller": (lambda all_: {**all_, ROWS: all_[ROWS][:7].clone()}, r"embed_tokens.weight has shape \[7, 16\], but"),
    "longer": (
        lambda all_: {
            **all_,
            **{
                key.replace("layers.1.", "layers.2."): value.clone()
                for key, value in all_.items()
                if "layers.1." in key
            },
        },
        "hold 3 layers .* only 2 would be used",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_weights_that_are_not_those_of_the_config_are_refused(folder: Path, case: str) -> None:
    change, message = TENSORS[case]
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        check_folder(folder, "model.source")


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"model_type": "hal9000"}, "'hal9000' is unknown to the installed transformers"),
    "code": (
        {"model_type": "hal9000", "auto_map": {"AutoConfig": "a.B"}},
        "runs Python code that comes with the model",
    ),
    "not a writer": ({"model_type": "t5"}, "'t5' is not a causal language model"),
    "no type": ({"model_type": None}, "names no model_type"),
    "type of a number": ({"model_type": 5}, "names no model_type"),
    "text for a number": ({"hidden_size": "sixteen"}, "config.json is not valid for 'llama'"),
    "larger vocabulary": ({"vocab_size": 12}, r"has shape \[10, 16\], but by config.json it is \[12, 16\]"),
    "quantised": ({"quantization_config": {"quant_method": "gptq"}}, r"quantised \(gptq\) and cannot be trained"),
    "heads": ({"num_attention_heads": 0}, "config.json|cannot build"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_cannot_be_used_is_refused(folder: Path, case: str) -> None:
    values, message = CONFIGS[case]
    change_json(folder / "config.json", **values)
    with pytest.raises(UserError, match=message):
        check_folder(folder, "model.source")


def test_an_adapter_is_no_model(folder: Path) -> None:
    adapter = json.dumps({"base_model_name_or_path": "owner/base"})
    (folder / "adapter_config.json").write_text(adapter)
    assert "adapter (adapter_config.json, made for owner/base)" in problems_of(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    told = problems_of(folder)
    assert "merge it into its base model" in told and "config.json is missing" in told


def test_all_problems_are_told_at_once(folder: Path) -> None:
    save_file({"model.norm.weight": torch.zeros(16)}, folder / "model.safetensors")
    (folder / "generation_config.json").write_text("{")
    write_tokenizer(folder, eos_token=None, pad_token="[PAD]")
    told = problems_of(folder)
    for part in ("the weights lack 20 tensors", "generation_config.json is not JSON", "no end token", "'[PAD]' has id"):
        assert part in told


def test_a_folder_that_passed_is_looked_at_again_when_its_content_changed(folder: Path) -> None:
    check_folder(folder, "model.source")
    write_tokenizer(folder, pad_token="[PAD]")
    assert "'[PAD]'" in problems_of(folder)
