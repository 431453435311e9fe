"""FSDP gives the weights of an ordinary training; no process reads or holds the whole model."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    make_model,
    pair_rows,
    train_alone,
)

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.models import weight_files
from aipo_lab.models.policy import POLICIES, load_policy
from aipo_lab.models.weight_files import WeightFiles, empty_policy, write_model
from aipo_lab.stages.definition import Runtime, StageNode, get_stage, run_stage
from aipo_lab.stages.reference import ReferenceConfig
from aipo_lab.training.config import ParallelSettings
from aipo_lab.training.job import read_reference
from aipo_lab.training.launch import launch
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.pairs import load_pairs
from aipo_lab.training.reference_job import ReferenceJob
from aipo_lab.training.token_sums import TokenSums

FSDP = {"processes": 2, "parallel": "fsdp"}
BF16: dict[str, Any] = {"precision": "bfloat16", "weights": "bfloat16", "optimizer": "adamw_bf16"}


@pytest.mark.timeout(280)
def test_two_processes_give_the_weights_of_one_and_continue_after_a_kill(tmp_path: Path) -> None:
    job = make_job(tmp_path / "fsdp", FSDP, tied=False).model_copy(update={"checkpoint_interval_s": 0.0})

    def kill(done: int, *_: Any) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(job, kill)
    launch(job, lambda *_: None)
    assert len(curve(job)) == 4
    assert 1 <= len(read_jsonl(job.folder / "speed.jsonl")) < 4  # the others from the checkpoint
    assert_same_training(train_alone(tmp_path / "one", tied=False), job)
    saved = load_policy(job.folder / "model", "cpu", "float32").model
    assert saved.config.dtype == torch.float32


@pytest.mark.timeout(280)
def test_weights_in_bfloat16_are_gathered_and_saved_in_bfloat16(tmp_path: Path) -> None:
    one = train_alone(tmp_path / "one", **BF16)
    job = make_job(tmp_path / "fsdp", FSDP, gradient_checkpointing=True, **BF16)
    launch(job, lambda *_: None)
    saved = load_file(job.folder / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert json.loads((job.folder / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    assert largest_difference(one, job) < 2 * 2.0**-7
    assert [row["loss"] for row in curve(job)] == pytest.approx([row["loss"] for row in curve(one)], rel=0.01)


def test_a_model_without_memory_has_the_shapes_and_the_buffers_of_the_real_one(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    empty, real = empty_policy(folder, "bfloat16").model, load_policy(folder, "cpu", "bfloat16").model
    assert {one.device.type for one in empty.parameters()} == {"meta"}
    shapes = [{name: (one.shape, one.dtype) for name, one in model.named_parameters()} for model in (empty, real)]
    assert shapes[0] == shapes[1]
    buffers = [dict(model.named_buffers()) for model in (empty, real)]
    assert buffers[0].keys() == buffers[1].keys() and buffers[0]
    assert all(torch.equal(one, buffers[1][name]) for name, one in buffers[0].items())


def test_a_model_written_file_by_file_is_read_as_a_whole_and_in_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_policy(make_model(tmp_path / "model", tied=False), "cpu", "float32").model
    monkeypatch.setattr(weight_files, "MOST_FILE_BYTES", 20_000)
    write_model(
        tmp_path / "written", model, ((name, one.detach()) for name, one in model.named_parameters()), writes=True
    )
    assert len(list((tmp_path / "written").glob("model-*-of-*.safetensors"))) > 2
    again = load_policy_weights(tmp_path / "written")
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(one, again[name]) for name, one in model.state_dict().items())
    name = "model.layers.1.mlp.gate_proj.weight"
    part = WeightFiles(tmp_path / "written").rows(name, 5, 9)
    assert torch.equal(part, model.state_dict()[name][5:9])


def load_policy_weights(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    weights: dict[str, torch.Tensor] = AutoModelForCausalLM.from_pretrained(str(folder)).state_dict()
    return weights


def test_names_that_are_not_the_models_own_are_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    with pytest.raises(StageFailed, match=r"1 of its parameters .* \(model.other, …\); use compute.parallel=data"):
        WeightFiles(folder).check_names(["model.norm.weight", "model.other"])


@pytest.mark.timeout(280)
@pytest.mark.parametrize("settings", [{}, BF16])
def test_a_divided_reference_pass_gives_the_numbers_of_one_process(tmp_path: Path, settings: dict[str, Any]) -> None:
    training = make_job(tmp_path / "job", FSDP, tied=False, **settings)
    config = training.config
    order = {"batch_size": config.batch_size, "seed": config.seed} if settings else {"batch_size": None, "seed": None}
    limits = config.model_dump(
        include={"max_prompt_tokens", "max_response_tokens", "micro_batch_tokens", "precision", "weights"}
    )
    (tmp_path / "reference").mkdir()
    job = ReferenceJob(
        parallel=training.parallel,
        model=training.model,
        pairs=training.pairs,
        folder=tmp_path / "reference",
        device="cpu",
        threads=2,
        tails=True,
        **limits,
        **order,
    )
    assert launch(job, lambda *_: None) == {"pairs": 16}
    policy = load_policy(training.model, "cpu", config.weights)
    pairs, _ = load_pairs(training.pairs, policy.tokenizer, config.max_prompt_tokens, config.max_response_tokens)
    alone = all_pair_logps(
        policy.model,
        pairs,
        policy.pad_token_id,
        config.micro_batch_tokens,
        lambda *_: None,
        config.precision,
        **order,
        sums=TokenSums.TAILS,
    )
    divided = read_reference(tmp_path / "reference" / "reference.jsonl", pairs)
    torch.testing.assert_close(divided, alone, atol=1e-3, rtol=1e-5)
    assert divided.abs().min() > 0 or (divided == 0).equal(alone == 0)


@pytest.mark.timeout(280)
def test_the_reference_stage_divides_its_pass_where_the_policy_is_divided(
    tmp_path: Path, store: Store, put_artifact: Callable[..., str]
) -> None:
    model = make_model(tmp_path / "model")
    inputs = {
        "policy": put_artifact("input", {"model": model}),
        "pairs": put_artifact("input", {"pairs.jsonl": pair_rows(6)}),
    }
    request = ArtifactRequest("reference", get_stage("reference").version, ReferenceConfig().model_dump(), inputs)
    POLICIES.put(model, "cpu", "float32", load_policy(model, "cpu", "float32"))
    told: list[str] = []
    node = StageNode(request, Runtime(threads=2, parallel=ParallelSettings(**FSDP)))
    artifact = run_stage(node, store, lambda _done, _total, unit: told.append(unit))
    assert set(told) == {"micro-batches"}  # a pass in this process counts pairs
    loaded = POLICIES.get(model, "cpu", "float32")
    path = store.path(*inputs["pairs"].split("/")) / "pairs.jsonl"
    pairs, _ = load_pairs(path, loaded.tokenizer, 512, 2048)
    alone = all_pair_logps(loaded.model, pairs, loaded.pad_token_id, 8192, lambda *_: None)
    divided = read_reference(artifact.file("reference.jsonl"), pairs)
    torch.testing.assert_close(divided, alone, atol=1e-3, rtol=1e-5)
