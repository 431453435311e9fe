"""MT-Bench answers: the official file format, and the check that a set of answers is complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from aipo_lab.benchmarks.mt_bench.files import OfficialRow, read_rows
from aipo_lab.benchmarks.mt_bench.questions import FIRST_ID, LAST_ID
from aipo_lab.benchmarks.official import Answer, Question
from aipo_lab.core.errors import UserError

SHOWN = 8
"""How many questions an error names."""

NO_TIME = 0.0
"""`tstamp` of the rows written here: nothing reads it, and without the clock equal answers give equal files."""


class Choice(OfficialRow):
    """One sampled conversation: the answers to both turns."""

    turns: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]


class AnswerRow(OfficialRow):
    """What is used of a row of `model_answer/<model>.jsonl`."""

    question_id: Annotated[int, Field(ge=FIRST_ID, le=LAST_ID)]
    model_id: str
    choices: Annotated[tuple[Choice, ...], Field(min_length=1)]


def read_answers(path: Path) -> tuple[str, list[Answer]]:
    """The model's name and its answers, by question number, from an official answer file.

    As officially, the first choice counts, and the last row of a question. Raises `UserError` for another kind
    of file and for answers of several models; whether all questions are there is `check_answers`' business.
    """
    rows = read_rows(path, AnswerRow, "a file of MT-Bench answers (questions 81-160, two turns)")
    models = sorted({row.model_id for row in rows})
    if len(models) > 1:
        raise UserError(f"{path} mixes answers of several models: {', '.join(models)}; give each a file of its own")
    latest = {row.question_id: row for row in rows}
    return models[0], [Answer(str(id_), row.choices[0].turns) for id_, row in sorted(latest.items())]


def answer_rows(model: str, answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """Rows of the official answer file. `answer_id` is derived from the content, so equal answers have equal ids."""
    return [
        {
            "question_id": int(answer.question_id),
            "answer_id": _answer_id(model, answer),
            "model_id": model,
            "choices": [{"index": 0, "turns": list(answer.turns)}],
            "tstamp": NO_TIME,
        }
        for answer in answers
    ]


def _answer_id(model: str, answer: Answer) -> str:
    """22 characters, as long as the official random ones."""
    content = json.dumps([model, answer.question_id, answer.turns])
    return hashlib.sha256(content.encode()).hexdigest()[:22]


def check_answers(model: str, answers: Sequence[Answer], questions: Sequence[Question]) -> Mapping[str, Answer]:
    """The answers by question id; those to official questions that are not among `questions` do not matter.

    Raises one `UserError` naming all questions without an answer, with several or with other than two turns,
    and ids that MT-Bench does not have.
    """
    ids = [answer.question_id for answer in answers]
    by_id = {answer.question_id: answer for answer in answers}
    faults = {
        "no answer to": [question.id for question in questions if question.id not in by_id],
        "several answers to": sorted({id_ for id_ in ids if ids.count(id_) > 1}),
        "not one text per turn for": [
            question.id
            for question in questions
            if question.id in by_id and len(by_id[question.id].turns) != len(question.turns)
        ],
        "MT-Bench has no": sorted(set(ids) - {str(number) for number in range(FIRST_ID, LAST_ID + 1)}),
    }
    problems = [f"{fault} {_named(found)}" for fault, found in faults.items() if found]
    if problems:
        raise UserError.from_problems(
            f"the answers of {model} cannot be judged; answer the {len(questions)} questions again, or limit the "
            "benchmark as it was when they were answered:",
            problems,
        )
    return by_id


def _named(questions: Sequence[str]) -> str:
    shown = ", ".join(questions[:SHOWN]) + (", …" if len(questions) > SHOWN else "")
    return f"question {shown}" if len(questions) == 1 else f"{len(questions)} questions: {shown}"
