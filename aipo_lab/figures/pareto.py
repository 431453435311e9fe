"""Figure: length against win rate of every trial and iteration, with the Pareto front (paper, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.front import get_front_band, lettered, on_front
from aipo_lab.figures.labels import Label, key_below, place_labels
from aipo_lab.figures.palette import ObjectiveStyle
from aipo_lab.figures.style import PAPER, Look, drawing, lay_out, legend_above, panel_grid, save, scaled
from aipo_lab.figures.trajectories import Legend, axis_label, base_points, get_legend, get_paths, joined
from aipo_lab.figures.view import View, base_look, draw_base, get_view
from aipo_lab.results.repeats import NORMAL_95
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

ONE_PANEL = 8
"""Objectives in one panel; more get a panel each."""
_NUMBERED = 6
"""Iterations that all have their number in their markers; of longer paths only some have."""
_MOST_LINES = 60


def get_pareto_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> DataFrame:
    """Every point by length (`x`) and judged win rate (`y`) and, where truth is known, true win rate.

    The columns of `get_paths` and `on_front`, by `y_metric`; empty where the benchmark has no length or no trial a
    complete point.
    """
    wanted = [metrics.win_rate, metrics.true_win_rate] if metrics.length is not None else []
    paths = get_paths(rows, metrics, rule, metrics.length, wanted)
    return paths.assign(on_front=on_front(paths))


def draw_pareto(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Draw a panel for each win rate, or one for each objective when there are more than eight; [] without points."""
    if data.empty:
        return []
    with drawing(look):
        legend = get_legend(data)
        panels = _panels(data, legend)
        small = len(panels) > 2
        height_in = 1.75 if small else 2.9
        figure, axes, n_columns = panel_grid(len(panels), look, height_in, 4 if small else 2, share=small)
        labels = []
        for number, (panel_axes, (title, panel)) in enumerate(zip(axes, panels, strict=True)):
            labels.append(_draw_panel(panel_axes, panel, legend, title))
            if not small and number >= len(panels) - n_columns:
                panel_axes.set_xlabel(axis_label(panel["x_metric"].iloc[0]))
            if not small:
                panel_axes.set_ylabel(axis_label(panel["y_metric"].iloc[0]))
        if small:
            figure.supxlabel(axis_label(data["x_metric"].iloc[0]), fontsize=scaled(7.5))
            figure.supylabel(axis_label(data["y_metric"].iloc[0]), fontsize=scaled(7.5))
        legend_above(figure, _handles(data))
        lay_out(figure)
        for panel_axes, own in zip(axes, labels, strict=True):
            place_labels(panel_axes, own)
        return save(figure, path_stem, look)


def _panels(data: DataFrame, legend: Legend) -> list[tuple[str, Any]]:
    """(objective, its panel's points): one panel a win rate and no objective, or the first win rate's by objective."""
    by_metric = [panel for _, panel in data.groupby("y_metric", sort=False)]
    if len(legend.styles) <= ONE_PANEL:
        return [("", panel) for panel in by_metric]
    return [(objective, by_metric[0]) for objective in legend.styles]


def _draw_panel(axes: Axes, panel: DataFrame, legend: Legend, only: str) -> list[Label]:
    """Draw the points; returns the labels that are still to be placed. `only`: the objective a small panel is of."""
    view = get_view(panel)
    axes.set(xlim=view.x_range, ylim=view.y_range)
    _draw_front(axes, panel, view, named=not only)
    labels = []
    bold = panel["best_trial"] | legend.by_trial
    if only:
        bold &= panel["objective"] == only
    n_trials = panel["trial"].nunique()
    for objective, paths in panel[~bold].groupby("objective", sort=False):
        style = legend.styles[objective]
        colour = style.colour if only in ("", objective) else "#BBBBBB"
        _draw_thin(axes, paths[paths["iteration"] >= view.first], style.marker, colour, n_trials)
    for (objective, trial), path in panel[bold].groupby(["objective", "trial"], sort=False):
        labels.append(_draw_bold(axes, path, legend.style(trial, objective), view))
    draw_base(axes, base_points(panel), view)
    if only:
        axes.set_title(legend.styles[only].name)
        return []
    return labels


def _draw_front(axes: Axes, panel: DataFrame, view: View, named: bool) -> None:
    """The front's steps, its band and, above and left of its points where nothing else can be, their letters."""
    band = get_front_band(panel)
    if not band.empty:
        low = band["low"].clip(lower=view.y_range[0])
        axes.fill_between(band["x"], low, band["high"].clip(lower=view.y_range[0]), color="#E2E2E2", linewidth=0,
                          zorder=1.2)  # fmt: skip
    front = panel[panel["on_front"]].sort_values("x")
    xs, ys = [*front["x"], view.x_range[1]], [*front["y"], front["y"].iloc[-1]]
    axes.plot(xs, ys, drawstyle="steps-post", color="black", linewidth=scaled(0.8), linestyle=(0, (4, 1.5)), zorder=1.4)
    if not named:
        return
    key = lettered(panel, view.spans)
    for letter, x, y, picked, _ in key:
        away = scaled(6.5 if picked else 3.5)
        axes.annotate(letter, (x, y), xytext=(-away, away), textcoords="offset points", ha="right", va="center",
                      fontsize=scaled(7), fontstyle="italic", zorder=7)  # fmt: skip
    if key:
        key_below(axes, [f"{letter}: {name}" for letter, _, _, _, name in key])


def _draw_thin(axes: Axes, paths: DataFrame, marker: str, colour: str, n_trials: int) -> None:
    """The trials of an objective that are not its best, in two strokes however many they are."""
    if n_trials <= _MOST_LINES:
        xs, ys = joined(paths)
        axes.plot(xs, ys, color=colour, linewidth=scaled(0.5), alpha=0.35, zorder=1.6)
    trained = paths[paths["iteration"] > 0]
    axes.plot(trained["x"], trained["y"], linestyle="none", marker=marker, color=colour, markersize=scaled(2.4),
              alpha=0.55, markeredgewidth=0, zorder=1.8)  # fmt: skip


def _draw_bold(axes: Axes, path: DataFrame, style: ObjectiveStyle, view: View) -> Label:
    """A path with numbered markers, its picked point ringed and crossed by 95 % intervals."""
    shown = path[path["iteration"] >= view.first]
    axes.plot(shown["x"], shown["y"], color=style.colour, linewidth=scaled(1.2), linestyle=style.dash, zorder=3)
    trained = path[path["iteration"] > 0]
    steps = list(trained["iteration"])
    numbered = set(steps if len(steps) <= _NUMBERED else [steps[0], steps[-1], *trained[trained["best"]]["iteration"]])
    for order, point in enumerate(trained.itertuples()):
        level = 4 + order / 100
        if point.best:
            _draw_cross(axes, point, style.colour, level)
        size = 7.8 if point.iteration in numbered else 3.6
        if point.best:
            axes.plot([point.x], [point.y], marker=style.marker, markersize=scaled(size + 4.2), markerfacecolor="white",
                      markeredgecolor="black", markeredgewidth=scaled(0.9), zorder=level + 0.5)  # fmt: skip
            level += 0.6
        axes.plot([point.x], [point.y], marker=style.marker, markersize=scaled(size), color=style.colour,
                  markeredgecolor="white", markeredgewidth=scaled(0.4), zorder=level)  # fmt: skip
        if point.iteration in numbered:
            shift = {"^": -0.9, "v": 0.9}.get(style.marker, 0.0)
            axes.annotate(str(point.iteration), (point.x, point.y), xytext=(0, scaled(shift - 0.2)), ha="center",
                          textcoords="offset points", va="center_baseline", fontsize=scaled(6), color=style.ink,
                          fontweight="bold", zorder=level)  # fmt: skip
    last = path.iloc[-1]
    return Label(style.name, style.colour, float(last["x"]), float(last["y"]))


def _draw_cross(axes: Axes, point: Any, colour: str, level: float) -> None:
    x_error, y_error = (0.0 if error != error else NORMAL_95 * error for error in (point.x_se, point.y_se))
    axes.errorbar([point.x], [point.y], xerr=[x_error], yerr=[y_error], fmt="none", ecolor=colour,
                  elinewidth=scaled(0.8), capsize=scaled(1.8), capthick=scaled(0.8), zorder=level)  # fmt: skip


def _handles(data: DataFrame) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if (data["iteration"] == 0).any():
        handles.append(Line2D([], [], **base_look(), label="base model"))
    if data["best"].any():
        ring: dict[str, Any] = {"markersize": scaled(7.5), "markerfacecolor": "white", "markeredgewidth": scaled(0.9)}
        label = "best trial ± 95 %"
        handles.append(Line2D([], [], linestyle="none", marker="o", markeredgecolor="black", label=label, **ring))
    handles.append(Line2D([], [], color="black", linewidth=scaled(0.8), linestyle=(0, (4, 1.5)), label="Pareto front"))
    if any(not get_front_band(panel).empty for _, panel in data.groupby("y_metric", sort=False)):
        handles.append(Patch(color="#E2E2E2", label="95 % of fronts"))
    return handles
