"""What the points of a sweep might have measured: prompts and seeds drawn again, or normal errors where only those are.

Prompts and seeds are drawn independently of each other, each with replacement, one fewer than there are (Rao and Wu
1988), which makes the variance of a mean what its usual estimate is also for very few seeds. Every point sees the same
drawn prompts and seeds, so that differences are paired. The two variances add up, as in the pigeonhole bootstrap (Owen
2007), whose excess is on the safe side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from aipo_lab.results.halves import picks
from aipo_lab.results.per_prompt import PromptValues
from aipo_lab.results.points import SEED, Point, standard_error
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.scoring import Array

Half = Literal["all", "picks", "reports"]
RANDOM_SEED = 20240908
"""Of the draws, so that a report says the same each time it is made."""


class Draws:
    """Draws of `metrics` for all `points`, by prompts where all of them are known so, else by standard errors.

    `half`: whose prompts are drawn, of all, of the half that picks, or of the one that reports. `source` says how they
    were made: "prompts", "prompts and seeds", "errors", or "" where a metric has neither; `n_prompts` is the number of
    prompts drawn from.
    """

    def __init__(
        self, points: Sequence[Point], metrics: Sequence[str], values: PromptValues, half: Half, n: int
    ) -> None:
        self.n = n
        self.source = ""
        self.n_prompts = 0
        self._points = points
        self._random = np.random.default_rng(RANDOM_SEED)
        self._noise: dict[tuple[str, float, float, str], Array] = {}
        self._seeds = self._seed_weights()
        self._drawn: dict[str, Array] = {}
        if not self._draw_prompts(metrics, values, half):
            self._draw_errors(metrics)

    def of(self, metric: str) -> Array | None:
        """The draws of a metric, shape (n, points), NaN where a point lacks it; None where there are none."""
        return self._drawn.get(metric)

    def _draw_prompts(self, metrics: Sequence[str], values: PromptValues, half: Half) -> bool:
        rows = [row for point in self._points for row in point.rows if all(row.value(m) is not None for m in metrics)]
        columns = [values.common([(row.trial, row.iteration) for row in rows], metric) for metric in metrics]
        if not rows or any(one is None for one in columns):
            return False
        ids = [one.ids for one in columns if one is not None]
        if any(others != ids[0] for others in ids):
            return False
        used = np.array([half == "all" or picks(one) == (half == "picks") for one in ids[0]])
        self.n_prompts = int(used.sum())
        self.source = "prompts" if self._seeds is None else "prompts and seeds"
        weights = _weights(self._random, self.n, self.n_prompts)
        for metric, one in zip(metrics, columns, strict=True):
            assert one is not None
            self._drawn[metric] = self._by_point(rows, weights @ one.values[:, used].T)
        return True

    def _by_point(self, rows: Sequence[ResultRow], drawn: Array) -> Array:
        """Draws of rows, shape (n, rows), as those of points: the mean of a point's rows, by the seeds drawn."""
        places = {(row.trial, row.iteration): place for place, row in enumerate(rows)}
        made = np.full((self.n, len(self._points)), np.nan)
        for number, point in enumerate(self._points):
            own = [(row, places[key]) for row in point.rows if (key := (row.trial, row.iteration)) in places]
            if len(own) == 1 or self._seeds is None:
                made[:, number] = drawn[:, [place for _, place in own]].mean(axis=1) if own else np.nan
                continue
            shares = np.stack([self._seeds[row.hyperparameters[SEED]] for row, _ in own], axis=1)
            none = shares.sum(axis=1) == 0  # a configuration that has none of the seeds drawn keeps all of its own
            shares[none] = 1.0
            made[:, number] = (drawn[:, [place for _, place in own]] * shares).sum(axis=1) / shares.sum(axis=1)
        return made

    def _seed_weights(self) -> dict[str, Array] | None:
        """By seed: how much of each draw it makes up, shape (n,); None where no point has several."""
        if all(len(point.rows) == 1 for point in self._points):
            return None
        seeds = sorted(
            {row.hyperparameters[SEED] for point in self._points for row in point.rows if len(point.rows) > 1}
        )
        weights = _weights(self._random, self.n, len(seeds))
        return {seed: weights[:, place] for place, seed in enumerate(seeds)}

    def _draw_errors(self, metrics: Sequence[str]) -> None:
        """Independent normal errors; the first metric must have them, others (a length) count as exact without."""
        errors = [standard_error(point.row, metrics[0]) for point in self._points if metrics[0] in point.row.metrics]
        if not errors or any(error is None for error in errors):
            return
        self.source = "errors"
        for metric in metrics:
            self._drawn[metric] = np.stack([self._around(point.row, metric) for point in self._points], axis=1)

    def _around(self, row: ResultRow, metric: str) -> Array:
        """Draws around a row's value, shape (n,); what trials share, a base model say, is drawn once."""
        value = row.value(metric)
        if value is None:
            return np.full(self.n, np.nan)
        error = standard_error(row, metric) or 0.0
        key = (metric, value, error, row.checkpoint or f"{row.trial}@{row.iteration}")
        if key not in self._noise:
            self._noise[key] = value + error * self._random.standard_normal(self.n)
        return self._noise[key]


def _weights(random: np.random.Generator, n_draws: int, n: int) -> Array:
    """Shares of `n` things in draws of n - 1 of them with replacement, shape (n_draws, n)."""
    size = max(n - 1, 1)
    weights: Array = random.multinomial(size, np.full(n, 1 / n), size=n_draws) / size
    return weights
