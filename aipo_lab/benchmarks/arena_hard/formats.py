"""Arena-Hard's official files: questions, answers and judgments, read in the formats of v0.1 and v2, written in v0.1's.

Formats: the data of lmarena/arena-hard-auto until April 2025 (v0.1) and since (v2). Where a file has two rows for one
question of one model the last one counts, as in the official clean-up of answer files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.arena_hard.rows import read_rows
from aipo_lab.benchmarks.arena_hard.shapes import ANSWER_ROWS, JUDGMENT_ROWS, QUESTION_ROWS, Judgment
from aipo_lab.benchmarks.arena_hard.verdicts import V01, V2, Rules
from aipo_lab.benchmarks.official import Question
from aipo_lab.core.jsonl import write_jsonl

ModelAndCategory = tuple[str, str]


@dataclass(frozen=True)
class JudgmentFile:
    """A judgment file: the rules of its version, and by model and category the judgments and the rows replaced."""

    rules: Rules
    judgments: dict[ModelAndCategory, list[Judgment]]
    n_replaced: dict[ModelAndCategory, int]


@dataclass(frozen=True)
class ModelAnswers:
    """One model's answers by question; `tokens` holds those lengths that are known, in cl100k_base tokens."""

    texts: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


def read_judgments(path: Path) -> JudgmentFile:
    """Read a judgment file of one or several models. Raises `UserError` unless it is one."""
    version, rows = read_rows(path, "an Arena-Hard judgment file", JUDGMENT_ROWS)
    latest: dict[ModelAndCategory, dict[str, Judgment]] = {}
    n_rows: Counter[ModelAndCategory] = Counter()
    for judgment in (row.judgment() for row in rows):
        group = judgment.model, judgment.category
        latest.setdefault(group, {})[judgment.question_id] = judgment
        n_rows[group] += 1
    return JudgmentFile(
        V01 if version == V01.version else V2,
        {group: list(judgments.values()) for group, judgments in latest.items()},
        {group: n_rows[group] - len(judgments) for group, judgments in latest.items()},
    )


def read_answers(path: Path) -> dict[str, ModelAnswers]:
    """Read an answer file; the answers by model. Raises `UserError` unless it is one."""
    _, rows = read_rows(path, "an Arena-Hard answer file", ANSWER_ROWS)
    models: dict[str, ModelAnswers] = {}
    for answer in [row.answer() for row in rows]:
        answers = models.setdefault(answer.model, ModelAnswers())
        answers.texts[answer.question_id] = answer.text
        answers.tokens.pop(answer.question_id, None)
        if answer.tokens is not None:
            answers.tokens[answer.question_id] = answer.tokens
    return models


def read_questions(path: Path) -> list[Question]:
    """Read a question file, in its order. Raises `UserError` unless it is one."""
    _, rows = read_rows(path, "an Arena-Hard question file", QUESTION_ROWS)
    return list({question.id: question for question in (row.question() for row in rows)}.values())


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Write a v0.1 question file."""
    write_jsonl(
        path,
        [
            {"question_id": question.id, "category": question.category, "turns": [{"content": question.turns[0]}]}
            for question in questions
        ],
    )


def write_answers(path: Path, model: str, answers: ModelAnswers) -> None:
    """Write a v0.1 answer file, sorted by question; all lengths must be known. Equal answers give equal bytes."""
    write_jsonl(
        path,
        [
            {
                "question_id": question_id,
                "answer_id": hashlib.sha256(f"{model}\0{question_id}\0{text}".encode()).hexdigest()[:22],
                "model_id": model,
                "choices": [{"index": 0, "turns": [{"content": text, "token_len": answers.tokens[question_id]}]}],
                "tstamp": 0.0,
            }
            for question_id, text in sorted(answers.texts.items())
        ],
    )


def judgment_row(judgment: Judgment, user_prompts: Sequence[str]) -> dict[str, Any]:
    """A row of a v0.1 judgment file; `user_prompts`: the user's message that started each of its two games."""
    return {
        "question_id": judgment.question_id,
        "model": judgment.model,
        "judge": judgment.judge,
        "games": [
            {"user_prompt": prompt, "judgment": game.text, "score": game.label}
            for prompt, game in zip(user_prompts, judgment.games, strict=True)
        ],
    }


def write_judgments(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a v0.1 judgment file of one model from `judgment_row`s, sorted by question."""
    write_jsonl(path, sorted(rows, key=lambda row: str(row["question_id"])))
