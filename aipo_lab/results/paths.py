"""Configurations as paths over their iterations, compared on common prompts and seeds, also at a matched length.

Every quantity here is, for each seed, a sum of metrics of some iterations times coefficients. Where values are known by
prompt the sum is taken prompt by prompt, so that whatever the parts have in common cancels, their covariance with it.
Else the parts' standard errors count as independent, but for parts that are one checkpoint.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aipo_lab.results.effects import Effect, Spread, mean_spread, seeds_spread
from aipo_lab.results.per_prompt import NO_VALUES, PromptValues, Values
from aipo_lab.results.points import SEED, configuration_key, standard_error
from aipo_lab.results.rows import ResultRow

Part = tuple[ResultRow, str, float]
"""A row, one of its metrics, and the coefficient it counts with."""


@dataclass(frozen=True)
class Path:
    """A configuration: its complete rows by seed (\"\" where the sweep varies none) and iteration."""

    contender: str
    rows: Mapping[str, Mapping[int, ResultRow]]

    @property
    def first(self) -> ResultRow:
        """Some row, for what all rows have in common."""
        return next(row for by_iteration in self.rows.values() for row in by_iteration.values())

    @property
    def last(self) -> int:
        """The last iteration that every seed has come to."""
        return min(max(by_iteration) for by_iteration in self.rows.values())


@dataclass(frozen=True)
class Quantity:
    """For each seed: parts, and what is added to their sum."""

    by_seed: Mapping[str, tuple[Part, ...]]
    constants: Mapping[str, float] = field(default_factory=dict)

    def __sub__(self, other: Quantity) -> Quantity:
        """The difference, on the seeds that both have."""
        seeds = [seed for seed in self.by_seed if seed in other.by_seed]
        parts = {
            seed: (*self.by_seed[seed], *((row, metric, -share) for row, metric, share in other.by_seed[seed]))
            for seed in seeds
        }
        constants = {seed: self.constants.get(seed, 0.0) - other.constants.get(seed, 0.0) for seed in seeds}
        return Quantity(parts, constants)


def get_paths(rows: Sequence[ResultRow], metrics: Sequence[str] = ()) -> list[Path]:
    """The configurations that were trained; rows count that are complete and have all the `metrics`.

    Each seed has an iteration 0 and goes without a gap as far as it goes.
    """
    groups: dict[object, dict[str, dict[int, ResultRow]]] = {}
    for row in rows:
        if row.state == "complete" and all(row.value(metric) is not None for metric in metrics):
            seed = row.hyperparameters.get(SEED, "")
            groups.setdefault(configuration_key(row), {}).setdefault(seed, {})[row.iteration] = row
    paths = []
    for group in groups.values():
        known = {seed: dict(sorted(found.items())) for seed, found in group.items() if {0, 1} <= found.keys()}
        if known:
            paths.append(Path(next(iter(known[next(iter(known))].values())).contender, known))
    return paths


def at_iteration(path: Path, metric: str, iteration: int) -> Quantity:
    """A metric after an iteration, of the seeds that have it."""
    rows = {seed: found[iteration] for seed, found in path.rows.items() if iteration in found}
    return Quantity({seed: ((row, metric, 1.0),) for seed, row in rows.items() if row.value(metric) is not None})


def at_length(path: Path, metric: str, length_metric: str, length: float) -> Quantity | None:
    """A metric where each seed's path first comes to `length`, between the two iterations around it.

    Linear in the length: w = w1 + (length - l1) (w2 - w1) / (l2 - l1). To first order in all four, which is how its
    error is found (delta method), it is a sum of w1, w2, l1 and l2. None where a seed does not come to that length.
    """
    parts, constants = {}, {}
    for seed, rows in path.rows.items():
        made = _crossing(list(rows.values()), metric, length_metric, length)
        if made is None:
            return None
        parts[seed], constants[seed] = made
    return Quantity(parts, constants)


def _crossing(
    rows: Sequence[ResultRow], metric: str, length_metric: str, length: float
) -> tuple[tuple[Part, ...], float] | None:
    for before, after in itertools.pairwise(rows):
        start, end = before.value(length_metric), after.value(length_metric)
        low, high = before.value(metric), after.value(metric)
        if start is None or end is None or low is None or high is None or start == end:
            continue
        if min(start, end) <= length <= max(start, end):
            share, slope = (length - start) / (end - start), (high - low) / (end - start)
            parts = [(before, metric, 1 - share), (after, metric, share)]
            parts += [(before, length_metric, -slope * (1 - share)), (after, length_metric, -slope * share)]
            return tuple(parts), slope * length
    return None


def matched_length(paths: Sequence[Path], length_metric: str, iteration: int) -> float | None:
    """The greatest length that every seed of every path has reached by an iteration; None if it is below a start."""
    starts, reached = [], []
    for rows in (rows for path in paths for rows in path.rows.values()):
        lengths = [row.value(length_metric) for t, row in rows.items() if t <= iteration]
        known = [length for length in lengths if length is not None]
        if not known:
            return None
        starts.append(known[0])
        reached.append(max(known))
    return min(reached) if reached and min(reached) > max(starts) else None


def effect_of(quantity: Quantity, values: PromptValues = NO_VALUES) -> Effect | None:
    """The mean over seeds with its error; None for a quantity of no seed."""
    spread = spread_of(quantity, values)
    return None if spread is None else spread.effect()


def spread_of(quantity: Quantity, values: PromptValues = NO_VALUES) -> Spread | None:
    """The mean over seeds with the parts of its variance; None for a quantity of no seed."""
    if not quantity.by_seed:
        return None
    by_prompt = _by_prompt(quantity, values)
    if by_prompt is not None:
        return mean_spread(by_prompt)
    sums = [
        quantity.constants.get(seed, 0.0) + sum(share * _value(row, metric) for row, metric, share in parts)
        for seed, parts in quantity.by_seed.items()
    ]
    return seeds_spread(sums, [_error(parts) for parts in quantity.by_seed.values()])


def _by_prompt(quantity: Quantity, values: PromptValues) -> Values | None:
    """The sums prompt by prompt, shape (seeds, prompts); None unless all parts are known so."""
    metrics = dict.fromkeys(metric for parts in quantity.by_seed.values() for _, metric, _ in parts)
    vectors: dict[tuple[str, int, str], Values] = {}
    ids: tuple[str, ...] | None = None
    for metric in metrics:
        keys = list(dict.fromkeys(
            (row.trial, row.iteration) for parts in quantity.by_seed.values() for row, of, _ in parts if of == metric
        ))  # fmt: skip
        common = values.common(keys, metric)
        if common is None or ids not in (None, common.ids):
            return None
        ids = common.ids
        vectors |= {(*key, metric): row for key, row in zip(keys, common.values, strict=True)}
    return np.stack([
        quantity.constants.get(seed, 0.0)
        + sum(share * vectors[row.trial, row.iteration, metric] for row, metric, share in parts)
        for seed, parts in quantity.by_seed.items()
    ])  # fmt: skip


def _error(parts: Sequence[Part]) -> float | None:
    """The standard error of a sum whose parts are independent; what is one checkpoint is one part."""
    shares: dict[tuple[str, str], tuple[float, float]] = {}
    for row, metric, share in parts:
        error = standard_error(row, metric)
        if error is None:
            return None
        key = (row.checkpoint or f"{row.trial}@{row.iteration}", metric)
        shares[key] = (shares.get(key, (0.0, 0.0))[0] + share, error)
    return math.sqrt(sum((share * error) ** 2 for share, error in shares.values()))


def _value(row: ResultRow, metric: str) -> float:
    value = row.value(metric)
    assert value is not None, "a quantity is made of rows that have its metrics"
    return value
