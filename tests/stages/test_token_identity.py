"""What is trained and measured is what was generated: the same tokens, whatever a model's habits are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_variants import END, TEMPLATE, TURNS, make_variant

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import load_policy
from aipo_lab.training.pairs import encode_pairs
from aipo_lab.worlds.world import get_world

RunStage = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]

WORLD = {"name": "micro", "seed": 0}
ENGINE = {"batch_size": 8, "shard_prompts": 8}
RESPOND = {
    "n_candidates": 3,
    "max_prompt_tokens": 64,
    "sampling": {"temperature": 1.0, "max_new_tokens": 24},
    "seed": 4,
    "engine": ENGINE,
}
PROMPTS = [{"id": f"{i:06d}", "prompt": text, "source": "pool"} for i, text in enumerate(get_world("micro").pool(8))]

VARIANTS: dict[str, dict[str, Any]] = {
    "ends turns with another token than its tokenizer's": {},
    "declares several end tokens": {"generation_config": {"eos_token_id": [2, 5]}, "writes": ("</s>", "<|assistant|>")},
    "declares an end token that is an ordinary one": {"generation_config": {"eos_token_id": [2, 20]}},
    "its own eos": {"writes": ("</s>",), "template": TEMPLATE.replace(END, "</s>")},
    "no begin token in the template": {"template": TURNS},
    "a tokenizer that appends eos": {"add_eos": True},
    "few positions": {"max_position_embeddings": 32},
    "learned positions": {"architecture": "gpt2", "n_positions": 40},
    "a cache switched off": {"use_cache": False, "generation_config": {"use_cache": False, "eos_token_id": 2}},
    "a repetition penalty": {"generation_config": {"repetition_penalty": 10.0, "min_p": 0.3, "eos_token_id": 2}},
}


def logps_of(policy: Any, prompt: Sequence[int], response: Sequence[int]) -> float:
    """Sum of the log-probabilities of the response's tokens, by one plain forward pass."""
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1)[range(len(response)), list(response)].sum())


@pytest.mark.parametrize("habit", VARIANTS)
def test_what_is_measured_is_what_was_generated(run_stage_on: RunStage, tmp_path: Path, habit: str) -> None:
    folder = make_variant(tmp_path / "model", **VARIANTS[habit])
    policy, model = load_policy(folder, "cpu", "float32"), {"model": folder}
    responses, _ = run_stage_on(
        "respond", RESPOND, {"policy": model, "prompts": {"prompts.jsonl": PROMPTS}}, "responses.jsonl"
    )
    made = {
        (row["id"], one["text"]): (row["prompt_token_ids"], one["token_ids"])
        for row in responses
        for one in row["responses"]
    }
    for row in responses:
        for one in row["responses"]:
            check_response(policy, row["prompt_token_ids"], one)
    assert any(one["finish_reason"] == "stop" for row in responses for one in row["responses"])

    ranking = [row | {"scores": [0.0, 1.0, 2.0], "ranks": [3, 2, 1]} for row in responses]
    settings = {"drop_truncated": False}
    pairs, _ = run_stage_on("pair", settings, {"ranking": {"ranking.jsonl": ranking}}, "pairs.jsonl")
    reference, _ = run_stage_on("reference", {}, {"policy": model, "pairs": {"pairs.jsonl": pairs}}, "reference.jsonl")
    assert len(reference) == len(pairs) > 3
    for pair, measured in zip(pairs, reference, strict=True):
        for role in ("chosen", "rejected"):
            prompt, tokens = made[pair["id"], pair[role][0]["content"]]
            assert (pair["prompt_token_ids"], pair[f"{role}_token_ids"]) == (prompt, tokens)
            assert pair[f"{role}_tokens"] == len(tokens)
            assert measured[f"{role}_logps"] == pytest.approx(logps_of(policy, prompt, tokens), abs=1e-4)


def check_response(policy: Any, prompt: list[int], one: dict[str, Any]) -> None:
    tokens, ends = one["token_ids"], policy.end_token_ids
    assert one["tokens"] == len(tokens) <= min(24, policy.n_positions - len(prompt))
    assert not ends & set(tokens[:-1])
    assert (tokens[-1] in ends) == (one["finish_reason"] == "stop")
    assert policy.tokenizer.decode(tokens, skip_special_tokens=True).startswith(one["text"])
    assert prompt[0] == policy.tokenizer.bos_token_id not in prompt[1:]
    assert prompt[-1] == policy.tokenizer.convert_tokens_to_ids("<|assistant|>")


@given(st.lists(st.lists(st.integers(0, 50_000), min_size=1, max_size=9), min_size=3, max_size=3), st.text())
def test_tokens_that_are_there_are_never_made_from_text_again(tokens: list[list[int]], text: str) -> None:
    prompt, chosen, rejected = tokens
    row = {
        "id": "a",
        "prompt": [{"role": "user", "content": text}],
        "chosen": [{"role": "assistant", "content": text}],
        "rejected": [{"role": "assistant", "content": text}],
        "prompt_token_ids": prompt,
        "chosen_token_ids": chosen,
        "rejected_token_ids": rejected,
    }
    no_tokenizer = None
    ((pair,), _) = encode_pairs([row], no_tokenizer, 99, 99)
    assert (pair.prompt, pair.chosen, pair.rejected) == (prompt, chosen, rejected)


def test_pairs_of_other_origin_end_as_the_template_ends_a_turn(tmp_path: Path) -> None:
    tokenizer = load_policy(make_variant(tmp_path / "model"), "cpu", "float32").tokenizer
    row = {
        "id": "a",
        "prompt": [{"role": "user", "content": PROMPTS[0]["prompt"]}],
        "chosen": [{"role": "assistant", "content": "That is worth knowing."}],
        "rejected": [{"role": "assistant", "content": "That"}],
        "rejected_finish_reason": "length",
    }
    ((pair,), _) = encode_pairs([row], tokenizer, 99, 99)
    conversation = tokenizer.apply_chat_template([*row["prompt"], *row["chosen"]], tokenize=False)
    assert pair.prompt + pair.chosen == tokenizer(conversation, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(pair.chosen[-1:]) == END
    assert tokenizer.decode(pair.rejected) == "That"


def test_what_the_folders_generation_config_asks_for_is_listed(run_stage_on: RunStage, tmp_path: Path) -> None:
    folder = make_variant(
        tmp_path / "model", generation_config={"repetition_penalty": 10.0, "temperature": 0.6, "use_cache": False}
    )
    inputs = {"policy": {"model": folder}, "prompts": {"prompts.jsonl": PROMPTS}}
    _, summary = run_stage_on("respond", RESPOND, inputs, "responses.jsonl")
    ignored = {"repetition_penalty": 10.0, "temperature": 0.6, "use_cache": False}
    assert summary["ignored_generation_settings"] == ignored


def test_prompts_that_fill_the_positions_are_left_out_and_counted(run_stage_on: RunStage, tmp_path: Path) -> None:
    prompts = [row | {"prompt": f"{row['prompt']}" * n} for n, row in enumerate(PROMPTS, start=1)]
    folder = make_variant(tmp_path / "model", max_position_embeddings=48)
    tokenizer = load_policy(folder, "cpu", "float32").tokenizer
    lengths = [len(tokenizer(row["prompt"])["input_ids"]) + 2 for row in prompts]
    inputs = {"policy": {"model": folder}, "prompts": {"prompts.jsonl": prompts}}
    settings = RESPOND | {"max_prompt_tokens": 512}
    rows, summary = run_stage_on("respond", settings, inputs, "responses.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row, n in zip(prompts, lengths, strict=True) if n < 48]
    assert summary["prompts_without_room"] == sum(n >= 48 for n in lengths) > 0
    assert summary["caps_lowered"] == sum(48 - 24 < n < 48 for n in lengths) > 0
    inputs["prompts"] = {"prompts.jsonl": [row for row, n in zip(prompts, lengths, strict=True) if n >= 48]}
    with pytest.raises(StageFailed, match="prompts fill the model's 48 positions"):
        run_stage_on("respond", settings, inputs, "responses.jsonl")


def test_few_shot_prompts_that_fill_the_positions_say_what_to_lower(run_stage_on: RunStage, tmp_path: Path) -> None:
    folder = make_variant(tmp_path / "model", max_position_embeddings=32)
    config = {"n_prompts": 4, "seed": 0, "world": WORLD, "engine": ENGINE}
    with pytest.raises(StageFailed, match=r"few-shot prompt of 8 examples .* 32 positions; lower instruct.n_examples"):
        run_stage_on("instruct", config, {"policy": {"model": folder}}, "prompts.jsonl")


def test_answers_carry_their_tokens(run_stage_on: RunStage, tmp_path: Path) -> None:
    folder = make_variant(tmp_path / "model", max_position_embeddings=40)
    policy = load_policy(folder, "cpu", "float32")
    config = {"benchmark": "micro", "world": WORLD, "n_prompts": 9, "seed": 1, "engine": ENGINE}
    config["sampling"] = RESPOND["sampling"]
    rows, _ = run_stage_on("answer", config, {"policy": {"model": folder}}, "answers.jsonl")
    assert len(rows) == 9
    for row in rows:
        check_response(policy, row["prompt_token_ids"], row)
