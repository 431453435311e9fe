"""Rebuilds the numbers of `rebuilt.csv` from a clone of the public repository tatsu-lab/alpaca_eval, nothing hidden.

    python -m aipo_lab.benchmarks.alpaca_eval.rebuilding CLONE rebuilt.csv

The file in the package comes from commit cd543a1 (Apache-2.0). Three steps:

1. Difficulty. The two annotation files of Vicuna v1.5 hold `glm_preference`, the official fit's prediction at equal
   length; with that model's published weights, difficulty = (logit(glm_preference) - w_intercept) / w_difficulty.
2. Lengths of the gamed baselines, from their published outputs.
3. The gamed baselines' judged preferences y are not public, but a logistic fit sees them through S = sum(x y) alone,
   and every model's published weights are best where sum_own x (y - p) + 0.1 sum_gamed x (y - p) = 0, which gives S.
   Maximum-entropy preferences with the mean of these S stand in for the real ones.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aipo_lab.benchmarks.alpaca_eval.difficulty import GAMED, GAMED_WEIGHT, fingerprint
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json

BASELINE = "gpt4_1106_preview"
ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
WITH_PREDICTIONS = ("vicuna-13b-v1.5", "vicuna-7b-v1.5")
WEIGHTS = f"src/alpaca_eval/metrics/weights/{ANNOTATOR}/length_controlled_v1/baseline_{BASELINE}.csv"
AGREEMENT = 1e-4
"""How far the difficulties from the two models may be apart; in the published files they are within 5e-8."""

Weights = tuple[float, float, float]
"""Of length, difficulty and intercept."""


def rebuild(clone: Path) -> list[dict[str, str]]:
    """The rows of `rebuilt.csv`, in official order. Raises `UserError` for a folder that is not such a clone."""
    weights = _published_weights(clone / WEIGHTS)
    reference = _outputs(clone, BASELINE)
    difficulty = _difficulty(clone, weights)
    lengths = np.concatenate([_std_delta_lengths(reference, _outputs(clone, name)) for name in GAMED])
    features = np.column_stack([np.tanh(lengths), np.tile(difficulty, len(GAMED))])
    sums = [
        _gamed_sum(*fitted, difficulty, features, weights[model])
        for model in weights
        if model not in GAMED and (fitted := _complete_annotations(clone, model)) is not None
    ]
    if not sums:
        raise UserError(f"{clone} has no model with published weights and all annotations; is it a whole clone?")
    preferences = maximum_entropy(features, np.mean(sums, axis=0))
    return table([row["instruction"] for row in reference], difficulty, lengths, preferences)


def table(
    instructions: list[str], difficulty: np.ndarray, std_delta_lengths: np.ndarray, preferences: np.ndarray
) -> list[dict[str, str]]:
    """Rows of text, eight decimals; `std_delta_lengths` and `preferences` are of the two gamed baselines in turn."""
    n = len(instructions)

    def number(value: float) -> str:
        return f"{value:.8f}"

    return [
        {
            "instruction_sha256": fingerprint(instruction),
            "difficulty": number(difficulty[i]),
            "verbose_std_delta_length": number(std_delta_lengths[i]),
            "concise_std_delta_length": number(std_delta_lengths[n + i]),
            "verbose_preference": number(preferences[i]),
            "concise_preference": number(preferences[n + i]),
        }
        for i, instruction in enumerate(instructions)
    ]


def maximum_entropy(features: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The preferences (n,) of greatest entropy with `features` (n, k) transposed times them = `sums` (k,)."""
    slopes = np.zeros(features.shape[1])
    for _ in range(200):
        preferences = _sigmoid(features @ slopes)
        gap = sums - features.T @ preferences
        if np.abs(gap).max() < 1e-9:
            return preferences
        hessian = (features * (preferences * (1 - preferences))[:, None]).T @ features
        step = np.linalg.solve(hessian, gap)
        slopes = slopes + step * min(1.0, 1.0 / np.abs(step).max())
    raise UserError(f"no preferences between 0 and 1 have the sums {sums.tolist()}; the files do not belong together")


def _difficulty(clone: Path, weights: Mapping[str, Weights]) -> np.ndarray:
    found = []
    for model in WITH_PREDICTIONS:
        rows = _annotations(clone, model)
        if rows is None or any("glm_preference" not in row for row in rows):
            raise UserError(f"the annotations of {model} in {clone} are missing or hold no glm_preference")
        predicted = np.array([float(row["glm_preference"]) for row in rows])
        _, slope, intercept = weights[model]
        found.append((np.log(predicted / (1 - predicted)) - intercept) / slope)
    if np.abs(found[0] - found[1]).max() > AGREEMENT:
        raise UserError(f"the difficulties from {' and '.join(WITH_PREDICTIONS)} differ by more than {AGREEMENT}")
    return np.asarray(np.mean(found, axis=0))


def _gamed_sum(
    preferences: np.ndarray, std_delta: np.ndarray, difficulty: np.ndarray, gamed: np.ndarray, weights: Weights
) -> np.ndarray:
    """What sum(x y) of the gamed rows must be for `weights` to be a model's best, (2,)."""
    own = np.column_stack([np.tanh(std_delta), difficulty])
    slopes = np.array(weights[:2])
    residuals = preferences - _sigmoid(own @ slopes + weights[2])
    return np.asarray(gamed.T @ _sigmoid(gamed @ slopes) - own.T @ residuals / GAMED_WEIGHT)


def _complete_annotations(clone: Path, model: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Preferences (0-1) and standardised length differences of a model with all annotations, else None."""
    rows = _annotations(clone, model)
    if rows is None or len(rows) != len(_outputs(clone, BASELINE)) or any(not row["preference"] for row in rows):
        return None
    lengths = np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows])
    return np.array([row["preference"] - 1.0 for row in rows]), lengths / lengths.std(ddof=1)


def _std_delta_lengths(reference: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> np.ndarray:
    own = {row["instruction"]: len(row["output"]) for row in outputs}
    lengths = np.array([len(row["output"]) - own[row["instruction"]] for row in reference])
    return np.asarray(lengths / lengths.std(ddof=1))


def _outputs(clone: Path, model: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _read(clone / "results" / model / "model_outputs.json", read_json)
    return rows


def _annotations(clone: Path, model: str) -> list[dict[str, Any]] | None:
    path = clone / "results" / model / ANNOTATOR / "annotations.json"
    return read_json(path) if path.is_file() else None


def _published_weights(path: Path) -> dict[str, Weights]:
    def read(path: Path) -> list[list[str]]:
        with path.open(newline="") as stream:
            return list(csv.reader(stream))

    header, *rows = _read(path, read)
    places = [header.index(name) for name in header if name]
    assert len(places) == 3, f"{path} has other columns than length, difficulty and intercept: {header}"
    return {row[0]: (float(row[places[0]]), float(row[places[1]]), float(row[places[2]])) for row in rows}


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is absent; give the folder of a clone of github.com/tatsu-lab/alpaca_eval")
    return reader(path)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


if __name__ == "__main__":
    made = rebuild(Path(sys.argv[1]))
    with Path(sys.argv[2]).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
