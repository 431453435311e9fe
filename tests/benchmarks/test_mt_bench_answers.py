"""MT-Bench answer files: what is written is read back, and files of another kind are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.benchmarks.mt_bench.answers import answer_rows, read_answers
from aipo_lab.benchmarks.official import Answer
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_jsonl

two_turns = st.tuples(st.text(max_size=30), st.text(max_size=30))


@given(st.dictionaries(st.integers(81, 160), two_turns, min_size=1, max_size=6), st.text(min_size=1, max_size=8))
def test_answer_files_round_trip(
    tmp_path_factory: pytest.TempPathFactory, turns: dict[int, tuple[str, str]], model: str
) -> None:
    answers = [Answer(str(id_), turns[id_]) for id_ in sorted(turns)]
    path = tmp_path_factory.getbasetemp() / "answers.jsonl"
    write_jsonl(path, answer_rows(model, answers))
    assert read_answers(path) == (model, answers)


def test_written_answers_are_official_rows_and_equal_for_equal_answers() -> None:
    rows = answer_rows("m", [Answer("81", ("one", "two"))])
    assert list(rows[0]) == ["question_id", "answer_id", "model_id", "choices", "tstamp"]
    assert rows[0]["choices"] == [{"index": 0, "turns": ["one", "two"]}]
    assert rows == answer_rows("m", [Answer("81", ("one", "two"))])
    others = [answer_rows("n", [Answer("81", ("one", "two"))]), answer_rows("m", [Answer("81", ("one", "twp"))])]
    assert all(len(row["answer_id"]) == 22 and row["answer_id"] != rows[0]["answer_id"] for (row,) in others)


def test_answer_files_keep_the_last_row_and_refuse_other_files(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = answer_rows("m", [Answer("82", ("a", "b")), Answer("81", ("c", "d")), Answer("82", ("e", "f"))])
    write_jsonl(path, rows)
    assert read_answers(path)[1] == [Answer("81", ("c", "d")), Answer("82", ("e", "f"))]
    wrong: dict[str, list[dict[str, Any]]] = {
        "answers of several models: m, n": [*rows, *answer_rows("n", [Answer("83", ("a", "b"))])],
        "a judgment, not an answer": [{"question_id": 81, "judgment": "[[1]]", "score": 1}],
        "an Arena-Hard v2 answer": [{"uid": "x", "messages": []}],
        "question_id: Input should be a valid integer": [{**rows[0], "question_id": "0a1b"}],
        "choices.0.turns.0: Input should be a valid string": [
            {**rows[0], "choices": [{"index": 0, "turns": [{"content": "a", "token_len": 1}, {"content": "b"}]}]}
        ],
        "at least 2 items": [{**rows[0], "choices": [{"index": 0, "turns": ["a"]}]}],
    }
    for problem, content in wrong.items():
        write_jsonl(path, content)
        with pytest.raises(UserError) as caught:
            read_answers(path)
        assert problem in str(caught.value)
