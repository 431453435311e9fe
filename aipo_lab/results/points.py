"""The points that a sweep's rule chooses among: a configuration after an iteration, the mean of its seeds.

Trials that differ in their seed alone are repeats of one configuration, so that none is chosen for a lucky seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from aipo_lab.results.rows import ResultRow

SEED = "seed"
_Key = tuple[str, tuple[tuple[str, str], ...], str]


@dataclass(frozen=True)
class Point:
    """A configuration after an iteration: its complete rows, one a seed, and the row of their means.

    `row` carries the trial name and checkpoint of the first seed; its standard errors add the variance between seeds
    to the mean error of the rows. With one row it is that row. `base`: the index of the configuration's own base model
    among the points, None if that has no complete row.
    """

    row: ResultRow
    rows: tuple[ResultRow, ...]
    base: int | None


def get_points(rows: Sequence[ResultRow]) -> list[Point]:
    """The points of all complete rows, base models included, in order of appearance."""
    groups: dict[tuple[_Key, int], list[ResultRow]] = {}
    for row in rows:
        if row.state == "complete":
            groups.setdefault((configuration_key(row), row.iteration), []).append(row)
    places = {key: place for place, key in enumerate(groups)}
    return [
        Point(mean_row(group), tuple(group), places.get((configuration, 0)))
        for (configuration, _), group in groups.items()
    ]


def configuration_key(row: ResultRow) -> _Key:
    """What repeats have in common; a trial without a seed among its settings is a configuration of its own."""
    settings = tuple(sorted((k, v) for k, v in row.hyperparameters.items() if k != SEED))
    return row.contender, settings, "" if SEED in row.hyperparameters else row.trial


def mean_row(rows: Sequence[ResultRow]) -> ResultRow:
    """The means over seeds of the metrics that all rows have."""
    if len(rows) == 1:
        return rows[0]
    return replace(
        rows[0],
        hyperparameters={k: v for k, v in rows[0].hyperparameters.items() if k != SEED},
        metrics=_means([row.metrics for row in rows]),
        picked_on=_means([row.picked_on for row in rows]),
        reported_on=_means([row.reported_on for row in rows]),
    )


def _means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means by name; an error `…_se` of a mean is that of the prompts, which seeds share, and that between seeds."""
    common = [name for name in metrics[0] if all(name in others for others in metrics)]
    means = {name: fmean(one[name] for one in metrics) for name in common}
    for name in common:
        value = name.removesuffix("_se")
        if value != name and value in means:
            between = stdev([one[value] for one in metrics]) / math.sqrt(len(metrics))
            means[name] = math.hypot(means[name], between)
    return means


def standard_error(row: ResultRow, metric: str) -> float | None:
    """The metric's standard error, taken from the width of its 95 % interval where it has only that."""
    low, high = row.value(f"{metric}_ci_low"), row.value(f"{metric}_ci_high")
    stated = row.standard_error(metric)
    if stated is not None or low is None or high is None:
        return stated
    return (high - low) / (2 * 1.959964)
