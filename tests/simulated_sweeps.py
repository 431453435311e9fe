"""Sweeps made of random answers, prompt by prompt, for tests of what statistics say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aipo_lab.results.per_prompt import PointValues, PromptValues
from aipo_lab.results.rows import ResultRow

Answers = tuple[np.ndarray, np.ndarray]
"""Of one point: wins (0, 50 or 100) and lengths, one a prompt."""


def simulated(
    trials: Mapping[str, Sequence[Answers]],
    base_length: float = 20.0,
    objectives: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[list[ResultRow], PromptValues]:
    """Rows and values by prompt of trials given by their answers after each iteration, with a base model before."""
    n = len(next(iter(trials.values()))[0][0])
    ids = tuple(f"prompt-{number}" for number in range(n))
    rows, points = [], {}
    for trial, iterations in trials.items():
        base = (np.full(n, 50.0), np.full(n, base_length))
        for t, (wins, lengths) in enumerate([base, *iterations]):
            columns = {"judged_win_rate": wins, "length_tokens": lengths}
            points[trial, t, "micro"] = PointValues(ids, columns)
            metrics = {f"micro/{name}": float(values.mean()) for name, values in columns.items()}
            metrics |= {f"micro/{name}_se": float(v.std(ddof=1) / n**0.5) for name, v in columns.items()}
            hyperparameters = dict((settings or {}).get(trial, {}))
            objective = (objectives or {}).get(trial, "dpo")
            rows.append(ResultRow(trial, objective, hyperparameters, t, "complete", metrics))
    return rows, PromptValues(points)


def wins_at(random: np.random.Generator, rate: float, n: int) -> np.ndarray:
    """Wins (100) and losses (0) on `n` prompts, each won with probability `rate` percent."""
    return 100.0 * (random.random(n) < rate / 100)
