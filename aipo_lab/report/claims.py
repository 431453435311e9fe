"""Does the paper's ordering of objectives appear in a sweep? Its claims, checked against the sweep's numbers.

Claims: AIPO paper, section 4.3 with Figures 2 and 3. Each objective is represented by its best trial by the
sweep's selection rule. A difference counts beyond two standard errors of it; the trials' errors are taken as
independent, which on common prompts is conservative. Nothing here is tuned: it only reports.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import objective_name, objective_styles
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection, standard_error

Verdict = Literal["holds", "does not hold", "undecided"]
CLEAR_SE = 2.0
MARGINAL_POINTS = 5.0  # a win-rate difference below this counts as marginal


@dataclass(frozen=True)
class Measure:
    """A value and its standard error; `se` None where the benchmark gives none."""

    value: float
    se: float | None

    def __sub__(self, other: Measure) -> Measure:
        both = self.se is not None and other.se is not None
        return Measure(self.value - other.value, math.hypot(self.se or 0, other.se or 0) if both else None)

    def sign(self) -> int | None:
        """1 or -1 where the value is clearly off 0, 0 where it is not, None where that cannot be said."""
        if self.se is None:
            return None
        if abs(self.value) <= CLEAR_SE * self.se:
            return 0
        return 1 if self.value > 0 else -1


@dataclass(frozen=True)
class Contender:
    """An objective's best trial: at the last iteration all contenders reached, and at a length they all pass.

    `matched_win_rate` is interpolated linearly along the trial's trajectory at the common length; None where
    the trajectory does not cross it.
    """

    objective: str
    trial: str
    hyperparameters: dict[str, str]
    iteration: int
    length: Measure
    win_rate: Measure
    true_win_rate: Measure | None
    matched_win_rate: Measure | None


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, whether it holds here, and the numbers that say so."""

    text: str
    verdict: Verdict
    numbers: str


@dataclass(frozen=True)
class Ordering:
    """The contenders, the length at which they are matched (None: there is none), and the claims."""

    contenders: list[Contender]
    matched_length: float | None
    claims: list[Claim]


def check_claims(rows: Sequence[ResultRow], selections: dict[str, Selection], metrics: BenchmarkMetrics) -> Ordering:
    """Check the claims whose objectives are in `selections`; none for a benchmark without a length, or for methods."""
    if metrics.length is None or not selections or any("method" in row.hyperparameters for row in rows):
        return Ordering([], None, [])
    trajectories = {
        objective: _trajectory(rows, selections[objective].best.trial, metrics)
        for objective in objective_styles(selections)
    }
    trajectories = {objective: points for objective, points in trajectories.items() if points}
    matched_length = _matched_length(list(trajectories.values()), metrics)
    last = min((points[-1].iteration for points in trajectories.values()), default=0)
    contenders = [_contender(points, last, matched_length, metrics) for points in trajectories.values()]
    by_name = {c.objective: c for c in contenders}
    claims = [
        _longest(by_name),
        *_shorter(by_name),
        _best_at_length(by_name, matched_length),
        _marginal(by_name),
    ]
    return Ordering(contenders, matched_length, [claim for claim in claims if claim is not None])


def _trajectory(rows: Sequence[ResultRow], trial: str, metrics: BenchmarkMetrics) -> list[ResultRow]:
    """The trial's complete rows with both metrics, by iteration; nothing if none of them was trained."""
    assert metrics.length is not None
    points = [
        row
        for row in rows
        if row.trial == trial
        and row.state == "complete"
        and row.value(metrics.length) is not None
        and row.value(metrics.win_rate) is not None
    ]
    points.sort(key=lambda row: row.iteration)
    return points if points and points[-1].iteration > 0 else []


def _measure(row: ResultRow, metric: str) -> Measure:
    value = row.value(metric)
    assert value is not None, "only rows that carry the metric come here"
    return Measure(value, standard_error(row, metric))


def _matched_length(trajectories: list[list[ResultRow]], metrics: BenchmarkMetrics) -> float | None:
    """The greatest length that every trajectory reaches, if it is beyond every trajectory's start."""
    assert metrics.length is not None
    lengths = [[_measure(row, metrics.length).value for row in points] for points in trajectories]
    if not lengths:
        return None
    reached = min(max(values) for values in lengths)
    return reached if reached > max(values[0] for values in lengths) else None


def _contender(
    points: list[ResultRow], last: int, matched_length: float | None, metrics: BenchmarkMetrics
) -> Contender:
    assert metrics.length is not None
    row = next(row for row in reversed(points) if row.iteration <= last)
    true = metrics.true_win_rate
    return Contender(
        row.contender,
        row.trial,
        row.hyperparameters,
        row.iteration,
        _measure(row, metrics.length),
        _measure(row, metrics.win_rate),
        _measure(row, true) if true is not None and row.value(true) is not None else None,
        None if matched_length is None else _win_rate_at(points, matched_length, metrics),
    )


def _win_rate_at(points: list[ResultRow], length: float, metrics: BenchmarkMetrics) -> Measure | None:
    """The win rate where the trajectory first crosses `length`, between the two iterations around it."""
    assert metrics.length is not None
    for before, after in itertools.pairwise(points):
        start, end = _measure(before, metrics.length).value, _measure(after, metrics.length).value
        if start == end or not min(start, end) <= length <= max(start, end):
            continue
        share = (length - start) / (end - start)
        a, b = _measure(before, metrics.win_rate), _measure(after, metrics.win_rate)
        se = None if a.se is None or b.se is None else math.hypot((1 - share) * a.se, share * b.se)
        return Measure((1 - share) * a.value + share * b.value, se)
    return None


def _longest(by_name: dict[str, Contender]) -> Claim | None:
    simpo, others = by_name.get("simpo"), [c for c in by_name.values() if c.objective != "simpo"]
    if simpo is None or not others:
        return None
    signs = [(simpo.length - other.length).sign() for other in others]
    numbers = _listed("length", [(c.objective, c.length) for c in [simpo, *others]], simpo.iteration)
    return Claim("SimPO's responses grow longest, fastest.", _above_all(signs), numbers)


def _shorter(by_name: dict[str, Contender]) -> list[Claim]:
    dpo = by_name.get("dpo")
    claims = []
    for name in ("alpha_dpo", "aipo"):
        rival = by_name.get(name)
        if dpo is None or rival is None:
            continue
        length, win = rival.length - dpo.length, rival.win_rate - dpo.win_rate
        signs = (length.sign(), win.sign())
        verdict: Verdict = "undecided"
        if signs[0] == 1 or signs[1] == -1:
            verdict = "does not hold"
        elif signs[0] == -1 and signs[1] is not None:
            verdict = "holds"
        where = f"against DPO at iteration {rival.iteration}"
        numbers = f"{where}: length {_signed(length)}, win rate {_signed(win)} points"
        text = f"{objective_name(name)} reaches a competitive win rate with shorter responses than DPO."
        claims.append(Claim(text, verdict, numbers))
    return claims


def _best_at_length(by_name: dict[str, Contender], matched_length: float | None) -> Claim | None:
    aipo, others = by_name.get("aipo"), [c for c in by_name.values() if c.objective != "aipo"]
    if aipo is None or not others:
        return None
    text = "AIPO wins most under the same length constraint."
    at_length = [(c.objective, c.matched_win_rate) for c in [aipo, *others]]
    known = [(name, rate) for name, rate in at_length if rate is not None]
    if matched_length is None or len(known) < len(at_length):
        return Claim(text, "undecided", "the best trials pass no common length")
    signs = [(known[0][1] - rate).sign() for _, rate in known[1:]]
    numbers = _listed("win rate in %", known, None) + f", all interpolated at length {matched_length:.1f}"
    return Claim(text, _above_all(signs), numbers)


def _marginal(by_name: dict[str, Contender]) -> Claim | None:
    dpo, nll = by_name.get("dpo"), by_name.get("dpo_nll")
    if dpo is None or nll is None:
        return None
    win = nll.win_rate - dpo.win_rate
    verdict: Verdict = "undecided"
    if win.se is not None and abs(win.value) + CLEAR_SE * win.se < MARGINAL_POINTS:
        verdict = "holds"
    elif win.se is not None and abs(win.value) - CLEAR_SE * win.se > MARGINAL_POINTS:
        verdict = "does not hold"
    numbers = (
        f"DPO+NLL against DPO at iteration {nll.iteration}: win rate {_signed(win)} points, "
        f"length {_signed(nll.length - dpo.length)}; marginal means less than {MARGINAL_POINTS:g} points"
    )
    return Claim("The NLL term alone has only a marginal effect on the win rate.", verdict, numbers)


def _above_all(signs: list[int | None]) -> Verdict:
    """Of one contender against each other: clearly above all, clearly below one, or neither."""
    if all(sign == 1 for sign in signs):
        return "holds"
    return "does not hold" if -1 in signs else "undecided"


def _listed(what: str, measures: list[tuple[str, Measure]], iteration: int | None) -> str:
    parts = ", ".join(f"{objective_name(name)} {_plus_minus(measure)}" for name, measure in measures)
    return f"{what}{'' if iteration is None else f' at iteration {iteration}'}: {parts}"


def _plus_minus(measure: Measure) -> str:
    return f"{measure.value:.1f}" + ("" if measure.se is None else f" ± {measure.se:.1f}")


def _signed(measure: Measure) -> str:
    return f"{measure.value:+.1f}" + ("" if measure.se is None else f" ± {measure.se:.1f}")
