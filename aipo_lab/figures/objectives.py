"""Figure: length against win rate of each objective over its hyperparameters (paper, Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import GREY, KNOWN_STYLES, objective_name, setting_label
from aipo_lab.figures.scales import Scale, get_scales, hyperparameters, sequential_map
from aipo_lab.figures.style import PAPER, SMALLEST_PT, Look, drawing, legend_above, panel_grid, save, scaled
from aipo_lab.figures.trajectories import axis_label, base_points, get_paths
from aipo_lab.figures.view import View, base_look, draw_base, get_view
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_MANY = 40
_NUMBERED = 6


def get_objectives_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> DataFrame:
    """Every point by length (`x`) and judged win rate (`y`), with a column for each hyperparameter.

    The columns of `get_paths`; empty where the benchmark has no length or no trial a complete point.
    """
    return get_paths(rows, metrics, rule, metrics.length, [metrics.win_rate] if metrics.length is not None else [])


def draw_objectives(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Draw a panel for each objective on equal axes; [] without points.

    Within a panel lightness stands for the hyperparameter with most values and the line style for the second.
    """
    if data.empty:
        return []
    with drawing(look):
        groups = list(data.groupby("objective", sort=False))
        figure, axes, _ = panel_grid(len(groups), look, 1.95, 3 if len(groups) <= 9 else 4, share=True)
        view = get_view(data)
        for panel_axes, (objective, panel) in zip(axes, groups, strict=True):
            _draw_panel(panel_axes, panel, objective, view)
        axes[0].set(xlim=view.x_range, ylim=view.y_range)
        legend_above(figure, _handles(data))
        size = scaled(7.5)
        figure.supxlabel(axis_label(data["x_metric"].iloc[0]), fontsize=size)
        figure.supylabel(axis_label(data["y_metric"].iloc[0]), fontsize=size)
        return save(figure, path_stem, look)


def panel_title(panel: DataFrame, objective: str) -> str:
    """The objective and the hyperparameters that all its trials share."""
    known = panel[hyperparameters(panel)].dropna(axis=1, how="all")
    shared = {name: str(known[name].iloc[0]) for name in known if known[name].nunique(dropna=False) == 1}
    constants = setting_label({name: text for name, text in shared.items() if "." not in name})
    return objective_name(objective) + (f" ({constants})" if constants else "")


def _draw_panel(axes: Axes, panel: DataFrame, objective: str, view: View) -> None:
    from matplotlib.collections import LineCollection

    coloured, dashed = get_scales(panel)
    n_trials = panel["trial"].nunique()
    own = KNOWN_STYLES[objective].colour if objective in KNOWN_STYLES else GREY
    shown = panel[panel["iteration"] >= view.first]
    segments, colours, dashes = [], [], []
    for _, path in shown.groupby("trial", sort=False):
        segments.append(path[["x", "y"]].to_numpy())
        colours.append(own if coloured is None else _looks(coloured, path.iloc[0], "colour", GREY))
        dashes.append("-" if dashed is None else _looks(dashed, path.iloc[0], "dash", "-"))
    width = scaled(1.1 if n_trials <= _MANY else 0.5)
    axes.add_collection(LineCollection(segments, colors=colours, linestyles=dashes, linewidths=width, zorder=2))
    _draw_points(axes, shown[shown["iteration"] > 0], dict(zip(shown["trial"].unique(), colours, strict=True)))
    draw_base(axes, base_points(panel), view, named=False)
    axes.set_title(panel_title(panel, objective))
    _explain(axes, coloured, dashed)


def _looks(scale: Scale, point: Any, what: str, otherwise: Any) -> Any:
    value = point[scale.name]
    return getattr(scale, what)(value) if isinstance(value, str) else otherwise


def _draw_points(axes: Axes, trained: DataFrame, colours: dict[str, Any]) -> None:
    """Dots, the picked point ringed with its iteration beside it."""
    size = scaled(3.2 if len(colours) <= _MANY else 1.8)
    own = [colours[trial] for trial in trained["trial"]]
    axes.scatter(trained["x"], trained["y"], c=own, s=size**2, edgecolors="white", linewidths=scaled(0.3), zorder=3)
    for point in trained[trained["best"]].itertuples():
        axes.plot([point.x], [point.y], color=colours[point.trial], zorder=5, **_ring())
        axes.annotate(str(point.iteration), (point.x, point.y), xytext=(-scaled(5), scaled(5)), ha="right",
                      va="center", textcoords="offset points", fontsize=scaled(SMALLEST_PT), zorder=6)  # fmt: skip


def _explain(axes: Axes, coloured: Scale | None, dashed: Scale | None) -> None:
    """Names of the values in a corner, or a colour bar there."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    handles = []
    if coloured is not None and coloured.continuous:
        bar_axes = axes.inset_axes((0.5, 0.17, 0.45, 0.05))
        bar = axes.figure.colorbar(ScalarMappable(coloured.norm(), sequential_map()), cax=bar_axes,
                                   orientation="horizontal")  # fmt: skip
        bar.set_label(coloured.symbol, fontsize=scaled(SMALLEST_PT + 0.5), labelpad=scaled(0.5))
        numbers = coloured.numbers or ()
        bar.set_ticks([min(numbers), max(numbers)], labels=[f"{min(numbers):.3g}", f"{max(numbers):.3g}"])
        bar.minorticks_off()
        bar.ax.tick_params(labelsize=scaled(SMALLEST_PT), length=scaled(1.5), pad=scaled(1))
        bar.outline.set_linewidth(scaled(0.4))
    elif coloured is not None:
        handles += [Line2D([], [], color=coloured.colour(one), label=coloured.label(one)) for one in coloured.values]
    if dashed is not None:
        handles += [Line2D([], [], color="#444444", linestyle=dashed.dash(one), label=dashed.label(one))
                    for one in dashed.values]  # fmt: skip
    if handles:
        above = coloured is not None and coloured.continuous
        axes.legend(handles=handles, loc="lower right", fontsize=scaled(6.5), handlelength=1.8, labelspacing=0.2,
                    borderaxespad=0.2, bbox_to_anchor=(1.0, 0.24) if above else None)  # fmt: skip


def _ring() -> dict[str, Any]:
    return {"linestyle": "none", "marker": "o", "markersize": scaled(5.6), "markeredgecolor": "black",
            "markeredgewidth": scaled(1.0)}  # fmt: skip


def _handles(data: DataFrame) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **base_look(), label="base model")] if (data["iteration"] == 0).any() else []
    handles.append(Line2D([], [], color=GREY, marker="o", markersize=scaled(3.2), label="one setting's iterations"))
    if data["best"].any():
        handles.append(Line2D([], [], color="white", **_ring(), label="best, with its iteration"))
    return handles
