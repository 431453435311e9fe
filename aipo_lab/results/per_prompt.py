"""Values of a benchmark's metrics prompt by prompt, for every trial and iteration: what paired comparisons are made of.

All trials of a sweep answer the same prompts, so that a difference of two of them, taken prompt by prompt, is free of
what makes a prompt easy or hard. The store has the values (`aipo_lab.sweeps.prompt_values` reads them); where it no
longer has them, only the rows' own standard errors are left, and `PromptValues.missing_text` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Key = tuple[str, int]
"""A trial's name and an iteration, 0 for the base model."""


@dataclass(frozen=True)
class PointValues:
    """One checkpoint on one benchmark: the prompts' ids, and by metric (without the benchmark) one value a prompt.

    Values are in the metric's own unit, percent for rates (a win is 100, a tie 50), so that the mean over prompts is
    the value in `results.csv`.
    """

    ids: tuple[str, ...]
    columns: Mapping[str, Values]


@dataclass(frozen=True)
class CommonValues:
    """One metric of several points on the prompts that all of them answered: `values` has the shape (points, prompts).

    Rows are in the order the points were asked for, columns in that of `ids`.
    """

    ids: tuple[str, ...]
    values: Values


class PromptValues:
    """The values of a sweep: `points` by trial, iteration and benchmark; `missing`: points without any, as named."""

    def __init__(self, points: Mapping[tuple[str, int, str], PointValues], missing: Sequence[Key] = ()) -> None:
        self._points = points
        self.missing = tuple(missing)

    def __bool__(self) -> bool:
        return bool(self._points)

    def of(self, trial: str, iteration: int, metric: str) -> CommonValues | None:
        """`<benchmark>/<metric>` of one point as one row; None where it is not known by prompt."""
        return self.common([(trial, iteration)], metric)

    def common(self, points: Sequence[Key], metric: str) -> CommonValues | None:
        """`<benchmark>/<metric>` of all `points` on their common prompts.

        None where a point has no such values, or they share fewer than two prompts.
        """
        benchmark, _, name = metric.partition("/")
        found = [self._points.get((trial, iteration, benchmark)) for trial, iteration in points]
        known = [point for point in found if point is not None and name in point.columns]
        if not points or len(known) < len(points):
            return None
        ids = _common_ids([point.ids for point in known])
        if len(ids) < 2:
            return None
        return CommonValues(ids, np.stack([_at(point, name, ids) for point in known]))

    def missing_text(self) -> str:
        """A sentence on points whose answers are not known by prompt; empty if there are none."""
        if not self.missing:
            return ""
        trial, iteration = self.missing[0]
        return (
            f"the store no longer has the judged answers of {len(self.missing)} points (first: {trial}@{iteration}); "
            "comparisons with them use the standard errors of results.csv, taken as independent, which is conservative"
        )

    def points(self) -> Mapping[tuple[str, int, str], PointValues]:
        """All values by trial, iteration and benchmark."""
        return self._points


def joined(several: Mapping[str, PromptValues]) -> PromptValues:
    """The values of several sweeps by name; a trial is then called `<name>:<trial>`."""
    points = {
        (f"{name}:{trial}", iteration, benchmark): values
        for name, one in several.items()
        for (trial, iteration, benchmark), values in one.points().items()
    }
    missing = [(f"{name}:{trial}", iteration) for name, one in several.items() for trial, iteration in one.missing]
    return PromptValues(points, missing)


NO_VALUES = PromptValues({})
"""Where nothing is known by prompt."""


def prompt_values(points: Mapping[Key, Mapping[str, Mapping[str, float]]]) -> PromptValues:
    """Values given as {(trial, iteration): {`<benchmark>/<metric>`: {prompt id: value}}}."""
    made: dict[tuple[str, int, str], PointValues] = {}
    for (trial, iteration), metrics in points.items():
        for metric, by_id in metrics.items():
            benchmark, _, name = metric.partition("/")
            known = made.get((trial, iteration, benchmark))
            ids = tuple(by_id) if known is None else known.ids
            assert known is None or set(ids) == set(by_id), "metrics of one benchmark are of the same prompts"
            columns = {} if known is None else dict(known.columns)
            columns[name] = np.array([by_id[one] for one in ids], dtype=float)
            made[trial, iteration, benchmark] = PointValues(ids, columns)
    return PromptValues(made)


def _common_ids(several: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The ids that all have, in the order of the first."""
    first, *others = dict.fromkeys(several)
    shared = set(first).intersection(*others)
    return first if len(shared) == len(first) else tuple(one for one in first if one in shared)


def _at(point: PointValues, name: str, ids: tuple[str, ...]) -> Values:
    if point.ids == ids:
        return point.columns[name]
    place = {one: n for n, one in enumerate(point.ids)}
    return point.columns[name][[place[one] for one in ids]]
