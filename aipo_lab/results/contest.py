"""A contest: the points of a sweep under one rule on one benchmark, and which of them may win."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.results.points import Point
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule
from aipo_lab.results.scoring import Array, Axes, rule_scores

DrawMetric = Callable[[str], Array | None]
"""Values of a metric for all points, shape (draws, points), NaN where a point lacks it."""


@dataclass(frozen=True)
class Contest:
    """Points under a rule. `objective`: the contender among whose points one is chosen, None for all.

    `metric` is the full name of what the rule looks at, `length` that of its benchmark's length, `bounds` the ends of
    the metric's axis. `halved`: whether points are compared on the half of the prompts that picks.
    """

    rule: SelectionRule
    points: tuple[Point, ...]
    metric: str
    length: str | None
    bounds: tuple[float, float]
    objective: str | None
    halved: bool

    def value(self, row: ResultRow, metric: str) -> float | None:
        """What the row has to say in this contest."""
        return row.picked_on.get(metric) if self.halved else row.value(metric)

    def measured(self, metric: str) -> Array:
        """The points' values as one draw, shape (1, points)."""
        values = [self.value(point.row, metric) for point in self.points]
        return np.array([[np.nan if value is None else value for value in values]])

    def axes(self, draw: DrawMetric) -> Axes | None:
        """The axes of drawn values; None where nothing can be drawn."""
        value = draw(self.metric)
        length = None if self.length is None else draw(self.length)
        if value is None or (self.length is not None and length is None):
            return None
        base_length = None
        if length is not None:
            base = np.array([-1 if point.base is None else point.base for point in self.points], dtype=int)
            base_length = np.where(base >= 0, length[:, base], np.nan)
        present = np.array([self._has_all(point.row) for point in self.points], dtype=bool)
        candidate = np.array([self._is_candidate(point) for point in self.points], dtype=bool)
        member = candidate.copy()
        member[[point.base for point in self.points if self._is_candidate(point) and point.base is not None]] = True
        return Axes(value, length, base_length, present, candidate, member)

    def ranked(self) -> list[int]:
        """The points that can be chosen, best first: by score, length, iteration, trial."""
        if not self.points:
            return []
        axes = self.axes(self.measured)
        assert axes is not None
        scores = rule_scores(self.rule, axes, self.bounds)[0]
        length = [0.0] * len(scores) if axes.length is None else axes.length[0]
        places = [place for place in range(len(scores)) if scores[place] < float("inf")]

        def order(place: int) -> tuple[float, float, int, str]:
            row = self.points[place].row
            return round(float(scores[place]), 9), float(length[place]), row.iteration, row.trial

        return sorted(places, key=order)

    def scores(self, draw: DrawMetric) -> Array | None:
        """Scores of drawn values, shape (draws, points), infinite for what cannot be chosen; None without draws."""
        axes = self.axes(draw)
        return None if axes is None else rule_scores(self.rule, axes, self.bounds)

    def candidates(self) -> list[int]:
        """The places of the points among which the rule chooses, those beyond a limit of length included."""
        return [n for n, one in enumerate(self.points) if self._is_candidate(one) and self._has_all(one.row)]

    def _has_all(self, row: ResultRow) -> bool:
        needs_length = self.length is not None and (self.rule.kind != "max" or self.rule.length_limit is not None)
        has_length = self.length is not None and self.value(row, self.length) is not None
        return self.value(row, self.metric) is not None and (has_length or not needs_length)

    def _is_candidate(self, point: Point) -> bool:
        return point.row.iteration > 0 and self.objective in (None, point.row.contender)


def open_contest(
    points: Sequence[Point], rule: SelectionRule, metrics: BenchmarkMetrics, objective: str | None = None
) -> Contest:
    """The contest of `points` on the benchmark of `metrics`, or on the one that the rule's metric names.

    It is held on the half of the prompts that picks if every point that has the rule's metrics has them there.
    """
    metric = rule.metric or metrics.win_rate
    metric = metric if "/" in metric else f"{metrics.win_rate.split('/')[0]}/{metric}"
    of_metric = BENCHMARK_METRICS.get(metric.split("/")[0], metrics)
    needed = [metric] if of_metric.length is None else [metric, of_metric.length]
    asked = [point.row for point in points if point.row.value(metric) is not None]
    halved = bool(asked) and all(name in row.picked_on for row in asked for name in needed)
    return Contest(rule, tuple(points), metric, of_metric.length, of_metric.win_bounds, objective, halved)
