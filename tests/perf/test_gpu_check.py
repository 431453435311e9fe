"""`make gpu-check`: it refuses where there is no GPU, and its own logic runs on the processor."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aipo_lab.core.devices import Device

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "perf" / "gpu_check.py"
LINE = "0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=everything, timeout=800
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_a_gpu_it_says_so_and_does_nothing(tmp_path: Path) -> None:
    ended = run()
    assert ended.returncode == 2
    assert "no NVIDIA GPU is found here" in ended.stderr
    assert "--device cpu --size tiny" in ended.stderr
    assert ended.stdout == ""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{LINE}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    ended = run(PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ended.returncode == 2
    assert "cannot use 0 (NVIDIA H100 80GB HBM3, 80 GiB): install its build for CUDA" in ended.stderr


def test_the_processor_is_for_tiny_trials_only() -> None:
    ended = run("--device", "cpu", "--size", "7b")
    assert ended.returncode == 2
    assert "--size tiny" in ended.stderr


def test_the_training_is_as_large_as_fits() -> None:
    largest_size = runpy.run_path(str(SCRIPT))["largest_size"]
    sizes = {memory: largest_size(Device("0", "", memory)) for memory in (24.0, 40.0, 80.0, 141.0, None)}
    assert sizes == {24.0: "1b", 40.0: "1b", 80.0: "3b", 141.0: "7b", None: "1b"}


def test_a_training_on_the_processor_says_what_it_took() -> None:
    ended = run("--device", "cpu", "--size", "tiny", "--only", "devices", "training")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    devices, training, end = ended.stdout.strip().splitlines()
    assert devices.split()[:2] == ["ok", "devices"]
    assert training.split()[:2] == ["ok", "training"] and "GiB" in training
    assert end == "everything that could be tried works"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_parts_on_the_processor() -> None:
    pytest.importorskip("trl")
    ended = run("--device", "cpu", "--size", "tiny")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    states = {line.split()[1]: line.split()[0] for line in ended.stdout.splitlines()[:-1]}
    assert states == dict.fromkeys(["devices", "engine", "training", "iteration", "speed"], "ok") | {"vllm": "skipped"}
