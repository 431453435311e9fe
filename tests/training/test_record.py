"""What a step's row says, worked out by hand from log-probabilities, a reference and lengths."""

from __future__ import annotations

import pytest
import torch

from aipo_lab.objectives import get_objective
from aipo_lab.training.record import MicroBatchOutcome, StepRecord

LOGPS = torch.tensor([[-14.0, -11.5], [-3.0, -30.0]])
REFERENCE = torch.tensor([[-15.0, -10.0], [-8.0, -21.0]])
LENGTHS = torch.tensor([[12.0, 9.0], [2.0, 40.0]])


def recorded(name: str, **hyperparameters: float) -> dict[str, float]:
    """The means over the two pairs, each in a micro-batch of its own."""
    objective = get_objective(name, **hyperparameters)
    record = StepRecord(2, objective)
    for one in (slice(0, 1), slice(1, 2)):
        logps = LOGPS[one].clone().requires_grad_()
        columns = [LOGPS, REFERENCE, LENGTHS]
        (_, _), (ref_w, ref_l), (n_w, n_l) = (column[one].unbind(1) for column in columns)
        losses = objective(logps[:, 0], logps[:, 1], ref_w, ref_l, n_w, n_l)
        (gradients,) = torch.autograd.grad(losses.sum(), logps, retain_graph=True)
        record.add(MicroBatchOutcome(losses, logps, REFERENCE[one], LENGTHS[one], gradients[:, 1]))
    return record.means


@pytest.mark.parametrize(
    ("name", "weight", "hyperparameters"),
    [("dpo_nll", 0.3, {"alpha": 0.3}), ("aipo", 0.2, {"alpha": 0.05, "lambda_": 0.2}), ("rpo", 2.0, {"alpha": 2.0})],
)
def test_the_parts_of_the_loss_add_up_and_the_nll_part_has_its_weight(
    name: str, weight: float, hyperparameters: dict[str, float]
) -> None:
    row = recorded(name, beta=0.1, **hyperparameters)
    nll = (14 / 12 + 3 / 2) / 2
    assert row["nll"] == pytest.approx(nll)
    assert row["loss_nll"] == pytest.approx(weight * nll)
    assert row["loss_preference"] + row["loss_nll"] == pytest.approx(row["loss"])


def test_rewards_are_log_ratios_times_beta() -> None:
    row = recorded("dpo", beta=0.5)
    assert row["reward_chosen"] == pytest.approx(0.5 * (1 + 5) / 2)
    assert row["reward_rejected"] == pytest.approx(0.5 * (-1.5 - 9) / 2)
    assert row["reward_margin"] == pytest.approx(0.5 * (2.5 + 14) / 2)


@pytest.mark.parametrize(
    ("name", "chosen", "rejected"),
    [
        ("simpo", (-14 / 12 - 3 / 2) / 2, (-11.5 / 9 - 30 / 40) / 2),  # no reference, per token
        ("ipo", (1 / 12 + 5 / 2) / 2, (-1.5 / 9 - 9 / 40) / 2),  # log ratios per token
    ],
)
def test_rewards_of_objectives_per_token_are_per_token(name: str, chosen: float, rejected: float) -> None:
    row = recorded(name, beta=2.0)
    assert row["reward_chosen"] == pytest.approx(2 * chosen)
    assert row["reward_rejected"] == pytest.approx(2 * rejected)
    assert row["reward_margin"] == pytest.approx(2 * (chosen - rejected))


@pytest.mark.parametrize("name", ["simpo", "ipo"])
def test_the_gradient_weight_of_objectives_per_token_is_by_reward(name: str) -> None:
    """d loss / d reward of the rejected response: its log-probability is divided by the length in the reward."""
    objective = get_objective(name, beta=2.0)
    parts = [column.unbind(1) for column in (LOGPS, REFERENCE, LENGTHS)]
    (w, rejected), (ref_w, ref_l), (n_w, n_l) = parts
    per_token = (rejected / n_l).requires_grad_()
    losses = objective(w, per_token * n_l, ref_w, ref_l, n_w, n_l)
    (gradient,) = torch.autograd.grad(losses.sum(), per_token)
    assert recorded(name, beta=2.0)["gradient_weight"] == pytest.approx(float((gradient / 2.0).mean()), rel=1e-5)
