"""What a sweep says of itself, whatever the paper says: does length grow, what shortens it, who wins at equal length.

Every answer comes with its intervals, and "undecided" is one. Contenders are as in `claims`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aipo_lab.figures.palette import objective_name
from aipo_lab.report.claims import choices, listed
from aipo_lab.report.contenders import Contender, Field
from aipo_lab.report.effect_text import signed
from aipo_lab.results.verdicts import Outcome, Statement, all_of, greater, less

NLL = (("dpo_nll", "dpo"), ("aipo", "alpha_dpo"))
AGREEMENT = (("alpha_dpo", "dpo"), ("aipo", "dpo_nll"))
"""(with the term, without it): AIPO is α-DPO with the NLL term, and DPO+NLL with the agreement term."""


@dataclass(frozen=True)
class Finding:
    """A question, its answer in words, and the numbers behind it."""

    question: str
    answer: str
    numbers: str


@dataclass(frozen=True)
class Question:
    """A finding before it is settled: `answer` makes words of the statements' outcomes."""

    text: str
    statements: tuple[Statement, ...]
    answer: Callable[[Sequence[Outcome]], str]
    numbers: str

    def with_outcomes(self, outcomes: Sequence[Outcome]) -> Finding:
        """The finding; with one seed it is said that no more than that was seen."""
        said = self.answer(outcomes)
        one_seed = min(one.n_seeds for one in self.statements) < 2
        if one_seed and any(outcome != "open" for outcome in outcomes):
            said = (
                f"With this one seed: {said[:1].lower() + said[1:] if said.startswith(('Yes', 'No ', 'No,')) else said}"
            )
        return Finding(self.text, said, self.numbers)


def questions(field: Field) -> list[Question]:
    """The questions that the contenders can answer, but for who wins, which is a comparison of pairs."""
    made = [_grows(field), _grows_most(field)]
    made += [_shortens(field, "the NLL term", NLL), _shortens(field, "the agreement term (α)", AGREEMENT)]
    return [question for question in made if question is not None]


def winners(field: Field) -> list[Question]:
    """Who wins at the matched length, by the judge and, where it is known, by true quality."""
    metrics = field.metrics
    by = [(metrics.win_rate, "Who wins at the same length, by the judge?")]
    if metrics.true_win_rate is not None:
        by.append((metrics.true_win_rate, "Who wins at the same length, by true quality?"))
    known = [(metric, text) for metric, text in by if field.contenders[0].path.first.value(metric) is not None]
    return [_who_wins(field, metric, text) for metric, text in known if len(field.contenders) > 1]


def _grows(field: Field) -> Question:
    length = _length(field)
    statements = tuple(greater(field.growth(one, length), one.n_settings) for one in field.contenders)

    def answer(outcomes: Sequence[Outcome]) -> str:
        shrinks, unclear = _named(field, outcomes, "no"), _named(field, outcomes, "open")
        if not shrinks and not unclear:
            return "Yes."
        return " ".join([f"No: it falls with {_and(shrinks)}."] if shrinks else []) + (
            f"{' ' if shrinks else ''}Undecided for {_and(unclear)}." if unclear else ""
        )

    parts = ", ".join(
        f"{objective_name(one.objective)} {signed(field.growth(one, length))}" for one in field.contenders
    )
    numbers = f"from the base model to iteration {field.iteration}: {parts}"
    return Question("Does length grow under every objective?", statements, answer, numbers)


def _grows_most(field: Field) -> Question | None:
    """The one that leads in this sweep against each other one; that the lead chose it counts as choices."""
    if len(field.contenders) < 2:
        return None
    length = _length(field)
    ordered = sorted(field.contenders, key=lambda one: -_mean(field, one, length))
    first, *others = ordered
    pairs = [greater(field.difference(first, other, length), choices(first, other) * len(ordered)) for other in others]

    def answer(outcomes: Sequence[Outcome]) -> str:
        if outcomes[0] == "yes":
            return f"{objective_name(first.objective)}."
        return f"Undecided: {objective_name(first.objective)} leads, but not clearly over all others."

    numbers = listed(field, "length", ordered, lambda one: field.effect(one, length))
    return Question("Under which objective does length grow most?", (all_of(pairs),), answer, numbers)


def _shortens(field: Field, term: str, pairs: Sequence[tuple[str, str]]) -> Question | None:
    known = [
        (ours, theirs)
        for with_term, without in pairs
        if (ours := field.named(with_term)) is not None and (theirs := field.named(without)) is not None
    ]
    if not known:
        return None
    length = _length(field)
    effects = [field.difference(ours, theirs, length) for ours, theirs in known]
    statements = tuple(less(effect, choices(*pair)) for effect, pair in zip(effects, known, strict=True))
    names = [f"{objective_name(ours.objective)} against {objective_name(theirs.objective)}" for ours, theirs in known]

    def answer(outcomes: Sequence[Outcome]) -> str:
        if len(set(outcomes)) == 1:
            return {"yes": "Yes.", "no": "No, it lengthens.", "open": "Undecided."}[outcomes[0]]
        words = {"yes": "shorter", "no": "longer", "open": "undecided"}
        return "; ".join(f"{name}: {words[one]}" for name, one in zip(names, outcomes, strict=True)) + "."

    numbers = f"length at iteration {field.iteration}: " + ", ".join(
        f"{name} {signed(effect)}" for name, effect in zip(names, effects, strict=True)
    )
    return Question(f"Does {term} shorten?", statements, answer, numbers)


def _who_wins(field: Field, metric: str, text: str) -> Question:
    ordered = sorted(field.contenders, key=lambda one: -_mean(field, one, metric, matched=True))
    pairs = list(itertools.combinations(ordered, 2))
    if field.matched_length is None:
        none = (Statement(1.0, 1.0, field.n_seeds),)
        return Question(text, none, lambda _: "Undecided: the contenders pass no common length.", "")
    statements = tuple(
        greater(field.matched_difference(one, other, metric), choices(one, other)) for one, other in pairs
    )

    def answer(outcomes: Sequence[Outcome]) -> str:
        beaten: dict[str, list[str]] = {}
        for (one, other), outcome in zip(pairs, outcomes, strict=True):
            if outcome != "open":
                winner, loser = (one, other) if outcome == "yes" else (other, one)
                beaten.setdefault(winner.objective, []).append(loser.objective)
        if not beaten:
            return "No objective clearly beats another."
        return "; ".join(f"{objective_name(one)} beats {_and(losers)}" for one, losers in beaten.items()) + "."

    numbers = listed(field, "win rate in %", ordered, lambda one: field.matched(one, metric), at_length=True)
    return Question(text, statements, answer, numbers)


def _length(field: Field) -> str:
    assert field.metrics.length is not None
    return field.metrics.length


def _mean(field: Field, one: Contender, metric: str, matched: bool = False) -> float:
    effect = field.matched(one, metric) if matched else field.effect(one, metric)
    return float("-inf") if effect is None else effect.value


def _named(field: Field, outcomes: Sequence[Outcome], wanted: Outcome) -> list[str]:
    return [one.objective for one, outcome in zip(field.contenders, outcomes, strict=True) if outcome == wanted]


def _and(objectives: Sequence[str]) -> str:
    *most, last = map(objective_name, objectives)
    return f"{', '.join(most)} and {last}" if most else last
