"""Policies in memory: which folder loads, what ends a response, and what the cache keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import Policy, PolicyCache, load_policy, load_tokenizer


@pytest.fixture
def folders(make_policy: Callable[..., Policy], tmp_path: Path) -> list[Path]:
    """Three model folders with different weights."""
    made = []
    for seed in range(3):
        policy = make_policy(seed)
        folder = tmp_path / f"model-{seed}"
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        made.append(folder)
    return made


def first_weight(policy: Policy) -> float:
    return float(next(policy.model.parameters()).detach().flatten()[0])


def test_a_saved_policy_loads_as_it_was(make_policy: Callable[..., Policy], folders: list[Path]) -> None:
    made, loaded = make_policy(1), load_policy(folders[1], "cpu", "float32")
    for name, weights in made.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weights)
    assert not loaded.model.training
    assert loaded.tokenizer.get_vocab() == made.tokenizer.get_vocab()
    assert loaded.tokenizer.chat_template == made.tokenizer.chat_template
    assert load_policy(folders[1], "cpu", "bfloat16").model.dtype == torch.bfloat16


def test_pickled_weights_are_not_loaded(folders: list[Path]) -> None:
    state = load_policy(folders[0], "cpu", "float32").model.state_dict()
    (folders[0] / "model.safetensors").unlink()
    torch.save(state, folders[0] / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_policy(folders[0], "cpu", "float32")


def test_a_tokenizer_without_an_end_token_says_what_to_set(folders: list[Path]) -> None:
    path = folders[0] / "tokenizer_config.json"
    values = {name: value for name, value in json.loads(path.read_text()).items() if name != "eos_token"}
    path.write_text(json.dumps(values))
    with pytest.raises(StageFailed, match=r"has no end token.*tokenizer_config\.json"):
        load_tokenizer(folders[0])


def test_every_end_token_a_model_declares_counts(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    eos = policy.tokenizer.eos_token_id
    for declared, expected in ((eos, {eos}), ([eos, 7], {eos, 7}), ([9], {eos, 9}), (None, {eos})):
        policy.model.generation_config.eos_token_id = declared
        assert policy.end_token_ids == expected


def test_the_cache_keeps_the_last_ones_used(folders: list[Path]) -> None:
    cache = PolicyCache(capacity=2)
    one, two = (cache.get(folder, "cpu", "float32") for folder in folders[:2])
    assert cache.get(folders[0], "cpu", "float32") is one
    cache.get(folders[2], "cpu", "float32")  # pushes out the one used longest ago
    assert cache.get(folders[0], "cpu", "float32") is one
    assert cache.get(folders[1], "cpu", "float32") is not two


def test_a_policy_that_was_taken_to_be_changed_is_not_found_again(folders: list[Path]) -> None:
    cache = PolicyCache(capacity=2)
    original = first_weight(cache.get(folders[0], "cpu", "float32"))
    taken = cache.take(folders[0], "cpu", "float32")
    with torch.no_grad():
        next(taken.model.parameters()).add_(1.0)
    assert first_weight(cache.get(folders[0], "cpu", "float32")) == original
    shutil.rmtree(folders[1])
    cache.put(folders[1], "cpu", "float32", taken)  # remembered, so not read from the folder
    assert cache.get(folders[1], "cpu", "float32") is taken


def test_weights_in_another_precision_are_another_entry(folders: list[Path]) -> None:
    cache = PolicyCache(capacity=2)
    assert cache.get(folders[0], "cpu", "float32").model.dtype == torch.float32
    assert cache.get(folders[0], "cpu", "bfloat16").model.dtype == torch.bfloat16
    assert cache.get(folders[0], "cpu", "float32").model.dtype == torch.float32
