"""Reading official JSON-lines files: every bad line is named, and files of another kind are recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from aipo_lab.core.errors import UserError

SHOWN_LINES = 3

PAIRWISE = (
    "a pairwise judgment; MT-Bench scores come from single-answer grading, the file is called <judge>_single.jsonl"
)
_FOREIGN_KEYS = {
    "model_1": PAIRWISE,
    "g1_winner": PAIRWISE,
    "games": "an Arena-Hard judgment; score it with: aipo-lab score arena-hard --judgments FILE",
    "messages": "an Arena-Hard v2 answer",
    "preference": "an AlpacaEval annotation; score it with: aipo-lab score alpaca-eval --annotations FILE",
    "instruction": "an AlpacaEval output",
    "choices": "a model's answer, not a judgment",
    "judgment": "a judgment, not an answer",
}
"""Keys that no row of the expected kind has, and what a row with them is."""


class OfficialRow(BaseModel):
    """A row of an official file: types are as stated, other keys are allowed and ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False, protected_namespaces=())


Row = TypeVar("Row", bound=OfficialRow)


def read_rows(path: Path, row_type: type[Row], what: str) -> list[Row]:
    """The rows of a JSON-lines file of one kind (`what`, for messages); blank lines are skipped.

    Raises one `UserError` that names every problem and its lines, also for a file that is missing or empty.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}, which should hold {what}: {error.strerror}; check the path") from None
    rows: list[Row] = []
    problems: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(row_type.model_validate_json(line))
        except ValidationError as error:
            for problem in _problems(line, row_type, error):
                problems.setdefault(problem, []).append(number)
    if problems:
        raise UserError.from_problems(
            f"{path} does not hold {what}:", [f"{_lines(numbers)}: {problem}" for problem, numbers in problems.items()]
        )
    if not rows:
        raise UserError(f"{path} is empty; it should hold {what}")
    return rows


def _problems(line: bytes, row_type: type[OfficialRow], error: ValidationError) -> Sequence[str]:
    try:
        row: Any = from_json(line)
    except ValueError:
        row = None
    if not isinstance(row, Mapping):
        return ["not a JSON object on a line of its own (files that hold one JSON list are AlpacaEval's)"]
    foreign = [kind for key, kind in _FOREIGN_KEYS.items() if key in row and key not in row_type.model_fields]
    if foreign:
        return foreign[:1]
    return [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]


def _lines(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN_LINES]))
    more = f" and {len(numbers) - SHOWN_LINES} more" if len(numbers) > SHOWN_LINES else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
