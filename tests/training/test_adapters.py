"""LoRA trains adapters alone and leaves an ordinary model; float16 with its loss scale trains as float32 does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_jobs import assert_same_training, curve, make_job, pair_rows, train_alone

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.models.policy import Policy, load_policy
from aipo_lab.objectives import get_objective
from aipo_lab.training import updates
from aipo_lab.training.adapters import LoraSettings, add_adapters, merge_adapters
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.job import run_job
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.pairs import EncodedPair, encode_pairs
from aipo_lab.training.updates import LossScale, ReplicatedUpdater

LORA = LoraSettings(rank=4, alpha=8)
MakePolicy = Callable[..., Policy]
needs_peft = pytest.mark.skipif(
    find_spec("peft") is None, reason="peft is not installed (pip install 'aipo-lab[lora]')"
)


@pytest.fixture
def pairs(tokenizer: Any) -> list[EncodedPair]:
    return encode_pairs(pair_rows(16), tokenizer, 512, 512)[0]


def trainer_of(policy: Policy, pairs: list[EncodedPair], **changes: Any) -> PairTrainer:
    values: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 4, "warmup_ratio": 0.0}
    settings = TrainSettings(**(values | changes))
    reference = all_pair_logps(policy.model, pairs, policy.pad_token_id, 4096, lambda *_: None)
    return PairTrainer(policy, pairs, reference, get_objective("dpo"), settings, 0)


def logps(policy: Policy, pairs: list[EncodedPair]) -> torch.Tensor:
    return all_pair_logps(policy.model, pairs, policy.pad_token_id, 4096, lambda *_: None)


def assert_close(one: Policy, other: Policy, tolerance: float) -> None:
    for (name, ours), theirs in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=tolerance), name


@needs_peft
def test_new_adapters_change_nothing_and_depend_on_the_seed_alone(
    make_policy: MakePolicy, pairs: list[EncodedPair]
) -> None:
    before = logps(make_policy(), pairs)
    made = []
    for seed in (1, 1, 2):
        policy = make_policy()
        state = torch.get_rng_state()
        add_adapters(policy.model, LORA, seed)
        assert torch.get_rng_state().equal(state)
        assert torch.allclose(logps(policy, pairs), before, rtol=1e-6)
        made.append(torch.cat([one.flatten() for one in policy.model.parameters() if one.requires_grad]))
    assert made[0].equal(made[1])
    assert not made[0].equal(made[2])


@needs_peft
def test_training_changes_adapters_only_and_merging_keeps_the_log_probabilities(
    make_policy: MakePolicy, pairs: list[EncodedPair]
) -> None:
    policy = make_policy()
    names = {name for name, _ in policy.model.named_parameters()}
    adapted = add_adapters(policy.model, LORA, seed=0)
    before = {name: one.detach().clone() for name, one in policy.model.named_parameters()}
    trained = trainer_of(policy, pairs, epochs=8).run(lambda *_: None)
    changed = {name for name, one in policy.model.named_parameters() if not one.equal(before[name])}
    assert changed == {name for name in before if "lora_" in name}
    epochs = [sum(row["loss"] for row in trained[start : start + 4]) / 4 for start in (0, 28)]
    assert epochs[1] < epochs[0] - 0.1
    adapted_logps = logps(policy, pairs)
    merge_adapters(adapted)
    assert {name for name, _ in policy.model.named_parameters()} == names
    assert all(one.requires_grad for one in policy.model.parameters())
    assert torch.allclose(logps(policy, pairs), adapted_logps, rtol=1e-4, atol=1e-3)


@needs_peft
@pytest.mark.parametrize(("rank", "alpha"), [(4, 8), (4, 4), (2, 1)])
def test_merged_adapters_are_scaled_by_alpha_over_rank(make_policy: MakePolicy, rank: int, alpha: int) -> None:
    policy = make_policy()
    name = "model.layers.0.self_attn.q_proj"
    before = policy.model.get_submodule(name).weight.detach().clone()
    adapted = add_adapters(policy.model, LoraSettings(rank=rank, alpha=alpha), seed=0)
    layer = policy.model.get_submodule(name)
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    with torch.no_grad():
        up.normal_()
        expected = before + alpha / rank * up @ down
    merge_adapters(adapted)
    assert torch.allclose(policy.model.get_submodule(name).weight, expected, atol=1e-5)


@needs_peft
def test_only_the_named_layers_are_adapted(make_policy: MakePolicy) -> None:
    policy = make_policy()
    add_adapters(policy.model, LoraSettings(target_modules=["q_proj", "v_proj"]), seed=0)
    trainable = {name.split(".")[4] for name, one in policy.model.named_parameters() if one.requires_grad}
    assert trainable == {"q_proj", "v_proj"}


@needs_peft
def test_an_unknown_layer_fails_with_its_name(make_policy: MakePolicy) -> None:
    with pytest.raises(StageFailed, match=r"train\.lora\.target_modules \['query_key_value'\]: .*not found"):
        add_adapters(make_policy().model, LoraSettings(target_modules=["query_key_value"]), seed=0)


@needs_peft
def test_the_folder_of_a_lora_training_is_an_ordinary_model(tmp_path: Path, pairs: list[EncodedPair]) -> None:
    job = make_job(tmp_path / "job", lora=LORA)
    policy = load_policy(job.model, "cpu", "float32")
    run_job(job, policy, lambda *_: None)
    files = {path.name for path in (job.folder / "model").iterdir()}
    assert files == {path.name for path in job.model.iterdir()}
    assert "peft" not in (job.folder / "model" / "config.json").read_text()
    start, saved = (load_file(folder / "model.safetensors") for folder in (job.model, job.folder / "model"))
    assert start.keys() == saved.keys()
    same = {name for name in start if start[name].equal(saved[name])}
    assert same == {name for name in start if "_proj" not in name}
    # the policy in memory goes on as that of the folder
    assert_close(policy, load_policy(job.folder / "model", "cpu", "float32"), tolerance=0)


@needs_peft
def test_a_killed_lora_training_continues_to_the_same_weights(tmp_path: Path) -> None:
    job = make_job(tmp_path / "killed", lora=LORA, epochs=2).model_copy(update={"checkpoint_interval_s": 0.0})

    def stop(done: int, *_: object) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, load_policy(job.model, "cpu", "float32"), stop)
    *_, checkpoint = sorted(job.parts.glob("*/step-*"))
    assert all("lora_" in name for name in load_file(checkpoint / "model.safetensors"))
    run_job(job, load_policy(job.model, "cpu", "float32"), lambda *_: None)
    assert [row["step"] for row in read_jsonl(job.folder / "speed.jsonl")] == [6, 7, 8]
    whole = train_alone(tmp_path / "whole", lora=LORA, epochs=2)
    one, other = (load_file(run.folder / "model" / "model.safetensors") for run in (whole, job))
    assert all(one[name].equal(other[name]) for name in one)
    assert curve(whole) == curve(job)


@needs_peft
def test_lora_with_gradient_checkpointing_is_the_same_training(tmp_path: Path) -> None:
    plain = train_alone(tmp_path / "plain", lora=LORA)
    saving = train_alone(tmp_path / "saving", lora=LORA, gradient_checkpointing=True)
    assert_same_training(plain, saving)


def test_float16_trains_close_to_float32(make_policy: MakePolicy, pairs: list[EncodedPair]) -> None:
    exact, rough = (trainer_of(make_policy(), pairs, precision=one) for one in ("float32", "float16"))
    exact_curve, rough_curve = (trainer.run(lambda *_: None) for trainer in (exact, rough))
    assert {one.dtype for one in rough.policy.model.parameters()} == {torch.float32}
    for row, exact_row in zip(rough_curve, exact_curve, strict=True):
        assert row["loss"] == pytest.approx(exact_row["loss"], rel=0.02)
        assert row["gradient_norm"] == pytest.approx(exact_row["gradient_norm"], rel=0.05)  # unscaled again
        assert row["logps_chosen"] == pytest.approx(exact_row["logps_chosen"], rel=0.005)
    assert not torch.equal(logps(exact.policy, pairs), logps(rough.policy, pairs))


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Gradients overflow wherever the scale is above 2^13, as they would in a model of larger gradients."""
    scales: list[float] = []
    original = updates.ReplicatedUpdater.backward

    def backward(self: ReplicatedUpdater, loss: torch.Tensor, last: bool) -> None:
        original(self, loss, last)
        scales.append(self.scale.value)
        if self.scale.value > 2**13:
            next(iter(self.parameters.values())).grad[0] = float("inf")

    monkeypatch.setattr(updates.ReplicatedUpdater, "backward", backward)
    return scales


def test_an_overflow_halves_the_scale_and_repeats_the_step(
    make_policy: MakePolicy, pairs: list[EncodedPair], overflowing: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(make_policy(), pairs, precision="float16")
    rows = trainer.run(lambda *_: None)
    tried = [scale for scale, _ in itertools.groupby(overflowing)]
    assert tried == [2.0**16, 2.0**15, 2.0**14, 2.0**13]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    monkeypatch.undo()
    smooth = trainer_of(make_policy(), pairs, precision="float16")
    smooth.updater.scale.value = 2.0**13
    assert smooth.run(lambda *_: None) == rows  # repeated steps left no trace in weights, schedule or curve
    assert_close(smooth.policy, trainer.policy, tolerance=0)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_a_gradient_that_is_truly_not_finite_ends_the_training(
    make_policy: MakePolicy, pairs: list[EncodedPair], precision: str
) -> None:
    policy = make_policy()
    trainer = trainer_of(policy, pairs, precision=precision)
    parameters = list(policy.model.parameters())
    before = [one.detach().clone() for one in parameters]
    parameters[0].register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(StageFailed, match=r"the gradient norm at step 1 is nan; lower train\.learning_rate"):
        trainer.run(lambda *_: None)
    assert all(one.equal(old) for one, old in zip(parameters, before, strict=True))
    assert trainer.updater.scale.value == 1


def test_the_scale_doubles_after_enough_clean_steps_in_float16_only() -> None:
    scale, fixed = LossScale("float16"), LossScale("bfloat16")
    for _ in range(LossScale.CLEAN_STEPS - 1):
        scale.clean()
        fixed.clean()
    assert scale.halve() and scale.value == 2.0**15  # an overflow starts the count again
    assert not fixed.halve()
    for _ in range(LossScale.CLEAN_STEPS):
        scale.clean()
        fixed.clean()
    assert (scale.value, fixed.value) == (2.0**16, 1.0)
