"""Figure: what a learned ranker thinks of its policy's responses, against what they are worth, by its accuracy.

The rows of a sweep whose ranker is trained (`rank.train`) hold `rank/mean_score`, `rank/accuracy` and the true quality
of the benchmark. Where the score goes on rising while quality does not, the ranker is over-optimised (Gao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import DASHES, SETTING_COLOURS, SETTING_MARKERS
from aipo_lab.figures.style import PAPER, Look, drawing, integer_ticks, legend_above, panel_grid, save, scaled
from aipo_lab.results.repeats import NORMAL_95
from aipo_lab.results.rows import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

SCORE, ACCURACY = "rank/mean_score", "rank/accuracy"


OVER_OPTIMISATION_COLUMNS = ("trial", "accuracy", "iteration", "score_gain", "quality", "quality_se")


def get_over_optimisation_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics) -> DataFrame:
    """Trials with a trained ranker, where quality is known, the worst ranker first.

    Columns: `trial`; `accuracy` of its ranker on held-out pairs at iteration 0, in percent; `iteration`; `score_gain`,
    what the mean score (logits) has gained since the first; `quality` and `quality_se`. The last iteration has no
    ranking, hence no point.
    """
    import pandas as pd

    quality = metrics.quality
    by_trial: dict[str, list[ResultRow]] = {}
    for row in rows:
        if (
            quality
            and row.state == "complete"
            and all(row.value(one) is not None for one in (SCORE, ACCURACY, quality))
        ):
            by_trial.setdefault(row.trial, []).append(row)
    lines = []
    for trial, group in by_trial.items():
        own = sorted(group, key=lambda row: row.iteration)
        first = own[0].metrics
        for row in own:
            gain, error = row.metrics[SCORE] - first[SCORE], row.metrics.get(f"{quality}_se", 0.0)
            lines.append((trial, first[ACCURACY], row.iteration, gain, row.metrics[quality or ""], error))
    data = pd.DataFrame(lines, columns=list(OVER_OPTIMISATION_COLUMNS))
    return data.sort_values(["accuracy", "trial", "iteration"], ignore_index=True)


def draw_over_optimisation(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Score and quality over iterations, and one against the other; [] without trained rankers."""
    if data.empty:
        return []
    with drawing(look):
        figure, (scores, qualities, both), _ = panel_grid(3, look, 2.2)
        handles = []
        for number, (_, path) in enumerate(data.groupby("trial", sort=False)):
            one, steps = _look(number), path["iteration"]
            (line,) = scores.plot(steps, path["score_gain"], **one, label=f"{path['accuracy'].iloc[0]:.0f} % right")
            qualities.errorbar(steps, path["quality"], yerr=NORMAL_95 * path["quality_se"], elinewidth=scaled(0.7),
                               capsize=scaled(1.4), **one)  # fmt: skip
            both.plot(path["score_gain"], path["quality"], **one)
            handles.append(line)
        last = int(data["iteration"].max())
        _label(scores, "Iteration", "The ranker's mean score (gain)", last)
        _label(qualities, "Iteration", "True quality", last)
        _label(both, "The ranker's mean score (gain)", "True quality")
        legend_above(figure, handles)
        return save(figure, path_stem, look)


def _look(number: int) -> dict[str, Any]:
    return {
        "color": SETTING_COLOURS[number % len(SETTING_COLOURS)],
        "marker": SETTING_MARKERS[number % len(SETTING_MARKERS)],
        "linestyle": DASHES[number // len(SETTING_COLOURS) % len(DASHES)],
        "markeredgecolor": "white",
        "markeredgewidth": scaled(0.4),
    }


def _label(axes: Axes, x: str, y: str, last: int | None = None) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if last is not None:
        integer_ticks(axes, 0, last)
