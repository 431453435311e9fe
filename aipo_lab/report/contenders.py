"""The contenders of a sweep: each objective's chosen configuration over its seeds, and what it is compared by."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import objective_styles
from aipo_lab.results.effects import Effect, pooled_effects
from aipo_lab.results.paths import (
    Path,
    Quantity,
    at_iteration,
    at_length,
    effect_of,
    get_paths,
    matched_length,
    spread_of,
)
from aipo_lab.results.per_prompt import NO_VALUES, PromptValues
from aipo_lab.results.points import configuration_key
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection


@dataclass(frozen=True)
class Contender:
    """An objective's chosen configuration; `n_settings`: how many of the objective it was chosen among."""

    path: Path
    hyperparameters: dict[str, str]
    n_settings: int

    @property
    def objective(self) -> str:
        """The objective, or the method where methods compete."""
        return self.path.contender

    @property
    def trial(self) -> str:
        """The trial of its first seed."""
        return self.path.first.trial

    @property
    def n_seeds(self) -> int:
        """Its repeats."""
        return len(self.path.rows)


@dataclass(frozen=True)
class Field:
    """The contenders, the last iteration that all of them reached, and the lengths they are matched at by iteration."""

    contenders: tuple[Contender, ...]
    iteration: int
    matched_lengths: Mapping[int, float]
    metrics: BenchmarkMetrics
    values: PromptValues = NO_VALUES
    _pairs: dict[tuple[str, str], dict[tuple[str, str], Effect]] = field(default_factory=dict, compare=False)

    @property
    def matched_length(self) -> float | None:
        """That of the last iteration."""
        return self.matched_lengths.get(self.iteration)

    @property
    def n_seeds(self) -> int:
        """The least number of seeds of a contender."""
        return min(one.n_seeds for one in self.contenders)

    def named(self, objective: str) -> Contender | None:
        """The contender of an objective."""
        return next((one for one in self.contenders if one.objective == objective), None)

    def effect(self, one: Contender, metric: str, iteration: int | None = None) -> Effect | None:
        """A metric after an iteration, the last unless given."""
        return effect_of(self._at(one, metric, iteration), self.values)

    def growth(self, one: Contender, metric: str) -> Effect | None:
        """How much a metric is above the contender's own base models'."""
        return effect_of(self._at(one, metric, None) - self._at(one, metric, 0), self.values)

    def difference(self, one: Contender, other: Contender, metric: str) -> Effect | None:
        """One less the other after the last iteration, on common seeds and prompts."""
        return self._difference(one, other, metric, lambda each: self._at(each, metric, None), "")

    def matched(self, one: Contender, metric: str, iteration: int | None = None) -> Effect | None:
        """A metric at the length matched after an iteration; None without one."""
        found = self._matched(one, metric, iteration)
        return None if found is None else effect_of(found, self.values)

    def matched_difference(self, one: Contender, other: Contender, metric: str) -> Effect | None:
        """One less the other at the matched length of the last iteration."""
        return self._difference(one, other, metric, lambda each: self._matched(each, metric), "matched")

    def _difference(
        self,
        one: Contender,
        other: Contender,
        metric: str,
        quantity: Callable[[Contender], Quantity | None],
        kind: str,
    ) -> Effect | None:
        """All pairs are looked at together, which is done once."""
        if (kind, metric) not in self._pairs:
            made = {each.objective: quantity(each) for each in self.contenders}
            self._pairs[kind, metric] = _pair_effects({name: q for name, q in made.items() if q}, self.values)
        known = self._pairs[kind, metric]
        turned = known.get((other.objective, one.objective))
        if turned is not None:
            return replace(turned, value=-turned.value)
        return known.get((one.objective, other.objective))

    def _at(self, one: Contender, metric: str, iteration: int | None) -> Quantity:
        return at_iteration(one.path, metric, self.iteration if iteration is None else iteration)

    def _matched(self, one: Contender, metric: str, iteration: int | None = None) -> Quantity | None:
        length = self.matched_lengths.get(self.iteration if iteration is None else iteration)
        if length is None or self.metrics.length is None:
            return None
        return at_length(one.path, metric, self.metrics.length, length)


def get_field(
    rows: Sequence[ResultRow],
    selections: Mapping[str, Selection],
    metrics: BenchmarkMetrics,
    values: PromptValues = NO_VALUES,
) -> Field | None:
    """The contenders of a sweep for one benchmark; None without any, or without a length."""
    if metrics.length is None:
        return None
    paths = get_paths(rows, (metrics.win_rate, metrics.length))
    n_settings = Counter(path.contender for path in paths)
    by_key = {configuration_key(path.first): path for path in paths}
    contenders = []
    for objective in objective_styles(selections):
        chosen = (selections[objective].seeds or (selections[objective].best,))[0]
        path = by_key.get(configuration_key(chosen))
        if path is not None:
            settings = {name: text for name, text in chosen.hyperparameters.items() if name not in ("seed", "method")}
            contenders.append(Contender(path, settings, n_settings[objective]))
    if not contenders:
        return None
    last = min(one.path.last for one in contenders)
    several = [one.path for one in contenders]
    lengths = {t: matched_length(several, metrics.length, t) for t in range(1, last + 1)}
    known = {t: length for t, length in lengths.items() if length is not None}
    return Field(tuple(contenders), last, known, metrics, values)


def _pair_effects(quantities: Mapping[str, Quantity], values: PromptValues) -> dict[tuple[str, str], Effect]:
    """The differences of all pairs that have a seed in common, by their names."""
    spreads = {
        (one, other): spread
        for one, other in itertools.combinations(quantities, 2)
        if (spread := spread_of(quantities[one] - quantities[other], values)) is not None
    }
    return dict(zip(spreads, pooled_effects(list(spreads.values()), len(quantities)), strict=True)) if spreads else {}
