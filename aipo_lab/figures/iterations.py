"""Figure: metrics over the iterations, the best trial of each objective bold (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.style import (
    FULL_WIDTH_IN,
    integer_ticks,
    keep_to_rates,
    legend_above,
    new_figure,
    print_style,
    save,
)
from aipo_lab.figures.trajectories import Legend, Trajectory, best_trials, get_legend, get_trajectories
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import SelectionRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DODGE = 0.05  # iterations between neighbouring objectives, so that their error bars stay apart


@dataclass(frozen=True)
class IterationsPanel:
    """One metric over the iterations: `x` of every point is its iteration."""

    metric: str
    label: str
    trajectories: list[Trajectory]


@dataclass(frozen=True)
class IterationsData:
    """The panels and how their lines are told apart; no panel where no trial has a complete point."""

    panels: list[IterationsPanel]
    legend: Legend


def shown_metrics(metrics: BenchmarkMetrics) -> list[tuple[str, str]]:
    """The metrics of a benchmark's panels, with their labels: win rates and mean length, where it has them."""
    wanted = [
        (metrics.win_rate, metrics.win_rate_label),
        (metrics.true_win_rate, "Win rate by true quality (%)"),
        (metrics.lc_win_rate, "Length-controlled win rate (%)"),
        (metrics.length, metrics.length_label),
    ]
    return [(metric, label) for metric, label in wanted if metric is not None]


def get_iterations_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> IterationsData:
    """Judged, true-quality and length-controlled win rate and mean length, where the benchmark has them."""
    best = best_trials(rows, rule, metrics)
    panels = [
        IterationsPanel(metric, label, trajectories)
        for metric, label in shown_metrics(metrics)
        if (trajectories := get_trajectories(rows, None, metric, best))
    ]
    return IterationsData(panels, get_legend(rows))


def draw_iterations(data: IterationsData, path_stem: Path) -> list[Path]:
    """Draw the panels (two by two when there are four) at full page width; PNG and PDF, [] without panels."""
    if not data.panels:
        return []
    n_columns = {1: 1, 2: 2, 3: 3}.get(len(data.panels), 2)
    n_rows = -(-len(data.panels) // n_columns)
    width_in = FULL_WIDTH_IN if n_columns > 1 else FULL_WIDTH_IN * 0.65
    with print_style():
        figure, axes = new_figure(width_in, 2.2 * n_rows + 0.45, n_rows, n_columns)
        for panel_axes, panel in zip(axes, data.panels, strict=False):
            _draw_panel(panel_axes, panel, data.legend)
        for unused in axes[len(data.panels) :]:
            unused.set_visible(False)
        handles = _legend_handles(data)
        legend_above(figure, handles)
        return save(figure, path_stem)


def _draw_panel(axes: Axes, panel: IterationsPanel, legend: Legend) -> None:
    styles = list(legend.styles.values())
    for trajectory in sorted(panel.trajectories, key=legend.is_bold):
        style = legend.style(trajectory)
        points = trajectory.points
        if not legend.is_bold(trajectory):
            axes.plot([p.x for p in points], [p.y for p in points], color=style.colour, linewidth=0.6, alpha=0.35)
            continue
        shift = (styles.index(style) - (len(styles) - 1) / 2) * _DODGE
        axes.errorbar(
            [p.x + shift * (p.iteration > 0) for p in points],
            [p.y for p in points],
            yerr=[p.se or 0.0 for p in points],
            color=style.colour,
            marker=style.marker,
            markeredgecolor="white",
            markeredgewidth=0.4,
            markersize=5,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=1.5,
        )
    iterations = [p.iteration for t in panel.trajectories for p in t.points]
    integer_ticks(axes, min(iterations), max(iterations))
    axes.set_xlabel("Iteration")
    axes.set_ylabel(panel.label)
    keep_to_rates(axes)


def _legend_handles(data: IterationsData) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, markersize=5, label=style.name)
        for style in data.legend.styles.values()
    ]
    if any(not data.legend.is_bold(t) for panel in data.panels for t in panel.trajectories):
        handles.append(Line2D([], [], color="#555555", linewidth=0.6, alpha=0.6, label="other trials"))
    return handles
