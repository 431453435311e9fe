"""Choosing the best trial: the `select` rules over (trial, iteration) points, and the Pareto front."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.core.errors import UserError
from aipo_lab.core.numbers import number_text
from aipo_lab.results.rows import ResultRow

VALID_FORMS = "top_left, max:<metric>, max:<metric>@length<=<x>"
_MAX_RULE = re.compile(r"max:(?P<metric>[A-Za-z0-9_./-]+)(?:@length<=(?P<limit>[^@]+))?")


@dataclass(frozen=True)
class SelectionRule:
    """A parsed rule; `metric` is None for `top_left`, `length_limit` has the length metric's unit."""

    kind: Literal["top_left", "max"]
    metric: str | None = None
    length_limit: float | None = None

    def __str__(self) -> str:
        if self.kind == "top_left":
            return "top_left"
        limit = "" if self.length_limit is None else f"@length<={number_text(self.length_limit)}"
        return f"max:{self.metric}{limit}"


@dataclass(frozen=True)
class Selection:
    """The chosen point, the best point of another trial, and how clearly the first leads.

    `metric` is the full name of the metric that `gap_se` compares: best minus runner-up, in standard errors
    of the difference, sqrt(se_a² + se_b²). It may be negative under `top_left` (a shorter best point). It is
    None without a runner-up or without standard errors. Trials answer the same prompts, so taking the errors
    as independent overstates that of the difference: the gap is conservative.
    """

    rule: SelectionRule
    metric: str
    best: ResultRow
    runner_up: ResultRow | None
    gap_se: float | None


def parse_rule(text: str) -> SelectionRule:
    """Parse `top_left`, `max:<metric>` or `max:<metric>@length<=<x>`.

    A metric without a benchmark (`max:win_rate`) means that metric of whichever benchmark is being looked at.
    Raises `UserError` naming the value, the rule and the valid forms.
    """
    compact = "".join(text.split())
    if compact == "top_left":
        return SelectionRule("top_left")
    match = _MAX_RULE.fullmatch(compact)
    if match is None:
        raise UserError(f"select: {text!r} is not a selection rule; write one of {VALID_FORMS}")
    metric, limit = match["metric"], match["limit"]
    benchmark, slash, name = metric.partition("/")
    if slash and (benchmark not in BENCHMARK_METRICS or not name):
        known = ", ".join(BENCHMARK_METRICS)
        raise UserError(f"select: {text!r} names no metric; write <benchmark>/<metric> with one of {known}")
    return SelectionRule("max", metric, None if limit is None else _length_limit(text, limit))


def _length_limit(text: str, limit: str) -> float:
    try:
        value = float(limit)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(
            f"select: the length limit {limit!r} in {text!r} must be a number greater than 0; "
            "write for example max:win_rate@length<=60"
        )
    return value


def select_best(
    rows: Sequence[ResultRow],
    rule: SelectionRule,
    metrics: BenchmarkMetrics,
    objective: str | None = None,
) -> Selection | None:
    """The best (trial, iteration) point of the sweep, or of one objective or method, for one benchmark.

    Candidates are complete rows after iteration 0 that carry the rule's metrics. `top_left` scales both axes
    by the range of all complete rows of the sweep, base model included, also when it chooses within one
    objective; a benchmark without a length falls back to the highest win rate. Equal scores prefer the
    shorter, then the earlier point. None where no point qualifies, for instance because every point is beyond
    the length limit. Raises `UserError` if the rule names a metric that no finished point of the sweep has.
    """
    _check_metric_exists(rows, rule)
    scorer = _Scorer(rows, rule, metrics)
    scores = {
        id(row): score
        for row in rows
        if row.iteration > 0 and objective in (None, row.contender)
        if (score := scorer.score(row)) is not None
    }
    ranked = sorted((row for row in rows if id(row) in scores), key=lambda row: (scores[id(row)], row.trial))
    if not ranked:
        return None
    best = ranked[0]
    runner_up = next((row for row in ranked if row.trial != best.trial), None)
    gap_se = None if runner_up is None else standard_errors_between(best, runner_up, scorer.metric)
    return Selection(rule, scorer.metric, best, runner_up, gap_se)


def select_per_objective(
    rows: Sequence[ResultRow], rule: SelectionRule, metrics: BenchmarkMetrics
) -> dict[str, Selection]:
    """`select_best` within each objective (or method) that has a point to offer, in order of first appearance."""
    objectives = dict.fromkeys(row.contender for row in rows)
    chosen = {objective: select_best(rows, rule, metrics, objective) for objective in objectives}
    return {objective: selection for objective, selection in chosen.items() if selection is not None}


def _check_metric_exists(rows: Sequence[ResultRow], rule: SelectionRule) -> None:
    trained = [row for row in rows if row.state == "complete" and row.iteration > 0]
    present = {name for row in trained for name in row.metrics if not name.endswith("_se")}
    if rule.metric is None or not present or rule.metric in present:
        return
    if not any(name.split("/")[-1] == rule.metric for name in present):
        known = ", ".join(sorted(present))
        raise UserError(f"select: no result has the metric {rule.metric!r} of {str(rule)!r}; there are {known}")


def standard_error(row: ResultRow, metric: str) -> float | None:
    """The metric's standard error, taken from the width of its 95 % interval where it has only that."""
    low, high = row.value(f"{metric}_ci_low"), row.value(f"{metric}_ci_high")
    stated = row.standard_error(metric)
    if stated is not None or low is None or high is None:
        return stated
    return (high - low) / (2 * 1.959964)


def standard_errors_between(a: ResultRow, b: ResultRow, metric: str) -> float | None:
    """(a - b) / sqrt(se_a² + se_b²) of `metric`; None where a value or an error is missing or both are 0."""
    value_a, value_b = a.value(metric), b.value(metric)
    se_a, se_b = standard_error(a, metric), standard_error(b, metric)
    if value_a is None or value_b is None or se_a is None or se_b is None:
        return None
    se = math.hypot(se_a, se_b)
    return (value_a - value_b) / se if se > 0 else None


class _Scorer:
    """Scores rows by a rule, smaller is better; the axis ranges are those of the whole sweep."""

    def __init__(self, rows: Sequence[ResultRow], rule: SelectionRule, metrics: BenchmarkMetrics) -> None:
        benchmark = metrics.win_rate.split("/")[0]
        metric = rule.metric or metrics.win_rate
        self.metric = metric if "/" in metric else f"{benchmark}/{metric}"
        self.limit = rule.length_limit
        self.length = BENCHMARK_METRICS.get(self.metric.split("/")[0], metrics).length
        self.by_corner = rule.kind == "top_left" and self.length is not None
        points = [row for row in rows if row.state == "complete"]
        self.win_range = _range([row.value(self.metric) for row in points])
        self.length_range = _range([row.value(self.length) for row in points] if self.length else [])

    def score(self, row: ResultRow) -> tuple[float, float, int] | None:
        win = row.value(self.metric)
        length = row.value(self.length) if self.length else None
        if row.state != "complete" or win is None:
            return None
        if length is None and (self.by_corner or self.limit is not None):
            return None
        if self.limit is not None and length is not None and length > self.limit:
            return None
        if not self.by_corner:
            return (-win, length or 0.0, row.iteration)
        assert length is not None
        below_top = 1.0 - _scale(win, self.win_range) if _width(self.win_range) > 0 else 0.0
        return (math.hypot(below_top, _scale(length, self.length_range)), length, row.iteration)


def _range(values: Sequence[float | None]) -> tuple[float, float]:
    present = [value for value in values if value is not None]
    return (min(present), max(present)) if present else (0.0, 0.0)


def _width(bounds: tuple[float, float]) -> float:
    return bounds[1] - bounds[0]


def _scale(value: float, bounds: tuple[float, float]) -> float:
    """`value` as a share of the range, 0 where the range is a point."""
    return (value - bounds[0]) / _width(bounds) if _width(bounds) > 0 else 0.0


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (length, win rate) points that no other point beats, by growing length.

    A point beats another when it is no longer and wins no less often, and is better in one of the two; equal
    points do not beat each other, so all of them are kept.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front
