"""What `aipo-lab report` does and shows: results, figures and report of a sweep, rebuilt from its store."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from aipo_lab.console.running import say
from aipo_lab.core.errors import UserError
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.study import Study
from aipo_lab.tracking.sqlite_place import follow_moved_artifacts


def rebuild_report(path: Path, store_root: Path | None) -> None:
    """Write `results.csv`, figures and report again; what the store no longer has stays as it is, and is named.

    Raises `UserError` if the folder cannot be written to.
    """
    console = Console()
    study = Study.reopen(SweepFolder(path), store_root)
    study.folder.prepare()
    kept = study.keeps_report()
    rows = study.write_results()
    study.draw_report(rows)
    follow_moved_artifacts(path)
    if missing := study.missing_text():
        say(console, missing)
    if study.unwritten:
        problems = [f"{name}: {reason}" for name, reason in study.unwritten.items()]
        raise UserError.from_problems(
            f"not everything could be written to {path}; the results in the store are whole. Make room there and run "
            "the same command again:",
            problems,
        )
    say(console, f"report: {study.folder.report}" + (" (left as it was, and the figures with it)" if kept else ""))
