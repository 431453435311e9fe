"""Weights and moments in 16 and 8 bits: what is rounded at random moves as in float32 on average, and reproducibly."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from training_jobs import curve, largest_difference, make_job, make_model, train_alone

from aipo_lab.core.errors import MissingDependency
from aipo_lab.models.policy import Policy, load_policy
from aipo_lab.objectives import get_objective
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.job import run_job
from aipo_lab.training.launch import launch
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.stochastic_adamw import StochasticAdamW, round_stochastically

BF16: dict[str, Any] = {"precision": "bfloat16", "weights": "bfloat16", "optimizer": "adamw_bf16"}
EIGHT_BITS = BF16 | {"optimizer": "adamw_8bit"}
needs_torchao = pytest.mark.skipif(
    find_spec("torchao") is None, reason="torchao is not installed (pip install 'aipo-lab[low-bit]')"
)
PAIRS = [EncodedPair(str(i), [3 + i, 9, 10], [*[5 + i, 7, 11][: 1 + i % 3], 2], [20 + i, 30, 40, 2]) for i in range(16)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.floats(-(2.0**90), 2.0**90, width=32), st.integers(0, 100))
def test_a_value_is_rounded_to_one_of_its_two_neighbours(value: float, seed: int) -> None:
    exact = torch.full((64,), value)
    rounded = round_stochastically(exact, generator(seed)).double()
    spacing = max(abs(value), 2.0**-126) * 2.0**-7
    assert float((rounded - exact.double()).abs().max()) < spacing
    assert len(rounded.unique()) <= 2


def test_the_mean_of_many_roundings_is_the_value_and_what_fits_stays() -> None:
    exact = torch.tensor([1 + 1e-4, -3.3, 0.02 + 5e-7]).repeat(200_000, 1)
    spacing = torch.tensor([2.0**-7, 2.0**-6, 2.0**-13])
    error = round_stochastically(exact, generator()).double().mean(0) - exact[0].double()
    assert bool((error.abs() < 5 * spacing / 2 / 200_000**0.5).all())  # five standard errors
    fitting = torch.randn(1000).bfloat16()
    assert torch.equal(round_stochastically(fitting.float(), generator()), fitting)


def bf16_parameter(value: float, n: int = 100_000) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.full((n,), value, dtype=torch.bfloat16))


def step(optimizer: Any, parameter: torch.nn.Parameter, gradient: float, n: int = 1) -> None:
    for _ in range(n):
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()


def test_at_the_papers_learning_rate_weights_move_as_they_should_and_not_at_all_without_it() -> None:
    """0.02 in bfloat16 has neighbours 1.2e-4 apart; ten updates of 5e-7 are far below half of that."""
    ours, plain, exact = bf16_parameter(0.02), bf16_parameter(0.02), torch.nn.Parameter(bf16_parameter(0.02).float())
    start = float(exact.detach()[0])
    step(StochasticAdamW([{"params": [ours]}], 5e-7, seed=0), ours, 0.01, 10)
    step(torch.optim.AdamW([plain], lr=5e-7, weight_decay=0.0), plain, 0.01, 10)
    step(torch.optim.AdamW([exact], lr=5e-7, weight_decay=0.0), exact, 0.01, 10)
    moved = float(exact.detach().double().mean()) - start
    assert moved == pytest.approx(-5e-6, rel=0.01)
    assert bool((plain == plain[0]).all()) and float(plain.detach()[0]) == start
    assert float(ours.detach().double().mean()) - start == pytest.approx(moved, rel=0.1)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_with_weights_in_float32_it_is_torchs_adamw_but_for_the_rounding_of_moments(weight_decay: float) -> None:
    start = torch.randn(1000, generator=generator())
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        StochasticAdamW([{"params": [ours], "weight_decay": weight_decay}], 1e-2, seed=0),
        torch.optim.AdamW([theirs], lr=1e-2, weight_decay=weight_decay),
    )
    for number in range(20):
        gradient = torch.randn(1000, generator=generator(number))
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
        if number == 0:
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    moved = (theirs - start).norm()
    assert float((ours - theirs).norm()) < 0.02 * float(moved)


def test_a_second_moment_falls_when_gradients_do() -> None:
    """Rounded to the nearest bfloat16, 0.999 of a number is the number."""
    parameter = bf16_parameter(1.0, 1000)
    optimizer = StochasticAdamW([{"params": [parameter]}], 1e-6, seed=0)
    step(optimizer, parameter, 1.0)
    before = float(optimizer.state[parameter]["exp_avg_sq"].double().mean())
    step(optimizer, parameter, 0.0, 200)
    after = float(optimizer.state[parameter]["exp_avg_sq"].double().mean())
    assert after == pytest.approx(before * 0.999**200, rel=0.02)


def test_random_numbers_follow_from_seed_and_process() -> None:
    def made(seed: int, rank: int = 0) -> torch.Tensor:
        parameter = bf16_parameter(0.02, 1000)
        step(StochasticAdamW([{"params": [parameter]}], 1e-5, seed, rank), parameter, 1.0, 2)
        return parameter.detach()

    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))
    assert not torch.equal(made(0), made(0, rank=1))


def test_weights_in_bfloat16_give_the_log_probabilities_of_the_same_weights_in_float32_to_the_bit(
    tmp_path: Path,
) -> None:
    folder = make_model(tmp_path / "model")
    rounded, exact = (load_policy(folder, "cpu", dtype).model for dtype in ("bfloat16", "float32"))
    exact.load_state_dict({name: one.float() for name, one in rounded.state_dict().items()})
    logps = [all_pair_logps(one, PAIRS, 0, 4096, lambda *_: None, "bfloat16") for one in (rounded, exact)]
    assert torch.equal(*logps)
    assert not torch.equal(logps[0], all_pair_logps(exact, PAIRS, 0, 4096, lambda *_: None))


def test_a_training_in_bfloat16_saves_bfloat16_near_the_one_in_float32(tmp_path: Path) -> None:
    exact = train_alone(tmp_path / "one", precision="bfloat16")
    job = train_alone(tmp_path / "two", **BF16)
    model = load_policy(job.folder / "model", "cpu", "bfloat16").model
    assert model.config.dtype == torch.bfloat16
    assert (job.folder / "model" / "model.safetensors").stat().st_size < 0.6 * (
        exact.folder / "model" / "model.safetensors"
    ).stat().st_size
    for rough, row in zip(curve(job), curve(exact), strict=True):
        assert rough["loss"] == pytest.approx(row["loss"], rel=0.02)


def killed_and_continued(folder: Path, n_steps: int, **settings: Any) -> list[bytes]:
    """The model file of a whole training, and of one that was killed after `n_steps` steps and continued."""
    whole = train_alone(folder / "whole", **settings)
    job = make_job(folder / "killed", **settings).model_copy(update={"checkpoint_interval_s": 0.0})

    def kill(done: int, *_: Any) -> None:
        if done == n_steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, load_policy(job.model, "cpu", job.config.weights), kill)
    torch.manual_seed(99)
    run_job(job, load_policy(job.model, "cpu", job.config.weights), lambda *_: None)
    assert len(curve(job)) == len(curve(whole))
    return [(one.folder / "model" / "model.safetensors").read_bytes() for one in (whole, job)]


def test_a_killed_training_in_bfloat16_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, continued = killed_and_continued(tmp_path, 2, **BF16)
    assert whole == continued


@pytest.mark.timeout(280)
def test_two_processes_in_bfloat16_keep_equal_weights_near_those_of_one(tmp_path: Path) -> None:
    one = train_alone(tmp_path / "one", **BF16)
    two = make_job(tmp_path / "two", {"processes": 2}, **BF16)
    launch(two, lambda *_: None)
    spacing = 2.0**-7 * 0.1  # of the largest weights
    assert largest_difference(one, two) < 2 * spacing
    assert [row["loss"] for row in curve(two)] == pytest.approx([row["loss"] for row in curve(one)], rel=0.01)


@needs_torchao
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_moments_of_eight_bits_train_alike_and_continue_to_the_same_bytes(tmp_path: Path) -> None:
    whole, continued = killed_and_continued(tmp_path, 2, **EIGHT_BITS)
    assert whole == continued


@pytest.mark.skipif(find_spec("torchao") is not None, reason="torchao is installed")
def test_without_torchao_the_install_command_is_named(make_policy: Callable[..., Policy]) -> None:
    settings = TrainSettings(batch_size=8, optimizer="adamw_8bit")
    with pytest.raises(MissingDependency, match=r"pip install 'aipo-lab\[low-bit\]'"):
        PairTrainer(make_policy(), PAIRS, torch.zeros(len(PAIRS), 2), get_objective("dpo"), settings, 0)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"weights": "bfloat16", "optimizer": "adamw_bf16"}, r"precision is float32; set precision: bfloat16"),
        ({"weights": "bfloat16", "precision": "bfloat16"}, "set optimizer: adamw_bf16 or adamw_8bit"),
        (BF16 | {"lora": {}}, "drop lora"),
        ({"weights": "float8"}, "'float32' or 'bfloat16'"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_setting_that_would(settings: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TrainSettings(**settings)


def test_keys_are_what_they_were_before_there_were_these_settings() -> None:
    values = build_recipe(profile_values("micro")).train.key_values()
    assert not {"weights", "optimizer"} & values.keys()
    changed = build_recipe(profile_values("micro"), [(f"train.{name}", value) for name, value in BF16.items()])
    assert changed.train.key_values().items() >= BF16.items()
