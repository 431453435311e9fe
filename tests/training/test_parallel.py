"""A training in several processes gives the weights of a single one, and says why when it fails."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from aipo_lab.errors import StageFailed
from aipo_lab.jsonl import read_jsonl, write_jsonl
from aipo_lab.models import Policy, load_policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.config import ObjectiveSettings, ParallelSettings, TrainConfig
from aipo_lab.training.job import TrainingJob, run_job
from aipo_lab.training.launch import launch
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.processes import Processes

N_PAIRS = 16
OBJECTIVE = ObjectiveSettings(name="aipo", hyperparameters=get_objective("aipo").hyperparameters)


@pytest.fixture(scope="module")
def inputs(make_policy: Callable[..., Policy], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, pairs of very different length and reference log-probabilities."""
    folder = tmp_path_factory.mktemp("inputs")
    policy = make_policy()
    policy.model.save_pretrained(folder / "model")
    policy.tokenizer.save_pretrained(folder / "model")
    draw = random.Random(3)
    words = sorted(word for word in policy.tokenizer.get_vocab() if word[:1] == " " and word[1:].isalpha())

    def message(role: str) -> list[dict[str, str]]:
        return [{"role": role, "content": "".join(draw.choices(words, k=draw.randint(1, 20)))}]

    rows = [
        {"id": f"{i:02d}", "prompt": message("user"), "chosen": message("assistant"), "rejected": message("assistant")}
        for i in range(N_PAIRS)
    ]
    write_jsonl(folder / "pairs.jsonl", rows)
    write_jsonl(
        folder / "reference.jsonl",
        ({"id": row["id"], "chosen_logps": -30.0 - i, "rejected_logps": -35.0} for i, row in enumerate(rows)),
    )
    return folder


def make_job(inputs: Path, folder: Path, parallel: ParallelSettings, **changes: Any) -> TrainingJob:
    folder.mkdir()
    # Batches of 5 do not divide by two processes, and the last one has a single pair.
    settings = {"learning_rate": 1e-3, "batch_size": 5, "micro_batch_tokens": 90, "seed": 0, "objective": OBJECTIVE}
    return TrainingJob(
        config=TrainConfig(**(settings | changes)),
        parallel=parallel,
        model=inputs / "model",
        pairs=inputs / "pairs.jsonl",
        reference=inputs / "reference.jsonl",
        folder=folder,
        parts=folder / "parts",
        device="cpu",
        threads=2,
        checkpoint_interval_s=1e9,
    )


@pytest.fixture(scope="module")
def single(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one process."""
    job = make_job(inputs, tmp_path_factory.mktemp("single") / "out", ParallelSettings())
    run_job(job, load_policy(job.model, "cpu", "float32"), lambda *_: None)
    return job.folder


@pytest.mark.timeout(280)
@pytest.mark.parametrize("parallel", ["data", "zero2", "zero3"])
def test_two_processes_end_with_the_weights_of_one(inputs: Path, single: Path, tmp_path: Path, parallel: Any) -> None:
    if parallel != "data":
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'aipo-lab[deepspeed]')")
    reached: list[tuple[int, int, str]] = []
    job = make_job(inputs, tmp_path / "out", ParallelSettings(processes=2, parallel=parallel))
    summary = launch(job, lambda *at: reached.append(at))
    assert summary["steps"] == 4
    assert summary["pairs_in_last_step"] == 1
    assert reached[-1] == (4, 4, "steps")
    expected, start = load_file(single / "model/model.safetensors"), load_file(inputs / "model/model.safetensors")
    made = load_file(job.folder / "model/model.safetensors")
    assert made.keys() == expected.keys()
    for name, weights in expected.items():
        assert made[name].dtype == torch.float32
        assert float((made[name] - weights).norm() / weights.norm()) < 1e-5
    assert max(float((expected[name] - start[name]).abs().max()) for name in start) > 1e-4
    for one, other in zip(read_jsonl(single / "curve.jsonl"), read_jsonl(job.folder / "curve.jsonl"), strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
    load_policy(job.folder / "model", "cpu", "float32")


@pytest.mark.timeout(120)
def test_a_process_that_fails_says_why(inputs: Path, tmp_path: Path) -> None:
    job = make_job(inputs, tmp_path / "out", ParallelSettings(processes=2), max_prompt_tokens=1)
    with pytest.raises(StageFailed, match=r"none of 16 pairs is within the token limits: \{'prompt_too_long': 16\}"):
        launch(job, lambda *_: None)


lengths = st.lists(st.integers(1, 500), min_size=1, max_size=80)


@given(lengths, st.integers(1, 9))
def test_the_shares_of_a_batch_hold_every_pair_once_and_weigh_about_the_same(sizes: list[int], count: int) -> None:
    pairs = [EncodedPair(str(i), [1], [1] * size, [1]) for i, size in enumerate(sizes)]
    shares = [Processes(rank, count).share(range(len(pairs)), pairs) for rank in range(count)]
    assert sorted(index for share in shares for index in share) == list(range(len(pairs)))
    weights = [sum(sizes[index] for index in share) for share in shares]
    assert max(weights) - min(weights) <= max(sizes)


def test_lora_trains_adapters_only_and_merges_them(inputs: Path, single: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (pip install 'aipo-lab[lora]')")
    job = make_job(inputs, tmp_path / "out", ParallelSettings(), lora={"rank": 2, "alpha": 8}, learning_rate=1e-2)
    run_job(job, load_policy(job.model, "cpu", "float32"), lambda *_: None)
    start, made = (load_file(folder / "model/model.safetensors") for folder in (inputs, job.folder))
    assert made.keys() == start.keys() == load_file(single / "model/model.safetensors").keys()
    changed = {name: made[name] - start[name] for name in start if not torch.equal(made[name], start[name])}
    assert changed
    assert all("_proj" in name for name in changed)  # neither embeddings nor norms
    assert all(int(torch.linalg.matrix_rank(change, atol=1e-6)) <= 2 for change in changed.values())


def test_a_layer_that_is_not_there_is_named(inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (pip install 'aipo-lab[lora]')")
    job = make_job(inputs, tmp_path / "out", ParallelSettings(), lora={"target_modules": ["nowhere"]})
    with pytest.raises(StageFailed, match=r"train.lora.target_modules \['nowhere'\]"):
        run_job(job, load_policy(job.model, "cpu", "float32"), lambda *_: None)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_sixteen_bits_train_nearly_as_float32(inputs: Path, single: Path, tmp_path: Path, precision: str) -> None:
    job = make_job(inputs, tmp_path / "out", ParallelSettings(), precision=precision)
    run_job(job, load_policy(job.model, "cpu", "float32"), lambda *_: None)
    expected, made = (read_jsonl(folder / "curve.jsonl") for folder in (single, job.folder))
    assert [row["loss"] for row in made] == pytest.approx([row["loss"] for row in expected], rel=0.03)
    assert [row["gradient_norm"] for row in made] == pytest.approx([row["gradient_norm"] for row in expected], rel=0.1)


def test_the_job_file_is_plain_json(inputs: Path, tmp_path: Path) -> None:
    job = make_job(inputs, tmp_path / "out", ParallelSettings(processes=2))
    assert TrainingJob.model_validate_json(json.dumps(json.loads(job.model_dump_json()))) == job
