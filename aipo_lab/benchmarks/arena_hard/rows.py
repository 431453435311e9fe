"""Reading JSON-lines files whose rows come in one of two shapes, v0.1's or v2's, with every problem in one error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aipo_lab.benchmarks.arena_hard.verdicts import V01, V2
from aipo_lab.core.errors import UserError

Shape = TypeVar("Shape", bound=BaseModel)

_ID_KEYS = {V01.version: "question_id", V2.version: "uid"}
_SHOWN_PROBLEMS = 5


def read_rows(path: Path, what: str, shapes: Mapping[str, type[Shape]]) -> tuple[str, list[Shape]]:
    """The version of the file at `path` and its rows, in the shape that `shapes` gives for that version.

    The version is told by the key of the question: `question_id` in v0.1, `uid` in v2. Raises `UserError`, saying
    that this is not `what`, for a missing, empty or mixed file and for rows of another shape, with their lines.
    """
    problems: list[str] = []
    rows = list(_json_rows(path, what, problems))
    versions = {version for _, row in rows for version, key in _ID_KEYS.items() if key in row}
    if not problems and len(versions) == 1:
        version = versions.pop()
        shaped = [_shape(line, row, shapes[version], problems) for line, row in rows]
        if not problems:
            return version, [row for row in shaped if row is not None]
    elif len(versions) == 2:
        problems.append("formats are mixed: some rows have `question_id` (v0.1), some `uid` (v2)")
    elif rows:
        problems.append("no row has `question_id` (v0.1) or `uid` (v2)")
    elif not problems:
        problems.append("the file is empty")
    more = [f"and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
    raise UserError.from_problems(f"{path} is not {what}:", problems[:_SHOWN_PROBLEMS] + more)


def _json_rows(path: Path, what: str, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of the file; lines that hold no object are added to `problems`."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {what} from {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.append(f"line {number}: not JSON ({error})")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            problems.append(f"line {number}: a JSON {type(row).__name__}, not an object")


def _shape(line: int, row: dict[str, Any], shape: type[Shape], problems: list[str]) -> Shape | None:
    try:
        return shape.model_validate(row)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place = ".".join(str(part) for part in detail["loc"])
            problems.append(f"line {line}: {place}: {detail['msg']}")
        return None
