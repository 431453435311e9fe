"""Figure: how trainings went, chosen and rejected rewards and log-probabilities over the steps (paper, Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.style import PAPER, Look, drawing, legend_above, panel_grid, save, scaled
from aipo_lab.figures.trajectories import Legend, best_points, get_legend, get_paths
from aipo_lab.results.repeats import NORMAL_95, repeated_rows, student_95
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

Curve = Sequence[Mapping[str, float]]
"""The steps of a trial, iteration after iteration, with `iteration` and the values of curve.jsonl."""

CURVES = {
    "reward_chosen": "Reward of chosen",
    "reward_rejected": "Reward of rejected",
    "logps_chosen": "Log-prob. of chosen (nats)",
    "logps_rejected": "Log-prob. of rejected (nats)",
}
TRAINING_COLUMNS = (
    *("metric", "trial", "objective", "setting", "best_trial", "iteration", "step"),
    *("value", "mean", "low", "high", "seeds"),
)
CAPTION = (
    "Training of the best trial of each objective, through all iterations (paper, Figure 4): rewards β log(π/π_ref) "
    "and log-probabilities of chosen and rejected responses. Moving averages with 95 % intervals, over seeds where "
    "there are several, else from the scatter of the steps. Every iteration starts from rewards of 0: its reference is "
    "the policy it begins with."
)
MOST_LINES = 8
_WINDOWS = 20
_SHORTEST_WINDOW = 3


def curve_trials(rows: Sequence[ResultRow], rule: SelectionRule, metrics: BenchmarkMetrics) -> list[list[str]]:
    """The trials whose curves are shown, those that differ in their seed alone together.

    The best of each objective; all of a sweep with one objective and few trials.
    """
    seeds = _seed_groups(rows)
    shown = [one.best.trial for one in best_points(rows, rule, metrics).values()]
    if len(shown) == 1:
        trials = list(dict.fromkeys(row.trial for row in rows if row.state == "complete" and row.iteration > 0))
        groups = list(dict.fromkeys(tuple(seeds.get(trial, [trial])) for trial in trials))
        if len(groups) <= MOST_LINES - 1:
            return [list(group) for group in groups]
    return [seeds.get(trial, [trial]) for trial in shown[:MOST_LINES]]


def _seed_groups(rows: Sequence[ResultRow]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for group in repeated_rows(rows).values():
        trials = [row.trial for row in group]
        for trial in trials:
            if len(trials) > len(groups.get(trial, [])):
                groups[trial] = trials
    return groups


def get_training_data(
    rows: Sequence[ResultRow], curves: Mapping[str, Curve], rule: SelectionRule, metrics: BenchmarkMetrics
) -> DataFrame:
    """The `CURVES` that there are, step by step; empty without curves.

    Columns: `metric`; `trial` (the first of its seeds), `objective`, `setting`, `best_trial`; `iteration`, `step`
    counted through all iterations; `value`, the mean over seeds; `mean`, its moving average within the iteration;
    `low` and `high`, a 95 % interval: over seeds (Student's t) with several, else of the moving average from the
    scatter of the steps within its window. `seeds` is their number.
    """
    import pandas as pd

    paths = get_paths(rows, metrics, rule, None, [metrics.win_rate])
    about = {one.trial: one for one in paths.drop_duplicates("trial").itertuples()}
    tables = []
    for trials in curve_trials(rows, rule, metrics):
        known = [pd.DataFrame(list(curves[trial])) for trial in trials if curves.get(trial)]
        one = next((about[trial] for trial in trials if trial in about), None)
        if not known or one is None:
            continue
        steps = min(map(len, known))
        own = {"trial": one.trial, "objective": one.objective, "setting": one.setting, "best_trial": one.best_trial}
        for metric in CURVES:
            if all(metric in table for table in known):
                values = pd.concat([table[metric].iloc[:steps] for table in known], axis=1)
                tables.append(_smoothed(values, known[0]["iteration"].iloc[:steps]).assign(metric=metric, **own))
    if not tables:
        return pd.DataFrame(columns=list(TRAINING_COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(TRAINING_COLUMNS)]


def _smoothed(values: DataFrame, iterations: Series) -> DataFrame:
    """Moving averages of the mean over columns (seeds), never across the border of two iterations."""
    import numpy as np
    import pandas as pd

    n_seeds = values.shape[1]
    table = pd.DataFrame({"iteration": iterations.astype(int), "value": values.mean(axis=1), "seeds": n_seeds})
    table["step"] = range(1, len(table) + 1)
    window = max(_SHORTEST_WINDOW, round(len(table) / _WINDOWS))
    rolling = table.groupby("iteration")["value"].rolling(window, min_periods=1, center=True)
    table["mean"] = rolling.mean().droplevel(0)
    if n_seeds > 1:
        half = student_95(n_seeds - 1) * values.std(axis=1) / np.sqrt(n_seeds)
        half = half.groupby(table["iteration"]).rolling(window, min_periods=1, center=True).mean().droplevel(0)
    else:
        half = NORMAL_95 * (rolling.std() / np.sqrt(rolling.count())).droplevel(0).fillna(0.0)
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def draw_training(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Draw a panel for each curve, iterations parted by lines; [] without curves."""
    if data.empty:
        return []
    with drawing(look):
        legend = get_legend(data)
        groups = list(data.groupby("metric", sort=False))
        figure, axes, n_columns = panel_grid(len(groups), look, 1.75, 2)
        for number, (panel_axes, (metric, panel)) in enumerate(zip(axes, groups, strict=True)):
            _draw_panel(panel_axes, panel, legend)
            panel_axes.set_ylabel(CURVES[metric])
            if number >= len(groups) - n_columns:
                panel_axes.set_xlabel("Training step, all iterations")
        legend_above(figure, _handles(legend))
        figure.align_ylabels()
        return save(figure, path_stem, look)


def _draw_panel(axes: Axes, panel: DataFrame, legend: Legend) -> None:
    for (trial, objective), curve in panel.groupby(["trial", "objective"], sort=False):
        style = legend.style(trial, objective)
        for _, part in curve.groupby("iteration"):
            axes.fill_between(part["step"], part["low"], part["high"], color=style.colour, alpha=0.18, linewidth=0)
            axes.plot(part["step"], part["mean"], color=style.colour, linewidth=scaled(1.1), linestyle=style.dash,
                      marker=style.marker, markevery=[len(part) // 2], markersize=scaled(3.6),
                      markeredgecolor="white", markeredgewidth=scaled(0.3))  # fmt: skip
    longest = panel[panel["trial"] == panel.groupby("trial").size().idxmax()]
    for start in longest.groupby("iteration")["step"].min().iloc[1:]:
        axes.axvline(start - 0.5, color="#999999", linewidth=scaled(0.6), linestyle=(0, (1, 1.5)), zorder=1)


def _handles(legend: Legend) -> list[Any]:
    from matplotlib.lines import Line2D

    border = Line2D([], [], color="#999999", linewidth=scaled(0.6), linestyle=(0, (1, 1.5)), label="next iteration")
    lines = [
        Line2D([], [], color=style.colour, marker=style.marker, linestyle=style.dash, markersize=scaled(3.6),
               label=style.name)
        for style in legend.styles.values()
    ]  # fmt: skip
    return [*lines, border]
