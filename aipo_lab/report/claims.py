"""Does the paper's ordering of objectives appear in a sweep? Its claims, checked against the sweep's numbers.

Claims: AIPO paper, section 4.3 with Figures 2 and 3. Each objective is represented by its best configuration by the
sweep's selection rule, at the last iteration that all reached. With one seed nothing is said to hold: what was seen may
be that seed's. Nothing here is tuned: it only reports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from aipo_lab.figures.palette import objective_name
from aipo_lab.report.contenders import Contender, Field
from aipo_lab.report.effect_text import plus_minus, signed
from aipo_lab.results.effects import Effect
from aipo_lab.results.verdicts import Outcome, Statement, all_of, greater, less

Verdict = Literal["holds", "does not hold", "undecided", "seen with one seed", "not seen with one seed"]
MARGINAL_POINTS = 5.0
"""A win-rate difference below this counts as marginal, and one above minus this as competitive."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, whether it holds here, and the numbers that say so."""

    text: str
    verdict: Verdict
    numbers: str


@dataclass(frozen=True)
class Draft:
    """A claim before the verdict: the statement its verdict depends on."""

    text: str
    statement: Statement
    numbers: str

    def with_outcome(self, outcome: Outcome) -> Claim:
        """The claim."""
        return Claim(self.text, verdict_of(outcome, self.statement.n_seeds), self.numbers)


def verdict_of(outcome: Outcome, n_seeds: int) -> Verdict:
    """The words for an outcome: with one seed it is only what this seed showed."""
    if outcome == "open":
        return "undecided"
    if n_seeds < 2:
        return "seen with one seed" if outcome == "yes" else "not seen with one seed"
    return "holds" if outcome == "yes" else "does not hold"


def paper_claims(field: Field) -> list[Draft]:
    """The claims whose objectives are among the contenders."""
    made = [_longest(field), *_shorter(field), _best_at_length(field), _marginal(field)]
    return [claim for claim in made if claim is not None]


def choices(one: Contender, other: Contender) -> int:
    """Among how many pairs of settings these two were chosen."""
    return one.n_settings * other.n_settings


def _longest(field: Field) -> Draft | None:
    simpo, others = field.named("simpo"), [one for one in field.contenders if one.objective != "simpo"]
    length = field.metrics.length
    if simpo is None or not others or length is None:
        return None
    statements = [greater(field.difference(simpo, other, length), choices(simpo, other)) for other in others]
    numbers = listed(field, "length", [simpo, *others], lambda one: field.effect(one, length))
    return Draft("SimPO's responses grow longest, fastest.", all_of(statements), numbers)


def _shorter(field: Field) -> list[Draft]:
    dpo, metrics = field.named("dpo"), field.metrics
    drafts = []
    for name in ("alpha_dpo", "aipo"):
        rival = field.named(name)
        if dpo is None or rival is None or metrics.length is None:
            continue
        length = field.difference(rival, dpo, metrics.length)
        win = field.difference(rival, dpo, metrics.win_rate)
        n = choices(rival, dpo)
        statement = all_of([less(length, n), greater(win, n, -MARGINAL_POINTS)])
        numbers = (
            f"against DPO at iteration {field.iteration}: length {signed(length)}, win rate {signed(win)} points; "
            f"competitive means less than {MARGINAL_POINTS:g} points below"
        )
        text = f"{objective_name(name)} reaches a competitive win rate with shorter responses than DPO."
        drafts.append(Draft(text, statement, numbers))
    return drafts


def _best_at_length(field: Field) -> Draft | None:
    aipo, others = field.named("aipo"), [one for one in field.contenders if one.objective != "aipo"]
    if aipo is None or not others:
        return None
    text, win = "AIPO wins most under the same length constraint.", field.metrics.win_rate
    if field.matched_length is None:
        return Draft(text, Statement(1.0, 1.0, field.n_seeds), "the contenders pass no common length")
    statements = [greater(field.matched_difference(aipo, other, win), choices(aipo, other)) for other in others]
    numbers = listed(field, "win rate in %", [aipo, *others], lambda one: field.matched(one, win), at_length=True)
    return Draft(text, all_of(statements), numbers)


def _marginal(field: Field) -> Draft | None:
    dpo, nll, metrics = field.named("dpo"), field.named("dpo_nll"), field.metrics
    if dpo is None or nll is None or metrics.length is None:
        return None
    win, n = field.difference(nll, dpo, metrics.win_rate), choices(nll, dpo)
    statement = all_of([greater(win, n, -MARGINAL_POINTS), less(win, n, MARGINAL_POINTS)])
    numbers = (
        f"DPO+NLL against DPO at iteration {field.iteration}: win rate {signed(win)} points, length "
        f"{signed(field.difference(nll, dpo, metrics.length))}; marginal means less than {MARGINAL_POINTS:g} points"
    )
    return Draft("The NLL term alone has only a marginal effect on the win rate.", statement, numbers)


def listed(
    field: Field,
    what: str,
    contenders: Sequence[Contender],
    effect: Callable[[Contender], Effect | None],
    at_length: bool = False,
) -> str:
    """The contenders' values of something, in a sentence."""
    where = f"at iteration {field.iteration}"
    if at_length and field.matched_length is not None:
        where = f"at a length of {field.matched_length:.1f}, interpolated"
    parts = ", ".join(f"{objective_name(one.objective)} {plus_minus(effect(one))}" for one in contenders)
    return f"{what} {where}: {parts}"
