"""Several sweeps beside each other: rows under one set of names, values by prompt, how their recipes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.errors import UserError
from aipo_lab.figures.palette import objective_name
from aipo_lab.results.per_prompt import PromptValues, joined
from aipo_lab.results.rows import ResultRow
from aipo_lab.sweeps.differences import Change, changes
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.study import Study

PROMPT_SETTINGS = ("world", "benchmarks.", "seed", "model.", "prompts.")
"""Where recipes differ in one of these, their benchmarks' prompts or base models are others."""


@dataclass(frozen=True)
class Comparison:
    """`rows` of all sweeps. An objective or method of one is called `DPO (table6)`, a trial `table6:dpo-b0.1`.

    `recipes`: by sweep but the first, in what its recipe differs from the first's. `select`: the first's rule.
    """

    names: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    values: PromptValues
    select: str
    recipes: Mapping[str, tuple[Change, ...]]

    def benchmarks(self) -> list[str]:
        """Those that every sweep has results of."""
        present = [
            {metric.split("/")[0] for row in self.rows if row.trial.startswith(f"{name}:") for metric in row.metrics}
            for name in self.names
        ]
        return [name for name in BENCHMARK_METRICS if all(name in one for one in present)]

    def unlike(self) -> list[str]:
        """Settings of another world, benchmark or base model: numbers are then of different prompts or opponents."""
        return [
            f"{name}: {change.text()}"
            for name, found in self.recipes.items()
            for change in found
            if change.name.startswith(PROMPT_SETTINGS)
        ]


def compare_sweeps(folders: Sequence[Path], store_root: Path | None = None) -> Comparison:
    """Read the output folders of sweeps; `store_root`: where their store is, if not where they say.

    Raises `UserError` for fewer than two, for one given twice, and where they have no benchmark in common.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UserError("compare takes the output folders of two or more different sweeps")
    studies = [Study.reopen(SweepFolder(folder), store_root) for folder in folders]
    names = _unique([study.sweep.name for study in studies], folders)
    rows: list[ResultRow] = []
    for name, study in zip(names, studies, strict=True):
        rows += [_renamed(row, name) for row in study.pickable_rows()]
    values = joined({name: study.prompt_values() for name, study in zip(names, studies, strict=True)})
    first = studies[0].sweep
    recipes = {
        name: changes(study.sweep.base_values, first.base_values)
        for name, study in zip(names[1:], studies[1:], strict=True)
    }
    made = Comparison(tuple(names), tuple(rows), values, first.select, recipes)
    if not made.benchmarks():
        raise UserError(f"{', '.join(names)} have no benchmark in common that all of them have a result of")
    return made


def _renamed(row: ResultRow, name: str) -> ResultRow:
    settings = {key: text for key, text in row.hyperparameters.items() if key != "method"}
    contender = f"{objective_name(row.contender)} ({name})"
    return replace(row, trial=f"{name}:{row.trial}", hyperparameters=settings | {"method": contender})


def _unique(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The sweeps' names; the folders' where sweeps are called alike, and paths where these are too."""
    for candidates in (list(names), [folder.resolve().name for folder in folders]):
        if len(set(candidates)) == len(candidates):
            return candidates
    return [str(folder) for folder in folders]
