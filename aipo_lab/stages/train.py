"""Stage `train`: the next policy from the pairs, the reference log-probabilities and the objective.

Output `model/`, an ordinary Hugging Face folder in safetensors, `curve.jsonl`, one row per step, and `speed.jsonl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipo_lab.core.store import Artifact
from aipo_lab.models.policy import POLICIES
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import policy_folder
from aipo_lab.training.config import TrainConfig
from aipo_lab.training.device_memory import settle_checkpointing
from aipo_lab.training.job import TrainingJob, run_job
from aipo_lab.training.launch import launch


@stage("train", version=3, config=TrainConfig)
def train(context: StageContext[TrainConfig]) -> Mapping[str, Any]:
    """Write `model/`, `curve.jsonl` and `speed.jsonl`."""
    job = _job(context)
    if job.parallel.processes > 1 or job.parallel.parallel != "data":
        POLICIES.clear()  # the other processes need the memory
        return launch(job, context.progress)
    policy = POLICIES.take(job.model, job.device, job.config.weights)
    summary = run_job(job, policy, context.progress)
    POLICIES.put(context.final_folder / "model", job.device, job.config.weights, policy)
    return summary


def _is_of_start(reference: Artifact, start: Artifact) -> bool:
    """Whether the reference is of the policy that the training starts from: then only rounding is between them."""
    measured = reference.manifest["inputs"].get("policy")
    return measured in (None, f"{start.stage}/{start.key}")


def _job(context: StageContext[TrainConfig]) -> TrainingJob:
    runtime, folder = context.runtime, policy_folder(context)
    reference = context.inputs.get("reference")
    return TrainingJob(
        config=settle_checkpointing(context.config, runtime.parallel, folder, runtime.device),
        parallel=runtime.parallel,
        model=folder,
        pairs=context.inputs["pairs"].file("pairs.jsonl"),
        reference=reference and reference.file("reference.jsonl"),
        reference_is_start=reference is None or _is_of_start(reference, context.inputs["policy"]),
        folder=context.folder,
        parts=context.parts,
        device=runtime.device,
        threads=runtime.threads,
        checkpoint_interval_s=runtime.checkpoint_interval_s,
    )
