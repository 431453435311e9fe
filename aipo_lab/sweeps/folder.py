"""The output folder of a sweep: its file names, its resolved configuration, and what is known of its progress."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from aipo_lab.benchmarks.resources import BenchmarkResources, judge_name
from aipo_lab.core.config import parse_yaml
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, write_json, write_text_atomically
from aipo_lab.core.store import make_writable_folder, package_versions
from aipo_lab.judging.ledger import ledger_path
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.sweeps.sweep import Sweep, build_trials


@dataclass
class SweepSummary:
    """Progress of a sweep over all its sessions.

    `reused`: stage runs that were in the store before the first session, by stage. `failures`: reason by
    trial. `duration_s`: seconds spent in sessions that computed something.
    """

    sweep_id: str
    reused: dict[str, int]
    duration_s: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    finished: bool = False


class SweepFolder:
    """All paths below the output folder of a sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.configuration = path / "sweep.yaml"
        self.results = path / "results.csv"
        self.summary = path / "summary.json"
        self.figures = path / "figures"
        self.report = path / "report.html"
        self.tracking_database = path / "mlflow.db"
        self.judge_costs = ledger_path(path)
        self.lock = path / ".lock"

    def prepare(self) -> None:
        """Create the folder; raises `UserError` if it cannot be written to."""
        make_writable_folder(self.path, "output folder", "--out")

    def holds_other_than(self, sweep: Sweep) -> bool:
        """Whether the folder holds results of a sweep with other trials or settings."""
        summary = self.load_summary()
        return summary is not None and summary.sweep_id != sweep_id(sweep)

    def save_sweep(
        self,
        sweep: Sweep,
        base_models: Mapping[str, BaseModel],
        resources: BenchmarkResources,
        store_root: Path,
        plugins: Mapping[str, Any],
    ) -> None:
        """Write the resolved sweep with versions and commit, before any work starts."""
        values = {
            "name": sweep.name,
            "profile": sweep.profile,
            "description": sweep.description,
            "select": sweep.select,
            "source": sweep.source,
            "store": str(store_root),
            "models": {
                source: {
                    "folder": str(model.folder) if model.folder else None,
                    "fingerprint": model.fingerprint,
                }
                for source, model in base_models.items()
            },
            "benchmark_files": dict(resources.files),
            "judges": dict(resources.judges),
            "plugins": dict(plugins),
            "versions": package_versions(),
            "commit": git_commit(),
            "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": dict(sweep.base_values),
            "trials": [{"name": trial.name, "settings": dict(trial.settings)} for trial in sweep.trials],
        }
        header = "# Written by aipo-lab: the sweep as it runs, with everything resolved.\n"
        write_text_atomically(
            self.configuration,
            header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110),
        )

    def load_sweep(self) -> tuple[Sweep, dict[str, BaseModel], BenchmarkResources, Path]:
        """The saved sweep, its base models, its benchmarks' resources and the root of its store.

        Raises `UserError` if the folder holds no sweep.
        """
        if not self.configuration.is_file():
            raise UserError(
                f"{self.path} holds no sweep (no sweep.yaml); give the output folder of a sweep, "
                "for example runs/table6"
            )
        values = parse_yaml(self.configuration.read_text(encoding="utf-8"))
        points = [trial["settings"] or _own_point(values) for trial in values["trials"]]
        trials = build_trials(values["recipe"], points, str(self.configuration))
        sweep = Sweep(
            name=values["name"],
            profile=values["profile"],
            select=values["select"],
            base_values=values["recipe"],
            trials=trials,
            description=values["description"],
            source=values["source"],
        )
        models = {
            source: BaseModel(Path(model["folder"]) if model["folder"] else None, model["fingerprint"])
            for source, model in values["models"].items()
        }
        resources = BenchmarkResources(values.get("benchmark_files", {}), values.get("judges", {}))
        return sweep, models, resources, Path(values["store"])

    def load_summary(self) -> SweepSummary | None:
        """What earlier sessions left, or None."""
        return SweepSummary(**read_json(self.summary)) if self.summary.is_file() else None

    def save_summary(self, summary: SweepSummary) -> None:
        """Write the summary."""
        write_json(self.summary, asdict(summary))


def _own_point(values: Mapping[str, Any]) -> dict[str, Any]:
    """The point of a single run: what its recipe already says."""
    return {"objective": values["recipe"]["objective"]["name"]}


def sweep_id(sweep: Sweep) -> str:
    """A digest of what the sweep runs: equal ids mean equal trials, however fast their judge is called."""
    content = [sweep.name, [[trial.name, _what_runs(trial.recipe)] for trial in sweep.trials]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _what_runs(recipe: Recipe) -> dict[str, Any]:
    values = recipe.resolved()
    if recipe.benchmarks.judge is not None:
        values["benchmarks"]["judge"] = judge_name(recipe.benchmarks.judge)
    return values


def choose_folder(sweep: Sweep, out: Path | None, runs: Path) -> SweepFolder:
    """The sweep's output folder: `out`, else `<runs>/<name>`, with the sweep's id if that holds another sweep.

    Raises `UserError` if `out` holds the results of other settings.
    """
    folder = SweepFolder(out or runs / sweep.name)
    if not folder.holds_other_than(sweep):
        return folder
    if out is not None:
        raise UserError(
            f"the output folder {out} holds the results of other settings (see {folder.configuration}); choose another "
            "with --out, or delete it (what it computed stays in the store)"
        )
    return SweepFolder(runs / f"{sweep.name}-{sweep_id(sweep)[:8]}")


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
