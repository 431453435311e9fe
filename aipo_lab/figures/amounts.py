"""Figure: few iterations of many pairs against many of few, T x P constant (paper, Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import SETTING_MARKERS
from aipo_lab.figures.scales import sequential_map
from aipo_lab.figures.style import PAPER, Look, drawing, legend_above, panel_grid, save, scaled
from aipo_lab.figures.trajectories import axis_label, get_paths
from aipo_lab.results.repeats import NORMAL_95
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from pandas import DataFrame

ITERATIONS, PROMPTS = "iterations", "instruct.n_prompts"


def get_amounts_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> DataFrame:
    """Win rate (the true one where it is known) and length of trials that differ in `iterations`.

    The columns of `get_paths` with `T` (iterations of the trial), `P` (prompts an iteration) and `prompts` (how many
    the model has been trained on so far). Empty unless the sweep varies `iterations` and `instruct.n_prompts`.
    """
    wanted = [metrics.win_rate, metrics.true_win_rate, metrics.length]
    paths = get_paths(rows, metrics, rule, None, wanted)
    if not {ITERATIONS, PROMPTS} <= set(paths.columns):
        return paths.iloc[:0].assign(T=0, P=0, prompts=0)
    known = paths.dropna(subset=[ITERATIONS, PROMPTS])
    planned, prompts = known[ITERATIONS].astype(int), known[PROMPTS].astype(int)
    made = known.assign(T=planned, P=prompts, prompts=prompts * known["iteration"])
    made = made.sort_values(["T", "trial", "iteration"], kind="stable")
    return made if made["T"].nunique() > 1 else made.iloc[:0]


def draw_amounts(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """A column of panels for each metric, by iteration above and by prompts trained on below; [] without data."""
    if data.empty:
        return []
    from matplotlib.lines import Line2D

    with drawing(look):
        groups = list(data.groupby("y_metric", sort=False))
        trials = list(dict.fromkeys(data.sort_values(["T", "trial"])["trial"]))
        figure, axes, _ = panel_grid(2 * len(groups), look, 1.9, len(groups) if len(groups) > 1 else 2)
        for number, panel_axes in enumerate(axes):
            metric, panel = groups[number % len(groups)]
            x = "iteration" if number < len(groups) else "prompts"
            for place, trial in enumerate(trials):
                path = panel[panel["trial"] == trial]
                panel_axes.errorbar(
                    path[x], path["y"], yerr=NORMAL_95 * path["y_se"].fillna(0.0),
                    color=sequential_map()(place / max(1, len(trials) - 1)), linewidth=scaled(1.1),
                    marker=SETTING_MARKERS[place % len(SETTING_MARKERS)], markersize=scaled(4), capsize=scaled(1.4),
                    elinewidth=scaled(0.6), markeredgecolor="white", markeredgewidth=scaled(0.3),
                )  # fmt: skip
            panel_axes.set_ylabel(axis_label(metric))
            panel_axes.set_xlabel("Iteration" if x == "iteration" else "Prompts trained on")
        handles = [
            Line2D([], [], color=sequential_map()(place / max(1, len(trials) - 1)), markersize=scaled(4),
                   marker=SETTING_MARKERS[place % len(SETTING_MARKERS)], label=_label(data, trial))
            for place, trial in enumerate(trials)
        ]  # fmt: skip
        legend_above(figure, handles)
        figure.align_ylabels()
        return save(figure, path_stem, look)


def _label(data: DataFrame, trial: str) -> str:
    one = data[data["trial"] == trial].iloc[0]
    return f"T={one['T']}, P={one['P']}"
