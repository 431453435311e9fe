"""What a reader of an embedded benchmark's numbers has to know: the judge's taste, and how far chance alone moves them.

The noise floor is the difference between two rounds of answers of the base model, with different random numbers and
nothing else different: a difference between trials that is no greater says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.jsonl import read_json
from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode, find_made
from aipo_lab.sweeps.plan import SweepGraph


@dataclass(frozen=True)
class NoiseFloor:
    """By metric (without the benchmark): the second round's value less the first's, one for each seed that has both."""

    differences: Mapping[str, tuple[float, ...]]

    def mean(self, metric: str) -> float | None:
        """The mean absolute difference over the seeds."""
        found = self.differences.get(metric)
        return fmean(map(abs, found)) if found else None


def noise_floors(graph: SweepGraph, store: Store) -> dict[str, NoiseFloor]:
    """The floors of the benchmarks whose base model has answered twice."""
    pairs: dict[str, dict[str, tuple[StageNode, StageNode]]] = {}
    for trial in graph.trials.values():
        for benchmark, (_, again) in trial.again.items():
            pairs.setdefault(benchmark, {})[again.reference] = trial.iterations[0].scores[benchmark], again
    floors = {}
    for benchmark, found in pairs.items():
        differences = [one for first, again in found.values() if (one := _difference(store, first, again))]
        if differences:
            names = [name for name in differences[0] if all(name in one for one in differences)]
            floors[benchmark] = NoiseFloor({name: tuple(one[name] for one in differences) for name in names})
    return floors


def _difference(store: Store, first: StageNode, again: StageNode) -> dict[str, float]:
    made = [find_made(store, node) for node in (first, again)]
    before, after = ({} if one is None else read_json(one.file("scores.json")) for one in made)
    return {name: score["value"] - before[name]["value"] for name, score in after.items() if name in before}


def floor_sentence(floor: NoiseFloor, benchmark: str) -> str:
    """The floor in words."""
    metrics = BENCHMARK_METRICS[benchmark]
    shown = [("by the judge", metrics.win_rate, " points", 1), ("by true quality", metrics.true_win_rate, " points", 1)]
    shown += [("in length", metrics.length, " tokens", 1), ("in quality", metrics.quality, "", 3)]
    said = [
        f"{value:.{decimals}f}{unit} {what}"
        for what, metric, unit, decimals in shown
        if metric is not None and (value := floor.mean(metric.split("/")[1])) is not None
    ]
    n = max(map(len, floor.differences.values()))
    over = f" (mean over {n} seeds)" if n > 1 else ""
    return (
        f"Noise floor: answering twice with other random numbers, the base model differs from itself by "
        f"{', '.join(said)}{over}; no difference below that means anything."
    )


def judge_sentences(graph: SweepGraph) -> dict[str, str]:
    """The taste of the judge of each embedded benchmark, in words."""
    tastes: dict[str, set[float]] = {}
    for node in graph.nodes.values():
        if node.stage == "judge":
            config = node.request.config
            tastes.setdefault(config["benchmark"], set()).add(config["length_bias"])
    return {benchmark: _taste(sorted(biases)) for benchmark, biases in tastes.items()}


def _taste(biases: list[float]) -> str:
    if len(biases) > 1:
        return (
            f"Judged numbers are of several judges, which pay {', '.join(f'{bias:g}' for bias in biases)} of quality "
            "for every 10 tokens: they do not compare."
        )
    if biases[0] == 0:
        return "The judge has no taste for length: it sees true quality alone."
    return (
        f"The judge is biased: it pays {biases[0]:g} of quality (1 is a perfect answer) for every 10 tokens. It has no "
        "noise, and neither the ranker's noise nor its taste has a part in it."
    )


def benchmark_notes(graph: SweepGraph, store: Store) -> dict[str, list[str]]:
    """Sentences by benchmark, for the page and the terminal."""
    notes = {benchmark: [sentence] for benchmark, sentence in judge_sentences(graph).items()}
    for benchmark, floor in noise_floors(graph, store).items():
        notes.setdefault(benchmark, []).append(floor_sentence(floor, benchmark))
    return notes
