"""How near a rule's ideal points lie: one score a point, smaller is better, for one or many draws of their values.

The same functions score the measured values (one draw) and resampled ones (many), so that what a resample would have
picked is picked by the very same rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aipo_lab.results.rules import SelectionRule

Array = NDArray[np.float64]

TIE = 1e-9
"""Scores that differ by less are equal but for rounding; the shorter point is then preferred, then the earlier."""


@dataclass(frozen=True)
class Axes:
    """Values of points, arrays of shape (draws, points): the rule's metric, and lengths where there are any.

    `base_length`: of each point's own base model, NaN where that is not known. `present`: (points,), whether the point
    carries what the rule asks for. `candidate`: (points,), whether it may be chosen. `member`: (points,), those whose
    front has the knee: the candidates and their base models.
    """

    value: Array
    length: Array | None
    base_length: Array | None
    present: NDArray[np.bool_]
    candidate: NDArray[np.bool_]
    member: NDArray[np.bool_]


def rule_scores(rule: SelectionRule, axes: Axes, bounds: tuple[float, float]) -> Array:
    """Scores of shape (draws, points); infinite where a point cannot be chosen. `bounds`: of the metric, worst to best.

    - `corner`: distance to (the base model's length, the best value), with the length axis ending at
      `length_multiple` times the base's length, the value axis at `bounds`. Being shorter than the base earns nothing.
    - `top_left`: distance to the corner of the range of all points.
    - `knee`: minus the height above the chord of the front, in units of the metric (Das 1999: the point of the front
      farthest from the line through its ends; which one that is does not depend on how the axes are scaled).
    - `max`: minus the metric, within the limit of length.

    Without lengths the first three take the highest value.
    """
    if axes.length is None or rule.kind == "max":
        scores = -axes.value
        if rule.length_limit is not None:
            beyond = True if axes.length is None else ~(axes.length <= rule.length_limit)
            scores = np.where(beyond, np.inf, scores)
    elif rule.kind == "corner":
        scores = _from_corner(axes, bounds, rule.length_multiple)
    elif rule.kind == "knee":
        scores = _below_chord(axes)
    else:
        scores = _from_top_left(axes)
    return np.where(axes.candidate & axes.present & ~np.isnan(scores), scores, np.inf)


def best_places(scores: Array, length: Array | None) -> NDArray[np.intp]:
    """The chosen point of each draw, shape (draws,): the lowest score, of equal ones the shortest, then the first."""
    if length is not None:
        lowest = scores.min(axis=1, keepdims=True)
        scores = np.where(scores <= lowest + TIE, length, np.inf)
    places: NDArray[np.intp] = scores.argmin(axis=1)
    return places


def _from_corner(axes: Axes, bounds: tuple[float, float], multiple: float) -> Array:
    assert axes.length is not None
    assert axes.base_length is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        longer = (axes.length / axes.base_length - 1) / (multiple - 1)
    distance: Array = np.hypot((bounds[1] - axes.value) / (bounds[1] - bounds[0]), np.maximum(longer, 0))
    return distance


def _from_top_left(axes: Axes) -> Array:
    assert axes.length is not None
    distance: Array = np.hypot(1 - _scaled(axes.value, axes.present, 1.0), _scaled(axes.length, axes.present, 0.0))
    return distance


def _scaled(values: Array, present: NDArray[np.bool_], where_flat: float) -> Array:
    """Values as shares of the range of the points that are there; `where_flat` where that range is a point."""
    there = np.where(present, values, np.nan)
    if np.isnan(there).all():
        return np.zeros_like(there)
    low, high = np.nanmin(there, axis=1, keepdims=True), np.nanmax(there, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(high > low, (values - low) / (high - low), where_flat)


def _below_chord(axes: Axes) -> Array:
    """Minus the height above the line from the shortest to the best point of the front, level beyond both ends.

    A point that another beats is never higher than that other, as the line rises: the highest lies on the front.
    Where one point is both the shortest and the best there is no line, and the highest value counts.
    """
    assert axes.length is not None
    there = axes.member & axes.present
    value, length = np.where(there, axes.value, -np.inf), np.where(there, axes.length, np.inf)
    draws = np.arange(len(value))
    start = np.where(length <= length.min(axis=1, keepdims=True) + TIE, value, -np.inf).argmax(axis=1)
    end = np.where(value >= value.max(axis=1, keepdims=True) - TIE, length, np.inf).argmin(axis=1)
    run = (length[draws, end] - length[draws, start])[:, None]
    rise = (value[draws, end] - value[draws, start])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip((axes.length - length[draws, start][:, None]) / run, 0, 1)
    chord = value[draws, start][:, None] + rise * share
    return np.where((run > 0) & (rise > 0), chord - axes.value, -axes.value)
