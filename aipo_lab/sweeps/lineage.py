"""What a row of results was made from: every artifact behind it, back to the base model and the data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.results.rows import ResultRow, read_results
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.explain import Explainer
from aipo_lab.sweeps.points import Point, find_point, parse_point

_ROW = re.compile(r"(?P<file>.+\.csv):(?P<line>\d+)")


@dataclass(frozen=True)
class Ancestor:
    """One artifact behind a number: what it is called, `<stage>/<key>`, and its manifest if the store has it."""

    title: str
    reference: str
    inputs: dict[str, str]
    manifest: dict[str, Any] | None

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        kept = (
            "version",
            "config",
            "created_at",
            "duration_s",
            "host",
            "computed_on",
            "versions",
            "summary",
            "plugins",
        )
        known = self.manifest or {}
        found = {name: known[name] for name in kept if name in known}
        return {
            "title": self.title,
            "artifact": self.reference,
            "inputs": self.inputs,
            "stored": self.manifest is not None,
            **found,
        }


@dataclass(frozen=True)
class Lineage:
    """A row of results and what it was made from, inputs before what needs them."""

    point: Point
    row: ResultRow
    ancestors: tuple[Ancestor, ...]

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "sweep": self.point.sweep.name,
            "trial": self.row.trial,
            "iteration": self.row.iteration,
            "state": self.row.state,
            "metrics": self.row.metrics,
            "checkpoint": self.point.checkpoint,
            "base_model": self.point.base_fingerprint,
            "artifacts": [one.values() for one in self.ancestors],
        }


def find_lineage(what: str, newest: Path | None, store_root: Path | None) -> Lineage:
    """The lineage of `results.csv:LINE` (1 is the header, as editors and grep count) or of TRIAL@ITERATION.

    `newest`: the output folder that TRIAL@ITERATION is of. Raises `UserError` for what names no row.
    """
    match = _ROW.fullmatch(what)
    if match is None:
        if parse_point(what) is None:
            raise UserError(f"{what!r} names no row; write runs/NAME/results.csv:LINE or TRIAL@ITERATION")
        assert newest is not None
        return _lineage(find_point(what, newest, store_root))
    file = Path(match["file"])
    row = _row_at(file, int(match["line"]))
    point = find_point(f"{row.trial}@{row.iteration}", file.parent, store_root)
    return _lineage(point, row)


def _row_at(file: Path, line: int) -> ResultRow:
    if not file.is_file():
        raise UserError(f"{file} is not there; give the results.csv of a sweep's output folder")
    try:
        rows = read_results(file)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    if not 2 <= line <= len(rows) + 1:
        raise UserError(
            f"{file}:{line} is no row of results; the file has the lines 2 to {len(rows) + 1} (1 is the header)"
        )
    return rows[line - 2]


def _lineage(point: Point, row: ResultRow | None = None) -> Lineage:
    iteration = point.graph.iterations[point.t]
    explainer = Explainer({point.trial.name: point.graph}, point.store)
    seen: dict[str, Ancestor] = {}
    for node in [*iteration.scores.values(), iteration.policy]:
        for one in _behind(node, explainer, point.store):
            seen.setdefault(one.reference, one)
    order = {reference: number for number, reference in enumerate(explainer.nodes)}
    ancestors = sorted(seen.values(), key=lambda one: order[one.reference])
    return Lineage(point, row or point.row, tuple(ancestors))


def _behind(node: StageNode, explainer: Explainer, store: Store) -> Iterator[Ancestor]:
    """The stage and all that it was made from, each once."""
    left, seen = [node], set()
    while left:
        one = left.pop()
        if one.reference in seen:
            continue
        seen.add(one.reference)
        artifact = store.find(one.stage, one.key)
        manifest = None if artifact is None else dict(artifact.manifest)
        yield Ancestor(explainer.titles[one.reference], one.reference, dict(one.request.inputs), manifest)
        left += [
            explainer.nodes[reference] for reference in one.request.inputs.values() if reference in explainer.nodes
        ]
