"""Several processes and ZeRO compute what the reference pass computed in one, in 16 bits to the last bit."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from training_jobs import curve, make_job, pair_rows

from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.models.policy import load_policy
from aipo_lab.training.batches import Sharing
from aipo_lab.training.job import TrainingJob
from aipo_lab.training.launch import launch
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.packing import optimiser_batches
from aipo_lab.training.pairs import EncodedPair, encode_pairs
from aipo_lab.training.processes import Processes
from aipo_lab.training.reference_gap import gap_warning
from aipo_lab.training.step_batches import own_micro_batches, reference_micro_batches

N_PAIRS = 16
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


def with_its_reference(job: TrainingJob) -> TrainingJob:
    """Weights far from uniform, and the reference that the stage would compute."""
    weights = load_file(job.model / "model.safetensors")
    rough = {name: one * 12 if one.dim() > 1 else one for name, one in weights.items()}
    save_file(rough, job.model / "model.safetensors", {"format": "pt"})
    policy, config = load_policy(job.model, "cpu", "float32"), job.config
    pairs, _ = encode_pairs(read_jsonl(job.pairs), policy.tokenizer, 512, 512)
    logps = all_pair_logps(
        policy.model,
        pairs,
        policy.pad_token_id,
        config.micro_batch_tokens,
        lambda *_: None,
        config.precision,
        config.batch_size,
        config.seed,
    )
    assert job.reference is not None
    rows = zip(pairs, logps.tolist(), strict=True)
    write_jsonl(job.reference, [{"id": p.id, "chosen_logps": w, "rejected_logps": r} for p, (w, r) in rows])
    return job


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "parallel",
    [
        {},
        pytest.param({"parallel": "zero2"}, marks=needs_deepspeed),
        pytest.param(
            {
                "parallel": "zero3",
                "deepspeed": {
                    "bf16": {"enabled": True},
                    "zero_optimization": {"stage3_param_persistence_threshold": 0},
                },
            },
            marks=needs_deepspeed,
        ),
    ],
)
def test_two_processes_start_at_the_reference_in_bfloat16(tmp_path: Path, parallel: dict[str, Any]) -> None:
    job = with_its_reference(make_job(tmp_path / "job", {"processes": 2} | parallel, precision="bfloat16"))
    summary = launch(job, lambda *_: None)
    row = curve(job)[0]
    assert (row["reference_gap_max"], row["reference_gap_mean"]) == (0, 0)
    assert summary["warnings"] == []


@pytest.fixture
def pairs(tokenizer: Any) -> list[EncodedPair]:
    return encode_pairs(pair_rows(N_PAIRS), tokenizer, 512, 512)[0]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("sharing", Sharing)
def test_in_16_bits_the_micro_batches_are_the_references_for_any_number_of_processes(
    pairs: list[EncodedPair], count: int, sharing: Sharing
) -> None:
    expected = list(reference_micro_batches(pairs, 200, sharing, "bfloat16", batch_size=6, seed=3))
    made = [
        one
        for indices in optimiser_batches(N_PAIRS, 6, 1, 3)
        for rank in range(count)
        for one in own_micro_batches(indices, pairs, 200, sharing, "bfloat16", Processes(rank, count))
    ]
    assert sorted(made) == sorted(expected)


def test_in_16_bits_several_processes_have_something_to_do(pairs: list[EncodedPair]) -> None:
    everything = list(range(N_PAIRS))
    shares = [
        own_micro_batches(everything, pairs, 100_000, Sharing.LAYOUT, "bfloat16", Processes(rank, 4))
        for rank in range(4)
    ]
    assert all(shares)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_warning_has_its_limit_by_precision(precision: str) -> None:
    row = {"logps_chosen": -300.0, "logps_rejected": -300.0, "reference_gap_mean": 1e-4}
    explained = 1e-3 + 600 * (2e-5 if precision == "float32" else 1e-4)
    assert gap_warning(row | {"reference_gap_max": 0.99 * explained}, precision) is None
    warning = gap_warning(row | {"reference_gap_max": 1.01 * explained}, precision)
    assert warning is not None
    assert f"rounding in {precision} explains {explained:.2g}" in warning
    assert gap_warning({"loss": 1.0}, precision) is None  # an objective without a reference
