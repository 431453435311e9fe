"""Scores from annotations: the official win rates, the length-controlled rate without difficulty, and lengths.

An annotation's preference runs from 1 (the baseline's answer, `output_1`) to 2 (the model's, `output_2`).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.alpaca_eval.package import contained, difficulty_file, package_module
from aipo_lab.benchmarks.length_control import Estimate, length_controlled_win_rate, mean_estimate

Annotation = Mapping[str, Any]


@dataclass(frozen=True)
class Difficulty:
    """The official length control's data: `df_gamed` is the file, `positions` the official place of each annotation.

    The file gives the instructions' difficulties by place (0..804), and so to annotations in another order, or
    with rows missing, those of other instructions, unless their places are stated.
    """

    df_gamed: Path
    positions: Sequence[int]


def win_rates(annotations: Sequence[Annotation], difficulty: Difficulty | str) -> tuple[dict[str, Estimate], list[str]]:
    """Win rates in percent by metric name, and notes on what is not reported.

    Annotations without a preference are left out. `difficulty` may be the reason why there is none.
    """
    judged = [row for row in annotations if row["preference"] is not None]
    if not judged:
        return {}, ["no rate is reported: there is no preference"]
    scores = {"win_rate": _win_rate(judged), "lc_win_rate_no_difficulty": _without_difficulty(judged)}
    official = difficulty if isinstance(difficulty, str) else _official(annotations, difficulty)
    if isinstance(official, str):
        return scores, [f"lc_win_rate (the official length-controlled win rate) is not reported: {official}"]
    return {"lc_win_rate": official, **scores}, []


def mean_length(outputs: Sequence[str]) -> Estimate:
    """Mean characters of the model's outputs, cut to an integer as in the official table, with its standard error."""
    exact = mean_estimate([len(output) for output in outputs])
    return Estimate(float(int(exact.value)), exact.se, exact.n)


def _win_rate(judged: Sequence[Annotation]) -> Estimate:
    package = package_module("alpaca_eval.metrics")
    with contained():
        rates = package.get_winrate([{"preference": row["preference"]} for row in judged])
    return _estimate(rates["win_rate"], rates["standard_error"], rates["n_total"])


def _without_difficulty(judged: Sequence[Annotation]) -> Estimate:
    return length_controlled_win_rate(
        # 0 is the old files' mark of a draw.
        [(row["preference"] or 1.5) - 1 for row in judged],
        [len(row["output_2"]) for row in judged],
        [len(row["output_1"]) for row in judged],
    )


def _official(annotations: Sequence[Annotation], difficulty: Difficulty) -> Estimate | str:
    """The package's length-controlled rate, with its standard error (that of the predictions), or why there is none.

    Annotations without a preference take part as in the package: their lengths and difficulties count.
    """
    if len({len(row["output_1"]) - len(row["output_2"]) for row in annotations}) < 2:
        return "the model's and the baseline's lengths differ by the same number of characters in every answer"
    with difficulty_file(difficulty.df_gamed) as package:
        rates = package.get_length_controlled_winrate(
            _frame(annotations, difficulty.positions),
            save_weights_dir=None,
            is_add_glm_preference_inplace=False,
            is_warn_extreme_changes=False,
        )
    n_judged = sum(row["preference"] is not None for row in annotations)
    return _estimate(rates["length_controlled_winrate"], rates["lc_standard_error"], n_judged)


def _frame(annotations: Sequence[Annotation], positions: Sequence[int]) -> Any:
    """A data frame in official order whose index, by which the package looks up difficulties, is the official place."""
    pandas = importlib.import_module("pandas")
    ordered = sorted(zip(positions, annotations, strict=True), key=lambda pair: pair[0])
    columns = ("output_1", "output_2", "generator_1", "generator_2", "preference")
    rows = [[row[column] for column in columns] for _, row in ordered]
    frame = pandas.DataFrame(rows, columns=columns, index=[position for position, _ in ordered], dtype=object)
    return frame.astype({"preference": float})  # a missing one as NaN


def _estimate(value: float, se: float, n: int) -> Estimate:
    assert math.isfinite(value), "the package gave a rate that is no number"
    return Estimate(float(value), float(se) if math.isfinite(se) else None, int(n))
