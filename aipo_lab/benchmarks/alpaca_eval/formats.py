"""The official files: a model's outputs (`model_outputs.json`) and the judge's annotations (`annotations.json`).

Both are JSON lists of objects; outputs may also be .csv or .tsv, as the package accepts. Errors name all problems.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.official_text import json_lines, json_value, official_text
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_json
from aipo_lab.core.unicode import repaired_json

ANNOTATION_TEXTS = ("instruction", "output_1", "output_2", "generator_1", "generator_2")
TABLES = {".csv": ",", ".tsv": "\t"}
"""Separators by suffix."""
SHOWN = 3
"""How many examples of one problem an error names."""


@dataclass(frozen=True)
class Outputs:
    """A model's outputs by instruction, in the file's order; `generator` is None where the file names none."""

    generator: str | None
    by_instruction: Mapping[str, str]


def read_outputs(path: Path) -> Outputs:
    """Read an outputs file (.json, .csv, .tsv). Raises `UserError`: another format, mixed models, duplicates."""
    rows = _read_rows(path)
    if rows and "output" not in rows[0] and "output_1" in rows[0]:
        raise UserError(f"{path} holds annotations, not a model's outputs; it goes where annotations are asked for")
    problems = [*_text_problems(rows, ("instruction", "output")), *_repeated(rows)]
    generators = Counter(row.get("generator") for row in rows)
    if len(generators) > 1:
        problems.append(f"the outputs of one model are needed, these are of {_counts(generators)}")
    if problems:
        raise UserError.from_problems(f"{path} is not an AlpacaEval outputs file:", problems)
    return Outputs(next(iter(generators)), {row["instruction"]: row["output"] for row in rows})


def write_outputs(path: Path, model: str, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write (dataset, instruction, output) of `model` as `model_outputs.json`."""
    keys = ("dataset", "instruction", "output")
    write_json(path, [{**dict(zip(keys, row, strict=True)), "generator": model} for row in rows])


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """Read an annotations file; only the keys that scores need are required, so older files are read too.

    Preferences are numbers in 1..2, 0 (an old mark of a draw) or None: null, NaN and −1, which the package's cache
    writes for a failed call, all mean that there is none. Raises `UserError` for another format, several models,
    baselines or judges, and repeated instructions.
    """
    rows = _read_rows(path)
    if rows and "output" in rows[0] and "output_1" not in rows[0]:
        raise UserError(f"{path} holds a model's outputs, not annotations; it goes where outputs are asked for")
    problems = [*_text_problems(rows, ANNOTATION_TEXTS), *_preference_problems(rows), *_repeated(rows)]
    for key, meaning in {"generator_2": "model", "generator_1": "baseline", "annotator": "judge"}.items():
        names = Counter(row.get(key) for row in rows)
        if len(names) > 1:
            problems.append(f"annotations of one {meaning} ({key}) are needed, these are of {_counts(names)}")
    if problems:
        raise UserError.from_problems(f"{path} is not an annotations file that can be scored:", problems)
    return [{**row, "preference": None if _is_missing(row["preference"]) else row["preference"]} for row in rows]


def write_annotations(path: Path, annotations: Sequence[Mapping[str, Any]]) -> None:
    """Write `Judged.judgments` as `annotations.json`."""
    write_json(path, annotations)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    text = official_text(path, "an AlpacaEval file")
    try:
        value = _table(text, path.suffix) if path.suffix in TABLES else json_value(text)
    except ValueError as error:  # not JSON, not a table
        raise UserError(_unreadable(path, text, error)) from error
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise UserError(f"{path} must hold a JSON list of at least one object, as AlpacaEval's files do")
    return value


def _unreadable(path: Path, text: str, error: ValueError) -> str:
    form = "AlpacaEval's files are one JSON list of objects (not one object per line); outputs may also be .csv or .tsv"
    if not text.strip():
        return f"{path} is empty. {form}"
    if text.lstrip().startswith("{") and len(json_lines(text)) > 1:
        return f"{path} holds one object per line and cannot be read as {path.suffix or 'JSON'}. {form}"
    return f"{path} cannot be read as {path.suffix or 'JSON'}: {error}. {form}"


def _table(text: str, suffix: str) -> list[dict[str, Any]]:
    pandas: Any = importlib.import_module("pandas")
    # As text throughout: pandas would take an answer "None" or "NA" for a missing one.
    table = pandas.read_csv(StringIO(text), sep=TABLES[suffix], dtype=object, keep_default_na=False)
    rows: list[dict[str, Any]] = repaired_json(table.to_dict(orient="records"))
    return rows


def _text_problems(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    problems = []
    for key in keys:
        missing = [n for n, row in enumerate(rows, 1) if not isinstance(row.get(key), str)]
        if missing:
            problems.append(f"{key!r} is missing or no text in {_some(missing)} of {len(rows)} rows")
    return problems


def _preference_problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    absent = [n for n, row in enumerate(rows, 1) if "preference" not in row]
    wrong = [n for n, row in enumerate(rows, 1) if not _is_preference(row.get("preference"))]
    problems = [f"'preference' is missing in {_some(absent)} of {len(rows)} rows"] if absent else []
    if wrong:
        kinds = sorted({type(rows[n - 1].get("preference")).__name__ for n in wrong} & {"str", "bool"})
        not_numbers = f"; some are no numbers but of type {', '.join(kinds)}" if kinds else ""
        problems.append(
            f"'preference' is neither in 1..2 nor 0, -1 or null in {_some(wrong)} of {len(rows)} rows{not_numbers}"
        )
    return problems


def _is_preference(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _is_missing(value) or (is_number and (1 <= value <= 2 or value == 0))


def _is_missing(value: Any) -> bool:
    return value is None or value == -1 or (isinstance(value, float) and math.isnan(value))


def _repeated(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = Counter(row["instruction"] for row in rows if isinstance(row.get("instruction"), str))
    repeated = [text for text, count in counts.items() if count > 1]
    return [f"{len(repeated)} instructions stand there more than once: {quoted(repeated)}"] if repeated else []


def _some(row_numbers: Sequence[int]) -> str:
    more = ", …" if len(row_numbers) > SHOWN else ""
    return f"{len(row_numbers)} (numbers {', '.join(str(n) for n in row_numbers[:SHOWN])}{more})"


def _counts(names: Counter[Any]) -> str:
    return ", ".join(f"{'(none)' if name is None else name!r} ({count} rows)" for name, count in names.most_common())


def quoted(texts: Sequence[str]) -> str:
    """The first few texts, shortened, as an error shows them."""
    shown = [repr(text if len(text) <= 60 else text[:59] + "…") for text in texts[:SHOWN]]
    return ", ".join(shown) + (", …" if len(texts) > SHOWN else "")
