"""Choosing the best trial: what a `select` rule picks among the (trial, iteration) points of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.core.errors import UserError
from aipo_lab.results.contest import Contest, open_contest
from aipo_lab.results.points import configuration_key, get_points, standard_error
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from aipo_lab.results.certainty import Certainty


@dataclass(frozen=True)
class Selection:
    """The chosen point, the best point of another trial, and how clearly the first leads.

    `metric` is the full name of the metric that `gap_se` compares: best minus runner-up, in standard errors
    of the difference, sqrt(se_a² + se_b²). It may be negative under rules that look at length (a shorter best point).
    It is None without a runner-up or without standard errors. Trials answer the same prompts, so taking the errors
    as independent overstates that of the difference: the gap is conservative.

    `best` holds the measured values, of all prompts; `reported` those to report: of the prompts on which nothing was
    chosen where `halved`, else the same row. `seeds` are the rows that `best` is the mean of, one where seeds are not
    repeated. `certainty` says how sure the pick is, once that was worked out (`certainty.with_certainty`).
    """

    rule: SelectionRule
    metric: str
    best: ResultRow
    runner_up: ResultRow | None
    gap_se: float | None
    reported: ResultRow
    seeds: tuple[ResultRow, ...] = ()
    halved: bool = False
    certainty: Certainty | None = None


def select_best(
    rows: Sequence[ResultRow],
    rule: SelectionRule,
    metrics: BenchmarkMetrics,
    objective: str | None = None,
) -> Selection | None:
    """The best (trial, iteration) point of the sweep, or of one objective or method, for one benchmark.

    Candidates are complete rows after iteration 0 that carry the rule's metrics; rows that differ in their seed alone
    are one candidate, their mean. `corner` measures every point by its own base model, so neither other points nor
    other objectives move its pick. `top_left` scales both axes by the range of all complete rows of the sweep, base
    model included, also when it chooses within one objective. A benchmark without a length falls back to the highest
    win rate. Equal scores prefer the shorter, then the earlier point. None where no point qualifies, for instance
    because every point is beyond the length limit, or, under `corner`, has no complete base model. Raises `UserError`
    if the rule names a metric that no finished point of the sweep has.
    """
    _check_metric_exists(rows, rule)
    return selection_of(open_contest(get_points(rows), rule, metrics, objective))


def select_per_objective(
    rows: Sequence[ResultRow], rule: SelectionRule, metrics: BenchmarkMetrics
) -> dict[str, Selection]:
    """`select_best` within each objective (or method) that has a point to offer, in order of first appearance."""
    objectives = dict.fromkeys(row.contender for row in rows)
    chosen = {objective: select_best(rows, rule, metrics, objective) for objective in objectives}
    return {objective: selection for objective, selection in chosen.items() if selection is not None}


def selection_of(contest: Contest) -> Selection | None:
    """What a contest's rule picks."""
    ranked = contest.ranked()
    if not ranked:
        return None
    best = contest.points[ranked[0]]
    others = (contest.points[place].row for place in ranked)
    winner = configuration_key(best.row)
    runner_up = next((row for row in others if configuration_key(row) != winner), None)
    gap_se = None if runner_up is None else standard_errors_between(best.row, runner_up, contest.metric)
    return Selection(
        contest.rule,
        contest.metric,
        best.row,
        runner_up,
        gap_se,
        reported_row(best.row) if contest.halved else best.row,
        best.rows,
        contest.halved,
    )


def reported_row(row: ResultRow) -> ResultRow:
    """The row with the values of the prompts on which nothing was chosen; other metrics are left out."""
    return replace(row, metrics=row.reported_on)


def _check_metric_exists(rows: Sequence[ResultRow], rule: SelectionRule) -> None:
    trained = [row for row in rows if row.state == "complete" and row.iteration > 0]
    present = {name for row in trained for name in row.metrics if not name.endswith("_se")}
    if rule.metric is None or not present or rule.metric in present:
        return
    if not any(name.split("/")[-1] == rule.metric for name in present):
        known = ", ".join(sorted(present))
        raise UserError(f"select: no result has the metric {rule.metric!r} of {str(rule)!r}; there are {known}")


def standard_errors_between(a: ResultRow, b: ResultRow, metric: str) -> float | None:
    """(a - b) / sqrt(se_a² + se_b²) of `metric`; None where a value or an error is missing or both are 0."""
    value_a, value_b = a.value(metric), b.value(metric)
    se_a, se_b = standard_error(a, metric), standard_error(b, metric)
    if value_a is None or value_b is None or se_a is None or se_b is None:
        return None
    se = math.hypot(se_a, se_b)
    return (value_a - value_b) / se if se > 0 else None
