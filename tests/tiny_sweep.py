"""A sweep that takes seconds: its settings, how it is run as a user runs it, and what it leaves."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

AIPO_LAB = str(Path(sys.executable).with_name("aipo-lab"))
SWEEPS = Path(__file__).parents[1] / "sweeps"

RECIPE = {
    "model.micro.steps": 50,
    "model.micro.batch_size": 32,
    "model.micro.documents_per_step": 2,
    "model.micro.hidden_size": 48,
    "model.micro.layers": 1,
    "model.micro.mlp_size": 96,
    "model.micro.learning_rate": 0.01,
    "instruct.source": "pool",
    "instruct.n_prompts": 24,
    "respond.n_candidates": 3,
    "respond.sampling.max_new_tokens": 32,
    "train.batch_size": 6,
    "train.learning_rate": 0.002,
    "benchmarks.micro.n_prompts": 16,
    "benchmarks.micro.sampling.max_new_tokens": 32,
    "iterations": 2,
    "compute.workers": 2,
}
SPACE = [
    {"objective": "dpo", "beta": [0.1]},
    {"objective": "simpo", "beta": [2.0], "gamma": [0.5]},
    {"objective": "aipo", "beta": [0.1], "alpha": [0.05], "lambda": [0.2]},
]


def write_sweep(folder: Path, space: Any = SPACE, name: str = "tiny", **more: Any) -> Path:
    path = folder / f"{name}.yaml"
    values = {"name": name, "profile": "micro", "recipe": RECIPE, "space": space} | more
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return kept | {"COLUMNS": "160", "OMP_NUM_THREADS": "1"}


def command(path: Path, out: Path, store: Path) -> list[str]:
    return [AIPO_LAB, "sweep", str(path), "--out", str(out), "--store", str(store)]


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=240)


def read_rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def planned(output: str) -> dict[str, tuple[int, ...]]:
    """By stage: without sharing, needed, of them shared, already stored, to run."""
    rows = {}
    for line in output.splitlines():
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if len(cells) == 7 and cells[1].isdigit():
            rows[cells[0]] = tuple(int(cell) for cell in cells[1:6])
    return rows


@dataclass
class Finished:
    """An undisturbed run of the tiny sweep."""

    folder: Path
    file: Path
    out: Path
    store: Path
    plan: str
    done: subprocess.CompletedProcess[str]
    duration_s: float
    results: bytes


def stage_runs(store: Path) -> Counter[str]:
    return Counter(path.parent.parent.name for path in store.glob("*/*/manifest.json"))
