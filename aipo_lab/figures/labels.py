"""Names beside what they name: labels of paths that keep out of each other's way, and the key below a panel."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aipo_lab.figures.style import SMALLEST_PT, scaled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_REACH_PT = (7.0, 11.0, 17.0, 25.0, 35.0)
_LEADER_PT = 16.0
_DIRECTIONS = 16
_STEP_PT = 3.0


@dataclass(frozen=True)
class Label:
    """A name in its colour, for the point (x, y) at the end of a path."""

    text: str
    colour: str
    x: float
    y: float


def place_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write the labels near their points, where they hide least; the layout must be final.

    Each goes, in turn, to that place around its point which covers fewest markers, lines and labels, the nearer the
    better; a thin line leads there from afar. Nothing is random: the same figure each time it is drawn.
    """
    import numpy as np
    from matplotlib.patheffects import withStroke

    if not labels:
        return
    unit = axes.figure.dpi / 72 * scaled(1.0)
    frame = axes.get_window_extent()
    taken, weights = _obstacles(axes, unit)
    for one in labels:
        text = axes.text(one.x, one.y, one.text, color=one.colour, fontsize=scaled(7), fontweight="bold", zorder=9)
        text.set(ha="center", va="center", path_effects=[withStroke(linewidth=scaled(1.6), foreground="white")])
        box = text.get_window_extent()
        half = np.array([box.width, box.height]) / 2
        point = axes.transData.transform((one.x, one.y))
        reach, spot = min(_spots(point, half, unit), key=lambda it: _cost(it, half, frame, taken, weights, unit))
        place = tuple(axes.transData.inverted().transform(spot))
        text.set_position(place)
        if reach > _LEADER_PT:
            axes.annotate("", (one.x, one.y), xytext=place, zorder=2.9,
                          arrowprops={"arrowstyle": "-", "color": one.colour, "linewidth": scaled(0.6)})  # fmt: skip
        grid = _filled(spot, half, unit)
        taken, weights = np.vstack([taken, grid]), np.concatenate([weights, np.full(len(grid), 8.0)])


def _spots(point: Array, half: Array, unit: float) -> Iterator[tuple[float, Array]]:
    """(distance in points, centre) of the places for a label of the size 2 x `half` around a point."""
    import numpy as np

    for reach in _REACH_PT:
        for k in range(_DIRECTIONS):
            angle = 2 * np.pi * k / _DIRECTIONS
            way = np.array([np.cos(angle), np.sin(angle)])
            yield reach, point + way * (half * np.minimum(1.0, 1.2 * np.abs(way) + 0.2) + reach * unit)


def _cost(spot: tuple[float, Array], half: Array, frame: Any, taken: Array, weights: Array, unit: float) -> float:
    import numpy as np

    reach, centre = spot
    low, high = centre - half - unit, centre + half + unit
    outside = max(0.0, frame.x0 - low[0], high[0] - frame.x1, frame.y0 - low[1], high[1] - frame.y1)
    hidden = weights[np.all((taken > low) & (taken < high), axis=1)].sum()
    return float(hidden + 0.25 * reach + 1000.0 * (outside > 0))


def _obstacles(axes: Axes, unit: float) -> tuple[Array, Array]:
    """Places in pixels that labels had better leave free, and how much: lines, markers, what is written."""
    import numpy as np

    found = []
    for line in axes.get_lines():
        if line.get_transform() != axes.transData or np.size(line.get_xdata()) == 0:
            continue
        points = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float))
        if line.get_linestyle() != "None":
            weight = min(1.0, line.get_linewidth() / scaled(1.2)) * (line.get_alpha() or 1.0)
            steps = [(a, b) for a, b in itertools.pairwise(points) if np.isfinite([a, b]).all()]  # lines may have gaps
            found += [(_between(a, b, unit), weight) for a, b in steps]
        if line.get_marker() not in ("None", "", None):
            size = np.full(2, line.get_markersize() * axes.figure.dpi / 144)
            found += [(_filled(point, size, unit), 4.0 if size[0] > 2.5 * unit else 1.0) for point in points]
    for text in axes.texts:
        box = text.get_window_extent()
        centre, half = np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2, np.array([box.width, box.height]) / 2
        found.append((_filled(centre, half, unit), 8.0))
    if not found:
        return np.empty((0, 2)), np.empty(0)
    return np.vstack([points for points, _ in found]), np.concatenate([np.full(len(p), w) for p, w in found])


def _between(a: Array, b: Array, unit: float) -> Array:
    import numpy as np

    n = int(np.hypot(*(b - a)) / (_STEP_PT * unit)) + 2
    return np.linspace(a, b, min(n, 400))


def _filled(centre: Array, half: Array, unit: float) -> Array:
    """A grid of points over a box."""
    import numpy as np

    counts = (np.maximum(2, 2 * half / (_STEP_PT * unit))).astype(int) + 1
    xs, ys = (np.linspace(c - h, c + h, n) for c, h, n in zip(centre, half, counts, strict=True))
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def key_below(axes: Any, entries: Sequence[str]) -> None:
    """What the letters of a panel mean, under its axis label."""
    width_pt = axes.figure.get_figwidth() * 72 * axes.get_position().width
    per_line = max(20, int(width_pt / scaled(SMALLEST_PT * 0.56)))
    glued = [entry.replace(" ", "\u00a0") for entry in entries]  # no entry is broken
    lines = textwrap.wrap("\u2003 ".join(glued), per_line, break_long_words=False)
    axes.annotate("\n".join(lines), (0, 0), xycoords="axes fraction", xytext=(0, -scaled(25)), va="top",
                  textcoords="offset points", fontsize=scaled(SMALLEST_PT), linespacing=1.35)  # fmt: skip
