"""The figures made from a sweep's rows: what each is called, which of the paper's it is, what it shows and needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures import amounts, iterations, objectives, over_optimisation, pareto, repeats, search
from aipo_lab.figures.style import Look
from aipo_lab.figures.trajectories import axis_label
from aipo_lab.results.hypervolume import LENGTH_FACTOR
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from pandas import DataFrame

Get = Callable[[Sequence[ResultRow], BenchmarkMetrics, SelectionRule], "DataFrame"]
Draw = Callable[["DataFrame", Path, Look], list[Path]]


@dataclass(frozen=True)
class RowFigure:
    """A figure of one benchmark. `needs` completes "needs …" where a sweep has no data for it.

    `fewest_trials`: the report leaves it out of smaller sweeps.
    """

    title: str
    caption: str
    needs: str
    get: Get
    draw: Draw
    number: str = ""
    fewest_trials: int = 0

    def caption_for(self, metrics: BenchmarkMetrics) -> str:
        """The caption with the benchmark's own words for what its axes show."""
        labels = [axis_label(metric) for metric in iterations.shown_metrics(metrics)]
        within = [f"{label[:1].lower()}{label[1:]}" for label in labels[1:]]
        listed = f"{', '.join([labels[0], *within[:-1]])} and {within[-1]}" if within else labels[0]
        length = f"{metrics.length_label[:1].lower()}{metrics.length_label[1:]}"
        return self.caption.format(rate=metrics.win_rate_label, length=length, metrics=listed)


_TRAINED = "a trial with a complete iteration"
_LENGTH = f"{_TRAINED} on a benchmark that measures length"

ROW_FIGURES: dict[str, RowFigure] = {
    "repeats": RowFigure(
        "Length against win rate, means over seeds",
        "{rate} against {length}: means over seeds, with 95 % intervals that include the variance between seeds, after "
        "the last iteration; thin lines lead there from the base model (square). A black rim: on the Pareto front of "
        "the means.",
        "several seeds (`seeds: 3` in the sweep file, or a swept `seed`)",
        lambda rows, metrics, _: repeats.get_repeats_data(rows, metrics),
        repeats.draw_repeats,
    ),
    "pareto": RowFigure(
        "Length against win rate with the Pareto front",
        "{rate} against {length}. A marker is one trial after one iteration, which it names. Ringed: the best trial of "
        "each objective, with 95 % intervals; faint: its other trials. Dashed: the Pareto front, whose settings are "
        "listed below (@: after which iteration); grey: 95 % of fronts whose points are drawn anew with their standard "
        "errors.",
        _LENGTH,
        pareto.get_pareto_data,
        pareto.draw_pareto,
        "3",
    ),
    "iterations": RowFigure(
        "Metrics over the iterations",
        "{metrics} over the iterations. Bold: the best trial of each objective, with 95 % intervals, its best "
        "iteration with a black rim; thin: its other trials. Markers are moved sideways a little so that error bars do "
        "not hide each other.",
        _TRAINED,
        iterations.get_iterations_data,
        iterations.draw_iterations,
        "2",
    ),
    "amounts": RowFigure(
        "Few iterations of many pairs against many of few",
        "T iterations of P prompts each, with 95 % intervals, by iteration above and by the prompts that the model was "
        "trained on below.",
        "trials that vary `iterations` and `instruct.n_prompts` (aipo-lab sweep sweeps/figure1.yaml)",
        amounts.get_amounts_data,
        amounts.draw_amounts,
        "1",
    ),
    "over_optimisation": RowFigure(
        "Learned rankers against true quality",
        "Learned rankers of different accuracy (on held-out pairs of the base model's responses): their own mean score "
        "of the policy's responses, true quality with 95 % intervals, and one against the other. A ranker is "
        "over-optimised where its score goes on rising and quality does not.",
        "a trained ranker (`rank.train`; aipo-lab sweep sweeps/over_optimisation.yaml)",
        lambda rows, metrics, _: over_optimisation.get_over_optimisation_data(rows, metrics),
        over_optimisation.draw_over_optimisation,
    ),
    "objectives": RowFigure(
        "Each objective over its hyperparameters",
        "{rate} against {length} of each objective over its hyperparameters, on equal axes. A line is one setting over "
        "its iterations: its colour is one hyperparameter, its dashes are another; a rim marks the best, with its "
        "iteration.",
        _LENGTH,
        objectives.get_objectives_data,
        objectives.draw_objectives,
        "7",
    ),
    "parallel": RowFigure(
        "Settings and outcomes in parallel coordinates",
        "A line is a trial: its settings, and {length} and {rate} after its last iteration, from the lowest to the "
        "highest of the sweep. Bold: the best trial of its objective.",
        "an objective with several trials",
        search.get_parallel_data,
        search.draw_parallel,
        fewest_trials=30,
    ),
    "importance": RowFigure(
        "Which hyperparameters matter",
        "Share of the variance of win rate and length after the last iteration that each hyperparameter explains "
        "(functional ANOVA). With few trials it says little.",
        f"an objective with {search.FEWEST_TRIALS} trials or more",
        search.get_importance_data,
        search.draw_importance,
        fewest_trials=10**9,
    ),
    "hypervolume": RowFigure(
        "Hypervolume over trials",
        "What the trials so far dominate, in percent of the rectangle from the base model's length to "
        f"{LENGTH_FACTOR:g} times it and from the base model's win rate to 100 %.",
        f"a base model and {_LENGTH}",
        lambda rows, metrics, _: search.get_hypervolume_data(rows, metrics),
        search.draw_hypervolume,
        fewest_trials=30,
    ),
}
