"""The answers of one model to an official benchmark as artifacts hold them: `answers.jsonl`, one row per question.

A row: `id`, `category`, `turns` [{`prompt`, `text`, `tokens`, `finish_reason`, `prompt_token_ids`, `token_ids`}]; all
but the texts are null for answers that were read from a file. `prompt_token_ids`: the conversation up to the turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.official import Answer, Question
from aipo_lab.core.jsonl import read_jsonl, write_jsonl

FILE = "answers.jsonl"


@dataclass(frozen=True)
class Turn:
    """The model's words in one turn, their length in its own tokens, why it stopped (`stop` or `length`), and what it
    was shown and wrote as tokens.
    """

    text: str
    tokens: int | None = None
    finish_reason: str | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None


def write_turns(folder: Path, questions: Sequence[Question], turns: Sequence[Sequence[Turn]]) -> None:
    """Write the turns of each question."""
    write_jsonl(folder / FILE, [_row(question, said) for question, said in zip(questions, turns, strict=True)])


def _row(question: Question, said: Sequence[Turn]) -> dict[str, Any]:
    rows = [{"prompt": prompt, **vars(turn)} for prompt, turn in zip(question.turns, said, strict=True)]
    return {"id": question.id, "category": question.category, "turns": rows}


def read_answers(folder: Path) -> list[Answer]:
    """The answers of an artifact's folder."""
    return [
        Answer(
            row["id"],
            tuple(turn["text"] for turn in row["turns"]),
            truncated=row["turns"][-1]["finish_reason"] == "length",
            tokens=_tokens(row["turns"]),
        )
        for row in read_jsonl(folder / FILE)
    ]


def _tokens(turns: Sequence[Mapping[str, Any]]) -> int | None:
    lengths = [turn["tokens"] for turn in turns]
    return None if None in lengths else sum(lengths)
