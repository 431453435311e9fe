"""A tiny sweep of the micro world, run for real: two objectives, two iterations, about ten seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

AIPO_LAB = str(Path(sys.executable).with_name("aipo-lab"))
RECIPE = {
    "model.micro.steps": 60,
    "model.micro.batch_size": 48,
    "model.micro.documents_per_step": 8,
    "model.micro.hidden_size": 64,
    "model.micro.layers": 1,
    "model.micro.mlp_size": 96,
    "model.micro.learning_rate": 8e-3,
    "instruct.source": "pool",
    "instruct.n_prompts": 16,
    "respond.n_candidates": 3,
    "respond.sampling.max_new_tokens": 24,
    "train.batch_size": 4,
    "train.learning_rate": 0.002,
    "benchmarks.micro.n_prompts": 8,
    "benchmarks.micro.sampling.max_new_tokens": 24,
    "iterations": 2,
    "compute.workers": 1,
}
SPACE = [{"objective": "dpo", "beta": [0.1]}, {"objective": "simpo", "beta": [2.0], "gamma": [0.5]}]


def aipo_lab(*arguments: str | Path, cwd: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program; a traceback is a failure whatever the exit code says."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [AIPO_LAB, *map(str, arguments)],
        cwd=cwd,
        env=environment | {"COLUMNS": "160", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        input=stdin,
        **({"stdin": subprocess.DEVNULL} if stdin is None else {}),
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


def run_small_sweep(folder: Path, space: Any = SPACE, **recipe: Any) -> None:
    """Run it in `folder`, with changes to its recipe (`__` for the dots), without a tracker."""
    changes = {name.replace("__", "."): value for name, value in recipe.items()}
    folder.mkdir(exist_ok=True)
    values = {"name": "tiny", "profile": "micro", "recipe": RECIPE | changes, "space": space}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    done = aipo_lab("sweep", "tiny.yaml", "--tracker", "none", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
