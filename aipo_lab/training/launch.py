"""Running a training or a reference pass in several processes through torchrun, and hearing from it."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import MissingDependency, StageFailed
from aipo_lab.core.jsonl import read_json, write_text_atomically
from aipo_lab.core.progress import Progress
from aipo_lab.training.job import TrainingJob
from aipo_lab.training.reference_job import ReferenceJob

POLL_S = 0.2


def launch(job: TrainingJob | ReferenceJob, progress: Progress) -> dict[str, Any]:
    """Run the job in `job.parallel.processes` processes on this machine; returns the stage's summary.

    Raises `StageFailed` with the reason the failed process gave, `MissingDependency` without DeepSpeed where it is
    asked for. The processes end with this one.
    """
    if job.parallel.parallel.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        raise MissingDependency(
            f"compute.parallel={job.parallel.parallel} needs DeepSpeed; install it with: "
            "pip install 'aipo-lab[deepspeed]'"
        )
    with tempfile.TemporaryDirectory(prefix="aipo-lab-training-") as name:
        folder = Path(name)
        write_text_atomically(folder / "job.json", job.model_dump_json())
        process = subprocess.Popen(_command(job, folder), env=_environment(job), preexec_fn=die_with_parent)
        try:
            code = _wait(process, folder / "progress.jsonl", progress)
        finally:
            if process.poll() is None:
                process.terminate()  # torchrun ends its processes before itself
                process.wait()
        return _outcome(folder, code)


def _command(job: TrainingJob | ReferenceJob, folder: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    processes = ["--nproc-per-node", str(job.parallel.processes), "--max-restarts", "0"]
    return [*torchrun, *processes, "-m", "aipo_lab.training.ranks", str(folder / "job.json")]


def _environment(job: TrainingJob | ReferenceJob) -> dict[str, str]:
    threads = max(1, job.threads // job.parallel.processes)
    return os.environ | {"OMP_NUM_THREADS": str(threads), "DS_ACCELERATOR": job.device, "TORCH_CPP_LOG_LEVEL": "ERROR"}


def die_with_parent() -> None:
    """Ask Linux for a signal when the parent dies, so that a killed sweep leaves no training behind."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], reports: Path, progress: Progress) -> int:
    """Pass progress on until the process ends; returns its exit code."""
    position = 0
    while True:
        code = process.poll()
        if reports.is_file():
            with reports.open(encoding="utf-8") as stream:
                stream.seek(position)
                whole_lines = [line for line in stream.readlines() if line.endswith("\n")]
                position += sum(len(line.encode()) for line in whole_lines)
            if whole_lines:
                progress(*json.loads(whole_lines[-1]))
        if code is not None:
            return code
        time.sleep(POLL_S)


def _outcome(folder: Path, code: int) -> dict[str, Any]:
    if (folder / "failure.json").is_file():
        raise StageFailed(read_json(folder / "failure.json")["reason"])
    if code or not (folder / "summary.json").is_file():
        raise StageFailed(f"one of the processes ended with exit code {code}; its output is in the stage's log")
    summary: dict[str, Any] = read_json(folder / "summary.json")
    return summary
