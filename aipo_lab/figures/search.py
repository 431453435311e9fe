"""Figures of a search: settings and outcomes in parallel, what a hyperparameter matters, hypervolume over trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.core.errors import MissingDependency
from aipo_lab.figures.palette import KNOWN_STYLES, ObjectiveStyle, objective_name
from aipo_lab.figures.scales import Scale, get_scales, hyperparameters, sequential_map
from aipo_lab.figures.style import PAPER, Look, drawing, legend_above, panel_grid, save, scaled
from aipo_lab.figures.trajectories import axis_label, get_paths
from aipo_lab.results.hypervolume import hypervolume
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

OPTUNA = "pip install 'aipo-lab[search]'"
FEWEST_TRIALS = 4
"""Of an objective, for saying which of its hyperparameters matters."""
IMPORTANCE_COLUMNS = ("objective", "metric", "hyperparameter", "importance", "trials")
HYPERVOLUME_COLUMNS = ("metric", "number", "trial", "objective", "hypervolume")


def get_parallel_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> DataFrame:
    """The last complete iteration of every trial: the columns of `get_paths` with `length` beside the win rate `y`.

    Objectives with one trial are left out. Empty where none has several.
    """
    import pandas as pd

    paths = get_paths(rows, metrics, rule, metrics.length, [metrics.win_rate])
    last = paths[paths["iteration"] > 0].groupby("trial", sort=False).tail(1)
    several = last.groupby("objective")["trial"].transform("size") > 1
    made = pd.DataFrame(last[several])
    return made.assign(length=made["x"] if metrics.length else math.nan)


def draw_parallel(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """A panel for each objective: a line a trial through its settings, length and win rate, coloured by win rate."""
    if data.empty:
        return []
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    with drawing(look):
        groups = list(data.groupby("objective", sort=False))
        figure, axes, _ = panel_grid(len(groups), look, 1.9)
        norm = Normalize(data["y"].min(), data["y"].max())
        for panel_axes, (objective, panel) in zip(axes, groups, strict=True):
            _draw_parallel(panel_axes, panel, data, norm)
            panel_axes.set_title(objective_name(objective))
        bar = figure.colorbar(ScalarMappable(norm, sequential_map()), ax=axes, shrink=0.7, aspect=30)
        bar.set_label(axis_label(data["y_metric"].iloc[0]))
        bar.outline.set_linewidth(scaled(0.4))
        return save(figure, path_stem, look)


def _draw_parallel(axes: Axes, panel: DataFrame, everything: DataFrame, norm: Any) -> None:
    """Outcomes have the range of all panels, settings their own; text settings stand in order of appearance."""
    names = [name for name in hyperparameters(panel) if panel[name].nunique(dropna=False) > 1 and name != "length"]
    columns = {name: _unit_scale(name, panel) for name in names}
    outcomes = [("length", "Length"), ("y", "Win rate")] if panel["length"].notna().all() else [("y", "Win rate")]
    ticks = [get_symbol(name) for name in names] + [label for _, label in outcomes]
    for _, trial in panel.sort_values("y").iterrows():
        heights = [columns[name].get(trial[name], math.nan) for name in names]
        heights += [_share(trial[name], everything[name]) for name, _ in outcomes]
        best = bool(trial["best_trial"])
        width, alpha = (2.2, 1.0) if best else (0.9, 0.75)
        axes.plot(range(len(heights)), heights, color=sequential_map()(norm(trial["y"])), alpha=alpha, marker="o",
                  linewidth=scaled(width), markersize=scaled(2.6), zorder=3 + best)  # fmt: skip
    for place in range(len(ticks)):
        axes.axvline(place, color="#888888", linewidth=scaled(0.6), zorder=1)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_yticks([])
    axes.set(ylim=(-0.16, 1.16), xlim=(-0.35, len(ticks) - 0.65))
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    ends = [(next(iter(columns[name])), list(columns[name])[-1]) for name in names]
    ends += [(f"{everything[name].min():.3g}", f"{everything[name].max():.3g}") for name, _ in outcomes]
    for place, (low, high) in enumerate(ends):
        for height, text in ((-0.05, low), (1.05, high)):
            axes.text(place, height, text, ha="center", va="top" if height < 0 else "bottom", fontsize=scaled(6.2),
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip


def get_symbol(name: str) -> str:
    """A hyperparameter's symbol, or the last part of its name."""
    return Scale(name, (), None).symbol


def _unit_scale(name: str, panel: DataFrame) -> dict[str, float]:
    """The heights of a setting's values between 0 and 1, evenly, in order."""
    coloured, _ = get_scales(panel[["trial", name]])
    values = coloured.values if coloured is not None else tuple(panel[name].dropna().unique())
    return {value: place / max(1, len(values) - 1) for place, value in enumerate(values)}


def _share(value: float, of: Any) -> float:
    return float((value - of.min()) / (of.max() - of.min())) if of.max() > of.min() else 0.5


def get_importance_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, rule: SelectionRule) -> DataFrame:
    """How much of the variance of each outcome each hyperparameter explains, by objective (fANOVA, Hutter et al. 2014).

    Columns: `objective`, `metric`, `hyperparameter`, `importance` (they sum to 1), `trials`. Objectives with fewer than
    `FEWEST_TRIALS` trials or one value of everything have none. Raises `MissingDependency` without Optuna.
    """
    import pandas as pd

    lines = []
    last = get_parallel_data(rows, metrics, rule)
    for objective, panel in last.groupby("objective", sort=False):
        names = [name for name in hyperparameters(panel) if name != "length" and panel[name].nunique() > 1]
        if len(panel) < FEWEST_TRIALS or not names:
            continue
        for metric, column in ((metrics.win_rate, "y"), (metrics.length, "length")):
            if metric is not None and panel[column].nunique() > 1:
                found = _importances(panel.dropna(subset=names), names, column)
                lines += [(objective, metric, name, value, len(panel)) for name, value in found.items()]
    return pd.DataFrame(lines, columns=list(IMPORTANCE_COLUMNS))


def _importances(panel: DataFrame, names: Sequence[str], column: str) -> dict[str, float]:
    try:
        import optuna
    except ImportError:
        raise MissingDependency(f"importance of hyperparameters needs Optuna: {OPTUNA}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    spread = {name: optuna.distributions.CategoricalDistribution(sorted(panel[name].unique())) for name in names}
    for _, one in panel.iterrows():
        settings = {name: one[name] for name in names}
        study.add_trial(optuna.trial.create_trial(params=settings, distributions=spread, value=float(one[column])))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def draw_importance(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Bars for each hyperparameter, a panel for each objective; [] where nothing can be said."""
    if data.empty:
        return []
    from matplotlib.patches import Patch

    with drawing(look):
        groups = list(data.groupby("objective", sort=False))
        figure, axes, _ = panel_grid(len(groups), look, 1.5)
        metrics = list(dict.fromkeys(data["metric"]))
        colours = dict(zip(metrics, ("#0072B2", "#E69F00"), strict=False))
        for panel_axes, (objective, panel) in zip(axes, groups, strict=True):
            names = list(dict.fromkeys(panel.sort_values("importance")["hyperparameter"]))
            for k, metric in enumerate(metrics):
                own = panel[panel["metric"] == metric].set_index("hyperparameter")["importance"].reindex(names)
                places = [place + (0.5 - k) * 0.38 for place in range(len(names))]
                panel_axes.barh(places, own.fillna(0.0), height=0.36, color=colours[metric])
            panel_axes.set_yticks(range(len(names)), [get_symbol(name) for name in names])
            panel_axes.set_xlim(0, 1)
            panel_axes.set_xlabel("Share of the variance")
            panel_axes.set_title(f"{objective_name(objective)} ({panel['trials'].iloc[0]} trials)")
        legend_above(figure, [Patch(color=colours[one], label=axis_label(one)) for one in metrics])
        return save(figure, path_stem, look)


def get_hypervolume_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics) -> DataFrame:
    """What the trials so far dominate, trial after trial in the order of the sweep, each with all its iterations.

    Columns: `metric` (judged or true win rate), `number`, `trial`, `objective`, `hypervolume`: percent of the rectangle
    from the base model's length to `LENGTH_FACTOR` times it and from the base model's win rate to 100. Empty without a
    length, a base model or a trained trial.
    """
    import pandas as pd

    lines = []
    for metric in (metrics.win_rate, metrics.true_win_rate):
        if metric is None or metrics.length is None:
            continue
        complete = [row for row in rows if row.state == "complete"]
        known = [row for row in complete if None not in (row.value(metric), row.value(metrics.length))]
        base = next((row for row in known if row.iteration == 0), None)
        if base is None or base.metrics[metric] >= 100:
            continue
        corner = base.metrics[metrics.length], base.metrics[metric]
        points: list[tuple[float, float]] = []
        trained = [row for row in known if row.iteration > 0]
        for number, trial in enumerate(dict.fromkeys(row.trial for row in trained), start=1):
            own = [row for row in trained if row.trial == trial]
            points += [(row.metrics[metrics.length], row.metrics[metric]) for row in own]
            lines.append((metric, number, trial, own[0].contender, hypervolume(points, corner)))
    return pd.DataFrame(lines, columns=list(HYPERVOLUME_COLUMNS))


def draw_hypervolume(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """A line for each win rate over the number of trials, marked where the objective changes; [] without trials."""
    if data.empty:
        return []
    from matplotlib.lines import Line2D

    with drawing(look):
        figure, (axes,), _ = panel_grid(1, look, 2.2)
        handles = []
        for (metric, path), dash in zip(data.groupby("metric", sort=False), ("-", (0, (4, 1.5))), strict=False):
            axes.plot(path["number"], path["hypervolume"], drawstyle="steps-post", color="black",
                      linewidth=scaled(1.1), linestyle=dash)  # fmt: skip
            handles.append(Line2D([], [], color="black", linestyle=dash, label=axis_label(metric)))
            for objective, own in path.groupby("objective", sort=False):
                style = KNOWN_STYLES.get(objective, ObjectiveStyle(objective, "#555555", "."))
                axes.plot(own["number"], own["hypervolume"], linestyle="none", markersize=scaled(3.6), zorder=3,
                          marker=style.marker, color=style.colour)  # fmt: skip
        for objective in dict.fromkeys(data["objective"]):
            if objective in KNOWN_STYLES:
                style = KNOWN_STYLES[objective]
                handles.append(Line2D([], [], linestyle="none", marker=style.marker, color=style.colour,
                                      markersize=scaled(3.6), label=style.name))  # fmt: skip
        axes.set(xlabel="Trials", ylabel="Hypervolume (% of the possible)", ylim=(0, None))
        legend_above(figure, handles)
        return save(figure, path_stem, look)
