"""Results of a sweep as rows: one per trial and iteration, the content of `results.csv`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aipo_lab.core.jsonl import write_text_atomically

HYPERPARAMETER_COLUMNS = ("beta", "alpha", "gamma", "lambda")
PAIRS = "pairs"
"""What stands before the metrics of an iteration's pairs, where a benchmark's name stands before its own."""
STATES = ("complete", "failed", "pending")
REQUIRED_COLUMNS = ("trial", "objective", *HYPERPARAMETER_COLUMNS, "iteration", "state")
FIXED_COLUMNS = (*REQUIRED_COLUMNS, "checkpoint")
"""Files of earlier versions have no `checkpoint`."""


@dataclass(frozen=True)
class ResultRow:
    """One trial at one iteration.

    `hyperparameters` maps YAML names (`beta`, `alpha`, `gamma`, `lambda`, or a dotted recipe key that the
    sweep varies) to the text shown for them. `metrics` maps `<benchmark>/<metric>` (and `…_se`) to
    floats; `state` is `complete`, `failed` or `pending`, and only complete rows carry metrics. `checkpoint`
    is the artifact of the row's model, `train/<key>` or `base/<key>`; empty where nobody knows any more.
    `picked_on` and `reported_on` are metrics over the two halves of a benchmark's prompts (see `halves`): never part of
    results.csv, and empty where all prompts serve both ends.
    """

    trial: str
    objective: str
    hyperparameters: dict[str, str]
    iteration: int
    state: str
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: str = ""
    picked_on: dict[str, float] = field(default_factory=dict)
    reported_on: dict[str, float] = field(default_factory=dict)

    @property
    def contender(self) -> str:
        """What competes with what: the method, where the sweep compares methods, else the objective."""
        return self.hyperparameters.get("method", self.objective)

    def value(self, metric: str) -> float | None:
        """The metric's value, or None where this row does not have it."""
        return self.metrics.get(metric)

    def standard_error(self, metric: str) -> float | None:
        """The metric's standard error, or None where there is none."""
        return self.metrics.get(f"{metric}_se")


def write_results(path: Path, rows: list[ResultRow]) -> None:
    """Write `results.csv`: fixed columns, then swept recipe keys, then metric columns in sorted order."""
    writer = ResultsWriter(path)
    writer.update("", rows)
    writer.write()


class ResultsWriter:
    """Writes `results.csv` again and again while a sweep runs, each time formatting only what has changed.

    Rows come in groups (a trial each), which keep the order they first came in. A new column means formatting all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._groups: dict[str, list[ResultRow]] = {}
        self._text: dict[str, str] = {}
        self._swept: set[str] = set()
        self._metrics: set[str] = set()

    def update(self, group: str, rows: list[ResultRow]) -> None:
        """Set the rows of a group, new or known."""
        self._groups[group] = rows
        self._text.pop(group, None)
        swept = {name for row in rows for name in row.hyperparameters} - set(HYPERPARAMETER_COLUMNS)
        metrics = {name for row in rows for name in row.metrics}
        if not (swept <= self._swept and metrics <= self._metrics):
            self._swept |= swept
            self._metrics |= metrics
            self._text.clear()

    def rows(self) -> list[ResultRow]:
        """All rows, group by group."""
        return [row for rows in self._groups.values() for row in rows]

    def write(self) -> None:
        """Replace the file."""
        swept, metrics = sorted(self._swept), sorted(self._metrics)
        for group, rows in self._groups.items():
            if group not in self._text:
                self._text[group] = csv_text([_cells(row, swept, metrics) for row in rows])
        header = csv_text([[*FIXED_COLUMNS, *swept, *metrics]])
        write_text_atomically(self._path, header + "".join(self._text[group] for group in self._groups))


def _cells(row: ResultRow, swept: list[str], metrics: list[str]) -> list[str | int]:
    return [
        row.trial,
        row.objective,
        *(row.hyperparameters.get(name, "") for name in HYPERPARAMETER_COLUMNS),
        row.iteration,
        row.state,
        row.checkpoint,
        *(row.hyperparameters.get(name, "") for name in swept),
        *(_format(row.metrics[name]) if name in row.metrics else "" for name in metrics),
    ]


def csv_text(lines: Iterable[Sequence[str | int]]) -> str:
    """Lines of cells as CSV, in the dialect of results.csv."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def read_results(path: Path) -> list[ResultRow]:
    """Read `results.csv` back; a column with a slash is a metric, any other a hyperparameter.

    Raises `ValueError` with the line for a file that is torn or no such table.
    """
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"the columns {', '.join(missing)} are missing")
        if not text.endswith("\n"):
            raise ValueError("its last line has no end")
        return [_row(record, f"line {reader.line_num}") for record in reader]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None


def _row(record: dict[str, str], place: str) -> ResultRow:
    if None in record or None in record.values():
        raise ValueError(f"{place} has another number of cells than the first line")
    others = {name: text for name, text in record.items() if text and name not in ("trial", "objective")}
    iteration, state, checkpoint = (others.pop(name, "") for name in ("iteration", "state", "checkpoint"))
    if not iteration.isdigit() or state not in STATES:
        raise ValueError(f"{place}: iteration {iteration!r} or state {state!r} is none")
    return ResultRow(
        trial=record["trial"],
        objective=record["objective"],
        hyperparameters={name: text for name, text in others.items() if "/" not in name},
        iteration=int(iteration),
        state=state,
        metrics={name: _number(text, f"{place}: {name}") for name, text in others.items() if "/" in name},
        checkpoint=checkpoint,
    )


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place} is {text!r}, not a number")
    return value


def _format(value: float) -> str:
    assert math.isfinite(value), "a metric that is not finite must fail its trial before it gets here"
    return f"{value:.6g}"
