"""The plan of a training's memory: what its parts are, how settings move them, and what is refused before loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_jobs import make_job, make_model

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.size import known_models
from aipo_lab.pipeline.checks import memory_problems
from aipo_lab.pipeline.memory import stage_memory
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.training.config import ParallelSettings, TrainSettings
from aipo_lab.training.device_memory import device_gib, find_model, settle_checkpointing
from aipo_lab.training.memory_plan import Model, plan_reference, plan_training, remedy

NEMO = "mistralai/Mistral-Nemo-Instruct-2407"
BF16: dict[str, Any] = {"precision": "bfloat16", "weights": "bfloat16", "optimizer": "adamw_bf16"}
PAPER = TrainSettings(precision="bfloat16", gradient_checkpointing=True)


def known(name: str) -> Model:
    shape = known_models()[name]
    return Model(shape, shape.parameters())


def parts(settings: TrainSettings = PAPER, **parallel: Any) -> dict[str, float]:
    return plan_training(known(NEMO), settings, ParallelSettings(**parallel)).parts


def test_weights_gradients_and_moments_are_sixteen_bytes_a_parameter_in_float32_and_eight_in_bfloat16() -> None:
    n = known(NEMO).parameters
    exact, rounded, eight = (
        parts(),
        parts(TrainSettings(**BF16)),
        parts(TrainSettings(**BF16 | {"optimizer": "adamw_8bit"})),
    )
    state = [sum(one[name] for name in ("weights", "gradients", "moments")) / n for one in (exact, rounded, eight)]
    assert state == [16, 8, 6]


def test_modes_divide_what_they_say() -> None:
    alone = parts()
    for kind, divided in {"data": (1, 1), "fsdp": (8, 8), "zero2": (None, 8), "zero3": (None, 8)}.items():
        made = parts(processes=8, parallel=kind)
        if divided[0]:
            assert made["weights"] == alone["weights"] / divided[0]
        assert made["gradients"] == alone["gradients"] / divided[1]
        assert made["moments"] == alone["moments"] / divided[1]
    assert parts(processes=8, parallel="fsdp")["gathered"] > known(NEMO).embeddings * 4
    assert parts(processes=8, parallel="data")["gathered"] == 0


def test_adapters_alone_need_neither_gradients_nor_moments_of_the_rest() -> None:
    made = parts(TrainSettings(lora={}))
    assert made["gradients"] + made["moments"] < 0.02 * made["weights"]


def test_checkpointing_keeps_one_layer_and_the_inputs_of_the_others() -> None:
    shape = known_models()[NEMO]
    stored, computed_twice = parts(TrainSettings(precision="bfloat16")), parts()
    inputs = 4 * shape.hidden * shape.layers * 8192
    assert inputs < computed_twice["activations"] < 2 * inputs
    assert stored["activations"] > 8 * computed_twice["activations"]


def test_the_profile_paper_fits_eight_gpus_of_80_gib_and_not_one() -> None:
    recipe = build_recipe(profile_values("paper"))
    found = {one.stage: one for one in stage_memory(recipe, None, 80)}
    assert set(found) == {"respond", "reference", "train"}
    assert all(one.problem is None for one in found.values())
    assert "needs" in str(found["train"]) and "of 80 a device" in str(found["train"])
    alone = build_recipe(profile_values("paper"), [("compute.processes", 1)])
    problem = {one.stage: one.problem for one in stage_memory(alone, None, 80)}["train"]
    assert problem is not None and "compute.processes=4 would need" in problem


@pytest.mark.parametrize("profile", ["paper-gemma-2-27b", "paper-llama-3-70b", "paper-mistral-large"])
def test_larger_models_fit_the_devices_their_profiles_ask_for(profile: str) -> None:
    recipe = build_recipe(profile_values(profile))
    assert [one.problem for one in stage_memory(recipe, None, 80) if one.problem] == []
    exact = build_recipe(profile_values(profile), [("train.weights", "float32"), ("train.optimizer", "adamw")])
    (problem,) = [one.problem for one in stage_memory(exact, None, 80) if one.problem]
    assert "train.weights=bfloat16 train.optimizer=adamw_bf16 would need" in problem


def test_a_remedy_fits_where_it_says_so_and_its_absence_is_said() -> None:
    model, parallel = known(NEMO), ParallelSettings(processes=8, parallel="fsdp")
    settings = TrainSettings(precision="bfloat16")
    assert not plan_training(model, settings, parallel).fits(80)
    assert remedy(model, settings, parallel, "cuda", 80).startswith("train.gradient_checkpointing=true would need")
    saved = settings.model_copy(update={"gradient_checkpointing": True})
    assert plan_training(model, saved, parallel).fits(80)
    assert remedy(model, settings, parallel, "cuda", 1).startswith("no setting makes it fit")


def test_a_reference_pass_needs_less_than_its_training() -> None:
    parallel = ParallelSettings(processes=8, parallel="fsdp")
    assert plan_reference(known(NEMO), PAPER, parallel).gib < plan_training(known(NEMO), PAPER, parallel).gib


def test_a_model_is_known_from_its_files_without_loading(tmp_path: Path) -> None:
    model = find_model("folder", make_model(tmp_path / "tied"))
    apart = find_model("folder", make_model(tmp_path / "apart", tied=False))
    assert model is not None and apart is not None
    assert (model.shape.layers, model.shape.hidden, model.shape.heads, model.shape.kv_heads) == (2, 32, 4, 2)
    assert model.parameters == model.shape.parameters()
    assert apart.parameters == apart.shape.parameters() == model.parameters + model.shape.vocabulary * 32
    (tmp_path / "tied" / "config.json").write_text('{"model_type": "gpt2", "n_embd": 4}')
    assert find_model("folder", tmp_path / "tied") is None
    assert find_model("nobody/knows", None) is None


def settled(tmp_path: Path, gib: float | None, wanted: bool | str = "auto") -> bool | str:
    job = make_job(tmp_path / f"job-{gib}-{wanted}", gradient_checkpointing=wanted, max_response_tokens=4000)
    parallel = ParallelSettings(device_gib=gib)
    return settle_checkpointing(job.config, parallel, job.model, "cpu").gradient_checkpointing


def test_checkpointing_auto_is_chosen_from_the_plan_and_what_cannot_fit_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", gradient_checkpointing="auto", max_response_tokens=4000)
    model = find_model("", job.model)
    assert model is not None
    stored, twice = (plan_training(model, job.config, job.parallel, "cpu", on).gib / 0.95 for on in (False, True))
    assert settled(tmp_path, None) is False
    assert settled(tmp_path, stored * 1.01) is False
    assert settled(tmp_path, (stored + twice) / 2) is True
    with pytest.raises(StageFailed, match=r"the training needs .* GiB on a device of"):
        settled(tmp_path, twice * 0.9)
    with pytest.raises(StageFailed, match=r"train\.gradient_checkpointing=true.* would need"):
        settled(tmp_path, (stored + twice) / 2, wanted=False)


def test_a_run_is_refused_by_the_memory_it_is_told(tmp_path: Path) -> None:
    changes = [("model.source", NEMO), ("compute.device_gib", 80.0), ("train.micro_batch_tokens", 4096)]
    (problem,) = {one.text for one in memory_problems(build_recipe(profile_values("laptop"), changes))}
    assert "train needs" in problem and "would need" in problem
    assert not list(memory_problems(build_recipe(profile_values("laptop"), changes[:1])))
    assert device_gib("cpu", ParallelSettings()) is None
