"""Official JSON-lines files: their rows, and one error that names every problem with its lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from aipo_lab.benchmarks.official_text import json_lines, json_value, official_text
from aipo_lab.core.errors import UserError

SHOWN_LINES = 3
SHOWN_PROBLEMS = 12

Object = dict[str, Any]
Row = TypeVar("Row")


def _no_explanation(row: Object) -> str | None:  # noqa: ARG001 - rows of any kind are told apart by their problems
    return None


@dataclass
class OfficialFile:
    """A file that should be `what`: the numbers and objects of its lines, and what is wrong by line."""

    path: Path
    what: str
    rows: list[tuple[int, Object]] = field(default_factory=list)
    _problems: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, what: str) -> OfficialFile:
        """Read every line, blank ones aside. Raises `UserError` for a file that is missing, no text, or empty."""
        file = cls(path, what)
        text = official_text(path, what)
        lines = json_lines(text)
        for number, line in lines:
            try:
                value = json_value(line)
            except ValueError as error:
                is_torn = number == lines[-1][0] and number > 1 and not text.endswith(("\n", "\r"))
                end = "; the file ends in the middle of a row: remove that line, or obtain the file again"
                file.add(number, f"not JSON ({_reason(error)}){end if is_torn else ''}")
                continue
            if isinstance(value, dict):
                file.rows.append((number, value))
            else:
                kind = "list" if isinstance(value, list) else type(value).__name__
                hint = " (files that hold one JSON list are AlpacaEval's)" if kind == "list" else ""
                file.add(number, f"a JSON {kind}, not an object{hint}")
        if not lines:
            raise UserError.from_problems(file._heading(), ["the file is empty"])
        return file

    def add(self, line: int, problem: str) -> None:
        """Note a problem of one line."""
        self._problems.setdefault(problem, []).append(line)

    def shaped(
        self, shape: Callable[[Object], Row], explain: Callable[[Object], str | None] = _no_explanation
    ) -> list[Row]:
        """The rows as `shape` makes them (or raises `ValidationError`); raises `UserError` if anything is wrong.

        `explain` may say of a row that has not the shape what it is instead.
        """
        shaped: list[Row] = []
        for line, row in self.rows:
            try:
                shaped.append(shape(row))
            except ValidationError as error:
                foreign = explain(row)
                for problem in [foreign] if foreign else _problems_of(error):
                    self.add(line, problem)
        self.refuse_if_wrong()
        return shaped

    def refuse_if_wrong(self, *problems: str) -> None:
        """Raise `UserError` with what was noted and `problems` of the whole file, if there are any."""
        stated = [f"{_lines(numbers)}: {problem}" for problem, numbers in self._problems.items()] + list(problems)
        if stated:
            more = [f"and {len(stated) - SHOWN_PROBLEMS} more"] if len(stated) > SHOWN_PROBLEMS else []
            raise UserError.from_problems(self._heading(), stated[:SHOWN_PROBLEMS] + more)

    def _heading(self) -> str:
        return f"{self.path} is not {self.what}:"


def _reason(error: ValueError) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, JSONDecodeError) else str(error)


def _problems_of(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_input=False)
    return [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in details]


def _lines(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN_LINES]))
    more = f" and {len(numbers) - SHOWN_LINES} more" if len(numbers) > SHOWN_LINES else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
