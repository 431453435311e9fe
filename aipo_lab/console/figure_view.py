"""What `aipo-lab figure` does and shows: one figure or table of the paper, from a sweep's results."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from aipo_lab.console.running import say
from aipo_lab.core.config import suggest
from aipo_lab.core.errors import UserError
from aipo_lab.figures.pairs import FIGURES, draw_pairs
from aipo_lab.report.paper_tables import published_tables
from aipo_lab.sweeps.collect import pair_analyses
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.study import Study


def make_figure(name: str, path: Path, store_root: Path | None) -> None:
    """Write the files of a figure or table and say where they are; a table is printed too.

    Raises `UserError` for an unknown name, and where the sweep has not what it needs.
    """
    console = Console()
    pictures = {one.partition("_")[0]: one for one in FIGURES}
    if name not in pictures and name not in published_tables():
        raise UserError(f"there is no {name!r}; {suggest(name, [*pictures, *published_tables()])}")
    study = Study.reopen(SweepFolder(path), store_root)
    if name in published_tables():
        written = study.write_table(name, study.rows())
        say(console, next(one for one in written if one.suffix == ".md").read_text(encoding="utf-8"))
    else:
        stem = pictures[name]
        analyses = pair_analyses(study.graph.trials, list(study.graph.trials), study.store)
        written = draw_pairs(FIGURES[stem](analyses), study.folder.figures / stem)
        if not written:
            raise UserError(f"{path} has no analysed pairs; run the sweep with --set analysis.similarity=words")
    for one in written:
        say(console, str(one))
