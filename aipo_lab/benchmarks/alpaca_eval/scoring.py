"""Scoring existing official annotation files, without any judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.alpaca_eval.benchmark import length_control_data
from aipo_lab.benchmarks.alpaca_eval.difficulty import fingerprint, official_places
from aipo_lab.benchmarks.alpaca_eval.formats import Outputs, quoted, read_annotations, read_outputs
from aipo_lab.benchmarks.alpaca_eval.metrics import Difficulty, mean_length, rate_by_row, win_rates
from aipo_lab.benchmarks.alpaca_eval.results import AlpacaEvalJudged
from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.core.errors import UserError

OFFICIAL_BASELINE = "gpt4_1106_preview"
MOST_MISSING = 40
"""Rows missing up to which a file is taken for a whole one with gaps, not for a subset."""


def score_alpaca_eval(annotations: Path, outputs: Path | None = None) -> AlpacaEvalJudged:
    """Scores of an `annotations.json` in the package's format; lengths are those of `outputs` where it is given.

    Rows without a preference are left out of the rates and listed as unjudged; the order of the rows does not
    matter. Raises `UserError` for files that are not what they should be or do not belong together.
    """
    rows = read_annotations(annotations)
    model = rows[0]["generator_2"]
    model_outputs = read_outputs(outputs) if outputs else None
    _require_sides(annotations, rows, model_outputs)
    unjudged = {row["instruction"]: "no preference in the file" for row in rows if row["preference"] is None}
    if model_outputs is not None:
        _require_same_outputs(annotations, rows, model_outputs)
        judged = {row["instruction"] for row in rows}
        unjudged |= {text: "no annotation in the file" for text in model_outputs.by_instruction if text not in judged}
    difficulty = _difficulty(rows)
    scores, notes = win_rates(rows, difficulty)
    if not isinstance(difficulty, str):
        notes += _by_row(rows, difficulty, scores)
    if unjudged:
        notes.append(f"{len(unjudged)} questions have no preference and are left out of the rates")
    texts = [row["output_2"] for row in rows] if model_outputs is None else list(model_outputs.by_instruction.values())
    scores["length_chars"] = mean_length(texts)
    return AlpacaEvalJudged(scores, rows, unjudged, model=model, notes=tuple(notes))


def _require_sides(path: Path, rows: Sequence[dict[str, Any]], outputs: Outputs | None) -> None:
    """The model must stand in `output_2`: the package would score the baseline without a word."""
    baseline, model = rows[0]["generator_1"], rows[0]["generator_2"]
    given = outputs.generator if outputs else None
    if given in (None, model) and (model != OFFICIAL_BASELINE or model == baseline):
        return
    if baseline != OFFICIAL_BASELINE and given in (None, baseline):
        raise UserError(
            f"the sides of {path} are reversed: the model {baseline!r} stands in output_1 and the baseline {model!r} "
            "in output_2; annotate with the baseline's outputs as reference_outputs"
        )
    raise UserError(f"{path} judges {model!r}, but the outputs are of {given!r}; give the outputs of {model!r}")


def _require_same_outputs(path: Path, rows: Sequence[dict[str, Any]], outputs: Outputs) -> None:
    texts = outputs.by_instruction
    missing = [row["instruction"] for row in rows if row["instruction"] not in texts]
    different = [
        row["instruction"] for row in rows if texts.get(row["instruction"], row["output_2"]) != row["output_2"]
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} judged questions are not among the outputs: {quoted(missing)}")
    if different:
        problems.append(f"{len(different)} judged answers differ from the outputs: {quoted(different)}")
    if problems:
        raise UserError.from_problems(f"the outputs are not those that {path} judges:", problems)


def _difficulty(rows: Sequence[dict[str, Any]]) -> Difficulty | str:
    """The length control's data with each row's place in the official order, or why it cannot be used."""
    places = official_places()
    found = [places.get(fingerprint(row["instruction"])) for row in rows]
    unknown = [row["instruction"] for row, place in zip(rows, found, strict=True) if place is None]
    if unknown:
        return f"{len(unknown)} questions are not AlpacaEval's, so their difficulty is unknown: {quoted(unknown)}"
    return Difficulty(length_control_data(), [place for place in found if place is not None])


def _by_row(rows: Sequence[dict[str, Any]], difficulty: Difficulty, scores: dict[str, Estimate]) -> list[str]:
    """Adds the official code's number for a file with few rows missing, where it is another one; and the note on it."""
    n_missing = len(official_places()) - len(rows)
    if not 0 < n_missing <= MOST_MISSING or "lc_win_rate" not in scores:
        return []
    by_row = rate_by_row(rows, difficulty.instructions)
    if by_row is None:
        return []
    scores["lc_win_rate_by_row"] = by_row
    return [
        f"{n_missing} of AlpacaEval's questions are missing: lc_win_rate takes each question's own difficulty; "
        "lc_win_rate_by_row takes that of the row's number, as the official code does: compare it with published rates"
    ]
