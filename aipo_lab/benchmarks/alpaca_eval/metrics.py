"""Scores from annotations: the official win rates, raw and length-controlled, and lengths.

An annotation's preference runs from 1 (the baseline's answer, `output_1`) to 2 (the model's, `output_2`).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aipo_lab.benchmarks.alpaca_eval.bootstrap import length_controlled_se
from aipo_lab.benchmarks.alpaca_eval.difficulty import GAMED, GAMED_WEIGHT, Instructions
from aipo_lab.benchmarks.alpaca_eval.package import contained, difficulty_file, package_module
from aipo_lab.benchmarks.length_control import Estimate, mean_estimate

Annotation = Mapping[str, Any]


MIN_PROMPTS = 20
"""Fewer have no length-controlled rate: the fit would be the regularising baselines', not the model's."""
REGULARISED_BELOW = 200
"""Prompts below which the note says how much the regularising baselines weigh."""
SOURCES = {
    "official": "the official df_gamed.csv",
    "rebuilt": "difficulties rebuilt from public files (within 0.15 points of the published rates on 52 models)",
}


@dataclass(frozen=True)
class Difficulty:
    """The official length control's data, and the official place (0..804) of each annotation.

    The data are by place, and so the package gives annotations in another order, or with rows missing, the difficulties
    of other instructions, unless their places are stated.
    """

    instructions: Instructions
    positions: Sequence[int]


def win_rates(annotations: Sequence[Annotation], difficulty: Difficulty | str) -> tuple[dict[str, Estimate], list[str]]:
    """Win rates in percent by metric name, and notes on how they were found and what is not reported.

    Annotations without a preference are left out. `difficulty` may be the reason why there is none.
    """
    judged = [row for row in annotations if row["preference"] is not None]
    if not judged:
        return {}, ["no rate is reported: there is no preference"]
    scores = {"win_rate": _win_rate(judged)}
    official = difficulty if isinstance(difficulty, str) else _official(annotations, difficulty)
    if isinstance(difficulty, str) or isinstance(official, str):
        return scores, [f"lc_win_rate (the official length-controlled win rate) is not reported: {official}"]
    notes = [
        f"lc_win_rate: {SOURCES[difficulty.instructions.source]}; its standard error is a bootstrap over prompts "
        "(the package's own is that of its predictions' mean, and too small)"
    ]
    if official.n < REGULARISED_BELOW:
        weight = GAMED_WEIGHT * len(GAMED) * len(difficulty.instructions.difficulty)
        notes.append(
            f"lc_win_rate of {official.n} prompts is regularised: two baselines of known length bias weigh as much as "
            f"{weight:.0f} prompts in its slopes"
        )
    return {"lc_win_rate": official, **scores}, notes


def rate_by_row(annotations: Sequence[Annotation], instructions: Instructions) -> Estimate | None:
    """The length-controlled rate as the official code finds it in a file with rows missing: by the row's number.

    Published rates of models with 802-804 annotations are of this kind. None where there is no rate.
    """
    rate = _official(annotations, Difficulty(instructions, range(len(annotations))))
    return None if isinstance(rate, str) else rate


def mean_length(outputs: Sequence[str]) -> Estimate:
    """Mean characters of the model's outputs, cut to an integer as in the official table, with its standard error."""
    exact = mean_estimate([len(output) for output in outputs])
    return Estimate(float(int(exact.value)), exact.se, exact.n)


def _win_rate(judged: Sequence[Annotation]) -> Estimate:
    package = package_module("alpaca_eval.metrics")
    with contained():
        rates = package.get_winrate([{"preference": row["preference"]} for row in judged])
    return _estimate(rates["win_rate"], rates["standard_error"], rates["n_total"])


def _official(annotations: Sequence[Annotation], difficulty: Difficulty) -> Estimate | str:
    """The package's length-controlled rate with a bootstrapped standard error, or why there is none.

    Annotations without a preference take part as in the package: their lengths and difficulties count.
    """
    judged = [n for n, row in enumerate(annotations) if row["preference"] is not None]
    if len(judged) < MIN_PROMPTS:
        return f"it needs at least {MIN_PROMPTS} judged prompts, there are {len(judged)}"
    deltas = [len(row["output_1"]) - len(row["output_2"]) for row in annotations]
    if len(set(deltas)) < 2:
        return "the model's and the baseline's lengths differ by the same number of characters in every answer"
    with difficulty.instructions.file() as file, difficulty_file(file) as package:
        rates = package.get_length_controlled_winrate(
            _frame(annotations, difficulty.positions),
            save_weights_dir=None,
            is_add_glm_preference_inplace=False,
            is_warn_extreme_changes=False,
        )
    se = length_controlled_se(
        # 0 is the old files' mark of a draw.
        [(annotations[n]["preference"] or 1.5) - 1 for n in judged],
        [deltas[n] for n in judged],
        [difficulty.positions[n] for n in judged],
        difficulty.instructions,
    )
    return _estimate(rates["length_controlled_winrate"], math.nan if se is None else se, len(judged))


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
