"""What an update does, told from AdamW's own arithmetic: weight decay, learning rates, clipping, loss scaling."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from aipo_lab.core.errors import StageFailed
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.processes import SINGLE
from aipo_lab.training.updates import LossScale, ReplicatedUpdater

N_STEPS = 10


class OneMatrix(torch.nn.Module):
    """A model of one 2 x 3 matrix and one frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2, bias=False)
        self.frozen = torch.nn.Linear(3, 2, bias=False)
        self.frozen.weight.requires_grad_(False)
        torch.nn.init.constant_(self.layer.weight, 2.0)

    @property
    def weight(self) -> Any:
        return self.layer.weight


def make_updater(**settings: Any) -> tuple[OneMatrix, ReplicatedUpdater]:
    model = OneMatrix()
    values = {"learning_rate": 0.1, "warmup_ratio": 0.2, **settings}
    return model, ReplicatedUpdater(model, TrainSettings(**values), N_STEPS, SINGLE)


def update(model: OneMatrix, updater: ReplicatedUpdater, gradient: float = 0.0, steps: int = 1) -> dict[str, float]:
    """`steps` updates, each with a gradient of the same number everywhere; returns what the last reported."""
    for step in range(steps):
        updater.reset()
        updater.backward((model.weight * gradient).sum(), last=True)
        reported = updater.update(step)
    assert reported is not None
    return reported


@pytest.mark.parametrize("weight_decay", [0.0, 0.1, 0.5])
def test_weight_decay_shrinks_weights_by_its_share_of_the_learning_rate(weight_decay: float) -> None:
    model, updater = make_updater(weight_decay=weight_decay)
    update(model, updater, steps=2)
    before = model.weight.detach().clone()
    lr = update(model, updater)["lr"]
    torch.testing.assert_close(model.weight.detach(), before * (1 - lr * weight_decay), rtol=1e-6, atol=0)


def test_an_update_moves_against_the_gradient_by_the_learning_rate() -> None:
    """AdamW divides a gradient that never changes by its own size."""
    model, updater = make_updater()
    update(model, updater, gradient=0.01, steps=2)
    before = model.weight.detach().clone()
    lr = update(model, updater, gradient=0.01)["lr"]
    torch.testing.assert_close(model.weight.detach(), before - lr, rtol=1e-4, atol=1e-6)


def test_frozen_weights_stay() -> None:
    model, updater = make_updater(weight_decay=0.5)
    before = model.frozen.weight.clone()
    update(model, updater, gradient=1.0, steps=3)
    assert torch.equal(model.frozen.weight, before)


def test_rates_climb_from_zero_over_the_warm_up_and_fall_as_a_cosine() -> None:
    model, updater = make_updater()
    rates = [update(model, updater)["lr"] for _ in range(N_STEPS)]
    falling = [0.05 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert rates == pytest.approx([0.0, 0.05, *falling])


@pytest.mark.parametrize(("ratio", "warm_up"), [(0.0, 0), (0.01, 1), (0.1, 1), (0.11, 2), (0.2, 2)])
def test_a_started_step_of_warm_up_is_a_whole_one(ratio: float, warm_up: int) -> None:
    model, updater = make_updater(warmup_ratio=ratio)
    rates = [update(model, updater)["lr"] for _ in range(4)]
    assert rates.index(max(rates)) == warm_up


def test_gradients_are_clipped_by_their_norm_and_reported_before_it() -> None:
    model, updater = make_updater(max_gradient_norm=0.5)
    assert update(model, updater, gradient=10.0)["gradient_norm"] == pytest.approx(10 * math.sqrt(6))
    assert float(model.weight.grad.norm()) == pytest.approx(0.5, rel=1e-4)
    assert update(model, updater, gradient=0.01)["gradient_norm"] == pytest.approx(0.01 * math.sqrt(6))
    assert float(model.weight.grad.norm()) == pytest.approx(0.01 * math.sqrt(6))


def test_gradients_of_micro_batches_add_up_until_they_are_reset() -> None:
    model, updater = make_updater(max_gradient_norm=1e6)
    updater.backward(model.weight.sum(), last=False)
    updater.backward(2 * model.weight.sum(), last=True)
    assert torch.equal(model.weight.grad, torch.full((2, 3), 3.0))
    updater.reset()
    assert model.weight.grad is None


@pytest.mark.parametrize("gradient", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_the_training_and_changes_nothing(gradient: float) -> None:
    model, updater = make_updater()
    update(model, updater, gradient=1.0, steps=2)
    before = model.weight.detach().clone()
    updater.reset()
    updater.backward((model.weight * gradient).sum(), last=True)
    with pytest.raises(StageFailed, match=r"at step 2 .* lower train\.learning_rate"):
        updater.update(2)
    assert torch.equal(model.weight.detach(), before)


def test_scaled_losses_make_the_same_update() -> None:
    (plain, one), (scaled, other) = make_updater(), make_updater(precision="float16")
    assert other.scale.value == 2.0**16
    for model, updater in ((plain, one), (scaled, other)):
        assert update(model, updater, gradient=0.03, steps=3)["gradient_norm"] == pytest.approx(0.03 * math.sqrt(6))
    torch.testing.assert_close(plain.weight, scaled.weight)


def test_an_overflow_halves_the_scale_and_changes_nothing_else() -> None:
    model, updater = make_updater(precision="float16")
    before = model.weight.detach().clone()
    updater.backward((model.weight * math.inf).sum(), last=True)
    assert updater.update(0) is None
    assert updater.scale.value == 2.0**15
    assert torch.equal(model.weight.detach(), before)
    assert update(model, updater, gradient=1.0)["lr"] == 0.0  # the schedule did not move


def test_the_scale_doubles_after_two_hundred_clean_steps_in_a_row() -> None:
    scale = LossScale("float16")
    for _ in range(LossScale.CLEAN_STEPS - 1):
        scale.clean()
    assert scale.halve() and scale.value == 2.0**15
    for _ in range(LossScale.CLEAN_STEPS - 1):
        scale.clean()
    assert scale.value == 2.0**15
    scale.clean()
    assert scale.value == 2.0**16


def test_a_scale_of_one_is_not_to_blame() -> None:
    assert not LossScale("float32").halve()
    scale = LossScale("float16")
    assert [scale.halve() for _ in range(17)] == [True] * 16 + [False]
    assert scale.value == 1.0


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_restored_updater_continues_as_the_saved_one(tmp_path: Path, precision: str) -> None:
    model, updater = make_updater(precision=precision, weight_decay=0.1)
    update(model, updater, gradient=0.5, steps=4)
    if precision == "float16":
        updater.scale.halve()
        updater.scale.clean()
    updater.save(tmp_path)
    numbers = torch.rand(3)
    other_model, other = make_updater(precision=precision, weight_decay=0.1)
    other.load(tmp_path)
    assert torch.equal(torch.rand(3), numbers)
    assert (other.scale.value, other.scale.clean_steps) == (updater.scale.value, updater.scale.clean_steps)
    for _ in range(3):
        assert update(model, updater, gradient=-0.2) == update(other_model, other, gradient=-0.2)
        assert torch.equal(model.weight, other_model.weight)
