"""Given pairs as token ids: conversations by the template, raw texts as they are, win rates from scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_variants import make_variant

RunStage = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]
ROW = {
    "id": "0",
    "prompt": [{"role": "user", "content": "Say rain"}],
    "chosen": [{"role": "assistant", "content": "rain"}],
    "rejected": [{"role": "assistant", "content": "rain rain"}],
    "chosen_score": 2.0,
    "rejected_score": 0.5,
}
CONFIG = {"slices": "all", "part": 0, "parts": 1}


@pytest.mark.parametrize("text", ["chat", "raw"])
def test_texts_become_tokens_once(text: str, run_stage_on: RunStage, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make_variant(tmp_path / "model")
    inputs = {"pairs": {"pairs.jsonl": [ROW]}, "policy": {"model": folder}}
    (row,), _ = run_stage_on("slice_pairs", CONFIG | {"text": text}, inputs, "pairs.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer.bos_token_id
    assert row["prompt_token_ids"].count(begin) == 1 and row["prompt_token_ids"][0] == begin
    shown = tokenizer.decode(row["prompt_token_ids"])
    assert ("<|user|>" in shown) == (text == "chat")
    end = tokenizer.convert_tokens_to_ids("<|end|>") if text == "chat" else tokenizer.eos_token_id
    assert row["chosen_token_ids"] == [*tokenizer("rain", add_special_tokens=False)["input_ids"], end]
    assert row["chosen_tokens"] == len(row["chosen_token_ids"])
    assert row["chosen_win_rate"] > 0.5 > row["rejected_win_rate"]
