"""One of several processes of a job, started by torchrun: `python -m aipo_lab.training.ranks JOB.json`.

The first one writes its progress as JSON lines to `progress.jsonl` beside the job and its summary to `summary.json`;
whichever fails writes why to `failure.json`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from aipo_lab.core.errors import MissingDependency, StageFailed, UserError
from aipo_lab.core.jsonl import write_json
from aipo_lab.models.policy import Policy, load_policy
from aipo_lab.training.job import TrainingJob, run_job
from aipo_lab.training.launch import die_with_parent
from aipo_lab.training.processes import Processes
from aipo_lab.training.reference_job import ReferenceJob, run_reference_job

Job = Annotated[TrainingJob | ReferenceJob, Field(discriminator="kind")]


def main() -> None:
    """Take part in the job named on the command line."""
    die_with_parent()  # torchrun starts it in a session of its own, which a killed torchrun leaves behind
    path = Path(sys.argv[1])
    job: Job = TypeAdapter(Job).validate_json(path.read_text(encoding="utf-8"))
    try:
        _take_part(job, path.parent)
    except (StageFailed, UserError, MissingDependency) as error:
        write_json(path.parent / "failure.json", {"reason": str(error)})
        raise


def _take_part(job: Job, folder: Path) -> None:
    import torch

    processes = Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    torch.set_num_threads(max(1, job.threads // processes.count))
    device = _join(job, processes)
    policy = _load(job, device, processes)
    with (folder / "progress.jsonl").open("a", encoding="utf-8") as stream:

        def progress(done: int, total: int, unit: str) -> None:
            if processes.first:
                stream.write(json.dumps([done, total, unit]) + "\n")
                stream.flush()

        if isinstance(job, TrainingJob):
            summary = run_job(job, policy, progress, processes)
        else:
            summary = run_reference_job(job, policy, progress, processes)
    if processes.first:
        write_json(folder / "summary.json", summary)
    processes.barrier()
    torch.distributed.destroy_process_group()


def _load(job: Job, device: str, processes: Processes) -> Policy:
    """The policy at the start, or this process's share of it."""
    weights = job.config.weights if isinstance(job, TrainingJob) else job.weights
    if job.parallel.parallel == "fsdp":
        from aipo_lab.training.fsdp import load_sharded_policy

        return load_sharded_policy(job.model, device, weights, processes)
    return load_policy(job.model, device, weights)


def _join(job: Job, processes: Processes) -> str:
    """Join the process group; returns this process's device."""
    import torch
    import torch.distributed

    device = job.device if job.device == "cpu" else f"{job.device}:{os.environ['LOCAL_RANK']}"
    if device != "cpu":
        torch.cuda.set_device(device)
    if not job.parallel.parallel.startswith("zero"):
        torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
        return device
    os.environ["DS_ACCELERATOR"] = torch.device(device).type
    import deepspeed

    deepspeed.init_distributed("gloo" if device == "cpu" else "nccl", rank=processes.rank, world_size=processes.count)
    return device


if __name__ == "__main__":
    main()
