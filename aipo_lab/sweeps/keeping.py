"""Results that an earlier session wrote and the store no longer has: they are kept, and said to be missing there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aipo_lab.core.errors import UserError
from aipo_lab.results.rows import PAIRS, ResultRow, read_results
from aipo_lab.sweeps.sweep import Sweep

EarlierRows = Mapping[tuple[str, int], ResultRow]
"""Complete rows by trial and iteration."""


def read_earlier(path: Path, sweep: Sweep) -> EarlierRows:
    """The complete rows of a sweep's `results.csv`; none where there is no such file.

    Raises `UserError` if it is damaged or holds the results of something else, so that it is not written over.
    """
    if not path.exists():
        return {}
    lost = (
        f"move it out of the way ({path.name} is made again from the store, as far as the store has what it is made of)"
    )
    try:
        rows = read_results(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged, or not a table of results: {error}; {lost}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    known = {trial.name for trial in sweep.trials}
    foreign = sorted({row.trial for row in rows} - known)
    if foreign:
        raise UserError(f"{path} holds results of trials that this sweep does not have: {', '.join(foreign)}; {lost}")
    return {(row.trial, row.iteration): row for row in rows if row.state == "complete"}


def keep_earlier(rows: Sequence[ResultRow], earlier: EarlierRows) -> list[ResultRow]:
    """`rows`, with the earlier metrics, and the checkpoint they are about, in each that is not complete now but was.

    A complete row keeps what was known of its pairs, whose analysis the store may have lost alone.
    """
    return [
        _kept(row, earlier[row.trial, row.iteration]) if (row.trial, row.iteration) in earlier else row for row in rows
    ]


def _kept(row: ResultRow, before: ResultRow) -> ResultRow:
    if row.state == "complete":
        known = {name: value for name, value in before.metrics.items() if name.startswith(f"{PAIRS}/")}
        lost = known if row.checkpoint == before.checkpoint and f"{PAIRS}/s_ref" not in row.metrics else {}
        return replace(row, metrics=lost | row.metrics) if lost else row
    return _before(row, before)


def _before(row: ResultRow, before: ResultRow) -> ResultRow:
    """The checkpoint is the earlier one too: another version of the program may give the trial's stages other keys."""
    return replace(row, state="complete", metrics=before.metrics, checkpoint=before.checkpoint)
