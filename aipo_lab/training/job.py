"""One training from files to files, run in the stage's own process or in several.

Output in the job's folder: `model/`, an ordinary Hugging Face folder in safetensors, `curve.jsonl`, one row per step,
and `speed.jsonl`, how long the steps took.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.jsonl import iterate_jsonl, write_jsonl
from aipo_lab.core.progress import Progress
from aipo_lab.models.policy import Policy
from aipo_lab.models.weight_files import write_model
from aipo_lab.training.adapters import add_adapters, merge_adapters
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.config import ParallelSettings, TrainConfig
from aipo_lab.training.deepspeed_config import deepspeed_config
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.pairs import EncodedPair, load_pairs
from aipo_lab.training.processes import SINGLE, Processes
from aipo_lab.training.reference_gap import gap_warning
from aipo_lab.training.updates import ReplicatedUpdater, Updater

if TYPE_CHECKING:
    from torch import Tensor


REFERENCE_COLUMNS = ("chosen_logps", "rejected_logps", "chosen_tail_logps", "rejected_tail_logps")


class TrainingJob(StrictModel):
    """All that a process needs to know to take part in a training."""

    kind: Literal["training"] = "training"
    config: TrainConfig = Field(description="settings of the training")
    parallel: ParallelSettings = Field(description="how it is spread over processes")
    model: Path = Field(description="folder of the policy at the start")
    pairs: Path = Field(description="pairs.jsonl")
    reference: Path | None = Field(description="reference.jsonl; None for a reference-free objective")
    reference_is_start: bool = Field(True, description="whether the reference is of the policy at the start")
    folder: Path = Field(description="where the output goes")
    parts: Path = Field(description="where checkpoints go, which survive a kill")
    device: str = Field(description="torch device, without the number where there are several processes")
    threads: int = Field(description="CPU threads of all processes together")
    checkpoint_interval_s: float = Field(description="seconds between checkpoints")


def run_job(job: TrainingJob, policy: Policy, progress: Progress, processes: Processes = SINGLE) -> dict[str, Any]:
    """Train, write the output (in the first process) and return the stage's summary.

    The policy's model is changed in place, but for LoRA, ZeRO and FSDP, whose result is in the files alone.
    """
    config = job.config
    pairs, excluded = load_pairs(job.pairs, policy.tokenizer, config.max_prompt_tokens, config.max_response_tokens)
    reference = None if job.reference is None else read_reference(job.reference, pairs)
    adapted = add_adapters(policy.model, config.lora, config.seed) if config.lora else None
    trainer = PairTrainer(
        policy,
        pairs,
        reference,
        config.objective.build(),
        config,
        config.seed,
        processes,
        _updater(job),
    )
    checkpoints = TrainingCheckpoints(job.parts / _checkpoint_name(job.parallel), job.checkpoint_interval_s, processes)
    curve = trainer.run(progress, checkpoints)
    if adapted is not None:
        merge_adapters(adapted)
    _save(job, policy, trainer, curve)
    return _summary(trainer, pairs, excluded, curve, job.reference_is_start)


def _updater(job: TrainingJob) -> Callable[..., Updater]:
    if job.parallel.parallel == "data":
        return ReplicatedUpdater
    if job.parallel.parallel == "fsdp":
        from aipo_lab.training.fsdp import FsdpUpdater

        return FsdpUpdater
    from aipo_lab.training.zero import ZeroUpdater

    return functools.partial(ZeroUpdater, config=deepspeed_config(job.config, job.parallel))


def _checkpoint_name(parallel: ParallelSettings) -> str:
    """Replicated checkpoints fit any number of processes, divided ones only the same number."""
    return "replicated" if parallel.parallel == "data" else f"{parallel.parallel}-{parallel.processes}"


def read_reference(path: Path, pairs: list[EncodedPair]) -> Tensor:
    """Reference log-probabilities (len(pairs), 2), or 4 where the file has tails, in the order of `pairs`."""
    import torch

    rows = {row["id"]: row for row in iterate_jsonl(path)}
    return torch.tensor(
        [[rows[pair.id][name] for name in REFERENCE_COLUMNS if name in rows[pair.id]] for pair in pairs]
    )


def _save(job: TrainingJob, policy: Policy, trainer: PairTrainer, curve: list[dict[str, float]]) -> None:
    first, folder = trainer.processes.first, job.folder / "model"
    if not isinstance(trainer.updater, ReplicatedUpdater):
        write_model(folder, policy.model, trainer.updater.gathered_weights(), writes=first)  # type: ignore[attr-defined]
    elif first:
        policy.model.save_pretrained(str(folder))
    if not first:
        return
    policy.tokenizer.save_pretrained(str(folder))
    write_jsonl(job.folder / "curve.jsonl", curve)
    write_jsonl(job.folder / "speed.jsonl", trainer.speed)


def _summary(
    trainer: PairTrainer,
    pairs: list[EncodedPair],
    excluded: dict[str, int],
    curve: list[dict[str, float]],
    reference_is_start: bool,
) -> dict[str, Any]:
    seconds = sum(row["step_s"] for row in trainer.speed)
    n_tokens = sum(row["tokens"] for row in curve[-len(trainer.speed) :]) if trainer.speed else 0
    warning = gap_warning(curve[0], trainer.settings.precision) if reference_is_start else None
    return {
        "pairs": len(pairs),
        "excluded": excluded,
        "steps": len(curve),
        "pairs_in_last_step": len(trainer.batches[-1]),
        "tokens": sum(row["tokens"] for row in curve),
        "tokens_per_s": round(n_tokens / seconds, 1) if seconds else None,
        "final_loss": curve[-1]["loss"],
        "warnings": [] if warning is None else [warning],
    }
