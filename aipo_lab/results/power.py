"""The smallest difference that so many prompts and seeds can show, before anything runs.

At 80 % power and a two-sided level of 5 % a difference must be z(0.975) + z(0.8) = 2.8 standard errors (Cohen 1988,
Statistical Power Analysis, ch. 2; with t in place of z for few seeds). Differences of two trials are paired: for one
prompt and two rates it is at most the share of prompts on which the two disagree that makes the error, since a prompt
on which they agree adds nothing (Connor 1987, Biometrics 43).
"""

from __future__ import annotations

import math

from aipo_lab.results.student import quantile

POWER, LEVEL = 0.8, 0.05
DISAGREEING = 0.3
"""Share of prompts on which two trials' outcomes are taken to differ, before anything is measured."""


def smallest_rate_difference(n_prompts: int, n_seeds: int = 1, seed_sd: float = 0.0, paired: bool = True) -> float:
    """In percentage points, between two configurations' win rates.

    `seed_sd`: the standard deviation, in points, between seeds of the difference; 0 with one seed, about which nothing
    can then be said. Unpaired, both rates are taken to be 50 %, the widest.
    """
    assert n_prompts >= 2 and n_seeds >= 1
    share = DISAGREEING if paired else 0.5
    prompts = (100**2) * share / (n_prompts * n_seeds)
    seeds = seed_sd**2 / n_seeds
    df = n_prompts - 1.0
    if n_seeds > 1 and seed_sd > 0:
        df = (prompts + seeds) ** 2 / (prompts**2 / (n_seeds * (n_prompts - 1)) + seeds**2 / (n_seeds - 1))
    return (quantile(1 - LEVEL / 2, df) + quantile(POWER, df)) * math.sqrt(prompts + seeds)
