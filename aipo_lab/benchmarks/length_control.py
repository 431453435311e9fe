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
from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[np.float64]

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


def length_controlled_win_rate(preferences: Numbers, lengths: Numbers, baseline_lengths: Numbers) -> Estimate:
    """Length-controlled win rate in percent from preferences (1 win, 0.5 tie, 0 loss) and both lengths.

    The standard error is the sandwich estimate at the fit, carried to the rate by the delta method.
    """
    rate, moved = _rate(preferences, lengths, baseline_lengths)
    return Estimate(100 * rate, 100 * float(np.sqrt(np.square(moved).sum())), moved.size)


def length_controlled_values(preferences: Numbers, lengths: Numbers, baseline_lengths: Numbers) -> NDArray[np.float64]:
    """One value per answer, in percent, whose mean is the length-controlled rate: the rate plus the answer's influence.

    The influence is that of the fit's first order (Hampel's influence function of an M-estimate), so that differences
    of two rates can be taken prompt by prompt. Shape (answers,).
    """
    rate, moved = _rate(preferences, lengths, baseline_lengths)
    return np.asarray(100 * (rate + moved.size * (moved - moved.mean())))


def _rate(preferences: Numbers, lengths: Numbers, baseline_lengths: Numbers) -> tuple[float, NDArray[np.float64]]:
    """The rate at a length difference of zero, 0 to 1, and how far each answer has moved it, shape (answers,)."""
    outcome = np.asarray(preferences, dtype=float)
    own, other = np.asarray(lengths, dtype=float), np.asarray(baseline_lengths, dtype=float)
    difference = own - other
    spread = difference.std(ddof=1) if difference.size > 1 else 0.0
    varies = spread > ROUNDING * max(np.abs(own).max(), np.abs(other).max())
    length_feature = np.tanh(difference / spread) if varies else np.zeros_like(difference)
    features = np.column_stack([np.ones_like(length_feature), length_feature])
    weights, influences = _fit_logistic(features, outcome)
    rate = 1 / (1 + math.exp(-weights[0]))
    return rate, rate * (1 - rate) * influences[:, 0]


def _fit_logistic(features: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (2,) of a logistic model with normal priors, by Newton's method, and each answer's part in them (n, 2).

    The sum of the parts' outer products is the sandwich covariance of the weights.
    """
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
    return weights, np.asarray(residual @ np.linalg.inv(hessian))
