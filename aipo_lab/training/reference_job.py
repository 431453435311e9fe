"""A reference pass in several processes, each of which holds its share of the policy: for models no device holds.

Output: `reference.jsonl` in the job's folder, see the stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.core.progress import Progress
from aipo_lab.models.policy import Policy
from aipo_lab.training.batches import collate
from aipo_lab.training.config import ParallelSettings, Precision, WeightType
from aipo_lab.training.job import REFERENCE_COLUMNS
from aipo_lab.training.logprobs import find_sharing, pair_logps
from aipo_lab.training.pairs import EncodedPair, load_pairs
from aipo_lab.training.processes import Processes
from aipo_lab.training.step_batches import reference_micro_batches
from aipo_lab.training.token_sums import TokenSums

if TYPE_CHECKING:
    from torch import Tensor


class ReferenceJob(StrictModel):
    """All that a process needs to know to take part in a reference pass."""

    kind: Literal["reference"] = "reference"
    parallel: ParallelSettings = Field(description="how it is spread over processes")
    model: Path = Field(description="folder of the policy")
    pairs: Path = Field(description="pairs.jsonl")
    folder: Path = Field(description="where the output goes")
    device: str = Field(description="torch device, without the number where there are several processes")
    threads: int = Field(description="CPU threads of all processes together")
    weights: WeightType = Field(description="data type of the weights")
    max_prompt_tokens: int = Field(description="as in the train section")
    max_response_tokens: int = Field(description="as in the train section")
    micro_batch_tokens: int = Field(description="as in the train section")
    precision: Precision = Field(description="as in the train section")
    batch_size: int | None = Field(description="with a 16-bit precision, that of the training")
    seed: int | None = Field(description="with a 16-bit precision, that of the training")
    tails: bool = Field(description="whether the sums past the shorter response are written too")


def run_reference_job(job: ReferenceJob, policy: Policy, progress: Progress, processes: Processes) -> dict[str, Any]:
    """Compute the log-probabilities, write them in the first process and return the stage's summary."""
    pairs, _ = load_pairs(job.pairs, policy.tokenizer, job.max_prompt_tokens, job.max_response_tokens)
    logps = _logps(job, policy, pairs, progress, processes)
    if processes.first:
        write_reference(job.folder, pairs, logps)
    return {"pairs": len(pairs)}


def write_reference(folder: Path, pairs: Sequence[EncodedPair], logps: Tensor) -> None:
    """Write `reference.jsonl` from log-probabilities (len(pairs), 2 or 4)."""
    rows: list[Mapping[str, Any]] = [
        {"id": pair.id} | dict(zip(REFERENCE_COLUMNS, columns, strict=False))
        for pair, columns in zip(pairs, logps.tolist(), strict=True)
    ]
    write_jsonl(folder / "reference.jsonl", rows)


def _logps(
    job: ReferenceJob, policy: Policy, pairs: Sequence[EncodedPair], progress: Progress, processes: Processes
) -> Tensor:
    """Log-probabilities of all pairs; micro-batches go round the processes, in lockstep, as weights are gathered."""
    import torch

    model: Any = policy.model
    sums = TokenSums.TAILS if job.tails else TokenSums.PLAIN
    result = torch.zeros(len(pairs), int(sums), device=model.device)
    with torch.no_grad():
        sharing = find_sharing(model, pairs, policy.pad_token_id)
        made = list(
            reference_micro_batches(pairs, job.micro_batch_tokens, sharing, job.precision, job.batch_size, job.seed)
        )
        for start in range(0, len(made), processes.count):
            own = start + processes.rank
            rows = made[min(own, len(made) - 1)]  # who has none computes the last one again, for nothing
            batch = collate([[pairs[i] for i in row] for row in rows], policy.pad_token_id, model.device, sharing, sums)
            logps = model.compute(pair_logps, batch, job.precision)
            if own < len(made):
                result[[i for row in rows for i in row]] = logps
            progress(min(start + processes.count, len(made)), len(made), "micro-batches")
    return processes.sum_tensor(result).cpu()
