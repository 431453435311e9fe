"""The output folder of a sweep: its file names, its resolved configuration, and what is known of its progress."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_json, write_text_atomically
from aipo_lab.core.store import make_writable_folder, package_versions
from aipo_lab.core.yaml_text import dump_yaml
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.ranking.ranker import RankerResources
from aipo_lab.sweeps.plan import FoundThings, SweepGraph
from aipo_lab.sweeps.prompt_values import FILE as PROMPT_VALUES
from aipo_lab.sweeps.saved import SavedSweep, SweepSummary, read_summary, read_sweep, saved_store
from aipo_lab.sweeps.sweep import Sweep, build_trials
from aipo_lab.sweeps.trial import Method


class SweepFolder:
    """All paths below the output folder of a sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.configuration = path / "sweep.yaml"
        self.results = path / "results.csv"
        self.summary = path / "summary.json"
        self.picks = path / "picks.json"
        self.prompt_values = path / PROMPT_VALUES
        self.figures = path / "figures"
        self.report = path / "report.html"
        self.tracking_database = path / "mlflow.db"
        self.lock = path / ".lock"
        self.claim_lock = path / ".claim"

    def prepare(self) -> None:
        """Create the folder; raises `UserError` if it cannot be written to."""
        make_writable_folder(self.path, "output folder", "--out")

    def save_sweep(self, sweep: Sweep, sweep_id: str, graph: SweepGraph, store_root: Path) -> None:
        """Write the resolved sweep with versions and commit, before any work starts."""
        values = {
            "id": sweep_id,
            "name": sweep.name,
            "profile": sweep.profile,
            "description": sweep.description,
            "select": sweep.select,
            "split": sweep.split,
            "source": sweep.source,
            **saved_store(store_root, self.path),
            "models": {
                source: {
                    "folder": str(model.folder) if model.folder else None,
                    "fingerprint": model.fingerprint,
                }
                for source, model in graph.base_models.items()
            },
            "benchmark_files": dict(graph.resources.files),
            "data": {key: found.model_dump(exclude_none=True) for key, found in graph.data.items()},
            "judges": dict(graph.resources.judges),
            **_saved_rankers(graph),
            "plugins": graph.plugins,
            "versions": package_versions(),
            "commit": git_commit(),
            "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **({"methods": {name: dict(changes) for name, changes in sweep.methods.items()}} if sweep.methods else {}),
            "recipe": dict(sweep.base_values),
            "trials": [{"name": trial.name, "settings": dict(trial.settings)} for trial in sweep.trials],
        }
        header = "# Written by aipo-lab: the sweep as it runs, with everything resolved.\n"
        write_text_atomically(
            self.configuration,
            header + dump_yaml(values),
        )

    def load_sweep(self) -> tuple[Sweep, FoundThings, Path]:
        """The saved sweep, what it was made from, and the root of its store.

        Raises `UserError` if the folder holds no sweep, or one that cannot be read.
        """
        if not self.configuration.is_file():
            raise UserError(
                f"{self.path} holds no sweep (no sweep.yaml); give the output folder of a sweep, "
                "for example runs/table6"
            )
        saved = read_sweep(self.configuration)
        points = [trial.settings or _own_point(saved) for trial in saved.trials]
        methods = {name: Method(changes) for name, changes in saved.methods.items()}
        trials = build_trials(saved.recipe, points, str(self.configuration), methods=methods)
        sweep = Sweep(
            name=saved.name,
            profile=saved.profile,
            select=saved.select,
            base_values=saved.recipe,
            trials=tuple(
                replace(trial, name=one.name, settings=one.settings)
                for trial, one in zip(trials, saved.trials, strict=True)
            ),
            description=saved.description,
            source=saved.source,
            methods=saved.methods,
            split=saved.split,
        )
        models = {
            source: BaseModel(Path(model.folder) if model.folder else None, model.fingerprint)
            for source, model in saved.models.items()
        }
        resources = BenchmarkResources(saved.benchmark_files, saved.judges)
        rankers = {name: RankerResources(one.identity, one.folders) for name, one in saved.rankers.items()}
        return sweep, FoundThings(models, resources, saved.data, rankers), saved.store_root(self.path)

    def load_summary(self) -> SweepSummary | None:
        """What earlier sessions left, or None; raises `UserError` if it cannot be read."""
        return read_summary(self.summary) if self.summary.is_file() else None

    def save_summary(self, summary: SweepSummary) -> None:
        """Write the summary."""
        write_json(self.summary, summary.model_dump())


def _saved_rankers(graph: SweepGraph) -> dict[str, Any]:
    """The section about what rankers stand on; none where all of it is in their settings."""
    found = {
        name: {"identity": dict(one.identity), "folders": dict(one.folders)} for name, one in graph.rankers.items()
    }
    return {"rankers": found} if found else {}


def _own_point(saved: SavedSweep) -> dict[str, Any]:
    """The point of a single run: what its recipe already says."""
    return {"objective": saved.recipe["objective"]["name"]}


def git_commit() -> str | None:
    """The commit of the aipo-lab checkout this runs from, marked if it has changes; None outside one."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
