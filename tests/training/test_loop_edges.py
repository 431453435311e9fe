"""What a step is made of: its micro-batches in lockstep, and what is measured of it, checked against other sources."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer, train_on_pairs
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.processes import SINGLE, Processes
from aipo_lab.training.updates import ReplicatedUpdater

MakePolicy = Callable[..., Policy]

RATES = ((0.9, 0.2), (0.7, 0.3), (0.6, 0.1), (0.8, 0.5))
PAIRS = [
    EncodedPair(f"pair-{i}", [7 + i, 9], list(range(10, 13 + i)), list(range(30, 32 + 2 * i)), rates)
    for i, rates in enumerate(RATES)
]


class RecordingUpdater(ReplicatedUpdater):
    """Takes down every micro-batch's share of the loss, and whether it was called the last one."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.calls: list[tuple[float, bool]] = []

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        self.calls.append((float(loss.detach()), last))
        super().backward(loss, last)


class LockstepUpdater(RecordingUpdater):
    lockstep = True


class BesideABusyProcess(Processes):
    """Alone, but beside a process that has more micro-batches."""

    def most(self, values: Sequence[float], device: str) -> list[float]:
        return [value + 3 for value in values]


def train(
    make_policy: MakePolicy,
    objective: str = "dpo",
    updater: type[RecordingUpdater] = RecordingUpdater,
    processes: Processes = SINGLE,
    **changes: Any,
) -> tuple[dict[str, float], torch.Tensor, RecordingUpdater, torch.Tensor]:
    """One step over all pairs: its row, the reference, the updater, and the weights after it."""
    policy, made = make_policy(), []

    def make_updater(*given: Any) -> RecordingUpdater:
        made.append(updater(*given))
        return made[0]

    reference = all_pair_logps(policy.model, PAIRS, policy.pad_token_id, 2000, lambda *_: None)
    values = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 1, "micro_batch_tokens": 2000, "warmup_ratio": 0.0}
    settings = TrainSettings(**(values | changes))
    trainer = PairTrainer(policy, PAIRS, reference, get_objective(objective), settings, 0, processes, make_updater)
    (row,) = trainer.run(lambda *_: None)
    return row, reference, made[0], torch.cat([one.detach().flatten() for one in policy.model.parameters()])


def test_a_row_counts_tokens_and_measures_the_gap_of_policy_and_reference(make_policy: MakePolicy) -> None:
    row, reference, _, _ = train(make_policy)
    assert row["tokens"] == sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in PAIRS)
    gap = float((reference[:, 0] - reference[:, 1]).mean())
    assert abs(gap) > 1
    assert row["s_theta"] == pytest.approx(gap, rel=1e-4)  # before any update the policy is the reference
    assert row["s_ref"] == pytest.approx(gap, rel=1e-4)
    lengths = [len(pair.chosen) for pair in PAIRS]
    nll = sum(-float(logp) / length for logp, length in zip(reference[:, 0], lengths, strict=True)) / len(PAIRS)
    assert row["nll"] == pytest.approx(nll, rel=1e-4)


def test_the_gradient_weight_is_the_pull_on_the_rejected_response(make_policy: MakePolicy) -> None:
    """Eq. 8 at s_theta = s_ref; the chosen response's gradient has the NLL term, too."""
    row, reference, _, _ = train(make_policy, "aipo")
    alpha = get_objective("aipo").hyperparameters["alpha"]
    beta = get_objective("aipo").hyperparameters["beta"]
    expected = torch.sigmoid(beta * alpha * (reference[:, 0] - reference[:, 1])).mean()
    assert row["gradient_weight"] == pytest.approx(float(expected), rel=1e-4)


def test_each_pairs_own_win_rates_reach_the_objective(make_policy: MakePolicy) -> None:
    row, _, _, _ = train(make_policy, "sppo")
    beta = get_objective("sppo").hyperparameters["beta"]
    by_hand = [((chosen - 0.5) ** 2 + (rejected - 0.5) ** 2) / (2 * beta**2) for chosen, rejected in RATES]
    assert row["loss"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-3)  # the log ratios are 0


def test_the_last_micro_batch_of_a_step_is_called_the_last(make_policy: MakePolicy) -> None:
    _, _, whole, _ = train(make_policy)
    assert [last for _, last in whole.calls] == [True]
    row, _, parts, _ = train(make_policy, micro_batch_tokens=1)
    assert [last for _, last in parts.calls] == [False, False, False, True]
    assert sum(loss for loss, _ in parts.calls) == pytest.approx(row["loss"], rel=1e-5)


def test_in_lockstep_what_others_have_more_is_computed_for_nothing(make_policy: MakePolicy) -> None:
    row, _, alone, weights = train(make_policy, micro_batch_tokens=1)
    same_row, _, updater, same_weights = train(
        make_policy, updater=LockstepUpdater, processes=BesideABusyProcess(), micro_batch_tokens=1
    )
    assert [last for _, last in updater.calls] == [False] * 6 + [True]
    assert updater.calls[:3] == alone.calls[:3]
    assert [loss for loss, _ in updater.calls[4:]] == [0, 0, 0]
    assert torch.equal(weights, same_weights)
    assert {name: same_row[name] for name in row if "gap" not in name} == {
        name: row[name] for name in row if "gap" not in name
    }
    _, _, free, _ = train(make_policy, processes=BesideABusyProcess(), micro_batch_tokens=1)
    assert len(free.calls) == 4  # without lockstep nobody waits


def test_of_many_losses_that_are_not_finite_five_are_named(make_policy: MakePolicy) -> None:
    policy = make_policy()
    pairs = [EncodedPair(f"p{i}", [7], [8, 9], [10, 11]) for i in range(7)]
    settings = TrainSettings(learning_rate=1e-3, batch_size=7, epochs=1, micro_batch_tokens=2000, warmup_ratio=0.0)
    with pytest.raises(StageFailed, match=r"for pairs (p\d, ){4}p\d; lower train\.learning_rate"):
        train_on_pairs(policy, pairs, torch.full((7, 2), math.nan), get_objective("dpo"), settings, 0, lambda *_: None)
