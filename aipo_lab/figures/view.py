"""The part of a plane that a figure shows, and the base model, which stands at its edge when it is far away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aipo_lab.figures.style import scaled
from aipo_lab.results.repeats import NORMAL_95

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

FAR = 0.7
"""A base model is far when it is farther from the trained points than this share of their spread, on either axis."""
_MARGIN = 0.09


@dataclass(frozen=True)
class View:
    """Ranges of both axes; `far_x`, `far_y`: the base model is off that axis."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    far_x: bool
    far_y: bool

    @property
    def far(self) -> bool:
        """Whether the base model is off the axes."""
        return self.far_x or self.far_y

    @property
    def first(self) -> int:
        """The first iteration of a path that is drawn: the way from a base model off the axes is not."""
        return 1 if self.far else 0

    @property
    def spans(self) -> tuple[float, float]:
        """The widths of both ranges."""
        return self.x_range[1] - self.x_range[0], self.y_range[1] - self.y_range[0]


def get_view(panel: DataFrame) -> View:
    """What to show of a panel's points (`x`, `y`, `iteration`); see `FAR`."""
    base, trained = panel[panel["iteration"] == 0], panel[panel["iteration"] > 0]
    ranges, far = [], []
    for axis in ("x", "y"):
        off = not base.empty and len(trained) > 1 and _is_far(base[axis], trained[axis])
        values = _with_crosses(trained if off else panel, axis)
        span = float(values.max() - values.min()) or abs(float(values.max())) * 0.1 or 1.0
        below = 2.0 if off else 1.0
        ranges.append((float(values.min()) - below * _MARGIN * span, float(values.max()) + _MARGIN * span))
        far.append(off)
    return View(ranges[0], ranges[1], far[0], far[1])


def _with_crosses(points: DataFrame, axis: str) -> Series:
    """The values of an axis and the ends of the 95 % intervals of what the rule picked."""
    import pandas as pd

    best = points[points["best"]]
    reach = NORMAL_95 * best[f"{axis}_se"].fillna(0.0)
    return pd.concat([points[axis], best[axis] - reach, best[axis] + reach])


def _is_far(base: Series, trained: Series) -> bool:
    spread = float(trained.max() - trained.min())
    return spread > 0 and float(trained.min() - base.max()) > FAR * spread


def base_look() -> dict[str, Any]:
    """How the base model is drawn: an open square."""
    return {"linestyle": "none", "marker": "s", "markersize": scaled(5.2), "markerfacecolor": "white",
            "markeredgecolor": "black", "markeredgewidth": scaled(1.1)}  # fmt: skip


def draw_base(axes: Axes, base: DataFrame, view: View, named: bool = True) -> None:
    """The base model; off the axes it stands at their edge, with its numbers where `named`, and the axis is broken."""
    if base.empty:
        return
    if not view.far:
        axes.plot(base["x"], base["y"], zorder=6, **base_look())
        return
    (left, right), (bottom, top) = view.x_range, view.y_range
    one = base.iloc[0]
    x = left + 0.035 * (right - left) if view.far_x else float(one["x"])
    y = bottom + 0.05 * (top - bottom) if view.far_y else float(one["y"])
    axes.plot([x], [y], zorder=6, **base_look())
    for off, at, turned in ((view.far_x, (0.085, 0.0), False), (view.far_y, (0.0, 0.115), True)):
        if off:
            _break_axis(axes, at, turned)
    if not named:
        return
    axes.annotate(f"base model: ({one['x']:.3g}, {one['y']:.3g})", (x, y), xytext=(scaled(6), 0), va="center",
                  textcoords="offset points", fontsize=scaled(6.5), zorder=6,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6})  # fmt: skip


def _break_axis(axes: Axes, at: tuple[float, float], turned: bool) -> None:
    """Two strokes across a spine: what lies beyond them is not to scale."""
    for shift in (-0.008, 0.008):
        x, y = (at[0], at[1] + shift) if turned else (at[0] + shift, at[1])
        axes.plot([x], [y], marker=(2, 0, -35 if not turned else -60), markersize=scaled(6), color="black",
                  markeredgewidth=scaled(0.7), transform=axes.transAxes, clip_on=False, zorder=8)  # fmt: skip
