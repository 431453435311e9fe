"""Figure: length against win rate of configurations run with several seeds, means with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import (
    ObjectiveStyle,
    objective_name,
    objective_styles,
    setting_label,
    varying_hyperparameters,
)
from aipo_lab.figures.style import (
    COLUMN_WIDTH_IN,
    FULL_WIDTH_IN,
    keep_to_rates,
    legend_above,
    new_figure,
    print_style,
    save,
)
from aipo_lab.results.repeats import Configuration, Estimate, estimate, repeated_rows
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASE_STYLE: dict[str, Any] = {
    "linestyle": "none", "marker": "s", "markersize": 6, "markerfacecolor": "white",
    "markeredgecolor": "black", "markeredgewidth": 1.2, "zorder": 4,
}  # fmt: skip


@dataclass(frozen=True)
class RepeatedPoint:
    """A configuration after one iteration: means over its seeds."""

    iteration: int
    x: Estimate
    y: Estimate


@dataclass(frozen=True)
class RepeatedPath:
    """A configuration over its iterations, the last of which stands for it; `on_front`: no other's mean beats it."""

    label: str
    style: ObjectiveStyle
    points: tuple[RepeatedPoint, ...]
    on_front: bool

    @property
    def last(self) -> RepeatedPoint:
        """The point after the last iteration."""
        return self.points[-1]


@dataclass(frozen=True)
class RepeatsPanel:
    """Configurations by length (x) and a win rate (y)."""

    x_label: str
    y_label: str
    paths: list[RepeatedPath]


def get_repeats_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics) -> list[RepeatsPanel]:
    """The judged win rate's panel and, where truth is known, the true one's; none without several seeds or a length."""
    if metrics.length is None:
        return []
    wanted = [(metrics.win_rate, metrics.win_rate_label)]
    if metrics.true_win_rate is not None:
        wanted.append((metrics.true_win_rate, "Win rate by true quality (%)"))
    return [
        RepeatsPanel(metrics.length_label, label, paths)
        for metric, label in wanted
        if (paths := get_repeated_paths(rows, metrics.length, metric))
    ]


def get_repeated_paths(rows: Sequence[ResultRow], x_metric: str, y_metric: str) -> list[RepeatedPath]:
    """A path per configuration that was trained, in palette order."""
    groups = repeated_rows(rows)
    points: dict[Configuration, list[RepeatedPoint]] = {}
    for one, group in sorted(groups.items(), key=lambda item: item[0].iteration):
        x, y = estimate(group, x_metric), estimate(group, y_metric)
        if x is not None and y is not None:
            whole = Configuration(one.contender, one.hyperparameters, 0)
            points.setdefault(whole, []).append(RepeatedPoint(one.iteration, x, y))
    trained = {one: found for one, found in points.items() if found[-1].iteration > 0}
    if not trained:
        return []
    names = labels(rows)
    alone = len({one.contender for one in trained}) == len(trained)
    keys = {one: one.contender if alone else names[one] for one in trained}
    styles = objective_styles(keys.values())
    front = set(pareto_front([(found[-1].x.mean, found[-1].y.mean) for found in trained.values()]))
    paths = {
        keys[one]: RepeatedPath(names[one], styles[keys[one]], tuple(found), number in front)
        for number, (one, found) in enumerate(trained.items())
    }
    return [paths[key] for key in styles]


def labels(rows: Sequence[ResultRow]) -> dict[Configuration, str]:
    """What to call each configuration: its method or objective, and the settings that vary within it."""
    named = {}
    for one in {Configuration(c.contender, c.hyperparameters, 0): None for c in repeated_rows(rows)}:
        alike = [row for row in rows if row.contender == one.contender]
        varying = set(varying_hyperparameters(alike)) - {"seed", "method"}
        setting = setting_label(dict(one.hyperparameters), varying)
        named[one] = " ".join(filter(None, (objective_name(one.contender), setting)))
    return named


def draw_repeats(panels: Sequence[RepeatsPanel], path_stem: Path) -> list[Path]:
    """Draw one panel at column width or two at full width; PNG and PDF, [] without panels."""
    if not panels:
        return []
    with print_style():
        width_in = COLUMN_WIDTH_IN if len(panels) == 1 else FULL_WIDTH_IN
        figure, axes = new_figure(width_in, 3.4, 1, len(panels))
        for panel_axes, panel in zip(axes, panels, strict=True):
            _draw_panel(panel_axes, panel)
        legend_above(figure, _handles(panels[0]))
        return save(figure, path_stem)


def _draw_panel(axes: Axes, panel: RepeatsPanel) -> None:
    for path in panel.paths:
        style = path.style
        xs, ys = [p.x.mean for p in path.points], [p.y.mean for p in path.points]
        axes.plot(xs, ys, color=style.colour, linewidth=0.8, alpha=0.45, zorder=2)
        between = [p for p in path.points if 0 < p.iteration < path.last.iteration]
        axes.plot([p.x.mean for p in between], [p.y.mean for p in between], linestyle="none", marker=".",
                  color=style.colour, markersize=3, alpha=0.6, zorder=2.2)  # fmt: skip
        x, y = path.last.x, path.last.y
        axes.errorbar([x.mean], [y.mean], xerr=[x.half_width or 0.0], yerr=[y.half_width or 0.0], fmt="none",
                      ecolor=style.colour, elinewidth=0.9, capsize=2, zorder=2.8)  # fmt: skip
        axes.plot([x.mean], [y.mean], linestyle="none", marker=style.marker, color=style.colour, markersize=6,
                  markeredgecolor="black", markeredgewidth=0.9 if path.on_front else 0.0, zorder=3)  # fmt: skip
    base = [(p.x.mean, p.y.mean) for path in panel.paths for p in path.points if p.iteration == 0]
    if base:
        axes.plot(*zip(*dict.fromkeys(base), strict=True), **BASE_STYLE)
    axes.margins(0.06)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    keep_to_rates(axes)


def _handles(panel: RepeatsPanel) -> list[Any]:
    from matplotlib.lines import Line2D

    named = [
        Line2D([], [], linestyle="none", marker=path.style.marker, color=path.style.colour, markersize=6,
               markeredgewidth=0, label=path.label)
        for path in panel.paths
    ]  # fmt: skip
    rim = Line2D([], [], linestyle="none", marker="o", markerfacecolor="white", markeredgecolor="black",
                 markersize=6, markeredgewidth=0.9, label="rim: Pareto front")  # fmt: skip
    return [*named, Line2D([], [], **BASE_STYLE, label="base model"), rim]
