"""Length-controlled win rates: what a judge would say if both answers were equally long.

A logistic model in the manner of AlpacaEval 2's, without the difficulty term: the judge's preference is
explained by a constant and by tanh of the standardised length difference; the length-controlled win rate
is the model's prediction at a length difference of zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

INTERCEPT_PRIOR_SD = 10.0
LENGTH_PRIOR_SD = 2.5
"""Weak normal priors on the two weights; without them a judge that always prefers the longer answer has no
finite fit. The intercept's is so wide that it does not matter where the data say anything."""
ROUNDING = 1e-12
"""Differences of length that vary by less, as a share of the lengths, are equal but for rounding."""


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error (None where there is none) and the number of examples."""

    value: float
    se: float | None
    n: int


def mean_estimate(values: Sequence[float], scale: float = 1.0) -> Estimate:
    """Mean of `values` times `scale`, with the standard error of the mean."""
    array = np.asarray(values, dtype=float) * scale
    assert array.size and np.isfinite(array).all(), "an estimate needs finite values"
    se = float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else None
    return Estimate(float(array.mean()), se, array.size)


def length_controlled_win_rate(
    preferences: Sequence[float], lengths: Sequence[float], baseline_lengths: Sequence[float]
) -> Estimate:
    """Length-controlled win rate in percent from preferences (1 win, 0.5 tie, 0 loss) and both lengths.

    The standard error is the sandwich estimate at the fit, carried to the rate by the delta method.
    """
    outcome = np.asarray(preferences, dtype=float)
    own, other = np.asarray(lengths, dtype=float), np.asarray(baseline_lengths, dtype=float)
    difference = own - other
    spread = difference.std(ddof=1) if difference.size > 1 else 0.0
    varies = spread > ROUNDING * max(np.abs(own).max(), np.abs(other).max())
    length_feature = np.tanh(difference / spread) if varies else np.zeros_like(difference)
    features = np.column_stack([np.ones_like(length_feature), length_feature])
    weights, covariance = _fit_logistic(features, outcome)
    rate = 1 / (1 + math.exp(-weights[0]))
    se = rate * (1 - rate) * math.sqrt(covariance[0, 0])
    return Estimate(100 * rate, 100 * se, outcome.size)


def _fit_logistic(features: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (2,) and their covariance (2, 2) of a logistic model with normal priors, by Newton's method."""
    precision = np.diag([INTERCEPT_PRIOR_SD**-2, LENGTH_PRIOR_SD**-2])
    weights = np.zeros(2)
    for _ in range(100):
        predicted = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (outcome - predicted) - precision @ weights
        hessian = (features * (predicted * (1 - predicted))[:, None]).T @ features + precision
        step = np.linalg.solve(hessian, gradient)
        weights = weights + step * min(1.0, 2.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    residual = features * (outcome - predicted)[:, None]
    inverse = np.linalg.inv(hessian)
    return weights, inverse @ (residual.T @ residual) @ inverse
