"""Figure: what a learned ranker thinks of its policy's responses, against what they are worth, by its accuracy.

The rows of a sweep whose ranker is trained (`rank.train`) hold `rank/mean_score`, `rank/accuracy` and the true quality
of the benchmark. Where the score goes on rising while quality does not, the ranker is over-optimised (Gao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import SETTING_COLOURS, SETTING_MARKERS
from aipo_lab.figures.style import FULL_WIDTH_IN, integer_ticks, legend_above, new_figure, print_style, save
from aipo_lab.results.rows import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORE, ACCURACY = "rank/mean_score", "rank/accuracy"


@dataclass(frozen=True)
class RankedPoint:
    """One iteration: what the mean score has gained since iteration 0 (logits), and the true quality with its error."""

    iteration: int
    score_gain: float
    quality: float
    quality_se: float


@dataclass(frozen=True)
class RankerPath:
    """One trial. `accuracy`: of its ranker on held-out pairs at iteration 0, in percent."""

    trial: str
    accuracy: float
    points: tuple[RankedPoint, ...]


@dataclass(frozen=True)
class OverOptimisationData:
    """The trials by the accuracy of their rankers, the worst first."""

    paths: list[RankerPath]


def get_over_optimisation_data(rows: Sequence[ResultRow], metrics: BenchmarkMetrics) -> OverOptimisationData:
    """Trials with a trained ranker, where quality is known. The last iteration has no ranking, hence no point."""
    quality = metrics.quality
    if quality is None:
        return OverOptimisationData([])
    by_trial: dict[str, list[ResultRow]] = {}
    for row in rows:
        if row.state == "complete" and all(row.value(name) is not None for name in (SCORE, ACCURACY, quality)):
            by_trial.setdefault(row.trial, []).append(row)
    paths = [_path(trial, sorted(own, key=lambda row: row.iteration), quality) for trial, own in by_trial.items()]
    return OverOptimisationData(sorted(paths, key=lambda path: (path.accuracy, path.trial)))


def _path(trial: str, rows: Sequence[ResultRow], quality: str) -> RankerPath:
    first = rows[0].metrics[SCORE]
    points = [
        RankedPoint(row.iteration, row.metrics[SCORE] - first, row.metrics[quality], row.standard_error(quality) or 0.0)
        for row in rows
    ]
    return RankerPath(trial, rows[0].metrics[ACCURACY], tuple(points))


def draw_over_optimisation(data: OverOptimisationData, path_stem: Path) -> list[Path]:
    """Score and quality over the iterations, and one against the other; PNG and PDF, [] without trained rankers."""
    if not data.paths:
        return []
    with print_style():
        figure, (scores, qualities, both) = new_figure(FULL_WIDTH_IN, 2.6, 1, 3)
        handles = []
        for number, path in enumerate(data.paths):
            look = _look(number)
            steps = [point.iteration for point in path.points]
            gains, truths = ([getattr(p, name) for p in path.points] for name in ("score_gain", "quality"))
            (line,) = scores.plot(steps, gains, **look, label=f"{path.accuracy:.0f} % right")
            errors = [point.quality_se for point in path.points]
            qualities.errorbar(steps, truths, yerr=errors, elinewidth=0.8, capsize=1.5, **look)
            both.plot(gains, truths, **look)
            handles.append(line)
        last = max(point.iteration for path in data.paths for point in path.points)
        _label(scores, "Iteration", "The ranker's mean score (gain)", last)
        _label(qualities, "Iteration", "True quality", last)
        _label(both, "The ranker's mean score (gain)", "True quality")
        legend_above(figure, handles)
        return save(figure, path_stem)


def _look(number: int) -> dict[str, Any]:
    return {
        "color": SETTING_COLOURS[number % len(SETTING_COLOURS)],
        "marker": SETTING_MARKERS[number % len(SETTING_MARKERS)],
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def _label(axes: Axes, x: str, y: str, last: int | None = None) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if last is not None:
        integer_ticks(axes, 0, last)
