"""The reference and train stages compute in the precision, the micro-batches and the order they are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_jobs import make_model, pair_rows, train_config

from aipo_lab.models.policy import load_policy
from aipo_lab.pipeline.graph import GraphBuilder
from aipo_lab.stages.reference import ReferenceConfig
from aipo_lab.training.config import TrainConfig
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.packing import optimiser_batches
from aipo_lab.training.pairs import EncodedPair, encode_pairs

RunStage = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]
N_PAIRS = 16
PRECISIONS = ["float32", "bfloat16", "float16"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights far from uniform, so that another precision shows."""
    folder = make_model(tmp_path_factory.mktemp("numerics") / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({name: one * 12 if one.dim() > 1 else one for name, one in weights.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def pairs(tokenizer: Any) -> list[EncodedPair]:
    return encode_pairs(pair_rows(N_PAIRS), tokenizer, 512, 512)[0]


def config(**changes: Any) -> TrainConfig:
    return train_config(**({"seed": 7, "warmup_ratio": 0.0} | changes))


def inputs(model: Path, **more: Any) -> dict[str, Any]:
    return {"policy": {"model": model}, "pairs": {"pairs.jsonl": pair_rows(N_PAIRS)}, **more}


def reference(run_stage_on: RunStage, model: Path, train: TrainConfig) -> list[dict[str, Any]]:
    settings = ReferenceConfig.for_training(train, train.seed).model_dump(exclude_none=True)
    return run_stage_on("reference", settings, inputs(model), "reference.jsonl")[0]


def curve(
    run_stage_on: RunStage, model: Path, train: TrainConfig, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    given = inputs(model, reference={"reference.jsonl": rows})
    return run_stage_on("train", train.model_dump(), given, "curve.jsonl")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}, {"micro_batch_tokens": 4096}])
def test_before_the_first_update_policy_and_reference_are_the_same(
    run_stage_on: RunStage, model: Path, precision: str, changes: dict[str, Any]
) -> None:
    train = config(precision=precision, **changes)
    rows, summary = curve(run_stage_on, model, train, reference(run_stage_on, model, train))
    assert rows[0]["reference_gap_max"] <= (1e-3 if precision == "float32" else 0)
    assert rows[0]["reference_gap_mean"] <= rows[0]["reference_gap_max"]
    assert all("reference_gap_max" not in row for row in rows[1:])
    assert summary["warnings"] == []


def test_a_reference_of_another_precision_is_warned_of_with_its_numbers(run_stage_on: RunStage, model: Path) -> None:
    exact = reference(run_stage_on, model, config())
    rows, summary = curve(run_stage_on, model, config(precision="bfloat16"), exact)
    (warning,) = summary["warnings"]
    assert f"up to {rows[0]['reference_gap_max']:.3g} nats ({rows[0]['reference_gap_mean']:.3g} on average)" in warning
    assert "rounding in bfloat16 explains" in warning


def test_the_gap_is_that_of_the_first_steps_pairs(run_stage_on: RunStage, model: Path) -> None:
    train = config()
    (first, *_) = optimiser_batches(N_PAIRS, train.batch_size, 1, train.seed)
    rows = reference(run_stage_on, model, train)
    for number, index in enumerate(first):
        rows[index]["chosen_logps"] += number  # 0, 1, 2, 3, 4 nats away
    other = next(index for index in range(N_PAIRS) if index not in first)
    rows[other]["chosen_logps"] += 100
    row = curve(run_stage_on, model, train, rows)[0][0]
    assert (row["reference_gap_max"], row["reference_gap_mean"]) == pytest.approx((4, 2), abs=1e-3)


def stored_logps(rows: list[dict[str, Any]]) -> torch.Tensor:
    return torch.tensor([[row["chosen_logps"], row["rejected_logps"]] for row in rows])


def direct_logps(model: Path, pairs: list[EncodedPair], train: TrainConfig) -> torch.Tensor:
    policy = load_policy(model, "cpu", "float32")
    order = (train.batch_size, train.seed)
    return all_pair_logps(
        policy.model, pairs, policy.pad_token_id, train.micro_batch_tokens, lambda *_: None, train.precision, *order
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_stages_compute_in_the_precision_they_are_told(
    run_stage_on: RunStage, model: Path, pairs: list[EncodedPair], precision: str
) -> None:
    train = config(precision=precision)
    expected = {one: direct_logps(model, pairs, config(precision=one)) for one in PRECISIONS}
    rows = reference(run_stage_on, model, train)
    first = optimiser_batches(N_PAIRS, train.batch_size, 1, train.seed)[0]
    trained = curve(run_stage_on, model, train, rows)[0][0]["logps_chosen"]
    for one, logps in expected.items():
        same = one == precision
        assert torch.allclose(stored_logps(rows), logps, rtol=1e-6) == same
        assert (trained == pytest.approx(float(logps[first, 0].double().mean()), rel=1e-6)) == same


def test_the_order_of_the_pairs_follows_the_seed(run_stage_on: RunStage, model: Path, pairs: list[EncodedPair]) -> None:
    for seed in (1, 2):
        train = config(seed=seed)
        rows, _ = curve(run_stage_on, model, train, reference(run_stage_on, model, train))
        batches = optimiser_batches(N_PAIRS, train.batch_size, 1, seed)
        lengths = [sum(len(pairs[index].chosen) for index in batch) / len(batch) for batch in batches]
        assert [row["length_chosen_tokens"] for row in rows] == pytest.approx(lengths)


def test_in_float32_trainings_of_any_batch_size_and_order_share_a_reference() -> None:
    one, other = (ReferenceConfig.for_training(config(batch_size=size), seed) for size, seed in ((4, 1), (8, 2)))
    assert one == other
    rough = [ReferenceConfig.for_training(config(batch_size=size, precision="float16"), 1) for size in (4, 8)]
    assert rough[0] != rough[1]


def test_the_graph_gives_the_reference_the_order_of_its_training() -> None:
    from aipo_lab.benchmarks.resources import find_resources
    from aipo_lab.pipeline.base_model import find_base_model
    from aipo_lab.pipeline.recipe import build_recipe, profile_values
    from aipo_lab.stages.definition import Runtime

    recipe = build_recipe(profile_values("micro"), [("train.precision", "bfloat16"), ("train.batch_size", 6)])
    graph = GraphBuilder(recipe, find_base_model("micro"), Runtime(), find_resources([recipe.benchmarks])).build()
    for iteration in graph.iterations[:-1]:
        made, train = (iteration.steps[name].request.config for name in ("reference", "train"))
        assert (made["seed"], made["batch_size"]) == (train["seed"], 6)
