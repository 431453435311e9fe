"""Reading answers: every benchmark's rows in one shape, and files that are damaged or gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.browsing.answers import count_answers, read_questions
from aipo_lab.core.errors import UserError

from .entry_files import compared_entries, micro_entries, rated_entries


def test_embedded_rows_have_one_turn_and_both_preferences(tmp_path: Path) -> None:
    question = read_questions(micro_entries(tmp_path)[1])[2]
    assert question["id"] == "000002" and question["category"] == ""
    assert question["turns"] == (
        {"prompt": "name a tool", "text": "a hammer and a nail", "tokens": 6, "characters": 19, "truncated": True},
    )
    judgment = question["judgment"]
    assert (judgment["preference"], judgment["true_preference"]) == (1.0, 0.0)
    assert (judgment["quality"], judgment["baseline_quality"], judgment["score"]) == (0.25, 0.5, None)


def test_official_rows_keep_turns_ratings_and_the_judges_words(tmp_path: Path) -> None:
    question = read_questions(rated_entries(tmp_path)[1])[0]
    assert [turn["text"] for turn in question["turns"]] == ["one by aipo, iteration 2", "two by aipo, iteration 2"]
    assert question["category"] == "writing" and question["judgment"]["score"] == 8.0
    assert question["judgment"]["verdicts"][1] == {"name": "turn 2", "verdict": "8", "text": "words on turn 2"}


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    judged, unjudged = compared_entries(tmp_path)
    (turn,) = read_questions(judged)[0]["turns"]
    assert turn["tokens"] is None and turn["truncated"] is None
    assert read_questions(judged)[1]["judgment"]["preference"] is None
    assert [row["judgment"] for row in read_questions(unjudged)] == [None]


def test_length_is_counted_in_characters_not_bytes(tmp_path: Path) -> None:
    entry = micro_entries(tmp_path)[0]
    entry.answers.write_text('{"id": "0", "prompt": "p", "text": "🦜é", "tokens": 1, "finish_reason": "stop"}\n\n')
    assert read_questions(entry)[0]["turns"][0]["characters"] == 2
    assert count_answers(entry) == 1


GOOD = '{"id": "0", "prompt": "p", "text": "t"}'


@pytest.mark.parametrize(
    ("second_line", "problem"),
    [
        ('{"id": "1", "prompt": "p", "te', "line 2: not JSON"),
        ('{"id": "1", "prompt": "p"}', "line 2: turns.0.text: Field required"),
        ('{"id": "1", "turns": []}', "line 2: turns: "),
        ('{"id": "1", "prompt": "p", "text": 3}', "line 2: turns.0.text: "),
        ("[1]", "line 2: "),
        ("[" * 100_000, "line 2: not JSON"),
        (GOOD, "line 2: a second line with the id 0"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, second_line: str, problem: str) -> None:
    entry = micro_entries(tmp_path)[0]
    entry.answers.write_text(f"{GOOD}\n{second_line}\n")
    with pytest.raises(UserError) as raised:
        read_questions(entry)
    assert f"{entry.answers}, {problem}" in str(raised.value) and "delete the folder" in str(raised.value)


def test_bytes_that_are_no_text_and_numbers_that_are_not_finite_are_damage(tmp_path: Path) -> None:
    entry = micro_entries(tmp_path)[0]
    assert entry.judgments is not None
    entry.judgments.write_text('{"id": "0", "preference": NaN}\n')
    with pytest.raises(UserError, match=r"line 1: preference: .* finite"):
        read_questions(entry)
    entry.judgments.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(UserError, match="line 1: not JSON"):
        read_questions(entry)


def test_a_deleted_file_is_named(tmp_path: Path) -> None:
    entry = micro_entries(tmp_path)[0]
    entry.answers.unlink()
    assert count_answers(entry) is None
    with pytest.raises(UserError, match=r"cannot read .*answers.jsonl: No such file .* run the command that made it"):
        read_questions(entry)
