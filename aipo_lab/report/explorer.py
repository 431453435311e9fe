"""The data of the report's interactive plot: every point with its values, errors, setting, look and a sample of text.

The page (`page/explorer.js`) draws it and joins it with the tables and samples by trial and iteration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import objective_name, objective_styles, setting_label, varying_hyperparameters
from aipo_lab.report.samples import Sample
from aipo_lab.results.points import standard_error
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection

PLOTLY_SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross", "X": "x",
    "p": "pentagon", "<": "triangle-left", ">": "triangle-right", "h": "hexagon", "d": "diamond-tall", "8": "octagon",
    "H": "hexagon2", "*": "star",
}  # fmt: skip
"""By matplotlib's names of markers."""

SAMPLE_CHARACTERS = 600


@dataclass(frozen=True)
class Axis:
    """What an axis may show: a metric under the name that everything else calls it by.

    `relative`: as a multiple of the trial's own base model.
    """

    label: str
    metric: str
    relative: bool = False


@dataclass(frozen=True)
class Explorer:
    """Everything that the plot of one benchmark needs, as JSON values."""

    benchmark: str
    xs: list[Axis]
    ys: list[Axis]
    points: list[dict[str, Any]]
    looks: dict[str, dict[str, str]]

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        axes = {
            name: [{"label": axis.label, "metric": axis.metric, "relative": axis.relative} for axis in several]
            for name, several in (("xs", self.xs), ("ys", self.ys))
        }
        return {"benchmark": self.benchmark, **axes, "points": self.points, "looks": self.looks}


def get_explorers(
    rows: Sequence[ResultRow],
    benchmarks: Sequence[str],
    selections: Mapping[str, Mapping[str, Selection]],
    samples: Sequence[Sample] = (),
) -> list[Explorer]:
    """A plot for every benchmark that has a length and a complete point after training."""
    made = []
    for name in benchmarks:
        metrics = BENCHMARK_METRICS[name]
        picked = {(one.best.trial, one.best.iteration) for one in selections.get(name, {}).values()}
        points = _points(rows, metrics, picked, samples)
        if metrics.length is not None and any(point["iteration"] > 0 for point in points):
            looks = {
                contender: {
                    "name": objective_name(contender),
                    "colour": style.colour,
                    "symbol": PLOTLY_SYMBOLS[style.marker],
                }
                for contender, style in objective_styles(row.contender for row in rows).items()
            }
            made.append(Explorer(name, _xs(metrics, points), _ys(metrics, points), points, looks))
    return made


def as_script(explorers: Sequence[Explorer]) -> str:
    """The plots' data as the text of a script element: nothing in it can end the element or begin another."""
    text = json.dumps([one.values() for one in explorers], ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")


def _xs(metrics: BenchmarkMetrics, points: Sequence[Mapping[str, Any]]) -> list[Axis]:
    assert metrics.length is not None
    name = metrics.length.split("/")[0]
    axes = [
        Axis(metrics.length_label, metrics.length),
        Axis("Length as a multiple of the base model's", metrics.length, True),
    ]
    characters = f"{name}/length_chars"
    if characters != metrics.length and any(characters in point["values"] for point in points):
        axes.append(Axis("Mean response length (characters)", characters))
    return axes


def _ys(metrics: BenchmarkMetrics, points: Sequence[Mapping[str, Any]]) -> list[Axis]:
    wanted = [
        Axis(metrics.win_rate_label, metrics.win_rate),
        Axis("Length-controlled win rate (%)", metrics.lc_win_rate or ""),
        Axis("Win rate by true quality (%)", metrics.true_win_rate or ""),
        Axis("True quality", metrics.quality or ""),
        Axis("Answers cut off (%)", f"{metrics.win_rate.split('/')[0]}/truncated"),
    ]
    return [axis for axis in wanted if any(axis.metric in point["values"] for point in points)]


def _points(
    rows: Sequence[ResultRow],
    metrics: BenchmarkMetrics,
    picked: set[tuple[str, int]],
    samples: Sequence[Sample],
) -> list[dict[str, Any]]:
    name = metrics.win_rate.split("/")[0]
    varying = varying_hyperparameters([row for row in rows if row.state == "complete"])
    said: dict[tuple[str, int], Sample] = {}
    for sample in samples:
        said.setdefault((sample.trial, sample.iteration), sample)
    points = []
    for row in rows:
        values = {one: value for one, value in row.metrics.items() if one.startswith(f"{name}/") and one[-3:] != "_se"}
        if row.state == "complete" and metrics.win_rate in values:
            points.append(
                {
                    "trial": row.trial,
                    "contender": row.contender,
                    "setting": setting_label(row.hyperparameters, varying) or row.trial,
                    "iteration": row.iteration,
                    "values": values,
                    "errors": {one: error for one in values if (error := standard_error(row, one)) is not None},
                    "picked": (row.trial, row.iteration) in picked,
                    **_sample(said.get((row.trial, row.iteration))),
                }
            )
    return points


def _sample(sample: Sample | None) -> dict[str, Any]:
    if sample is None:
        return {}
    text = sample.response
    short = text if len(text) <= SAMPLE_CHARACTERS else f"{text[:SAMPLE_CHARACTERS]} …"
    return {"prompt": sample.prompt[:SAMPLE_CHARACTERS], "response": short, "tokens": sample.length_tokens}
