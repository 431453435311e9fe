"""Running out of memory, gradient checkpointing and lower precision: the same training by other means."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective
from aipo_lab.training import updates
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.memory import frozen_garbage
from aipo_lab.training.pairs import EncodedPair

PAIRS = [EncodedPair(str(i), [3 + i, 9, 10], [*[5 + i, 7, 11][: 1 + i % 3], 2], [20 + i, 30, 40, 2]) for i in range(16)]


def trained(make_policy: Callable[..., Policy], **changes: Any) -> tuple[PairTrainer, list[dict[str, float]]]:
    settings = TrainSettings(**({"learning_rate": 1e-3, "batch_size": 8, "micro_batch_tokens": 4096} | changes))
    trainer = PairTrainer(make_policy(), PAIRS, torch.zeros(len(PAIRS), 2), get_objective("dpo"), settings, 0)
    return trainer, trainer.run(lambda *_: None)


def largest_difference(one: PairTrainer, other: PairTrainer) -> float:
    pairs = zip(one.policy.model.parameters(), other.policy.model.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def limit_memory(monkeypatch: pytest.MonkeyPatch, most_tokens: int) -> None:
    """Let every forward pass over more than `most_tokens` fail as an allocator does."""
    original = updates.pair_logps

    def limited(model: Any, batch: Any, precision: str) -> torch.Tensor:
        if batch.input_ids.numel() > most_tokens:
            raise torch.OutOfMemoryError("pretend allocator: no more memory")
        return original(model, batch, precision)

    monkeypatch.setattr(updates, "pair_logps", limited)


def test_out_of_memory_halves_the_micro_batches_and_gives_the_same_weights(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, curve = trained(make_policy)
    limit_memory(monkeypatch, most_tokens=40)
    limited, limited_curve = trained(make_policy)
    assert limited.micro_batch_tokens <= 40
    assert largest_difference(whole, limited) < 1e-5
    assert [row["loss"] for row in limited_curve] == pytest.approx([row["loss"] for row in curve], abs=1e-5)


def test_out_of_memory_on_a_single_pair_says_what_to_do(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, most_tokens=3)
    with pytest.raises(StageFailed, match=r"11 tokens with pairs of up to 11; set train\.gradient_checkpointing=true"):
        trained(make_policy)


def test_any_other_error_is_not_taken_for_lack_of_memory(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(updates, "pair_logps", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trained(make_policy)


def test_gradient_checkpointing_changes_nothing_and_is_switched_off_again(make_policy: Callable[..., Policy]) -> None:
    plain, _ = trained(make_policy)
    saving, _ = trained(make_policy, gradient_checkpointing=True)
    assert largest_difference(plain, saving) < 1e-6
    assert not saving.policy.model.training
    assert not saving.policy.model.is_activation_checkpointing


def test_bfloat16_computes_near_float32_and_leaves_the_weights_in_float32(make_policy: Callable[..., Policy]) -> None:
    exact, curve = trained(make_policy)
    rough, rough_curve = trained(make_policy, precision="bfloat16")
    assert {weights.dtype for weights in rough.policy.model.parameters()} == {torch.float32}
    assert largest_difference(exact, rough) > 0
    assert rough_curve[0]["logps_chosen"] == pytest.approx(curve[0]["logps_chosen"], rel=0.02)


def test_what_exists_is_kept_from_the_collector_until_the_outermost_training_ends() -> None:
    assert gc.get_freeze_count() == 0
    with frozen_garbage():
        with frozen_garbage():
            made = [[] for _ in range(3)]
        assert gc.get_freeze_count() > 1000
        assert any(one is made for one in gc.get_objects())  # what is made inside is collected as ever
    assert gc.get_freeze_count() == 0


def test_training_and_reference_pass_run_with_frozen_garbage_and_leave_none(make_policy: Callable[..., Policy]) -> None:
    counts: list[int] = []
    trainer = PairTrainer(
        make_policy(), PAIRS, torch.zeros(len(PAIRS), 2), get_objective("dpo"), TrainSettings(batch_size=8), 0
    )
    trainer.run(lambda *_: counts.append(gc.get_freeze_count()))
    all_pair_logps(trainer.policy.model, PAIRS, 0, 4096, lambda *_: counts.append(gc.get_freeze_count()))
    assert len(counts) == len(trainer.batches) + 1
    assert min(counts) > 1000
    assert gc.get_freeze_count() == 0
