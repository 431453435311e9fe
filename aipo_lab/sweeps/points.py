"""A model of a sweep by its name, `TRIAL@ITERATION`: which row of the results, which checkpoint, which folder.

The checkpoint is the one that `results.csv` names for the row, so that it stays what the numbers were measured on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.core.config import suggest
from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Artifact, Store
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.graph import TrialGraph
from aipo_lab.results.rows import ResultRow
from aipo_lab.sweeps.collect import Scores, trial_rows
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.keeping import keep_earlier
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import Sweep, Trial

_POINT = re.compile(r"(?P<trial>.+)@(?P<iteration>\d{1,6}|last)")


@dataclass(frozen=True)
class Point:
    """One trial at one iteration t of a sweep, with the rows of the whole trial."""

    sweep: Sweep
    trial: Trial
    t: int
    graph: TrialGraph
    store: Store
    base_model: BaseModel
    rows: tuple[ResultRow, ...]
    folder: SweepFolder

    @property
    def name(self) -> str:
        """`TRIAL@ITERATION`."""
        return f"{self.trial.name}@{self.t}"

    @property
    def row(self) -> ResultRow:
        """The point's row of the results."""
        return self.rows[self.t]

    @property
    def checkpoint(self) -> str:
        """The artifact that the point's model is in, `train/<key>` or `base/<key>`."""
        return self.row.checkpoint or self.graph.iterations[self.t].policy.reference

    @property
    def base_fingerprint(self) -> str | None:
        """The content hash of a base model that is not in the store; None for the micro world's."""
        return self.base_model.fingerprint

    def model_folder(self) -> Path:
        """The folder of the model's files, their hashes checked.

        Raises `UserError` if they were freed, never made, damaged or, of a base model, are gone or changed.
        """
        if self.checkpoint.startswith("base/") and self.base_fingerprint is not None:
            return self.base_folder()
        return self.artifact(self.checkpoint, "its checkpoint").file("model")

    def base_folder(self) -> Path:
        """The folder of a base model that is not in the store; raises `UserError` if it is gone or has changed."""
        folder = self.base_model.folder
        assert folder is not None, "only the micro world's base model is in the store"
        if not folder.is_dir():
            raise UserError(f"{self.name}: the base model's folder {folder} is gone; put it back and try again")
        found = fingerprint_folder(folder)
        if found != self.base_fingerprint:
            raise UserError(
                f"{self.name}: the base model in {folder} has changed since the sweep ran: its content has the "
                f"fingerprint {found}, the sweep's had {self.base_fingerprint}; put the files back and try again"
            )
        return folder

    def artifact(self, reference: str, what: str) -> Artifact:
        """An intact artifact of the store; raises `UserError` if it is not there or damaged, calling it `what`."""
        stage, key = reference.split("/")
        artifact = self.store.find_intact(stage, key)
        if artifact is not None:
            return artifact
        again = f"run the sweep again to make it (it is {self.folder.path}), or give another store with --store"
        if self.store.path(stage, key).exists():
            raise UserError(
                f"{self.name}: {what} {self.store.path(stage, key)} is damaged (`aipo-lab store verify` says which "
                f"files); {again}"
            )
        never = {"pending": "it was not made yet", "failed": "the trial failed before it"}.get(self.row.state)
        raise UserError(
            f"{self.name}: {what} {reference} is not in the store {self.store.root}: {never or 'it was freed'}; {again}"
        )


def parse_point(text: str) -> tuple[str, str] | None:
    """The trial and the iteration (digits or `last`) of TRIAL@ITERATION; None for another form."""
    match = _POINT.fullmatch(text)
    return None if match is None else (match["trial"], match["iteration"])


def iteration_number(text: str, iteration: str, last: int) -> int:
    """The iteration as a number; raises `UserError`, naming the whole `text`, if the trial has not so many."""
    t = last if iteration == "last" else int(iteration)
    if t > last:
        raise UserError(f"{text}: the trial has the iterations 0 (the base model) to {last}")
    return t


def find_point(text: str, folder: Path, store_root: Path | None) -> Point:
    """The point `text` names in the sweep whose output folder is `folder`; `last` is the last iteration.

    `store_root`: where the store is, if not where the folder says. Raises `UserError` if there is no such point.
    """
    named = parse_point(text)
    if named is None:
        raise UserError(
            f"{text!r} names no model of a sweep; write TRIAL@ITERATION, such as dpo-b0.1@3 or dpo-b0.1@last"
        )
    study = Study.reopen(SweepFolder(folder), store_root)
    trials: Mapping[str, Trial] = {trial.name: trial for trial in study.sweep.trials}
    name, iteration = named
    if name not in trials:
        raise UserError(f"{folder} has no trial {name!r}; {suggest(name, list(trials))}")
    trial = trials[name]
    t = iteration_number(text, iteration, trial.recipe.iterations)
    graph = study.graph.trials[trial.name]
    rows = keep_earlier(trial_rows(trial, graph, Scores(study.store), trial.name in study.failures), study.earlier)
    base_model = study.graph.base_models[trial.recipe.model.source]
    return Point(study.sweep, trial, t, graph, study.store, base_model, tuple(rows), study.folder)
