"""Figure: length against win rate of every trial and iteration, with the Pareto front (paper, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.style import (
    COLUMN_WIDTH_IN,
    FULL_WIDTH_IN,
    keep_to_rates,
    legend_above,
    new_figure,
    print_style,
    save,
)
from aipo_lab.figures.trajectories import (
    Legend,
    Trajectory,
    base_points,
    best_trials,
    get_legend,
    get_trajectories,
)
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import SelectionRule, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ParetoPanel:
    """All trials by length (x) and a win rate (y); `front` and `base` are (x, y), the front by growing x."""

    x_label: str
    y_label: str
    trajectories: list[Trajectory]
    front: list[tuple[float, float]]
    base: list[tuple[float, float]]


@dataclass(frozen=True)
class ParetoData:
    """The judged win rate's panel and, where the benchmark knows true quality, that of the true win rate."""

    panels: list[ParetoPanel]
    legend: Legend


def get_pareto_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> ParetoData:
    """Panels for a benchmark; none where it has no length or no trial has a complete point."""
    if metrics.length is None:
        return ParetoData([], get_legend([]))
    best = best_trials(rows, rule, metrics)
    wanted = [(metrics.win_rate, metrics.win_rate_label)]
    if metrics.true_win_rate is not None:
        wanted.append((metrics.true_win_rate, "Win rate by true quality (%)"))
    panels = []
    for metric, label in wanted:
        trajectories = get_trajectories(rows, metrics.length, metric, best)
        if trajectories:
            points = [(p.x, p.y) for t in trajectories for p in t.points]
            front = list(dict.fromkeys(points[i] for i in pareto_front(points)))
            panels.append(ParetoPanel(metrics.length_label, label, trajectories, front, base_points(trajectories)))
    return ParetoData(panels, get_legend(rows))


def draw_pareto(data: ParetoData, path_stem: Path) -> list[Path]:
    """Draw one panel at column width or two at full width; PNG and PDF, [] without panels."""
    if not data.panels:
        return []
    single = len(data.panels) == 1
    with print_style():
        handles = _legend_handles(data.legend)
        width_in = COLUMN_WIDTH_IN if single else FULL_WIDTH_IN
        figure, axes = new_figure(width_in, 3.0 if single else 2.8, 1, len(data.panels))
        for panel_axes, panel in zip(axes, data.panels, strict=True):
            _draw_panel(panel_axes, panel, data.legend)
        legend_above(figure, handles)
        return save(figure, path_stem)


def _draw_panel(axes: Axes, panel: ParetoPanel, legend: Legend) -> None:
    for trajectory in sorted(panel.trajectories, key=legend.is_bold):
        _draw_trajectory(axes, trajectory, legend)
    axes.plot(*zip(*panel.front, strict=True), drawstyle="steps-post", color="black", linewidth=0.9,
              linestyle=(0, (4, 1.5)), zorder=2.4)  # fmt: skip
    if panel.base:
        axes.plot(*zip(*panel.base, strict=True), **_BASE)
    axes.margins(0.05)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    keep_to_rates(axes)


_BASE: dict[str, Any] = {
    "linestyle": "none", "marker": "s", "markersize": 6, "markerfacecolor": "white",
    "markeredgecolor": "black", "markeredgewidth": 1.2, "zorder": 4,
}  # fmt: skip
_STAR: dict[str, Any] = {
    "linestyle": "none", "marker": "*", "markersize": 11, "markeredgecolor": "black", "markeredgewidth": 0.7,
    "zorder": 5,
}  # fmt: skip


def _draw_trajectory(axes: Axes, trajectory: Trajectory, legend: Legend) -> None:
    style, bold = legend.style(trajectory), legend.is_bold(trajectory)
    axes.plot(
        [p.x for p in trajectory.points], [p.y for p in trajectory.points],
        color=style.colour, linewidth=1.3 if bold else 0.6, alpha=1.0 if bold else 0.35,
        zorder=2.2 if bold else 2,
    )  # fmt: skip
    trained = trajectory.trained
    axes.plot(
        [p.x for p in trained], [p.y for p in trained], linestyle="none", marker=style.marker,
        color=style.colour, markersize=4.5 if bold else 3.2, alpha=1.0 if bold else 0.6,
        markeredgecolor="white", markeredgewidth=0.3, zorder=3 if bold else 2.6,
    )  # fmt: skip
    for point in trained:
        if point.iteration == trajectory.best_iteration:
            axes.plot([point.x], [point.y], color=style.colour, **_STAR)


def _legend_handles(legend: Legend) -> list[Any]:
    from matplotlib.lines import Line2D

    objectives = [
        Line2D([], [], color=style.colour, marker=style.marker, markersize=4.5, label=style.name)
        for style in legend.styles.values()
    ]
    star = Line2D([], [], color="white", **(_STAR | {"markersize": 9}), label="best trial")
    base = Line2D([], [], **_BASE, label="base model")
    front = Line2D([], [], color="black", linewidth=0.9, linestyle=(0, (4, 1.5)), label="Pareto front")
    return [*objectives, star, base, front]
