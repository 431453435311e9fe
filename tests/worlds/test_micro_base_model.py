"""The micro tokenizer and base model: exact text, the chat template's prefix property, and reproducible training."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aipo_lab.generation.self_instruct import HEADER, few_shot_prompt
from aipo_lab.worlds.micro.base_model import MicroBaseConfig, build_base_model
from aipo_lab.worlds.micro.demonstrations import DemonstrationConfig, draw_demonstration
from aipo_lab.worlds.micro.instructions import parse_instruction
from aipo_lab.worlds.micro.supervised import SupervisedMix, micro_batches
from aipo_lab.worlds.micro.tokenizer import build_tokenizer, chat_prompt, vocabulary
from aipo_lab.worlds.world import get_world

WORLD = get_world("micro", 0)
TINY = MicroBaseConfig(
    hidden_size=32, layers=1, heads=2, kv_heads=1, mlp_size=48, steps=6, batch_size=8, documents_per_step=2
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("micro") / "base"
    build_base_model(TINY, out, lambda step, total, unit: None)
    return out


def demonstrations(count: int) -> list[str]:
    config = DemonstrationConfig(filler_probability=0.6, unrequested_probability=0.5)
    texts = []
    for prompt in WORLD.pool(count):
        request = parse_instruction(prompt)
        assert request is not None
        texts.append(draw_demonstration(random.Random(prompt), WORLD.knowledge, request, config))
    return texts


# ---- tokenizer


def test_every_text_of_the_world_round_trips(tokenizer: Any) -> None:
    pool = WORLD.pool()
    texts = [*pool, *WORLD.benchmark_prompts(), *demonstrations(500), few_shot_prompt(pool[:11])]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


spaced_pieces = st.sampled_from([token for token in vocabulary()[6:] if not token[0].isalpha()])


@given(st.lists(spaced_pieces, max_size=30).map("".join))
def test_known_words_in_any_order_round_trip(text: str) -> None:
    tokenizer = _cached_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


@lru_cache(maxsize=1)
def _cached_tokenizer() -> Any:
    return build_tokenizer()


def test_plain_text_gets_the_begin_token_and_chat_text_is_one_token_per_word(tokenizer: Any) -> None:
    ids = tokenizer("The color of the fox is red.")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "<s>", "The", " color", " of", " the", " fox", " is", " red", ".",
    ]  # fmt: skip
    assert tokenizer.tokenize("\n12.") == ["\n", "1", "2", "."]


def test_unknown_words_are_one_unknown_token_each(tokenizer: Any) -> None:
    assert tokenizer.tokenize("The old dragon.") == ["The", "<unk>", "<unk>", "."]


def test_answered_chat_is_the_generation_prompt_with_response_and_end_token(tokenizer: Any) -> None:
    for prompt, response in zip(WORLD.pool(100), demonstrations(100), strict=True):
        user, assistant = {"role": "user", "content": prompt}, {"role": "assistant", "content": response}
        asked = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        answered = tokenizer.apply_chat_template([user, assistant], tokenize=False)
        assert asked == chat_prompt(prompt)
        assert answered == asked + response + tokenizer.eos_token
        asked_ids = tokenizer.apply_chat_template([user], add_generation_prompt=True)["input_ids"]
        answered_ids = tokenizer.apply_chat_template([user, assistant])["input_ids"]
        response_ids = tokenizer(response, add_special_tokens=False)["input_ids"]
        assert answered_ids == asked_ids + response_ids + [tokenizer.eos_token_id]


def test_other_roles_are_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="roles user and assistant"):
        tokenizer.apply_chat_template([{"role": "system", "content": "The fox."}], tokenize=False)


# ---- supervised mix


def test_rows_have_their_loss_on_responses_and_on_documents_after_the_header(tokenizer: Any) -> None:
    mix = SupervisedMix(WORLD, DemonstrationConfig(), tokenizer, seed=0)
    for row in mix.chat_rows(50):
        context, target = tokenizer.decode(row.ids[: row.start]), tokenizer.decode(row.ids[row.start :])
        prompt = context.removeprefix("<s><|user|>").removesuffix("<|assistant|>")
        assert WORLD.is_instruction(prompt)
        assert target.endswith(".</s>")
    for row in mix.documents(5):
        context, target = tokenizer.decode(row.ids[: row.start]), tokenizer.decode(row.ids[row.start :])
        assert context == f"<s>{HEADER}\n\n"
        lines = target.removesuffix("\n11.</s>").split("\n")
        assert [line.split(". ")[0] for line in lines] == [str(number) for number in range(1, 11)]
        assert all(WORLD.is_instruction(line.split(". ", 1)[1]) for line in lines)


def test_no_held_out_combination_is_demonstrated(tokenizer: Any) -> None:
    mix = SupervisedMix(WORLD, DemonstrationConfig(), tokenizer, seed=0)
    held_out = {_combination(prompt) for prompt in WORLD.benchmark_prompts()}
    for row in mix.chat_rows(2000):
        context = tokenizer.decode(row.ids[: row.start])
        prompt = context.removeprefix("<s><|user|>").removesuffix("<|assistant|>")
        assert _combination(prompt) not in held_out


def _combination(prompt: str) -> tuple[str, frozenset[str]]:
    request = parse_instruction(prompt)
    assert request is not None
    return request.entity, frozenset(request.attributes)


def test_micro_batches_keep_every_row_within_the_limit(tokenizer: Any) -> None:
    mix = SupervisedMix(WORLD, DemonstrationConfig(), tokenizer, seed=0)
    rows = mix.chat_rows(100) + mix.documents(5)
    batches = list(micro_batches(rows, 512))
    assert sorted(id(row) for batch in batches for row in batch) == sorted(id(row) for row in rows)
    assert all(len(batch) * max(len(row.ids) for row in batch) <= 512 for batch in batches)


# ---- training


def test_the_folder_is_an_ordinary_model(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.max_position_embeddings >= 512
    generation = GenerationConfig.from_pretrained(folder)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    messages = [[{"role": "user", "content": prompt}] for prompt in WORLD.pool(3)]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    torch.manual_seed(0)
    output = model.generate(**inputs, do_sample=True, max_new_tokens=5)
    assert output.shape[0] == 3
    assert inputs["input_ids"].shape[1] < output.shape[1] <= inputs["input_ids"].shape[1] + 5
    for prompt in WORLD.pool(50):
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == prompt


def test_training_gives_the_same_bytes_twice_and_leaves_the_random_state(folder: Path, tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    build_base_model(TINY, tmp_path / "again", lambda step, total, unit: None)
    assert torch.equal(torch.random.get_rng_state(), before)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_another_seed_gives_another_model(folder: Path, tmp_path: Path) -> None:
    build_base_model(TINY.model_copy(update={"seed": 1}), tmp_path / "other", lambda step, total, unit: None)
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() != (tmp_path / "other" / weights).read_bytes()


def test_the_loss_falls_and_progress_is_told(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    longer = TINY.model_copy(update={"steps": 40, "learning_rate": 1e-2})
    summary = build_base_model(longer, tmp_path / "longer", lambda *call: calls.append(call))
    assert calls == [(step, 40, "steps") for step in range(1, 41)]
    assert 0 < summary["final_loss"] < 2.5  # a uniform guess costs log(143) = 4.96 nats
    assert summary["tokens_seen"] > summary["target_tokens"] > 0


# ---- configuration


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("hidden_size", 8), ("learning_rate", 0.0), ("seed", -1), ("heads", 3), ("kv_heads", 3)],
)
def test_out_of_range_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        MicroBaseConfig.model_validate({field: value})


def test_unknown_settings_are_refused_and_every_setting_is_described() -> None:
    with pytest.raises(ValidationError, match="hiden_size"):
        MicroBaseConfig.model_validate({"hiden_size": 64})
    for model in (MicroBaseConfig, DemonstrationConfig):
        assert all(field.description for field in model.model_fields.values())
