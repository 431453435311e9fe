"""The Pareto front of length and win rate."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (length, win rate) points that no other point beats, by growing length.

    A point beats another when it is no longer and wins no less often, and is better in one of the two; equal
    points do not beat each other, so all of them are kept.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front
