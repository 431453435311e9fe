"""Configurations over their iterations: seeds as repeats, paired differences, and values at a matched length."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aipo_lab.results.paths import at_iteration, at_length, effect_of, get_paths, matched_length
from aipo_lab.results.per_prompt import prompt_values
from aipo_lab.results.rows import ResultRow

WIN, LENGTH = "micro/win_rate", "micro/length_tokens"


def row(trial: str, t: int, win: float, length: float, se: float | None = 1.0, **settings: str) -> ResultRow:
    metrics = {WIN: win, LENGTH: length} | ({} if se is None else {f"{WIN}_se": se, f"{LENGTH}_se": 0.5})
    return ResultRow(trial, settings.pop("objective", "dpo"), settings, t, "complete", metrics)


def test_trials_that_differ_in_seed_are_one_path_and_gaps_end_it() -> None:
    rows = [row(f"a{seed}", t, 50 + t, 20 + t, seed=str(seed), beta="1") for seed in (0, 1) for t in (0, 1, 2)]
    rows += [row("b", 0, 50, 20), row("b", 1, 60, 30), row("c", 0, 50, 20), row("d", 1, 50, 20)]
    paths = get_paths(rows, (WIN, LENGTH))
    assert [(len(path.rows), path.last) for path in paths] == [(2, 2), (1, 1)]
    rows[2] = ResultRow("a0", "dpo", {"seed": "0", "beta": "1"}, 2, "failed")
    assert [path.last for path in get_paths(rows)] == [1, 1]


def test_without_values_by_prompt_errors_are_independent_but_for_one_checkpoint() -> None:
    a, b = get_paths([row("a", 0, 50, 20), row("a", 1, 70, 40), row("b", 0, 50, 20), row("b", 1, 60, 30)])
    found = effect_of(at_iteration(a, WIN, 1) - at_iteration(b, WIN, 1))
    assert found is not None and (found.value, found.n_seeds) == (10.0, 1)
    assert found.se == pytest.approx(math.sqrt(2))
    same = effect_of(at_iteration(a, WIN, 1) - at_iteration(a, WIN, 1))
    assert same is not None and (same.value, same.se) == (0.0, 0.0)


def test_differences_are_paired_by_prompt() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(50, 30, 80)
    noise = {"a": rng.normal(3, 1, 80), "b": rng.normal(0, 1, 80)}
    values = prompt_values(
        {(name, 1): {WIN: {f"p{n}": float(v) for n, v in enumerate(difficulty + noise[name])}} for name in noise}
    )
    rows = [row(name, t, 50.0, 20.0) for name in noise for t in (0, 1)]
    a, b = get_paths(rows)
    found = effect_of(at_iteration(a, WIN, 1) - at_iteration(b, WIN, 1), values)
    difference = noise["a"] - noise["b"]
    assert found is not None and found.value == pytest.approx(difference.mean())
    assert found.se == pytest.approx(difference.std(ddof=1) / math.sqrt(80))


def test_only_common_seeds_are_compared() -> None:
    rows = [row(f"a{s}", t, 50 + 10 * t + int(s), 20, seed=s) for s in "012" for t in (0, 1)]
    rows += [row(f"b{s}", t, 50 + 5 * t + int(s), 20, objective="simpo", seed=s) for s in "12" for t in (0, 1)]
    a, b = get_paths(rows)
    found = effect_of(at_iteration(a, WIN, 1) - at_iteration(b, WIN, 1))
    assert found is not None and (found.value, found.n_seeds) == (5.0, 2)


def test_a_value_at_a_length_is_linear_between_iterations() -> None:
    (path,) = get_paths([row("a", 0, 50, 20), row("a", 1, 70, 40), row("a", 2, 71, 90)])
    quantity = at_length(path, WIN, LENGTH, 25.0)
    assert quantity is not None
    found = effect_of(quantity)
    assert found is not None and found.value == pytest.approx(55.0)
    win, length = math.hypot(0.75, 0.25), 0.5 * math.hypot(0.75, 0.25)  # slope 1 point a token
    assert found.se == pytest.approx(math.hypot(win, length))
    assert at_length(path, WIN, LENGTH, 95.0) is None


def test_the_error_at_a_length_is_that_of_drawing_prompts_again() -> None:
    """The first-order error against a bootstrap over prompts of the whole interpolation, lengths and all."""
    rng = np.random.default_rng(3)
    n = 250
    length = np.stack([rng.normal(20, 6, n), rng.normal(45, 15, n)])
    win = np.stack([np.full(n, 50.0), 100.0 * (rng.random(n) < 0.8)]) + 0.4 * (length - length.mean(1, keepdims=True))
    ids = [f"p{k}" for k in range(n)]
    values = prompt_values(
        {("a", t): {WIN: dict(zip(ids, win[t], strict=True)), LENGTH: dict(zip(ids, length[t], strict=True))}
         for t in (0, 1)}
    )  # fmt: skip
    (path,) = get_paths([row("a", t, float(win[t].mean()), float(length[t].mean())) for t in (0, 1)])
    quantity = at_length(path, WIN, LENGTH, 38.0)
    assert quantity is not None
    found = effect_of(quantity, values)

    def interpolated(drawn: np.ndarray) -> float:
        lengths, wins = length[:, drawn].mean(axis=1), win[:, drawn].mean(axis=1)
        return float(np.interp(38.0, lengths, wins))

    again = [interpolated(rng.integers(0, n, n)) for _ in range(2000)]
    assert found is not None and found.value == pytest.approx(interpolated(np.arange(n)))
    assert found.se == pytest.approx(float(np.std(again)), rel=0.06)


def test_the_matched_length_is_what_every_seed_of_every_path_has_reached() -> None:
    rows = [row("a0", t, 50, length, seed="0") for t, length in enumerate((20, 40, 60))]
    rows += [row("a1", t, 50, length, seed="1") for t, length in enumerate((21, 35, 30))]
    rows += [row("b", t, 50, length, objective="simpo") for t, length in enumerate((20, 50, 70))]
    paths = get_paths(rows)
    assert [matched_length(paths, LENGTH, t) for t in (1, 2)] == [35, 35]
    shrinking = get_paths([*rows, *[row("c", t, 50, 20 - t, objective="aipo") for t in range(3)]])
    assert matched_length(shrinking, LENGTH, 2) is None
