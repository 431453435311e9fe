"""How much of the length-versus-win-rate plane a set of points dominates: one number for a whole front."""

from __future__ import annotations

from collections.abc import Sequence

from aipo_lab.results.front import pareto_front

LENGTH_FACTOR = 4.0
"""Lengths count up to this many times the base model's; beyond, a point adds nothing."""


def hypervolume(points: Sequence[tuple[float, float]], base: tuple[float, float]) -> float:
    """Percent of a rectangle that (length, win rate) `points` dominate; short and high are good.

    The rectangle is fixed by the base model's own point: from its length to `LENGTH_FACTOR` times it, and from its win
    rate to 100. Points shorter than the base model count as if they had its length.
    """
    length, win_rate = base
    assert length > 0 and win_rate < 100
    units = [((x - length) / ((LENGTH_FACTOR - 1) * length), (y - win_rate) / (100.0 - win_rate)) for x, y in points]
    inside = [(max(x, 0.0), y) for x, y in units if x < 1 and y > 0]
    if not inside:
        return 0.0
    front = [inside[k] for k in pareto_front(inside)]
    ends = [x for x, _ in front[1:]] + [1.0]
    return 100 * sum((end - x) * y for (x, y), end in zip(front, ends, strict=True))
