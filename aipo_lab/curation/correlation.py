"""How two quantities of preference pairs go together: Pearson's and Spearman's coefficients with bootstrap errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 200
"""Bootstrap resamples behind a standard error."""


@dataclass(frozen=True)
class Correlation:
    """A coefficient in [-1, 1], the standard error over pairs (None: it cannot be told), and the number of points."""

    value: float
    se: float | None
    n: int


def pearson(x: Any, y: Any) -> Correlation | None:
    """Pearson's coefficient of the points (x, y); see `_correlation` for shapes. None where one of the two is constant.

    How closely the points lie along a line.
    """
    return _correlation(x, y, _pearson)


def spearman(x: Any, y: Any) -> Correlation | None:
    """Spearman's coefficient: Pearson's of the ranks, equal values sharing their mean rank. As `pearson` otherwise.

    How far one grows whenever the other does, whatever the shape.
    """
    return _correlation(x, y, lambda a, b: _pearson(_ranks(a), _ranks(b)))


Coefficient = Callable[[Any, Any], float | None]


def _correlation(x: Any, y: Any, coefficient: Coefficient) -> Correlation | None:
    """x and y: (pairs,) or (pairs, k), k points of each pair, which the bootstrap draws together."""
    x, y = (np.asarray(values, dtype=float) for values in (x, y))
    assert x.shape == y.shape and x.size and np.isfinite(x).all() and np.isfinite(y).all()
    value = coefficient(x.ravel(), y.ravel())
    if value is None:
        return None
    draw, n_pairs = np.random.default_rng(0), len(x)
    resampled = []
    for _ in range(RESAMPLES if n_pairs > 2 else 0):
        rows = draw.integers(0, n_pairs, n_pairs)
        resampled.append(coefficient(x[rows].ravel(), y[rows].ravel()))
    known = [one for one in resampled if one is not None]
    # Where resamples are often constant there is too little variety for an error.
    se = float(np.std(known, ddof=1)) if len(known) > RESAMPLES // 2 else None
    return Correlation(value, se, int(x.size))


def _pearson(x: Any, y: Any) -> float | None:
    a, b = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if scale <= 1e-12 * max(1.0, float(np.abs(x).max()) * float(np.abs(y).max())):
        return None
    return float(np.clip((a * b).sum() / scale, -1.0, 1.0))


def _ranks(values: Any) -> Any:
    """Ranks from 1, equal values at the mean of their places."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]
