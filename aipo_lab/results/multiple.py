"""Many comparisons at once: Holm's step-down adjustment of p-values (1979, Scandinavian Journal of Statistics 6).

It keeps the chance of even one false statement among all at the level, however the comparisons depend on each other
(those of one sweep share prompts, seeds and trials), and is never weaker than Bonferroni's.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """The adjusted p-values, in the order given: what is below the level stays true with the whole family."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = highest
    return adjusted
