"""Figure: length against win rate of each objective over its hyperparameters (paper, Figure 7b-f)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import (
    GREY,
    SETTING_COLOURS,
    SETTING_MARKERS,
    objective_name,
    setting_label,
    varying_hyperparameters,
)
from aipo_lab.figures.style import FULL_WIDTH_IN, legend_above, new_figure, print_style, rate_range, save
from aipo_lab.figures.trajectories import Trajectory, base_points, best_trials, get_trajectories
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import SelectionRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED_SETTINGS = len(SETTING_COLOURS)  # beyond these the lines of a panel can no longer be told apart


@dataclass(frozen=True)
class Setting:
    """One trial of a panel; `label` is None beyond those that can be told apart, "" for a single one."""

    label: str | None
    trajectory: Trajectory


@dataclass(frozen=True)
class ObjectivePanel:
    """One objective: its title names the hyperparameters its trials share, the labels those that vary."""

    objective: str
    title: str
    settings: list[Setting]
    base: list[tuple[float, float]]


@dataclass(frozen=True)
class ObjectivesData:
    """Panels in palette order with axis labels and the ranges (low, high) of all points."""

    panels: list[ObjectivePanel]
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]


def get_objectives_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> ObjectivesData:
    """One panel per objective; none where the benchmark has no length or no trial has a complete point."""
    if metrics.length is None:
        return ObjectivesData([], "", "", (0.0, 1.0), (0.0, 1.0))
    best = best_trials(rows, rule, metrics)
    trajectories = get_trajectories(rows, metrics.length, metrics.win_rate, best)
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.objective, []).append(trajectory)
    points = [p for t in trajectories for p in t.points] or []
    return ObjectivesData(
        [_panel(rows, objective, group) for objective, group in groups.items()],
        metrics.length_label,
        metrics.win_rate_label,
        _padded_range([p.x for p in points]),
        rate_range(*_padded_range([p.y for p in points]), metrics.win_rate_label),
    )


def _panel(rows: Sequence[ResultRow], objective: str, group: list[Trajectory]) -> ObjectivePanel:
    varying = varying_hyperparameters(row for row in rows if row.contender == objective)
    shared = {name: text for name, text in group[0].hyperparameters.items() if name not in varying}
    constants = setting_label(shared)
    title = objective_name(objective) + (f" ({constants})" if constants else "")
    named = _named(group)
    settings = [Setting(setting_label(t.hyperparameters, varying) if t in named else None, t) for t in group]
    return ObjectivePanel(objective, title, settings, base_points(group))


def _named(group: list[Trajectory]) -> list[Trajectory]:
    """The trials that get a colour and a label: all when they are few, else the best and the first others."""
    if len(group) <= NAMED_SETTINGS:
        return group
    return sorted(group, key=lambda t: not t.is_best)[: NAMED_SETTINGS - 1]


def _padded_range(values: list[float]) -> tuple[float, float]:
    if not values:
        return (0.0, 1.0)
    margin = 0.06 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 1.0
    return (min(values) - margin, max(values) + margin)


def draw_objectives(data: ObjectivesData, path_stem: Path) -> list[Path]:
    """Draw the panels with equal axes, three to a row at full width; PNG and PDF, [] without panels."""
    if not data.panels:
        return []
    n_columns = min(3, len(data.panels))
    n_rows = -(-len(data.panels) // n_columns)
    width_in = FULL_WIDTH_IN * (0.55, 0.8, 1.0)[n_columns - 1]
    with print_style():
        figure, axes = new_figure(width_in, 2.15 * n_rows + 0.3, n_rows, n_columns, share=True)
        for panel_axes, panel in zip(axes, data.panels, strict=False):
            _draw_panel(panel_axes, panel)
        axes[0].set(xlim=data.x_range, ylim=data.y_range)
        _draw_shared_legend(figure, axes, len(data.panels), n_columns)
        figure.supxlabel(data.x_label, fontsize=8)
        figure.supylabel(data.y_label, fontsize=8)
        return save(figure, path_stem)


def _draw_panel(axes: Axes, panel: ObjectivePanel) -> None:
    named = 0
    for setting in panel.settings:
        colour, marker = GREY, "."
        if setting.label is not None:
            colour, marker = SETTING_COLOURS[named], SETTING_MARKERS[named]
            named += 1
        _draw_setting(axes, setting, colour, marker)
    if panel.base:
        axes.plot(*zip(*panel.base, strict=True), **_BASE)
    others = sum(setting.label is None for setting in panel.settings)
    if others:
        axes.plot([], [], color=GREY, linewidth=0.7, label=f"{others} others")
    axes.set_title(panel.title)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower right", handlelength=1.4, labelspacing=0.25, borderaxespad=0.2)


_BASE: dict[str, Any] = {
    "linestyle": "none", "marker": "s", "markersize": 5, "markerfacecolor": "white",
    "markeredgecolor": "black", "markeredgewidth": 1.1, "zorder": 4,
}  # fmt: skip
_STAR: dict[str, Any] = {
    "linestyle": "none", "marker": "*", "markersize": 11, "markeredgecolor": "black", "markeredgewidth": 0.7,
    "zorder": 5,
}  # fmt: skip


def _draw_setting(axes: Axes, setting: Setting, colour: str, marker: str) -> None:
    trajectory = setting.trajectory
    points = trajectory.points
    trained = [k for k, point in enumerate(points) if point.iteration > 0]
    axes.plot(
        [p.x for p in points], [p.y for p in points], color=colour, marker=marker, markevery=trained,
        linewidth=0.6 if setting.label is None else 1.1, markeredgecolor="white", markeredgewidth=0.3,
        label=setting.label or None, zorder=2 if setting.label is None else 3,
    )  # fmt: skip
    for point in trajectory.trained:
        if point.iteration == trajectory.best_iteration:
            axes.plot([point.x], [point.y], color=colour, **_STAR)


def _draw_shared_legend(figure: Figure, axes: list[Axes], n_panels: int, n_columns: int) -> None:
    """What all panels share goes into the first unused cell, above the panels where every cell is used."""
    from matplotlib.lines import Line2D

    best = Line2D([], [], color="white", **(_STAR | {"markersize": 9}), label="best trial")
    line = Line2D([], [], color=GREY, marker=".", label="one setting's iterations")
    handles = [Line2D([], [], **_BASE, label="base model"), line, best]
    for index, unused in enumerate(axes[n_panels:], start=n_panels):
        unused.set_axis_off()
        axes[index - n_columns].tick_params(labelbottom=True)
    if n_panels < len(axes):
        axes[n_panels].legend(handles=handles, loc="center", fontsize=8, labelspacing=0.8)
    else:
        legend_above(figure, handles)
