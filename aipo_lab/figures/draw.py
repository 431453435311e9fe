"""All figures of a sweep: which are drawn for which benchmark, their file names and captions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.figures.iterations import draw_iterations, get_iterations_data
from aipo_lab.figures.objectives import draw_objectives, get_objectives_data
from aipo_lab.figures.over_optimisation import draw_over_optimisation, get_over_optimisation_data
from aipo_lab.figures.pairs import CAPTIONS as PAIR_CAPTIONS
from aipo_lab.figures.pareto import draw_pareto, get_pareto_data
from aipo_lab.figures.repeats import draw_repeats, get_repeats_data
from aipo_lab.figures.trajectories import benchmarks_in
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import SelectionRule

_RECORD = ".drawn.json"
_CAPTIONS = {
    "repeats": (
        "Means over seeds, with 95 % intervals that include the variance between seeds, after the last iteration; thin "
        "lines lead there from the base model (square). A black rim: on the Pareto front of the means."
    ),
    "pareto": (
        "Length against win rate. Every marker is one trial after one iteration; lines follow a trial from "
        "the base model (square). Stars mark the best trial of each objective; dashed: the Pareto front."
    ),
    "iterations": (
        "Metrics over the iterations. Bold: the best trial of each objective, with ±1 standard error; thin: "
        "its other trials. Markers are moved sideways a little so that error bars do not hide each other."
    ),
    "over_optimisation": (
        "Learned rankers of different accuracy (on held-out pairs of the base model's responses): their own mean score "
        "of the policy's responses, true quality with ±1 standard error, and one against the other. A ranker is "
        "over-optimised where its score goes on rising and quality does not."
    ),
    "objectives": (
        "Each objective over its hyperparameters, on equal axes. A line is one setting over its iterations; "
        "a star marks the best."
    ),
}


def draw_figures(rows: Sequence[ResultRow], rule: SelectionRule, folder: Path) -> dict[str, Path]:
    """Draw every figure of every benchmark in `rows` into `folder`, as PNG and PDF.

    Returns the PNG of each figure by name, `<figure>_<benchmark>`, the most telling first: `repeats` (of sweeps
    with several seeds), `pareto`, `iterations`, `over_optimisation` where rankers were trained, `objectives`. A
    benchmark without a length gets `iterations` only;
    rows without a complete point give no figure. What was drawn from the same rows by the same code is not drawn again.
    """
    key = _drawing_key(rows, rule)
    drawn = _already_drawn(folder, key)
    if drawn is not None:
        return drawn
    figures: dict[str, Path] = {}
    for benchmark in benchmarks_in(rows):
        figures |= _draw_benchmark(rows, rule, folder, benchmark)
    if figures:
        write_json(folder / _RECORD, {"key": key, "figures": list(figures)})
    return figures


def _draw_benchmark(rows: Sequence[ResultRow], rule: SelectionRule, folder: Path, benchmark: str) -> dict[str, Path]:
    metrics = BENCHMARK_METRICS[benchmark]
    stems = {name: folder / f"{name}_{benchmark}" for name in _CAPTIONS}
    drawn = {
        "repeats": draw_repeats(get_repeats_data(rows, metrics), stems["repeats"]),
        "pareto": draw_pareto(get_pareto_data(rows, metrics, rule), stems["pareto"]),
        "iterations": draw_iterations(get_iterations_data(rows, metrics, rule), stems["iterations"]),
        "over_optimisation": draw_over_optimisation(
            get_over_optimisation_data(rows, metrics), stems["over_optimisation"]
        ),
        "objectives": draw_objectives(get_objectives_data(rows, metrics, rule), stems["objectives"]),
    }
    return {stems[figure].name: paths[0] for figure, paths in drawn.items() if paths}


def _drawing_key(rows: Sequence[ResultRow], rule: SelectionRule) -> str:
    """A digest of all that the figures depend on: the rows, the rule, and the code that draws."""
    digest = hashlib.sha256(repr((list(rows), str(rule))).encode())
    package = Path(__file__).parent
    results, metrics = (package.parent / name for name in ("results", "benchmarks/metrics.py"))
    sources = [*package.glob("*.py"), *results.glob("*.py"), metrics]
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _already_drawn(folder: Path, key: str) -> dict[str, Path] | None:
    """The figures of `folder` if they are those of `key` and all still there."""
    if not (folder / _RECORD).is_file():
        return None
    record = read_json(folder / _RECORD)
    figures = {name: folder / f"{name}.png" for name in record["figures"]}
    whole = all(path.is_file() and path.with_suffix(".pdf").is_file() for path in figures.values())
    return figures if record["key"] == key and whole else None


def figure_caption(name: str) -> str:
    """The caption of a figure by its name from `draw_figures`; the name itself for any other figure."""
    if name in PAIR_CAPTIONS:
        return PAIR_CAPTIONS[name]
    figure = next((one for one in _CAPTIONS if name.startswith(f"{one}_")), "")
    benchmark = name.removeprefix(f"{figure}_")
    if figure not in _CAPTIONS or benchmark not in BENCHMARK_METRICS:
        return name
    known = BENCHMARK_METRICS[benchmark].true_win_rate is not None
    note = " Right: the same points by true quality, which the judge does not see." if known else ""
    return f"{benchmark}: {_CAPTIONS[figure]}{note if figure in ('pareto', 'repeats') else ''}"
