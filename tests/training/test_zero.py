"""ZeRO gives the weights of an ordinary training, and saves them whole."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_jobs import (
    assert_same_training,
    curve,
    largest_difference,
    make_job,
    reference_rows,
    train_alone,
)

from aipo_lab.core.errors import MissingDependency, StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.models.policy import load_policy
from aipo_lab.training.job import TrainingJob
from aipo_lab.training.launch import launch
from aipo_lab.training.packing import optimiser_batches

needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed (pip install 'aipo-lab[deepspeed]')"
)
# Small weights would be whole in every process without it, and nothing would be gathered.
DIVIDED = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}


def zero(stage: int, **settings: Any) -> dict[str, Any]:
    return {"processes": 2, "parallel": f"zero{stage}"} | settings


def assert_whole(job: TrainingJob) -> None:
    """The saved model has the tensors of the one at the start, all float32, and loads by itself."""
    start, saved = (load_file(folder / "model.safetensors") for folder in (job.model, job.folder / "model"))
    assert {name: one.shape for name, one in start.items()} == {name: one.shape for name, one in saved.items()}
    assert {one.dtype for one in saved.values()} == {torch.float32}
    assert json.loads((job.folder / "model" / "config.json").read_text())["dtype"] == "float32"
    loaded = load_policy(job.folder / "model", "cpu", "float32").model.state_dict()
    assert all(loaded[name].equal(one) for name, one in saved.items())


@needs_deepspeed
@pytest.mark.timeout(280)
def test_zero2_gives_the_weights_of_one_process_with_separate_embeddings(tmp_path: Path) -> None:
    job = make_job(tmp_path / "zero2", zero(2), tied=False)
    launch(job, lambda *_: None)
    assert_whole(job)
    assert "lm_head.weight" in load_file(job.folder / "model" / "model.safetensors")
    assert_same_training(train_alone(tmp_path / "one", tied=False), job)


@needs_deepspeed
@pytest.mark.timeout(280)
def test_zero3_fails_with_its_reason_and_continues_to_the_weights_of_one_process(tmp_path: Path) -> None:
    job = make_job(tmp_path / "zero3", zero(3, deepspeed=DIVIDED)).model_copy(update={"checkpoint_interval_s": 0.0})
    good = reference_rows(16)
    (last,) = optimiser_batches(16, 5, 1, seed=0)[-1]
    bad = [row | {"chosen_logps": float("inf")} if row["id"] == str(last) else row for row in good]
    assert job.reference is not None
    job.reference.write_text("".join(json.dumps(row) + "\n" for row in bad))
    with pytest.raises(StageFailed, match=f"the aipo loss is not finite for pairs {last}"):
        launch(job, lambda *_: None)
    write_jsonl(job.reference, good)
    launch(job, lambda *_: None)
    assert [row["step"] for row in read_jsonl(job.folder / "speed.jsonl")] == [4]  # 1 to 3 from the checkpoint
    assert_whole(job)
    assert_same_training(train_alone(tmp_path / "one"), job)


@needs_deepspeed
@pytest.mark.timeout(280)
def test_zero2_in_bfloat16_is_close_to_float32(tmp_path: Path) -> None:
    exact = train_alone(tmp_path / "one")
    job = make_job(tmp_path / "bf16", zero(2), precision="bfloat16")
    launch(job, lambda *_: None)
    assert_whole(job)
    assert 0 < largest_difference(exact, job) < 4 * job.config.learning_rate  # AdamW moves at most lr per step
    for rough, row in zip(curve(job), curve(exact), strict=True):
        assert rough["loss"] == pytest.approx(row["loss"], rel=0.02)
        assert rough["logps_chosen"] == pytest.approx(row["logps_chosen"], rel=0.02)
        assert rough["lr"] == pytest.approx(row["lr"])


@needs_deepspeed
@pytest.mark.timeout(280)
def test_weights_that_are_not_finite_after_the_last_update_are_not_saved(tmp_path: Path) -> None:
    parallel = zero(3, processes=1, deepspeed=DIVIDED)
    job = make_job(tmp_path / "job", parallel, n_pairs=5, learning_rate=1e39, warmup_ratio=0.0)
    with pytest.raises(StageFailed, match=r"weights .* are not finite; lower train\.learning_rate"):
        launch(job, lambda *_: None)
    assert not (job.folder / "model").exists()


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed")
def test_without_deepspeed_the_install_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"pip install 'aipo-lab\[deepspeed\]'"):
        launch(make_job(tmp_path / "job", zero(2)), lambda *_: None)
