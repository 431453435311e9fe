"""An effect with what is known of its error: a mean over prompts and seeds, its interval, and what it can be told from.

Both prompts and seeds are samples: other prompts might have been asked, and other seeds drawn. So both are random
factors of a two-way layout with one value per cell (Searle, Casella and McCulloch 1992, Variance Components, ch. 4).
With S seeds and P prompts, and mean squares between seeds M_s, between prompts M_p and of the rest M_e, the variance of
the grand mean is estimated by (M_s + M_p - M_e) / (S P), where a factor's mean square counts at least M_e (no variance
is negative), with the degrees of freedom of Satterthwaite (1946, Biometrics Bulletin 2). With one seed it is the
variance over prompts / P, and says nothing of other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

import numpy as np

from aipo_lab.results.per_prompt import Values
from aipo_lab.results.student import quantile, upper_tail

Side = Literal["different", "greater", "less"]
Square = tuple[float, float]
"""A mean square with its degrees of freedom."""
NO_SEEDS: Square = (0.0, 0.0)
LEVEL = 0.95


@dataclass(frozen=True)
class Effect:
    """A value in its metric's unit, its standard error (None: not known) and the error's degrees of freedom.

    `n_seeds`: seeds the value is a mean over, 1 if it holds for one alone.
    """

    value: float
    se: float | None
    degrees_of_freedom: float = math.inf
    n_seeds: int = 1

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval."""
        return None if self.se is None else self.se * quantile((1 + LEVEL) / 2, self.degrees_of_freedom)

    def p_value(self, side: Side = "different", from_: float = 0.0) -> float:
        """How likely a value so far off `from_`, to that side, would be if the truth were `from_`; 1 without an error.

        Without any spread (every prompt says the same) it is 0 on the value's own side.
        """
        if self.se is None:
            return 1.0
        off = self.value - from_
        if side == "less":
            off = -off
        elif side == "different":
            off = abs(off)
        if self.se == 0:
            return 0.0 if off > 0 else 1.0
        tail = upper_tail(off / self.se, self.degrees_of_freedom)
        return min(1.0, 2 * tail) if side == "different" else tail


@dataclass(frozen=True)
class Spread:
    """A mean of `n_seeds` seeds with the parts of its variance: mean squares with their degrees of freedom.

    `seeds` is that between seeds, of 0 degrees of freedom with one seed; the variance is the sum of all parts over
    `size`.
    """

    value: float
    n_seeds: int
    seeds: Square
    others: tuple[Square, ...] | None
    size: int = 1

    def effect(self, pooled: Square | None = None) -> Effect:
        """The mean with its error; `pooled`: a mean square between seeds of several such means, see `pooled_effects`.

        The greater of the two counts, so that a mean whose seeds are further apart than others' is not taken for more
        certain than it is.
        """
        if self.others is None:
            return Effect(self.value, None, n_seeds=self.n_seeds)
        seeds = self.seeds if pooled is None else (max(self.seeds[0], pooled[0]), pooled[1])
        parts = [one for one in (seeds, *self.others) if one[1] > 0]
        square = sum(one for one, _ in parts)
        spread = sum(one**2 / df for one, df in parts)
        return Effect(
            self.value, math.sqrt(square / self.size), square**2 / spread if spread > 0 else math.inf, self.n_seeds
        )


def mean_spread(values: Values) -> Spread:
    """The grand mean of `values`, shape (seeds, prompts), at least two prompts."""
    n_seeds, n_prompts = values.shape
    assert n_prompts > 1
    by_prompt = values.mean(axis=0)
    mean = float(by_prompt.mean())
    between_prompts = n_seeds * float(by_prompt.var(ddof=1))
    if n_seeds == 1:
        return Spread(mean, 1, NO_SEEDS, ((between_prompts, n_prompts - 1),), n_prompts)
    by_seed = values.mean(axis=1)
    between_seeds = n_prompts * float(by_seed.var(ddof=1))
    df_rest = (n_seeds - 1) * (n_prompts - 1)
    rest = float(np.square(values - by_seed[:, None] - by_prompt + mean).sum()) / df_rest
    others = ((max(between_prompts, rest), n_prompts - 1.0), (-rest, float(df_rest)))
    return Spread(mean, n_seeds, (max(between_seeds, rest), n_seeds - 1), others, values.size)


def seeds_spread(values: Sequence[float], errors: Sequence[float | None]) -> Spread:
    """The mean of one value a seed, where only each seed's standard error over the prompts is known.

    The prompts' part of the variance, which all seeds share, is the mean squared error: the answers' own noise is then
    in both parts, so that the error is rather too great.
    """
    known = [error for error in errors if error is not None]
    if len(known) < len(values):
        return Spread(fmean(values), len(values), NO_SEEDS, None)
    prompts = ((fmean(error**2 for error in known), math.inf),)
    if len(values) == 1:
        return Spread(values[0], 1, NO_SEEDS, prompts)
    return Spread(fmean(values), len(values), (variance(values) / len(values), len(values) - 1), prompts)


def mean_effect(values: Values) -> Effect:
    """The grand mean of `values`, shape (seeds, prompts), with its error."""
    return mean_spread(values).effect()


def pooled_effects(differences: Sequence[Spread], n_groups: int) -> list[Effect]:
    """The effects of all pairwise differences of `n_groups` configurations, on one estimate of how much seeds differ.

    A few seeds say little of the variance between them: with five, 4 degrees of freedom. The mean over all pairs of
    their mean squares is that of an analysis of variance with configurations as groups, and has (groups - 1) (seeds -
    1). It takes every configuration's seeds to vary alike, which longer answers' may not; hence see `Spread.effect`.
    """
    n_seeds = min(one.n_seeds for one in differences)
    if n_seeds < 2 or n_groups < 3 or any(one.seeds[1] != differences[0].seeds[1] for one in differences):
        return [one.effect() for one in differences]
    pooled = fmean(one.seeds[0] for one in differences), float((n_groups - 1) * (n_seeds - 1))
    return [one.effect(pooled) for one in differences]
