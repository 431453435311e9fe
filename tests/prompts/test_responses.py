"""Existing responses as candidates: from pairs or from lists of responses, and a world's own dataset."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.config import validate
from aipo_lab.core.errors import UserError
from aipo_lab.prompts.pairs import PairColumns, PairsSettings, usable_pairs
from aipo_lab.prompts.responses import usable_responses
from aipo_lab.prompts.same import PromptSet
from aipo_lab.prompts.world_pairs import world_columns, world_rows
from aipo_lab.worlds.world import get_world


def usable(rows: list[dict[str, Any]], **columns: Any) -> tuple[list[dict[str, Any]], Counter[str]]:
    counts: Counter[str] = Counter()
    settings = PairColumns(ranked_by="ranker", **columns)
    return list(usable_responses(rows, settings, PromptSet(["asked by all"]), counts)), counts


def test_both_responses_of_a_pair_are_candidates() -> None:
    ask = {"role": "user", "content": "Q"}
    said = [[ask, {"role": "assistant", "content": text}] for text in ("good", "bad")]
    rows = [{"prompt": "Q", "chosen": said[0], "rejected": said[1]}]
    made, counts = usable(rows)
    assert made == [{"id": "000000", "prompt": "Q", "responses": ["good", "bad"]}]
    assert counts == {"kept": 1}


@pytest.mark.parametrize(
    "cell",
    [
        ["a", "b ", "c"],
        [{"model": "x", "response": "a"}, {"model": "y", "response": "b"}, {"response": "c"}],  # as in UltraFeedback
        [[{"role": "user", "content": "Q"}, {"role": "assistant", "content": text}] for text in "abc"],
    ],
    ids=["texts", "objects", "conversations"],
)
def test_a_list_of_responses_may_be_texts_objects_or_conversations(cell: Any) -> None:
    made, _ = usable([{"instruction": " Q ", "completions": cell}], prompt_column="instruction",
                     responses_column="completions")  # fmt: skip
    assert made == [{"id": "000000", "prompt": "Q", "responses": ["a", "b", "c"]}]


def test_rows_that_give_no_candidates_are_counted_by_reason() -> None:
    good = {"prompt": "Q", "many": ["a", "b"]}
    rows = [
        good,
        good | {"prompt": "q "},
        good | {"prompt": "Asked by  ALL"},
        good | {"prompt": "1", "many": ["a", "a"]},
        good | {"prompt": "2", "many": ["a", ""]},
        good | {"prompt": "3", "many": "a"},
        good | {"prompt": "4", "many": ["a", 5]},
        good | {"prompt": None},
        good | {"prompt": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]},
    ]
    made, counts = usable(rows, responses_column="many")
    assert [row["prompt"] for row in made] == ["Q"]
    assert counts == {
        **{"kept": 1, "duplicate": 1, "benchmark_prompt": 1, "same_text": 1, "too_few_responses": 1},
        **{"no_list_of_responses": 1, "not_text": 1, "empty_prompt": 1, "several_turns": 1},
    }
    assert usable([good, good | {"prompt": "other"}], responses_column="many", limit=1)[1] == {"kept": 1}


def test_a_conversation_of_several_turns_cannot_be_ranked() -> None:
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    said = [[*turns, {"role": "assistant", "content": text}] for text in "ab"]
    made, counts = usable([{"chosen": said[0], "rejected": said[1]}], prompt_column=None)
    assert (made, counts) == ([], {"several_turns": 1})


@pytest.mark.parametrize("name", ["micro", "constraints"])
def test_a_world_has_a_dataset_whose_annotator_knows_better_responses(name: str) -> None:
    world = get_world(name, 0)
    rows = [row for row, _ in zip(world_rows(world), range(60), strict=False)]
    assert not {row["prompt"] for row in rows} & set(world.benchmark_prompts())
    assert rows == [row for row, _ in zip(world_rows(world), range(60), strict=False)]
    for row in rows:
        assert len(row["responses"]) == 4
        assert {row["chosen"], row["rejected"]} <= set(row["responses"])
        assert row["chosen_score"] > row["rejected_score"]
    gap = sum(
        world.quality(row["prompt"], row["chosen"]) - world.quality(row["prompt"], row["rejected"]) for row in rows
    )
    assert gap / len(rows) > 0.15
    by_writer = [
        sum(world.quality(row["prompt"], row["responses"][writer]) for row in rows) / len(rows) for writer in range(4)
    ]
    assert by_writer == sorted(by_writer) and by_writer[3] - by_writer[0] > 0.3
    columns = world_columns(PairColumns(limit=20))
    assert len(list(usable_pairs(rows, columns, PromptSet([]), Counter()))) == 20


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "world", "path": "x"}, "source world has columns and texts of its own; drop path"),
        ({"source": "world", "chosen_column": "x", "text": "raw"}, "drop chosen_column, text"),
        ({"source": "file", "path": "x", "responses_column": "r"}, "a list of responses says not which is better"),
        (
            {"source": "file", "path": "x", "responses_column": "r", "ranked_by": "ranker", "prompt_column": None},
            "responses_column needs prompt_column",
        ),
        ({"source": "file", "path": "x", "ranked_by": "me"}, "ranked_by"),
    ],
)
def test_a_section_that_contradicts_itself_is_an_error(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(PairsSettings, section, "pairs")


def test_a_resolved_section_reads_back(tmp_path: Path) -> None:
    given = validate(PairsSettings, {"source": "world", "limit": 3, "ranked_by": "ranker"}, "pairs")
    assert validate(PairsSettings, json.loads(given.model_dump_json(exclude_none=True)), "pairs") == given
