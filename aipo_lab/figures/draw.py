"""All figures of a sweep: which are drawn for which benchmark, their file names and captions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.figures.catalogue import ROW_FIGURES
from aipo_lab.figures.pairs import CAPTIONS as PAIR_CAPTIONS
from aipo_lab.figures.style import PAPER
from aipo_lab.figures.training import CAPTION as TRAINING_CAPTION
from aipo_lab.figures.trajectories import benchmarks_in
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule

_RECORD = ".drawn.json"
OTHER_CAPTIONS = {"training": TRAINING_CAPTION, **PAIR_CAPTIONS}
"""Of figures that are made from more than rows."""


def draw_figures(rows: Sequence[ResultRow], rule: SelectionRule, folder: Path) -> dict[str, Path]:
    """Draw every figure of every benchmark in `rows` into `folder`, as PNG and PDF.

    Returns the PNG of each figure by name, `<figure>_<benchmark>`, the most telling first: `repeats` (of sweeps
    with several seeds), `pareto`, `iterations`, then others of `ROW_FIGURES` that the sweep has data for. Rows without
    a complete point give no figure. What was drawn from the same rows by the same code is not drawn again.
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
    drawn: dict[str, Path] = {}
    for name, figure in ROW_FIGURES.items():
        if len({row.trial for row in rows}) >= figure.fewest_trials:
            stem = folder / f"{name}_{benchmark}"
            paths = figure.draw(figure.get(rows, BENCHMARK_METRICS[benchmark], rule), stem, PAPER)
            drawn |= {stem.name: paths[0]} if paths else {}
    return drawn


def _drawing_key(rows: Sequence[ResultRow], rule: SelectionRule) -> str:
    """A digest of all that the figures depend on: the rows, the rule, and the code that draws."""
    digest = hashlib.sha256(repr((list(rows), str(rule))).encode())
    package = Path(__file__).parent
    sources = [*package.glob("*.py"), *package.parent.glob("results/*.py"), package.parent / "benchmarks/metrics.py"]
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
    if name in OTHER_CAPTIONS:
        return OTHER_CAPTIONS[name]
    figure = next((one for one in ROW_FIGURES if name.startswith(f"{one}_")), "")
    benchmark = name.removeprefix(f"{figure}_")
    if figure not in ROW_FIGURES or benchmark not in BENCHMARK_METRICS:
        return name
    metrics = BENCHMARK_METRICS[benchmark]
    note = " Right: the same points by true quality, which the judge does not see." if metrics.true_win_rate else ""
    text = ROW_FIGURES[figure].caption_for(metrics)
    return f"{benchmark}: {text}{note if figure in ('pareto', 'repeats') else ''}"
