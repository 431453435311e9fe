"""How sure a pick is: what is not separable from it, how often it would be picked again, and what picking adds.

- *Not separable*: multiple comparisons with the best (Hsu 1981). A point is worse only if its score lies more than q
  standard errors of the paired difference above that of the pick, q being the 95 % quantile of the largest such
  deviation over all points in the draws; so the rule's true best is among the pick and these with about 95 %.
- *Stability*: the share of draws of prompts, and seeds where there are several, in which the same point is picked.
- *Optimism*: by how much the value of whatever is picked exceeds, in the mean over draws, what the same point measured
  on the whole (Efron 1983). For equal trials it finds about 0.7 of the truth: the measured values, whose spread is
  noise as well, stand for true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.results.contest import Contest, open_contest
from aipo_lab.results.draws import Draws
from aipo_lab.results.per_prompt import PromptValues
from aipo_lab.results.points import configuration_key, get_points
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule
from aipo_lab.results.scoring import TIE, Array
from aipo_lab.results.selection import Selection, selection_of

N_DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Certainty:
    """How sure a pick is, out of `n_points` that could have been picked.

    `source`, `n_prompts`: what was drawn (see `Draws`), `n_draws` times. `inseparable`: the other points, best first.
    `stability`: share of draws (0 to 1) that pick the same point; `same_trial`: any iteration of it;
    `contenders`: by objective or method. `ranks`: of the pick, 5 %, 50 % and 95 % quantile. `optimism`: in units of the
    metric. Without anything to draw all of these are empty or None.
    """

    n_points: int
    n_draws: int = 0
    source: str = ""
    n_prompts: int = 0
    inseparable: tuple[ResultRow, ...] = ()
    stability: float | None = None
    same_trial: float | None = None
    contenders: tuple[tuple[str, float], ...] = ()
    ranks: tuple[int, int, int] | None = None
    optimism: float | None = None
    others: tuple[tuple[str, ResultRow], ...] = ()
    """What other rules pick, by rule; the pick itself where they agree."""


@dataclass(frozen=True)
class Picks:
    """What a rule picks on one benchmark: over all objectives or methods, and within each."""

    overall: Selection | None
    by_contender: dict[str, Selection]


def get_picks(
    rows: Sequence[ResultRow],
    rule: SelectionRule,
    metrics: BenchmarkMetrics,
    values: PromptValues,
    n_draws: int = N_DRAWS,
) -> Picks:
    """The picks of a rule on a benchmark, each with its certainty.

    Rows with halves (`with_halves`) are picked on one of them. Raises `UserError` as `select_best` does.
    """
    points = get_points(rows)
    judge = _Judge(open_contest(points, rule, metrics), metrics, values, n_draws)
    found = {name: judge.pick(name) for name in dict.fromkeys(row.contender for row in rows)}
    return Picks(judge.pick(None), {name: pick for name, pick in found.items() if pick is not None})


def other_rules(rule: SelectionRule, metrics: BenchmarkMetrics) -> list[SelectionRule]:
    """The rules whose picks stand beside those of `rule`."""
    named = [SelectionRule("corner"), SelectionRule("knee"), SelectionRule("top_left")]
    if metrics.length is None:
        named = []  # without a length all of them are the highest win rate
    rates = [metrics.win_rate, metrics.lc_win_rate, metrics.true_win_rate]
    named += [SelectionRule("max", rate) for rate in rates if rate is not None]
    return [one for one in named if one != rule]


class _Judge:
    """Holds contests among the same points and draws."""

    def __init__(self, contest: Contest, metrics: BenchmarkMetrics, values: PromptValues, n_draws: int) -> None:
        self._contest = contest
        self._metrics = metrics
        axes = [contest.metric] if contest.length is None else [contest.metric, contest.length]
        self._draws = Draws(contest.points, axes, values, contest.halved, n_draws)

    def pick(self, objective: str | None) -> Selection | None:
        """The pick among the points of an objective, or of all, with its certainty."""
        contest = replace(self._contest, objective=objective)
        selection = selection_of(contest)
        if selection is None:
            return None
        ranked = contest.ranked()
        certainty = Certainty(len(ranked), others=self._others(contest))
        drawn = contest.chosen(self._draws.of)
        if drawn is not None:
            certainty = self._with_draws(certainty, contest, ranked, *drawn)
        return replace(selection, certainty=certainty)

    def _others(self, contest: Contest) -> tuple[tuple[str, ResultRow], ...]:
        found = []
        for rule in other_rules(contest.rule, self._metrics):
            other = selection_of(open_contest(contest.points, rule, self._metrics, contest.objective))
            if other is not None:
                found.append((str(rule), other.best))
        return tuple(found)

    def _with_draws(
        self, certainty: Certainty, contest: Contest, ranked: list[int], scores: Array, chosen: Array
    ) -> Certainty:
        any_left = np.isfinite(scores.min(axis=1))  # in some draws every point may be beyond the limit of length
        chosen, scores = chosen[any_left].astype(int), scores[any_left]
        if not len(chosen):
            return certainty
        times = np.bincount(chosen, minlength=len(contest.points)) / len(chosen)
        keys = [configuration_key(point.row) for point in contest.points]
        shares: dict[str, float] = {}
        for point, share in zip(contest.points, times, strict=True):
            if share > 0:
                shares[point.row.contender] = shares.get(point.row.contender, 0.0) + float(share)
        best = ranked[0]
        ranks = (scores < scores[:, [best]] - TIE).sum(axis=1) + 1
        return replace(
            certainty,
            n_draws=len(chosen),
            source=self._draws.source,
            n_prompts=self._draws.n_prompts,
            inseparable=tuple(contest.points[place].row for place in self._inseparable(contest, ranked)),
            stability=float(times[best]),
            same_trial=float(sum(share for key, share in zip(keys, times, strict=True) if key == keys[best])),
            contenders=tuple(sorted(shares.items(), key=lambda item: -item[1])),
            ranks=tuple(int(np.quantile(ranks, q, method="nearest")) for q in (0.05, 0.5, 0.95)),
            optimism=self._optimism(contest, chosen, any_left),
        )

    def _inseparable(self, contest: Contest, ranked: list[int]) -> list[int]:
        """The places of the points that are not clearly worse than the first of `ranked`, best first."""
        free = replace(contest, rule=replace(contest.rule, length_limit=None))
        measured, drawn = free.chosen(contest.measured), free.chosen(self._draws.of)
        assert measured is not None
        assert drawn is not None
        others = np.array(ranked[1:], dtype=int)
        if not len(others):
            return []
        gap = measured[0][0, others] - measured[0][0, ranked[0]]
        drawn_gap = drawn[0][:, others] - drawn[0][:, [ranked[0]]]
        error = drawn_gap.std(axis=0)
        told = error > TIE
        largest = ((drawn_gap - gap)[:, told] / error[told]).max(axis=1) if told.any() else np.zeros(1)
        limit = max(float(np.quantile(largest, LEVEL)), 0.0)
        return [int(place) for place in others[gap <= limit * error + TIE]]

    def _optimism(self, contest: Contest, chosen: Array, any_left: Array) -> float:
        drawn = self._draws.of(contest.metric)
        assert drawn is not None
        picked = chosen.astype(int)
        gained = drawn[any_left][np.arange(len(picked)), picked] - contest.measured(contest.metric)[0, picked]
        return float(gained.mean())
