"""Which prompts of a user's data are kept, and why the others are not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from aipo_lab.core.config import validate
from aipo_lab.core.errors import UserError
from aipo_lab.prompts.file import FilePromptSettings
from aipo_lab.prompts.own import OwnPrompts, PromptFilters, kept_prompts
from aipo_lab.prompts.same import PromptSet


def kept(prompts: list[str], forbidden: list[str] | None = None, **filters: object) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    chosen = kept_prompts(prompts, PromptFilters(source="x", **filters), PromptSet(forbidden or []), counts)
    return chosen, counts


def test_prompts_are_stripped_and_repetitions_dropped_whatever_their_spaces_and_capitals() -> None:
    chosen, counts = kept(["  What is rain?\n", "what is  RAIN?", "", "   ", "Ｗhat is rain?", "Other"])
    assert chosen == ["What is rain?", "Other"]
    assert counts == {"kept": 2, "duplicate": 2, "empty": 2}


def test_filters_and_limit() -> None:
    chosen, counts = kept(["abc", "ab", "abcdef", "xbc", "aXc", "abd", "abe"], min_chars=3, max_chars=5)
    assert (chosen, counts["too_short"], counts["too_long"]) == (["abc", "xbc", "aXc", "abd", "abe"], 1, 1)
    chosen, counts = kept(["abc", "xbc", "aXc", "abd", "abe"], matching="^a", not_matching="X", limit=2)
    assert (chosen, counts) == (["abc", "abd"], {"kept": 2, "not_matching": 1, "excluded_by_pattern": 1})


def test_what_benchmarks_ask_is_left_out_and_counted() -> None:
    chosen, counts = kept(["Who  was first?", "Mine"], ["who was first?"])
    assert (chosen, counts) == (["Mine"], {"kept": 1, "benchmark_prompt": 1})


def test_cells_that_are_no_prompts_are_counted(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "From a conversation"}
    cells = ["Text", None, [turn], [turn, {"role": "assistant", "content": "x"}], 5, "\ud83d cut"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": cell} for cell in cells]))
    source = OwnPrompts(FilePromptSettings(path=str(path)))
    assert list(source.pool()) == ["Text", "From a conversation", "\ufffd cut"]
    assert source.counts == {"empty": 1, "not_one_user_turn": 1, "not_text": 1}


def test_a_broken_expression_is_an_error_of_the_recipe() -> None:
    with pytest.raises(UserError, match="matching: is no regular expression"):
        validate(FilePromptSettings, {"path": "x", "matching": "("}, "prompts")
