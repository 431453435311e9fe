"""TRL's preference formats: implicit and explicit prompts, texts and conversations, become one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.config import validate
from aipo_lab.core.errors import UserError
from aipo_lab.prompts.conversations import NoPair, read_pair
from aipo_lab.prompts.pairs import PairColumns, PairsSettings, usable_pairs
from aipo_lab.prompts.reading import DataPlace, read_rows
from aipo_lab.prompts.same import PromptSet

SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "What is rain?"}
MORE = [{"role": "assistant", "content": "Water."}, {"role": "user", "content": "And snow?"}]


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


FORMATS: dict[str, tuple[Any, Any, Any, list[dict[str, str]]]] = {
    "text, explicit": ("What is rain?", " Good.", " Bad.", [ASK]),
    "text, implicit": (None, "What is rain? Good.", "What is rain? Bad.", [ASK]),
    "conversation, explicit": ([ASK], [said("Good.")], [said("Bad.")], [ASK]),
    "conversation, implicit": (None, [ASK, said("Good.")], [ASK, said("Bad.")], [ASK]),
    "both, as UltraFeedback": ("What is rain?", [ASK, said("Good.")], [ASK, said("Bad.")], [ASK]),
    "prompt of turns, responses of text": ([SYSTEM, ASK], "Good.", "Bad.", [SYSTEM, ASK]),
    "system turn, implicit": (None, [SYSTEM, ASK, said("Good.")], [SYSTEM, ASK, said("Bad.")], [SYSTEM, ASK]),
    "system turn beside a prompt": (
        "What is rain?",
        [SYSTEM, ASK, said("Good.")],
        [SYSTEM, ASK, said("Bad.")],
        [SYSTEM, ASK],
    ),
    "several turns": (None, [ASK, *MORE, said("Good.")], [ASK, *MORE, said("Bad.")], [ASK, *MORE]),
    "system prompt, then the rest": ([SYSTEM], [ASK, said("Good.")], [ASK, said("Bad.")], [SYSTEM, ASK]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_pair(name: str) -> None:
    prompt, chosen, rejected, expected = FORMATS[name]
    pair = read_pair(prompt, chosen, rejected)
    assert (pair.prompt, pair.chosen, pair.rejected) == (expected, "Good.", "Bad.")


def test_a_common_beginning_of_the_responses_is_not_cut_inside_a_word() -> None:
    pair = read_pair(None, "Say one thing", "Say only that")
    assert (pair.prompt[0]["content"], pair.chosen, pair.rejected) == ("Say", "one thing", "only that")
    pair = read_pair(None, "Say one thing", "Say one")
    assert (pair.prompt[0]["content"], pair.chosen, pair.rejected) == ("Say", "one thing", "one")


def test_raw_texts_are_kept_to_the_last_space() -> None:
    pair = read_pair("Human: rain?\n\nAssistant:", " Good. ", " Bad.", raw=True)
    assert (pair.prompt[0]["content"], pair.chosen, pair.rejected) == ("Human: rain?\n\nAssistant:", " Good. ", " Bad.")


NO_PAIRS: dict[str, tuple[Any, Any, Any]] = {
    "same_text": ("q", "a", " a "),
    "empty_response": ("q", "a", "  "),
    "empty_prompt": (None, "Good.", "Bad."),
    "response_of_several_turns": (None, [ASK, said("a"), *MORE[1:], said("b")], [ASK, said("c")]),
    "response_not_by_assistant": ([ASK], [ASK], [said("b")]),
    "prompt_does_not_end_with_user": ([ASK, said("a")], [said("b")], [said("c")]),
    "not_a_conversation": (None, [{"from": "human", "value": "q"}], [{"from": "human", "value": "r"}]),
    "not_text": ([ASK], [{"role": "assistant", "content": 5}], [said("b")]),
}


@pytest.mark.parametrize("reason", NO_PAIRS)
def test_rows_that_are_no_pairs_have_a_reason(reason: str) -> None:
    with pytest.raises(NoPair, match=f"^{reason}$"):
        read_pair(*NO_PAIRS[reason])


def _usable(place: DataPlace, columns: PairColumns, counts: Counter[str]) -> list[dict[str, Any]]:
    rows = read_rows(place, columns.columns(), "pairs")
    return list(usable_pairs(rows, columns, PromptSet(["asked by all"]), counts))


def usable(tmp_path: Path, rows: list[dict[str, Any]], **columns: Any) -> tuple[list[dict[str, Any]], Counter[str]]:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts: Counter[str] = Counter()
    place = DataPlace(path=str(tmp_path / "p.jsonl"))
    return _usable(place, PairColumns(**columns), counts), counts


def test_rows_become_pairs_in_the_house_format_and_the_others_are_counted(tmp_path: Path) -> None:
    good = {"q": "Q", "w": "a", "l": "b", "sw": 2, "sl": 1.5}
    rows = [good, good, {**good, "q": "Asked by  ALL"}, {**good, "q": None}, {**good, "w": "c", "sl": 2}]
    rows += [{**good, "w": "c", "sl": None}, {**good, "w": "d"}, {**good, "w": "e"}]
    names = {"prompt_column": "q", "chosen_column": "w", "rejected_column": "l"}
    scores = {"chosen_score_column": "sw", "rejected_score_column": "sl"}
    pairs, counts = usable(tmp_path, rows, **names, **scores, limit=2)
    assert pairs[0] == {
        "id": "000000",
        "prompt": [{"role": "user", "content": "Q"}],
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
        "chosen_score": 2.0,
        "rejected_score": 1.5,
    }
    assert [pair["id"] for pair in pairs] == ["000000", "000006"]
    dropped = {"duplicate": 1, "benchmark_prompt": 1, "empty_prompt": 1, "score_not_higher": 1, "no_score": 1}
    assert counts == {"kept": 2, **dropped}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "file"}, "source file needs path"),
        ({"source": "dataset"}, "source dataset needs dataset"),
        ({"source": "file", "path": "x", "chosen_score_column": "s"}, "go together"),
    ],
)
def test_an_incomplete_section_is_an_error(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(PairsSettings, section, "pairs")
