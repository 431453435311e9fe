"""The engine on models with habits: what a folder asks for changes nothing that is sampled, and positions suffice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_variants import END, make_variant

from aipo_lab.generation.engine import SamplingConfig
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.decoding import ignored_settings, ignored_settings_of_folder
from aipo_lab.models.policy import Policy, load_policy

GREEDY = SamplingConfig(temperature=0, max_new_tokens=40)
PROMPTS = [[1, 4, *range(10, 10 + n), 5] for n in (3, 1, 30, 7, 12, 2)]

GENERATION_CONFIGS: dict[str, dict[str, Any]] = {
    "repetition_penalty": {"repetition_penalty": 10.0},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "suppressed tokens": {"suppress_tokens": list(range(20, 80)), "begin_suppress_tokens": list(range(80, 120))},
    "bad words": {"bad_words_ids": [[token] for token in range(20, 80)]},
    "forced end": {"forced_eos_token_id": 2, "min_new_tokens": 30},
    "sampling by default": {"do_sample": True, "temperature": 9.0, "top_k": 3, "min_p": 0.5, "typical_p": 0.2},
    "length penalties": {"exponential_decay_length_penalty": [2, 3.0], "sequence_bias": [[[30], 50.0]]},
    "no cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "a maximal time": {"max_time": 1e-9, "stop_strings": ["e"]},
}


def greedy_by_hand(policy: Policy, prompt: list[int], limit: int) -> list[int]:
    """Take the likeliest token again and again, each by a forward pass over the whole unpadded sequence."""
    ids = list(prompt)
    while len(ids) - len(prompt) < limit and len(ids) < policy.n_positions:
        with torch.no_grad():
            ids.append(int(policy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] in policy.end_token_ids:
            break
    return ids[len(prompt) :]


def assert_greedy(policy: Policy, prompts: list[list[int]] = PROMPTS) -> list[list[int]]:
    made = [row[0].token_ids for row in TransformersEngine(policy, 4).generate(prompts, 1, GREEDY, seed=0)]
    assert made == [greedy_by_hand(policy, prompt, 40) for prompt in prompts]
    return made


def rare_end(folder: Path, **habits: Any) -> Policy:
    """A policy that ends seldom, so that completions are long enough for a habit to show."""
    return load_policy(make_variant(folder, writes=(), **habits), "cpu", "float32")


@pytest.mark.parametrize("habit", GENERATION_CONFIGS)
def test_the_folders_generation_config_changes_nothing(tmp_path: Path, habit: str) -> None:
    declared = {"eos_token_id": 2, **GENERATION_CONFIGS[habit]}
    policy = rare_end(tmp_path / "model", generation_config=declared)
    assert max(map(len, assert_greedy(policy))) == 40
    listed = ignored_settings_of_folder(tmp_path / "model")
    assert listed.keys() == GENERATION_CONFIGS[habit].keys() - {"do_sample"}
    assert ignored_settings(policy.model.generation_config.to_dict()).keys() == listed.keys()
    assert policy.model.generation_config.eos_token_id == 2  # the model keeps its configuration


def test_what_changes_nothing_is_not_listed() -> None:
    neutral = {"repetition_penalty": 1.0, "top_k": 50, "top_p": 1.0, "num_beams": 1, "use_cache": True, "min_p": None}
    assert ignored_settings({"eos_token_id": [1, 2], "max_length": 20, "do_sample": True, **neutral}) == {}


@pytest.mark.parametrize(
    "habits",
    [
        {"use_cache": False},
        {"architecture": "mistral", "sliding_window": 8},
        {"architecture": "gpt2", "n_positions": 64},
        {"architecture": "gpt2", "n_positions": 33},
        {"max_position_embeddings": 34},
    ],
    ids=str,
)
def test_greedy_is_greedy_by_hand_up_to_the_models_positions(tmp_path: Path, habits: dict[str, Any]) -> None:
    policy = rare_end(tmp_path / "model", **habits)
    made = assert_greedy(policy)
    for prompt, tokens in zip(PROMPTS, made, strict=True):
        assert len(tokens) <= min(40, policy.n_positions - len(prompt))


def test_a_model_whose_state_is_no_keys_and_values_is_sampled_too(tmp_path: Path) -> None:
    policy = rare_end(tmp_path / "model")
    policy.model._is_stateful = True  # as Mamba's: a batch of it is computed again and again from the first tokens
    assert_greedy(policy)


def test_a_prompt_that_fills_the_positions_gets_an_empty_completion(tmp_path: Path) -> None:
    policy = rare_end(tmp_path / "model", max_position_embeddings=9)
    prompts = [[1, *range(10, 10 + n)] for n in (7, 8, 20, 2)]
    made = TransformersEngine(policy, 4).generate(prompts, 2, GREEDY, seed=0)
    assert [[one.n_tokens for one in row] for row in made] == [[1, 1], [0, 0], [0, 0], [6, 6]]
    assert {one.finish_reason for row in made for one in row} == {"length"}


@pytest.mark.parametrize("habits", [{}, {"generation_config": {"eos_token_id": 2}}], ids=["undeclared", "declared"])
def test_the_end_of_a_turn_ends_a_completion_though_no_file_declares_it(tmp_path: Path, habits: dict[str, Any]) -> None:
    policy = load_policy(make_variant(tmp_path / "model", **habits), "cpu", "float32")
    end = policy.tokenizer.convert_tokens_to_ids(END)
    assert policy.end_token_ids == {policy.tokenizer.eos_token_id, end}
    made = TransformersEngine(policy, 8).generate(PROMPTS, 4, SamplingConfig(max_new_tokens=60), seed=0)
    ended = [one for row in made for one in row if one.finish_reason == "stop"]
    assert ended and {one.token_ids[-1] for one in ended} <= policy.end_token_ids
    assert not [one for one in ended if policy.end_token_ids & set(one.token_ids[:-1])]


def test_an_architectures_default_end_token_is_not_taken_for_one_of_another_vocabulary(tmp_path: Path) -> None:
    policy = load_policy(make_variant(tmp_path / "model", eos_token_id=30), "cpu", "float32")
    assert 30 not in policy.end_token_ids  # an ordinary word: config.json alone says it ends anything


def test_a_padding_token_without_embedding_is_not_used(make_policy: Callable[..., Policy]) -> None:
    import copy

    made = make_policy()
    tokenizer = copy.deepcopy(made.tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert Policy(made.model, tokenizer).pad_token_id == made.end_token_id


def test_the_tokens_of_a_completion_cut_at_a_stop_string_say_its_text(tmp_path: Path) -> None:
    policy = rare_end(tmp_path / "model")
    ((whole,),) = TransformersEngine(policy, 1).generate(PROMPTS[:1], 1, GREEDY, seed=0)
    stop = whole.text[20:24]
    ((one,),) = TransformersEngine(policy, 1).generate(PROMPTS[:1], 1, GREEDY, seed=0, stop=[stop])
    assert one.token_ids == whole.token_ids[: one.n_tokens]
    assert one.text == whole.text[: whole.text.index(stop)]
    assert policy.tokenizer.decode(one.token_ids, skip_special_tokens=True).startswith(one.text)
    assert not policy.tokenizer.decode(one.token_ids[:-1], skip_special_tokens=True).startswith(one.text)
