"""The official length control without its hidden file: rebuilding its data, and standard errors that cover."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alpaca_eval_files import ALL_MODELS, published_annotations

from aipo_lab.benchmarks.alpaca_eval.bootstrap import length_controlled_se
from aipo_lab.benchmarks.alpaca_eval.difficulty import GAMED, GAMED_WEIGHT, Instructions, official_places
from aipo_lab.benchmarks.alpaca_eval.rebuilding import ANNOTATOR, BASELINE, WEIGHTS, WITH_PREDICTIONS, rebuild
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, write_json

N = 300
WEIGHT_COLUMNS = ("np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)")


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


def fit(features: np.ndarray, preferences: np.ndarray, row_weights: np.ndarray) -> np.ndarray:
    """A weighted logistic fit by plain gradient steps of Newton's kind, on its own here."""
    weights = np.zeros(features.shape[1])
    for _ in range(60):
        predicted = sigmoid(features @ weights)
        hessian = (features * (row_weights * predicted * (1 - predicted))[:, None]).T @ features
        step = np.linalg.solve(hessian, features.T @ (row_weights * (preferences - predicted)))
        weights += step * min(1, 2 / np.abs(step).max())
        if np.abs(step).max() < 1e-9:
            break
    return weights


class MadeUpClone:
    """A clone of alpaca_eval's layout in which the difficulties and the gamed baselines' preferences are known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.random = np.random.default_rng(3)
        self.difficulty = self.random.normal(0, 1.5, N)
        self.instructions = [f"instruction {n}" for n in range(N)]
        self.base_lengths = self.random.integers(200, 3000, N)
        self.gamed_lengths = [self.base_lengths * 2 + self.random.integers(0, 900, N), self.base_lengths // 3 + 1]
        self.std_delta = np.concatenate([self.standardised(lengths) for lengths in self.gamed_lengths])
        self.gamed = np.column_stack([np.tanh(self.std_delta), np.tile(self.difficulty, 2)])
        self.preferences = np.clip(sigmoid(self.gamed @ [-1.5, 0.7]) + self.random.normal(0, 0.1, 2 * N), 0.01, 0.99)
        self.outputs(BASELINE, self.base_lengths)
        for name, lengths in zip(GAMED, self.gamed_lengths, strict=True):
            self.outputs(name, lengths)
        self.weights: dict[str, np.ndarray] = {}
        for name in (*WITH_PREDICTIONS, "model-a", "model-b"):
            self.model(name)
        self.write_weights()

    def standardised(self, lengths: np.ndarray) -> np.ndarray:
        delta = self.base_lengths - lengths
        return np.asarray(delta / delta.std(ddof=1))

    def outputs(self, name: str, lengths: np.ndarray) -> None:
        rows = [{"instruction": i, "output": "x" * n} for i, n in zip(self.instructions, lengths, strict=True)]
        (self.folder / "results" / name).mkdir(parents=True)
        write_json(self.folder / "results" / name / "model_outputs.json", rows)

    def model(self, name: str) -> None:
        lengths = self.random.integers(100, 2500, N)
        own = np.column_stack([np.tanh(self.standardised(lengths)), self.difficulty, np.ones(N)])
        slopes = np.array([-1.8, self.random.uniform(0.5, 1.2), self.random.uniform(-3, 0)])
        preferences = np.clip(sigmoid(own @ slopes) + self.random.normal(0, 0.1, N), 0.001, 0.999)
        features = np.vstack([own, np.column_stack([self.gamed, np.zeros(2 * N)])])
        row_weights = np.concatenate([np.ones(N), np.full(2 * N, GAMED_WEIGHT)])
        self.weights[name] = fit(features, np.concatenate([preferences, self.preferences]), row_weights)
        predicted = sigmoid(own[:, 1:] @ self.weights[name][1:])
        rows = [
            {
                "instruction": self.instructions[n],
                "output_1": "x" * int(self.base_lengths[n]),
                "output_2": "x" * int(lengths[n]),
                "preference": 1 + float(preferences[n]),
                **({"glm_preference": float(predicted[n])} if name in WITH_PREDICTIONS else {}),
            }
            for n in range(N)
        ]
        self.outputs(name, lengths)
        (self.folder / "results" / name / ANNOTATOR).mkdir()
        write_json(self.folder / "results" / name / ANNOTATOR / "annotations.json", rows)

    def write_weights(self) -> None:
        (self.folder / WEIGHTS).parent.mkdir(parents=True)
        with (self.folder / WEIGHTS).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["", *WEIGHT_COLUMNS])
            writer.writerows([name, *map(repr, map(float, weights))] for name, weights in self.weights.items())


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> MadeUpClone:
    return MadeUpClone(tmp_path_factory.mktemp("clone"))


def test_difficulties_and_lengths_are_rebuilt_from_public_files(clone: MadeUpClone) -> None:
    rows = rebuild(clone.folder)
    np.testing.assert_allclose([float(row["difficulty"]) for row in rows], clone.difficulty, atol=1e-6)
    rebuilt = [float(row[f"{kind}_std_delta_length"]) for kind in ("verbose", "concise") for row in rows]
    np.testing.assert_allclose(rebuilt, clone.std_delta, atol=1e-7)


def test_a_fit_sees_the_rebuilt_preferences_as_it_would_the_hidden_ones(clone: MadeUpClone) -> None:
    rows = rebuild(clone.folder)
    preferences = np.array([float(row[f"{kind}_preference"]) for kind in ("verbose", "concise") for row in rows])
    np.testing.assert_allclose(clone.gamed.T @ preferences, clone.gamed.T @ clone.preferences, atol=1e-3)
    assert np.abs(preferences - clone.preferences).max() > 0.05  # others, and yet the same to every fit


def test_a_folder_that_is_no_clone_is_refused(tmp_path: Path, clone: MadeUpClone) -> None:
    with pytest.raises(UserError, match=r"clone of github\.com/tatsu-lab/alpaca_eval"):
        rebuild(tmp_path)
    path = clone.folder / "results" / WITH_PREDICTIONS[1] / ANNOTATOR / "annotations.json"
    kept: list[dict[str, Any]] = read_json(path)
    write_json(path, [{**row, "glm_preference": 0.5} for row in kept])
    try:
        with pytest.raises(UserError, match="differ by more than"):
            rebuild(clone.folder)
    finally:
        write_json(path, kept)


def test_the_shipped_numbers_are_those_of_the_public_files() -> None:
    known = Instructions.rebuilt()
    sums = known.gamed_features.T @ known.preferences
    assert (len(official_places()), known.difficulty.shape, known.places.shape) == (805, (805,), (1610,))
    np.testing.assert_allclose(sums, [-182.67, 413.06], atol=0.02)  # the gamed models' own published weights


def test_the_official_format_holds_the_same_numbers() -> None:
    known = Instructions.rebuilt()
    with known.file() as path:
        again = Instructions.official(path)
    np.testing.assert_array_equal(again.gamed_features, known.gamed_features)
    np.testing.assert_array_equal(again.preferences, known.preferences)


@pytest.mark.parametrize(("n_prompts", "n_subsets"), [(20, 6), (200, 3)])
def test_intervals_of_subsets_cover_the_whole_benchmarks_rate(n_prompts: int, n_subsets: int) -> None:
    """Over 560 subsets each: 97 % at n = 20, 94 % at 50 and 200; 71 % of 20 without the added prompts."""
    known, random = Instructions.rebuilt(), np.random.default_rng(n_prompts)
    covered = []
    for model in ALL_MODELS:
        rows = published_annotations(model)
        preferences = np.array([(row["preference"] or 1.5) - 1 for row in rows])
        deltas = np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows], float)
        whole = rate(preferences, deltas, np.arange(805), known)
        for _ in range(n_subsets):
            chosen = random.choice(805, n_prompts, replace=False)
            here = preferences[chosen], deltas[chosen], chosen
            se = length_controlled_se(*(one.tolist() for one in here), known)
            assert se is not None
            covered.append(abs(rate(*here, known) - whole) < 1.96 * se)
    assert np.mean(covered) >= 0.88


def rate(preferences: np.ndarray, deltas: np.ndarray, places: np.ndarray, known: Instructions) -> float:
    own = np.column_stack([np.tanh(deltas / deltas.std(ddof=1)), known.difficulty[places], np.ones(len(deltas))])
    gamed = known.gamed_features
    features = np.vstack([own, np.column_stack([gamed, np.zeros(len(gamed))])])
    row_weights = np.concatenate([np.ones(len(own)), np.full(len(gamed), GAMED_WEIGHT)])
    weights = fit(features, np.concatenate([preferences, known.preferences]), row_weights)
    return float(100 * sigmoid(own[:, 1:] @ weights[1:]).mean())
