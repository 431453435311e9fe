"""Objectives across pairs: the gradient is that of the whole optimiser step, however the step is divided."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_jobs import assert_same_training, make_job, train_alone

from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.config import ObjectiveSettings, TrainSettings
from aipo_lab.training.launch import launch
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import train_on_pairs
from aipo_lab.training.pairs import EncodedPair

AOT = ObjectiveSettings(name="aot_unpaired", hyperparameters={"beta": 0.3, "label_smoothing": 0.1})


def make_pairs(n: int) -> list[EncodedPair]:
    draw = random.Random(5)

    def tokens(longest: int) -> list[int]:
        return [draw.randint(6, 59) for _ in range(draw.randint(1, longest))]

    return [EncodedPair(str(i), tokens(8), tokens(20), tokens(20)) for i in range(n)]


PAIRS = make_pairs(12)


def trained(policy: Policy, across: bool, micro_batch_tokens: int) -> torch.Tensor:
    objective = AOT.build()
    objective = replace(objective, definition=replace(objective.definition, across_pairs=across))
    reference = all_pair_logps(policy.model, PAIRS, policy.pad_token_id, 2000, lambda *_: None)
    settings = TrainSettings(learning_rate=1e-4, batch_size=6, epochs=2, micro_batch_tokens=micro_batch_tokens)
    train_on_pairs(policy, PAIRS, reference, objective, settings, 0, lambda *_: None)
    return torch.cat([one.detach().flatten() for one in policy.model.parameters()])


def test_small_micro_batches_give_the_gradient_of_one_that_holds_the_whole_step(
    make_policy: Callable[..., Policy],
) -> None:
    at_once = trained(make_policy(), across=False, micro_batch_tokens=100_000)
    assert torch.allclose(trained(make_policy(), across=True, micro_batch_tokens=60), at_once, rtol=0, atol=1e-5)
    apart = trained(make_policy(), across=False, micro_batch_tokens=60)
    assert not torch.allclose(apart, at_once, rtol=0, atol=1e-5)


@pytest.mark.timeout(280)
def test_two_processes_sort_over_both(tmp_path: Path) -> None:
    one = train_alone(tmp_path / "one", objective=AOT)
    two = make_job(tmp_path / "two", {"processes": 2}, objective=AOT)
    launch(two, lambda *_: None)
    assert_same_training(one, two)


def test_one_pair_alone_is_dpo() -> None:
    logps = [torch.tensor([value]) for value in (-3.0, -5.0, -4.0, -4.5)]
    lengths = [torch.ones(1), torch.ones(1)]
    assert torch.equal(get_objective("aot")(*logps, *lengths), get_objective("dpo")(*logps, *lengths))
