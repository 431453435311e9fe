"""How sure a pick is: what is not separable from it, how often it would be picked again, and what picking adds.

- *Not separable*: multiple comparisons with the best (Hsu 1981). A point is worse only if its score lies more than q
  standard errors of the paired difference above that of the pick, q being the 95 % quantile of the largest such
  deviation over all points in the draws; so the rule's true best is among the pick and these with about 95 %.
- *Stability*: the share of draws of prompts, and seeds where there are several, in which the same point is picked.
  Where prompts have halves, those drawn are the ones that had no say, so that of k equal points it is 1/k. On the
  prompts that picked it is too high: what a point has in luck there it has in every draw of them.
- *Optimism*: by how much the value of whatever is picked exceeds, in the mean over draws of the prompts that pick, what
  the same point measured on them (Efron 1983). For equal trials it finds about 0.7 of the truth: the measured values,
  whose spread is noise as well, stand for true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.results.contest import Contest, open_contest
from aipo_lab.results.draws import Draws
from aipo_lab.results.per_prompt import PromptValues
from aipo_lab.results.points import configuration_key, get_points
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule
from aipo_lab.results.scoring import TIE, Array, best_places
from aipo_lab.results.selection import Selection, selection_of

N_DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Certainty:
    """How sure a pick is, out of `n_points` that could have been picked.

    `inseparable`: the other points, best first. `source`, `n_prompts`: what was drawn (see `Draws`), `n_draws` times,
    for `stability`: share of draws (0 to 1) that pick the same point; `same_trial`: any iteration of it;
    `contenders`: by objective or method; `ranks`: of the pick, 5 %, 50 % and 95 % quantile. `optimism`: in units of the
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
    named += [SelectionRule("max", rate.split("/")[1]) for rate in rates if rate is not None]
    benchmark = metrics.win_rate.split("/")[0]
    own = rule if rule.metric is None else replace(rule, metric=rule.metric.removeprefix(f"{benchmark}/"))
    return [one for one in named if one != own]


class _Judge:
    """Holds contests among the same points, on draws of what picks them and on draws of what had no say in that."""

    def __init__(self, contest: Contest, metrics: BenchmarkMetrics, values: PromptValues, n_draws: int) -> None:
        self._contest = contest
        self._metrics = metrics
        axes = [contest.metric] if contest.length is None else [contest.metric, contest.length]
        self._draws = Draws(contest.points, axes, values, "picks" if contest.halved else "all", n_draws)
        self._again = self._draws
        if contest.halved:
            self._again = Draws(contest.points, axes, values, "reports", n_draws)
        self._keys = [configuration_key(point.row) for point in contest.points]
        self._among_all: dict[int, Array | None] = {}

    def pick(self, objective: str | None) -> Selection | None:
        """The pick among the points of an objective, or of all, with its certainty."""
        contest = replace(self._contest, objective=objective)
        selection = selection_of(contest)
        if selection is None:
            return None
        ranked = contest.ranked()
        certainty = Certainty(len(ranked), others=self._others(contest))
        scores, again = self._scores(contest, self._draws), self._scores(contest, self._again)
        if scores is not None and again is not None:
            others = np.array(ranked[1:], dtype=int)
            ties = others[self._inseparable(contest, ranked, scores)]
            certainty = replace(
                certainty,
                inseparable=tuple(contest.points[place].row for place in ties),
                optimism=self._optimism(contest, scores),
            )
            certainty = self._with_stability(certainty, contest, ranked[0], again)
        return replace(selection, certainty=certainty)

    def _scores(self, contest: Contest, draws: Draws) -> Array | None:
        """Drawn scores of all points without the limit of length; only `knee` looks at which of them compete."""
        free = replace(contest, rule=replace(contest.rule, length_limit=None))
        if contest.rule.kind == "knee":
            return free.scores(draws.of)
        if id(draws) not in self._among_all:
            self._among_all[id(draws)] = replace(free, objective=None).scores(draws.of)
        return self._among_all[id(draws)]

    def _others(self, contest: Contest) -> tuple[tuple[str, ResultRow], ...]:
        found = []
        for rule in other_rules(contest.rule, self._metrics):
            other = selection_of(open_contest(contest.points, rule, self._metrics, contest.objective))
            if other is not None:
                found.append((str(rule), other.best))
        return tuple(found)

    def _chosen(self, contest: Contest, draws: Draws, free: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
        """The draws in which some point is within the limit of length, what is chosen there, and the scores there.

        `free`: scores without that limit. The scores are those of the candidates only.
        """
        places = np.array(contest.candidates())
        scores = free[:, places]
        drawn_length = None if contest.length is None else draws.of(contest.length)
        length = None if drawn_length is None else drawn_length[:, places]
        if contest.rule.length_limit is not None and length is not None:
            scores = np.where(length <= contest.rule.length_limit, scores, np.inf)
        drawn = np.flatnonzero(np.isfinite(scores.min(axis=1)))
        scores = scores[drawn]
        return drawn, places[best_places(scores, None if length is None else length[drawn])], scores

    def _with_stability(self, certainty: Certainty, contest: Contest, best: int, free: Array) -> Certainty:
        drawn, chosen, scores = self._chosen(contest, self._again, free)
        if not len(drawn):
            return certainty
        times = np.bincount(chosen, minlength=len(contest.points)) / len(chosen)
        ranks = (scores < free[drawn, best][:, None] - TIE).sum(axis=1) + 1
        low, middle, high = (int(np.quantile(ranks, q, method="nearest")) for q in (0.05, 0.5, 0.95))
        return replace(
            certainty,
            n_draws=len(drawn),
            source=self._again.source,
            n_prompts=self._again.n_prompts,
            stability=float(times[best]),
            same_trial=float(sum(times[n] for n in np.flatnonzero(times) if self._keys[n] == self._keys[best])),
            contenders=self._shares(times),
            ranks=(low, middle, high),
        )

    def _shares(self, times: Array) -> tuple[tuple[str, float], ...]:
        """By objective or method: how often one of its points is picked."""
        shares: dict[str, float] = {}
        for place in np.flatnonzero(times):
            contender = self._contest.points[place].row.contender
            shares[contender] = shares.get(contender, 0.0) + float(times[place])
        return tuple(sorted(shares.items(), key=lambda item: -item[1]))

    def _inseparable(self, contest: Contest, ranked: list[int], drawn: Array) -> NDArray[np.bool_]:
        """Of the points after the first of `ranked`: which are not clearly worse."""
        best, others = ranked[0], np.array(ranked[1:], dtype=int)
        measured = contest.scores(contest.measured)
        assert measured is not None
        gap = measured[0, others] - measured[0, best]
        drawn_gap = drawn[:, others] - drawn[:, [best]]
        error = drawn_gap.std(axis=0)
        told = error > TIE
        largest = ((drawn_gap - gap)[:, told] / error[told]).max(axis=1) if told.any() else np.zeros(1)
        limit = max(float(np.quantile(largest, LEVEL)), 0.0)
        close: NDArray[np.bool_] = gap <= limit * error + TIE
        return close

    def _optimism(self, contest: Contest, free: Array) -> float | None:
        drawn, chosen, _ = self._chosen(contest, self._draws, free)
        values = self._draws.of(contest.metric)
        assert values is not None
        if not len(drawn):
            return None
        return float((values[drawn, chosen] - contest.measured(contest.metric)[0, chosen]).mean())
