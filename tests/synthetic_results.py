"""Synthetic rows with the magnitudes of a real micro-world sweep, for tests of what shows results."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

from aipo_lab.results.rows import ResultRow

PROMPTS = 200
BASE_LENGTH_TOKENS = 19.4
# Growth of length and of judged win rate per iteration, ceiling and fall of true quality, per objective.
_CHARACTER = {
    "dpo": (0.55, 1.10, 69.0, 0.6),
    "dpo_nll": (0.42, 0.95, 69.5, 0.5),
    "simpo": (0.64, 1.05, 68.0, 2.4),
    "alpha_dpo": (0.53, 1.12, 69.5, 0.6),
    "aipo": (0.38, 1.02, 70.5, 0.3),
}


def table6_trials() -> list[tuple[str, str, dict[str, str]]]:
    """(trial, objective, hyperparameters) of the paper's Table 6: 3 + 3 + 4 + 4 + 6."""
    grid = [
        ("dpo", {"beta": ("0.1", "0.5", "1.0")}),
        ("dpo_nll", {"beta": ("0.1",), "alpha": ("0.2", "0.4", "0.6")}),
        ("simpo", {"beta": ("2.0", "3.0"), "gamma": ("0.5", "1.0")}),
        ("alpha_dpo", {"beta": ("0.1",), "alpha": ("0.02", "0.03", "0.04", "0.05")}),
        ("aipo", {"beta": ("0.1",), "alpha": ("0.03", "0.05", "0.07"), "lambda": ("0.2", "0.5")}),
    ]
    trials = []
    for objective, axes in grid:
        for k, values in enumerate(itertools.product(*axes.values())):
            trials.append((f"{objective}-{k:02d}", objective, dict(zip(axes, values, strict=True))))
    return trials


def micro_metrics(objective: str, iteration: int, strength: float, noise: random.Random) -> dict[str, float]:
    """The `micro/` metrics of one point, with standard errors."""
    growth, appeal, ceiling, decay = _CHARACTER.get(objective, _CHARACTER["dpo"])
    length = BASE_LENGTH_TOKENS * math.exp(growth * strength * iteration * (1 - 0.06 * iteration))
    if iteration == 0:
        judged = true = controlled = 50.0
    else:
        judged = 98.5 - 48.5 * math.exp(-appeal * strength**0.5 * iteration) + noise.gauss(0, 0.8)
        true = ceiling - 4 * math.exp(-iteration) - decay * (iteration - 1) ** 1.5 + noise.gauss(0, 0.9)
        controlled = 0.55 * true + 0.3 * judged + 4
        length *= math.exp(noise.gauss(0, 0.02))
    values = {
        "quality": 0.77 + 0.2 * (true - 50) / 20,
        "win_rate": true,
        "judged_win_rate": min(judged, 99.3),
        "lc_win_rate": controlled,
        "length_tokens": length,
        "length_chars": 5.1 * length,
        "truncated": max(0.0, length - 60) * 0.7,
    }
    errors = {name: _rate_error(values[name]) for name in ("win_rate", "judged_win_rate", "lc_win_rate")}
    errors |= {"quality": 0.015, "length_tokens": 0.035 * length, "length_chars": 0.18 * length}
    if iteration == 0:
        errors |= {"win_rate": 0.0, "judged_win_rate": 0.0, "lc_win_rate": 0.0}
    return {f"micro/{name}": value for name, value in values.items()} | {
        f"micro/{name}_se": error for name, error in errors.items()
    }


def _rate_error(percent: float) -> float:
    """Standard error of a win rate over the benchmark's prompts, in percentage points."""
    share = percent / 100
    return 100 * math.sqrt(share * (1 - share) / PROMPTS)


def synthetic_rows(iterations: int = 3, seed: int = 0, benchmark: str = "micro") -> list[ResultRow]:
    """Rows of the 20 trials of Table 6 for iterations 0 to `iterations`, all complete."""
    noise = random.Random(seed)
    rows = []
    for trial, objective, hyperparameters in table6_trials():
        strength = noise.uniform(0.8, 1.08)
        for iteration in range(iterations + 1):
            metrics = micro_metrics(objective, iteration, strength, noise)
            renamed = {name.replace("micro/", f"{benchmark}/"): value for name, value in metrics.items()}
            rows.append(ResultRow(trial, objective, hyperparameters, iteration, "complete", renamed))
    return rows


def with_judged_benchmarks(rows: list[ResultRow]) -> list[ResultRow]:
    """The same rows with Arena-Hard and MT-Bench scores beside the micro world's."""
    result = []
    for row in rows:
        win, length = row.metrics["micro/judged_win_rate"] / 2, row.metrics["micro/length_tokens"] * 15
        arena = {"win_rate": win, "win_rate_ci_low": win - 3, "win_rate_ci_high": win + 3}
        judged = {f"arena_hard/{name}": value for name, value in arena.items()}
        judged |= {"arena_hard/length_tokens": length, "mt_bench/score": 6 + win / 50}
        result.append(replace(row, metrics=row.metrics | judged))
    return result


def fail_trial(rows: list[ResultRow], trial: str, from_iteration: int) -> list[ResultRow]:
    """The rows as they are when `trial` failed at `from_iteration`: no metrics from there on."""
    return [
        replace(row, state="failed", metrics={}) if row.trial == trial and row.iteration >= from_iteration else row
        for row in rows
    ]


def swept_recipe_key(key: str = "rank.length_bias") -> list[ResultRow]:
    """Rows of a sweep that varies a recipe key instead of a hyperparameter of the objective."""
    noise = random.Random(1)
    return [
        ResultRow(
            f"dpo-{k:02d}",
            "dpo",
            {"beta": "0.1", key: value},
            iteration,
            "complete",
            micro_metrics("dpo", iteration, 0.1 + 18 * float(value), noise),
        )
        for k, value in enumerate(("0", "0.05", "0.1"))
        for iteration in range(4)
    ]
