"""Answers and judgments of all benchmarks in one shape: one row per question, answers joined with their judgment.

The embedded benchmarks compare with the base model, by a judge and by true quality; the official ones compare with
their baseline or rate on their own, in one or two turns. Unknown fields of a file go no further than here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from aipo_lab.browsing.entries import Entry
from aipo_lab.core.errors import UserError


class _Row(BaseModel):
    """Part of a line; finite numbers only."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")
    id: str


class Turn(BaseModel):
    """One user turn and the answer to it; `tokens` and `finish_reason` are None where they are not known."""

    model_config = ConfigDict(frozen=True)
    prompt: str
    text: str
    tokens: int | None = None
    finish_reason: str | None = Field(None, exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def characters(self) -> int:
        """Length in characters, counted as the metric `length_chars` counts them."""
        return len(self.text)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def truncated(self) -> bool | None:
        """Whether a token limit cut the answer off; None where it is not known."""
        return None if self.finish_reason is None else self.finish_reason == "length"


class Answer(_Row):
    """The answer to one question, turn by turn."""

    category: str = ""
    turns: tuple[Turn, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _embedded(cls, row: Any) -> Any:
        """A line of an embedded benchmark is itself the only turn."""
        return {"id": row.get("id"), "turns": [row]} if isinstance(row, dict) and "turns" not in row else row


class Verdict(BaseModel):
    """What the judge said of one game, turn or pair."""

    model_config = ConfigDict(frozen=True)
    name: str
    verdict: str
    text: str


class Judgment(_Row):
    """The outcome of one question.

    `preference`: the judge's, 1 win to 0 loss against the benchmark's baseline, None without one; `true_preference`:
    the same by true quality, where that is known, with `quality` and `baseline_quality`; `score`: the mean rating, 1
    to 10, where answers are rated on their own.
    """

    preference: float | None = None
    true_preference: float | None = None
    quality: float | None = None
    baseline_quality: float | None = None
    score: float | None = None
    verdicts: tuple[Verdict, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _embedded(cls, row: Any) -> Any:
        """A line of an embedded benchmark calls the true preference `preference`."""
        if isinstance(row, dict) and "judged_preference" in row:
            return row | {"preference": row["judged_preference"], "true_preference": row.get("preference")}
        return row


def read_questions(entry: Entry) -> list[dict[str, Any]]:
    """The rows of an entry, ready for JSON: `id`, `category`, `turns` and `judgment` (None without one).

    Raises `UserError`, naming file and line, for a file that is gone or damaged.
    """
    judgments = {} if entry.judgments is None else _by_id(entry.judgments, Judgment)
    rows = []
    for id_, answer in _by_id(entry.answers, Answer).items():
        judgment = judgments.get(id_)
        rows.append(answer.model_dump() | {"judgment": judgment.model_dump(exclude={"id"}) if judgment else None})
    return rows


def count_answers(entry: Entry) -> int | None:
    """How many answers an entry has, without reading them; None if its file cannot be read."""
    try:
        with entry.answers.open("rb") as stream:
            return sum(not line.isspace() for line in stream)
    except OSError:
        return None


Line = TypeVar("Line", bound=_Row)


def _by_id(path: Path, kind: type[Line]) -> dict[str, Line]:
    rows: dict[str, Line] = {}
    for number, line in _lines(path):
        try:
            row = kind.model_validate(json.loads(line))
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_input=False))
            raise _damaged(path, number, "; ".join(problems)) from None
        except (ValueError, RecursionError) as error:
            raise _damaged(path, number, f"not JSON ({error})") from None
        if row.id in rows:
            raise _damaged(path, number, f"a second line with the id {row.id}")
        rows[row.id] = row
    return rows


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.isspace():
                    yield number, line
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; if it was deleted, run the command that made it again"
        ) from None


def _damaged(path: Path, number: int, problem: str) -> UserError:
    return UserError(
        f"{path}, line {number}: {problem}; the file is damaged: delete the folder it is in and run the command that "
        "made it again"
    )
