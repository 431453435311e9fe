"""Results of a sweep as rows: one per trial and iteration, the content of `results.csv`."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

from aipo_lab.core.jsonl import write_text_atomically

HYPERPARAMETER_COLUMNS = ("beta", "alpha", "gamma", "lambda")
FIXED_COLUMNS = ("trial", "objective", *HYPERPARAMETER_COLUMNS, "iteration", "state")


@dataclass(frozen=True)
class ResultRow:
    """One trial at one iteration.

    `hyperparameters` maps YAML names (`beta`, `alpha`, `gamma`, `lambda`, or a dotted recipe key that the
    sweep varies) to the text shown for them. `metrics` maps `<benchmark>/<metric>` (and `…_se`) to
    floats; `state` is `complete`, `failed` or `pending`, and only complete rows carry metrics.
    """

    trial: str
    objective: str
    hyperparameters: dict[str, str]
    iteration: int
    state: str
    metrics: dict[str, float] = field(default_factory=dict)

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
                self._text[group] = _csv_text([_cells(row, swept, metrics) for row in rows])
        header = _csv_text([[*FIXED_COLUMNS, *swept, *metrics]])
        write_text_atomically(self._path, header + "".join(self._text[group] for group in self._groups))


def _cells(row: ResultRow, swept: list[str], metrics: list[str]) -> list[str | int]:
    return [
        row.trial,
        row.objective,
        *(row.hyperparameters.get(name, "") for name in HYPERPARAMETER_COLUMNS),
        row.iteration,
        row.state,
        *(row.hyperparameters.get(name, "") for name in swept),
        *(_format(row.metrics[name]) if name in row.metrics else "" for name in metrics),
    ]


def _csv_text(lines: list[list[str | int]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def read_results(path: Path) -> list[ResultRow]:
    """Read `results.csv` back; a column with a slash is a metric, any other a hyperparameter."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [_row(record) for record in csv.DictReader(stream)]


def _row(record: dict[str, str]) -> ResultRow:
    others = {name: text for name, text in record.items() if text and name not in ("trial", "objective")}
    iteration, state = int(others.pop("iteration")), others.pop("state")
    return ResultRow(
        trial=record["trial"],
        objective=record["objective"],
        hyperparameters={name: text for name, text in others.items() if "/" not in name},
        iteration=iteration,
        state=state,
        metrics={name: float(text) for name, text in others.items() if "/" in name},
    )


def _format(value: float) -> str:
    assert math.isfinite(value), "a metric that is not finite must fail its trial before it gets here"
    return f"{value:.6g}"
