"""Rows that come in one of two shapes, v0.1's or v2's; a file holds those of one version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from aipo_lab.benchmarks.arena_hard.verdicts import V01, V2
from aipo_lab.benchmarks.official_rows import OfficialFile

Shape = TypeVar("Shape", bound=BaseModel)

_ID_KEYS = {V01.version: "question_id", V2.version: "uid"}


def read_rows(path: Path, what: str, shapes: Mapping[str, type[Shape]]) -> tuple[str, list[Shape]]:
    """The version of the file at `path` and its rows, in the shape that `shapes` gives for that version.

    The version is told by the key of the question: `question_id` in v0.1, `uid` in v2. Raises `UserError`, saying
    that this is not `what`, for a missing, empty or mixed file and for rows of another shape, with their lines.
    """
    file = OfficialFile.read(path, what)
    versions = {version for _, row in file.rows for version, key in _ID_KEYS.items() if key in row}
    if len(versions) == 2:
        file.refuse_if_wrong("formats are mixed: some rows have `question_id` (v0.1), some `uid` (v2)")
    if not versions:
        file.refuse_if_wrong(*["no row has `question_id` (v0.1) or `uid` (v2)"][: len(file.rows)])
    (version,) = versions
    return version, file.shaped(shapes[version].model_validate)
