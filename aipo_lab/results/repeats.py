"""Trials that differ in their seed alone are repeats of one configuration: means over them, with intervals.

Where values are known by prompt the interval is that of `effects`, prompts and seeds as random factors. Else it has two
parts, added in quadrature: between seeds, Student's t at 95 % with the standard deviation over the seeds; and over
the benchmark's prompts, which all seeds share, 1.96 times the mean standard error of the rows. The answers' own noise
is then in both, so the interval is rather too wide. With one seed there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from aipo_lab.results.effects import mean_effect
from aipo_lab.results.per_prompt import NO_VALUES, PromptValues
from aipo_lab.results.points import standard_error
from aipo_lab.results.rows import ResultRow

NORMAL_95 = 1.959964
STUDENT_95 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)
"""Two-sided 95 % quantiles of Student's t by degrees of freedom, from 1."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and half the width of its 95 % interval; None where one seed says nothing of others."""

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Configuration:
    """What repeats have in common: the method or objective, the settings but for the seed, and the iteration."""

    contender: str
    hyperparameters: tuple[tuple[str, str], ...]
    iteration: int


def repeated_rows(rows: Sequence[ResultRow]) -> dict[Configuration, list[ResultRow]]:
    """The complete rows of every configuration; nothing unless some configuration has several seeds."""
    groups: dict[Configuration, list[ResultRow]] = {}
    for row in rows:
        if row.state == "complete" and "seed" in row.hyperparameters:
            settings = tuple(sorted((k, v) for k, v in row.hyperparameters.items() if k not in ("seed", "method")))
            groups.setdefault(Configuration(row.contender, settings, row.iteration), []).append(row)
    return groups if any(len(group) > 1 for group in groups.values()) else {}


def estimate(rows: Sequence[ResultRow], metric: str, known: PromptValues = NO_VALUES) -> Estimate | None:
    """The mean of a metric over rows of different seeds; None where a row lacks it. `known`: the values by prompt."""
    values = [value for row in rows if (value := row.value(metric)) is not None]
    if not values or len(values) < len(rows):
        return None
    n = len(values)
    if n == 1:
        return Estimate(values[0], None, 1)
    by_prompt = known.common([(row.trial, row.iteration) for row in rows], metric)
    if by_prompt is not None:
        return Estimate(fmean(values), mean_effect(by_prompt.values).half_width, n)
    between = student_95(n - 1) * stdev(values) / math.sqrt(n)
    errors = [standard_error(row, metric) or 0.0 for row in rows]
    return Estimate(fmean(values), math.hypot(between, NORMAL_95 * fmean(errors)), n)


def student_95(degrees_of_freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    return STUDENT_95[degrees_of_freedom - 1] if degrees_of_freedom <= len(STUDENT_95) else NORMAL_95
