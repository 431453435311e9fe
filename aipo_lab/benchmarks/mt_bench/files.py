"""The strict rows of MT-Bench's files, and what rows of another kind are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from aipo_lab.benchmarks.official_rows import OfficialFile

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

    def shape(row: dict[str, Any]) -> Row:
        return row_type.model_validate_json(json.dumps(row))  # as JSON, whose lists are strict tuples

    def explain(row: dict[str, Any]) -> str | None:
        foreign = (kind for key, kind in _FOREIGN_KEYS.items() if key in row and key not in row_type.model_fields)
        return next(foreign, None)

    return OfficialFile.read(path, what).shaped(shape, explain)
