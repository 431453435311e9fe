"""Statements about differences: how likely each would be by chance, and which of a family of them stand.

A statement says yes or no of something, or leaves it open. Both sides of all statements of a family share one chance of
5 % (or what the family is given) that any of them is said wrongly: Holm's method, over both sides' p-values. What was
chosen among several settings before it was compared has its p-values multiplied by their number, since any of them
could have been the one to differ by chance (Bonferroni 1936).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aipo_lab.results.effects import Effect
from aipo_lab.results.multiple import holm

Outcome = Literal["yes", "no", "open"]
ALPHA = 0.05


@dataclass(frozen=True)
class Statement:
    """p-values of yes and of no, and the least number of seeds behind them."""

    yes: float
    no: float
    n_seeds: int


def greater(effect: Effect | None, choices: int = 1, from_: float = 0.0) -> Statement:
    """ "The effect is beyond `from_`"; an effect that is not known leaves it open. `choices`: settings chosen among."""
    if effect is None:
        return Statement(1.0, 1.0, 1)
    yes, no = (min(1.0, choices * effect.p_value(side, from_)) for side in ("greater", "less"))
    return Statement(yes, no, effect.n_seeds)


def less(effect: Effect | None, choices: int = 1, from_: float = 0.0) -> Statement:
    """ "The effect is below `from_`"."""
    turned = greater(effect, choices, from_)
    return Statement(turned.no, turned.yes, turned.n_seeds)


def all_of(statements: Sequence[Statement]) -> Statement:
    """ "Each of these": yes needs every one (Berger's intersection-union test, 1982), no is any one of them."""
    worst = max(one.yes for one in statements)
    no = min(1.0, len(statements) * min(one.no for one in statements))
    return Statement(worst, no, min(one.n_seeds for one in statements))


def settle(statements: Sequence[Statement], alpha: float = ALPHA) -> list[Outcome]:
    """What may be said of each, all together wrong in at most a share `alpha` of sweeps."""
    adjusted = holm([p for one in statements for p in (one.yes, one.no)])
    return [
        "yes" if yes <= alpha else "no" if no <= alpha else "open"
        for yes, no in zip(adjusted[::2], adjusted[1::2], strict=True)
    ]
