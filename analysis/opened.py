"""The sweep that the notebooks look at: `AIPO_LAB_SWEEP`, an output folder, else runs/table6 of this checkout."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from IPython.display import Image, Markdown, display

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.figures.style import Look
from aipo_lab.report.ordering import check_claims
from aipo_lab.results.rules import parse_rule
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.study import Study

FOLDER = Path(os.environ.get("AIPO_LAB_SWEEP", Path(__file__).parents[1] / "runs" / "table6"))

study = Study.reopen(SweepFolder(FOLDER))
picks = study.picks(study.rows())
rows = picks.rows
benchmark = study.benchmarks(rows)[0]
metrics = BENCHMARK_METRICS[benchmark]
rule = parse_rule(study.sweep.select)
selections = picks.by_benchmark[benchmark].by_contender
values = study.prompt_values()
ordering = check_claims(rows, selections, metrics, values)
LOOK = Look(formats=("png",))

_drawn = Path(tempfile.mkdtemp(prefix="aipo-lab-notebook-"))


def stem(name: str) -> Path:
    """Where a figure is drawn to."""
    return _drawn / name


def show(paths: Sequence[Path]) -> None:
    """A figure that was drawn, or a line that says there is none."""
    if paths:
        display(Image(str(paths[0]), width=760))
    else:
        display(Markdown("*This sweep has no data for this figure.*"))


def say(sentences: Sequence[str]) -> None:
    """Sentences as a list."""
    display(Markdown("\n".join(f"- {sentence}" for sentence in sentences) or "*nothing*"))
