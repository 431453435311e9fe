"""Rankers by correctness: right answers score 1, by the world's truth or by the answers that data know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.config import validate
from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.ranking.correct import CorrectRanker, CorrectRankerSettings
from aipo_lab.ranking.known_answer import KnownAnswerRanker, KnownAnswerSettings, find_answers, last_match, same_answer
from aipo_lab.ranking.ranker import RankerContext
from aipo_lab.worlds.world import get_world


def row(prompt: str, *texts: str) -> dict[str, Any]:
    return {"id": "000000", "prompt": prompt, "responses": [{"text": text, "tokens": 1} for text in texts]}


def test_an_answer_of_the_micro_world_is_correct_when_nothing_is_missing_or_wrong() -> None:
    world = get_world("micro", 0)
    fox = world.knowledge.facts["fox"]  # type: ignore[attr-defined]
    colour = f"The color of the fox is {fox['color']}."
    both = f"{colour} The food of the fox is {fox['food']}."
    asked = row("Tell me the color and food of the fox.", both, colour, f"{both} That is worth knowing.", "")
    context = RankerContext(world, 0, "cpu")
    strict = CorrectRanker(CorrectRankerSettings(), context)
    assert list(strict.scores([asked], lambda *_: None)) == [[1.0, 0.0, 1.0, 0.0]]
    lenient = CorrectRanker(CorrectRankerSettings(least_quality=0.5), context)
    assert list(lenient.scores([asked], lambda *_: None)) == [[1.0, 1.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("given_text", "right", "same"),
    [
        ("72", "72", True),
        ("1,200", "1200.0", True),
        ("$5.", "5", True),
        ("-3", "3", False),
        ("Blue.", "blue", True),
        ("dark  blue", "Dark blue", True),
        ("72", "seventy-two", False),
        (None, "72", False),
    ],
)
def test_numbers_are_compared_as_numbers_and_words_as_words(given_text: str | None, right: str, same: bool) -> None:
    assert same_answer(given_text, right) is same


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_itself_however_it_is_written(number: int) -> None:
    assert same_answer(f"{number:,}", str(number)) and same_answer(f" {number}. ", f"{number}.0")
    assert not same_answer(str(number + 1), str(number))


def test_the_last_match_is_the_answer() -> None:
    number = re.compile(KnownAnswerSettings(answers="x").response_pattern)
    assert last_match(number, "2 and 3 make 5.") == "5."
    assert last_match(number, "none") is None
    assert last_match(re.compile("a."), "ab ac") == "ac"


def opened(folder: Path, rows: list[dict[str, Any]], **more: Any) -> KnownAnswerRanker:
    write_jsonl(folder / "gold.jsonl", rows)
    settings = KnownAnswerSettings(answers=str(folder / "gold.jsonl"), prompt_column="question", **more)
    found = find_answers(settings)
    keyed = settings.model_copy(update=dict(found.identity))
    return KnownAnswerRanker(keyed, RankerContext(None, 0, "cpu", found.folders))


GOLD = [{"question": "How many?", "answer": "First 1 + 2.\n#### 3"}, {"question": "Nothing?", "answer": "no mark"}]


def test_answers_come_from_the_data_as_gsm8k_has_them(tmp_path: Path) -> None:
    ranker = opened(tmp_path, GOLD, answer_pattern="#### (.+)")
    asked = row("how  many?", "It is 3.", "3, or rather 4", "no idea")
    assert list(ranker.scores([asked], lambda *_: None)) == [[1.0, 0.0, 0.0]]


def test_a_prompt_without_an_answer_is_an_error_that_names_it(tmp_path: Path) -> None:
    ranker = opened(tmp_path, GOLD, answer_pattern="#### (.+)")
    with pytest.raises(StageFailed, match=r"know no answer to prompt 000000, 'Nothing\?'.*instruct.source: pool"):
        list(ranker.scores([row("Nothing?", "a", "b")], lambda *_: None))


def test_data_without_answers_or_changed_data_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no answer in column 'answer' that rank.answer_pattern '@@' finds"):
        opened(tmp_path, GOLD, answer_pattern="@@")
    with pytest.raises(UserError, match="no column 'question'"):
        opened(tmp_path, [{"q": 1, "answer": "x"}])
    settings = KnownAnswerSettings(answers=str(tmp_path / "gold.jsonl"), prompt_column="q")
    found = find_answers(settings)
    (tmp_path / "gold.jsonl").write_text('{"q": "other", "answer": "y"}\n')
    with pytest.raises(StageFailed, match="has changed since this run began"):
        KnownAnswerRanker(
            settings.model_copy(update=dict(found.identity)), RankerContext(None, 0, "cpu", found.folders)
        )
    with pytest.raises(UserError, match="is no regular expression"):
        validate(KnownAnswerSettings, {"answers": "x", "response_pattern": "("}, "rank")
