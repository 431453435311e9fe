"""Figure: metrics over the iterations, the best trial of each objective bold (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import ObjectiveStyle
from aipo_lab.figures.style import PAPER, Look, drawing, integer_ticks, legend_above, panel_grid, save, scaled
from aipo_lab.figures.trajectories import Legend, axis_label, get_legend, get_paths, joined
from aipo_lab.results.repeats import NORMAL_95
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

ONE_PANEL = 8
"""Objectives in one panel; of more, each has a panel of its own for the first metric."""
_DODGE = 0.05  # iterations between neighbouring objectives, so that their error bars stay apart
_MOST_MARKERS = 10


def get_iterations_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> DataFrame:
    """Judged, true-quality and length-controlled win rate and mean length (`y`) by iteration (`x`), as there are.

    The columns of `get_paths`, by `y_metric`; empty where no trial has a complete point.
    """
    return get_paths(rows, metrics, rule, None, list(shown_metrics(metrics)))


def shown_metrics(metrics: BenchmarkMetrics) -> list[str]:
    """The metrics that have a panel, as far as the benchmark has them."""
    wanted = [metrics.win_rate, metrics.true_win_rate, metrics.lc_win_rate, metrics.length]
    return [metric for metric in wanted if metric is not None]


def draw_iterations(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Draw a panel for each metric, or of the first for each objective when there are more than eight."""
    if data.empty:
        return []
    with drawing(look):
        legend = get_legend(data)
        panels: list[tuple[str, Any]] = [("", panel) for _, panel in data.groupby("y_metric", sort=False)]
        small = len(legend.styles) > ONE_PANEL
        if small:
            panels = [(objective, panels[0][1]) for objective in legend.styles]
        most = 4 if small else 3 if len(panels) == 3 else 2
        figure, axes, n_columns = panel_grid(len(panels), look, 1.5 if small else 1.95, most, share=small)
        for number, (panel_axes, (only, panel)) in enumerate(zip(axes, panels, strict=True)):
            _draw_panel(panel_axes, panel, legend, only)
            if not small:
                panel_axes.set_ylabel(axis_label(panel["y_metric"].iloc[0]))
            if number >= len(panels) - n_columns:
                panel_axes.set_xlabel("Iteration")
        if small:
            figure.supylabel(axis_label(data["y_metric"].iloc[0]), fontsize=scaled(7.5))
        legend_above(figure, _handles(data, legend, small))
        figure.align_ylabels()
        return save(figure, path_stem, look)


def _draw_panel(axes: Axes, panel: DataFrame, legend: Legend, only: str) -> None:
    styles = list(legend.styles.values())
    thin = _strength(panel["trial"].nunique())
    bold = panel["best_trial"] | legend.by_trial
    if only:
        bold &= panel["objective"] == only
    for objective, paths in panel[~bold].groupby("objective", sort=False):
        colour = legend.styles[objective].colour if only in ("", objective) else "#BBBBBB"
        axes.plot(*joined(paths), color=colour, linewidth=scaled(0.6), alpha=thin, zorder=2)
    for (objective, trial), path in panel[bold].groupby(["objective", "trial"], sort=False):
        style = legend.style(trial, objective)
        _draw_bold(axes, path, style, 0.0 if only else (styles.index(style) - (len(styles) - 1) / 2) * _DODGE)
    integer_ticks(axes, int(panel["iteration"].min()), int(panel["iteration"].max()))
    if only:
        axes.set_title(legend.styles[only].name)


def _draw_bold(axes: Axes, path: DataFrame, style: ObjectiveStyle, shift: float) -> None:
    """A path with 95 % intervals; the picked iteration is ringed."""
    x = path["x"] + shift * (path["iteration"] > 0)
    every = -(-len(path) // _MOST_MARKERS)
    axes.errorbar(x, path["y"], yerr=NORMAL_95 * path["y_se"].fillna(0.0), color=style.colour, linestyle=style.dash,
                  marker=style.marker, markevery=every, errorevery=every, markersize=scaled(4.6),
                  markeredgecolor="white", markeredgewidth=scaled(0.4), linewidth=scaled(1.3), elinewidth=scaled(0.7),
                  capsize=scaled(1.4), zorder=3)  # fmt: skip
    best = path["best"]
    axes.plot(x[best], path["y"][best], linestyle="none", marker=style.marker, markersize=scaled(7.2), zorder=4,
              color=style.colour, markeredgecolor="black", markeredgewidth=scaled(0.9))  # fmt: skip


def _strength(n_trials: int) -> float:
    """How strong thin lines are, so that many of them stay a background."""
    return 0.35 if n_trials <= 60 else 0.15


def _handles(data: DataFrame, legend: Legend, small: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [] if small else [
        Line2D([], [], color=style.colour, marker=style.marker, linestyle=style.dash, markersize=scaled(4.6),
               label=style.name)
        for style in legend.styles.values()
    ]  # fmt: skip
    if not legend.by_trial and not data["best_trial"].all():
        handles.append(Line2D([], [], color="#555555", linewidth=scaled(0.6), alpha=0.6, label="other trials"))
    if data["best"].any():
        rim: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": scaled(0.9), "markersize": scaled(6.5)}
        handles.append(Line2D([], [], linestyle="none", marker="o", color="#999999", label="best iteration", **rim))
    return handles
