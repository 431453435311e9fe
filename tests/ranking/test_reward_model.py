"""The reward model ranker: what it scores is what the model says of one conversation alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reward_models import write_reward_model
from tiny_model_folder import change_json

from aipo_lab.core.errors import UserError
from aipo_lab.ranking.ranker import RankerContext
from aipo_lab.ranking.reward_model import RewardModelRanker, RewardModelSettings, resources

TEXTS = ["red sun", "blue", "one two the sun red blue", "the sun", "red red red red"]


def row(texts: list[str] = TEXTS) -> dict[str, Any]:
    return {"id": "000000", "prompt": "the sun ", "responses": [{"text": text, "tokens": 2} for text in texts]}


def open_ranker(folder: Path, **settings: Any) -> RewardModelRanker:
    chosen = RewardModelSettings(model=str(folder), **settings)
    return RewardModelRanker(chosen, RankerContext(None, 0, "cpu", resources(chosen).folders))


def scores(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> list[list[float]]:
    return list(open_ranker(folder, **settings).scores(rows, lambda *_: None))


def alone(folder: Path, text: str) -> float:
    """By transformers itself, one conversation without padding."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    messages = [{"role": "user", "content": "the sun "}, {"role": "assistant", "content": text}]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    tokens = tokenizer(whole, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return float(model(input_ids=tokens).logits[0, 0])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("llama", {}), ("llama", {"pad_token_id": None}), ("bert", {"type_vocab_size": 2})],
    ids=["causal", "causal without padding token", "encoder"],
)
def test_a_score_is_the_models_at_batch_size_1(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    folder = write_reward_model(tmp_path / "model", kind, **settings)
    expected = [alone(folder, text) for text in TEXTS]
    assert len(set(expected)) == len(TEXTS)
    for batch_tokens in (1, 24, 4096):
        assert scores(folder, [row()], batch_tokens=batch_tokens)[0] == pytest.approx(expected, abs=1e-5)


def test_what_is_too_long_loses_its_end_and_is_counted(tmp_path: Path) -> None:
    folder = write_reward_model(tmp_path / "model")
    rows = [row(["red " * 50, "red " * 50 + "blue", "blue"])]
    one = open_ranker(folder, max_tokens=20)
    made = next(one.scores(rows, lambda *_: None))
    assert made[0] == made[1] != made[2]
    assert one.summary(rows, lambda *_: None) == {"cut_off": 2}


def test_no_text_is_longer_than_the_models_positions(tmp_path: Path) -> None:
    folder = write_reward_model(tmp_path / "model", "bert", max_position_embeddings=32, type_vocab_size=2)
    one = open_ranker(folder)
    rows = [row(["red " * 500, "blue"])]
    assert len(next(one.scores(rows, lambda *_: None))) == 2
    assert one.summary(rows, lambda *_: None) == {"cut_off": 1}


def test_another_template_is_another_score(tmp_path: Path) -> None:
    folder = write_reward_model(tmp_path / "model")
    assert scores(folder, [row()], chat_template="{{ messages[1]['content'] }}") != scores(folder, [row()])


def test_what_is_no_reward_model_is_an_error_with_its_reasons(tmp_path: Path) -> None:
    folder = write_reward_model(tmp_path / "model")
    with pytest.raises(UserError, match=r"has 1 output\(s\).*lower rank\.output 1"):
        resources(RewardModelSettings(model=str(folder), output=1))
    change_json(folder / "config.json", architectures=["LlamaForCausalLM"])
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError) as error:
        resources(RewardModelSettings(model=str(folder)))
    assert "for sequence classification" in str(error.value)
    assert "rank.chat_template" in str(error.value)


def test_its_key_is_the_content_of_the_model(tmp_path: Path) -> None:
    folders = [write_reward_model(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    a, b, c = (resources(RewardModelSettings(model=str(folder))).identity for folder in folders)
    assert a == b != c
