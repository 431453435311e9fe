"""Figure: length against win rate of configurations run with several seeds, means with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.labels import Label, place_labels
from aipo_lab.figures.palette import (
    KNOWN_STYLES,
    ObjectiveStyle,
    objective_name,
    objective_styles,
    setting_label,
    varying_hyperparameters,
)
from aipo_lab.figures.style import PAPER, Look, drawing, lay_out, legend_above, panel_grid, save, scaled
from aipo_lab.figures.trajectories import axis_label, base_points
from aipo_lab.figures.view import base_look
from aipo_lab.results.front import pareto_front
from aipo_lab.results.repeats import Configuration, Estimate, estimate, repeated_rows
from aipo_lab.results.rows import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MOST_LABELS = 8
"""Configurations named beside their points; of more, the names stand above the panels."""


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


REPEATS_COLUMNS = (
    *("x_metric", "y_metric", "label", "key", "iteration", "seeds"),
    *("x", "x_half", "y", "y_half", "on_front", "last"),
)


def get_repeats_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics) -> DataFrame:
    """Means over seeds by length (`x`) and judged and, where truth is known, true win rate (`y`).

    Columns: `x_metric`, `y_metric`, `label`, `key` (what its look belongs to), `iteration`, `seeds`; `x`, `x_half`,
    `y`, `y_half` with half widths of 95 % intervals, NaN with one seed; `last`: of the last iteration, `on_front`: no
    other's last mean beats it. Empty without several seeds or a length.
    """
    import pandas as pd

    lines = [
        (metrics.length, metric, path.label, path.style.name, p.iteration, p.y.n, p.x.mean, p.x.half_width, p.y.mean,
         p.y.half_width, path.on_front, p is path.last)
        for metric in (metrics.win_rate, metrics.true_win_rate)
        if metrics.length is not None and metric is not None
        for path in get_repeated_paths(rows, metrics.length, metric)
        for p in path.points
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=list(REPEATS_COLUMNS)).astype({"x_half": float, "y_half": float})


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


def draw_repeats(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Draw a panel for each win rate: means of the last iteration with intervals, and how they came there."""
    if data.empty:
        return []
    with drawing(look):
        groups = list(data.groupby("y_metric", sort=False))
        figure, axes, _ = panel_grid(len(groups), look, 2.9, 2)
        styles = {style.name: style for style in objective_styles(_keys(data)).values()}
        labels = [_draw_panel(own, panel, styles) for own, (_, panel) in zip(axes, groups, strict=True)]
        beside = data["label"].nunique() <= MOST_LABELS
        legend_above(figure, _handles() if beside else [*_names(data, styles), *_handles()])
        lay_out(figure)
        for own, named in zip(axes, labels, strict=True):
            place_labels(own, named if beside else [])
        return save(figure, path_stem, look)


def _keys(data: DataFrame) -> list[str]:
    """The objectives or labels that give the looks, by their registered names."""
    registered = {style.name: name for name, style in KNOWN_STYLES.items()}
    return [registered.get(key, key) for key in dict.fromkeys(data["key"])]


def _draw_panel(axes: Axes, panel: DataFrame, styles: Mapping[str, ObjectiveStyle]) -> list[Label]:
    labels = []
    for (label, key), path in panel.groupby(["label", "key"], sort=False):
        style = styles[key]
        axes.plot(path["x"], path["y"], color=style.colour, linewidth=scaled(0.8), alpha=0.5, zorder=2)
        between = path[(path["iteration"] > 0) & ~path["last"]]
        axes.plot(between["x"], between["y"], linestyle="none", marker=style.marker, color=style.colour,
                  markersize=scaled(2.4), alpha=0.6, markeredgewidth=0, zorder=2.2)  # fmt: skip
        end = path[path["last"]]
        axes.errorbar(end["x"], end["y"], xerr=end["x_half"].fillna(0.0), yerr=end["y_half"].fillna(0.0), fmt="none",
                      ecolor=style.colour, elinewidth=scaled(0.9), capsize=scaled(1.8), zorder=2.8)  # fmt: skip
        rim = scaled(0.9) if end["on_front"].any() else 0.0
        axes.plot(end["x"], end["y"], linestyle="none", marker=style.marker, color=style.colour, markersize=scaled(6),
                  markeredgecolor="black", markeredgewidth=rim, zorder=3)  # fmt: skip
        labels.append(Label(label, style.colour, float(end["x"].iloc[0]), float(end["y"].iloc[0])))
    base = base_points(panel)
    axes.plot(base["x"], base["y"], zorder=4, **base_look())
    axes.margins(0.07)
    axes.set_xlabel(axis_label(panel["x_metric"].iloc[0]))
    axes.set_ylabel(axis_label(panel["y_metric"].iloc[0]))
    return labels


def _names(data: DataFrame, styles: Mapping[str, ObjectiveStyle]) -> list[Any]:
    from matplotlib.lines import Line2D

    looks = [(label, styles[key]) for label, key in data[["label", "key"]].drop_duplicates().itertuples(index=False)]
    return [
        Line2D([], [], linestyle="none", marker=one.marker, color=one.colour, markersize=scaled(6), label=label)
        for label, one in looks
    ]


def _handles() -> list[Any]:
    from matplotlib.lines import Line2D

    rim = Line2D([], [], linestyle="none", marker="o", markerfacecolor="white", markeredgecolor="black",
                 markersize=scaled(6), markeredgewidth=scaled(0.9), label="rim: Pareto front")  # fmt: skip
    return [Line2D([], [], **base_look(), label="base model"), rim]
