"""How much of the length-versus-win-rate plane a set of points covers: one number for a whole front."""

from __future__ import annotations

from collections.abc import Iterable


def hypervolume(points: Iterable[tuple[float, float]], longest: float, top: float = 100.0) -> float:
    """The share, in percent, of the rectangle from (0, 0) to (`longest`, `top`) that the points dominate.

    `points` are (length, win rate), short and high being good; a point dominates what is longer and wins no more often.
    Points beyond `longest` add nothing.
    """
    assert longest > 0 and top > 0
    covered, height = 0.0, 0.0
    for length, win_rate in sorted(points, key=lambda point: (point[0], -point[1])):
        if length < longest and win_rate > height:
            covered += (longest - length) * (min(win_rate, top) - height)
            height = min(win_rate, top)
    return 100.0 * covered / (longest * top)
