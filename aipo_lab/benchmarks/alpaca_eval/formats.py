"""The official files: a model's outputs (`model_outputs.json`) and the judge's annotations (`annotations.json`).

Both are JSON lists of objects; outputs may also be .csv or .tsv, as the package accepts. Errors name all problems.
"""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_json

ANNOTATION_TEXTS = ("instruction", "output_1", "output_2", "generator_1", "generator_2")
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
    problems = [*_text_problems(rows, ("instruction", "output")), *_unsendable(rows), *_repeated(rows)]
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
    try:
        if path.suffix in (".csv", ".tsv"):
            return _read_table(path)
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give an existing file") from error
    except ValueError as error:  # not UTF-8, not JSON, not a table
        raise UserError(
            f"{path} cannot be read as {path.suffix or 'JSON'}: {error}. AlpacaEval's files are one JSON list of "
            "objects (not one object per line); outputs may also be .csv or .tsv"
        ) from error
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise UserError(f"{path} must hold a JSON list of at least one object, as AlpacaEval's files do")
    return value


def _read_table(path: Path) -> list[dict[str, Any]]:
    pandas: Any = importlib.import_module("pandas")
    # As text throughout: pandas would take an answer "None" or "NA" for a missing one.
    table = pandas.read_csv(path, sep="," if path.suffix == ".csv" else "\t", dtype=object, keep_default_na=False)
    rows: list[dict[str, Any]] = table.to_dict(orient="records")
    return rows


def _text_problems(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    problems = []
    for key in keys:
        missing = [n for n, row in enumerate(rows, 1) if not isinstance(row.get(key), str)]
        if missing:
            problems.append(f"{key!r} is missing or no text in {_some(missing)} of {len(rows)} rows")
    return problems


def _unsendable(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """JSON can hold half of a surrogate pair, as a cut emoji; no file or request in UTF-8 can."""
    halves = [
        n for n, row in enumerate(rows, 1) if any("\ud800" <= char <= "\udfff" for char in str(row.get("output")))
    ]
    return [f"'output' holds broken characters (lone surrogates) in {_some(halves)} rows"] if halves else []


def _preference_problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    absent = [n for n, row in enumerate(rows, 1) if "preference" not in row]
    wrong = [n for n, row in enumerate(rows, 1) if not _is_preference(row.get("preference"))]
    problems = [f"'preference' is missing in {_some(absent)} of {len(rows)} rows"] if absent else []
    if wrong:
        problems.append(f"'preference' is neither in 1..2 nor 0, -1 or null in {_some(wrong)} of {len(rows)} rows")
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
