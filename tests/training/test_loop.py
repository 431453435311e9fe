"""The optimisation loop: it learns preferences, repeats bit for bit, and fails loudly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective, objective_names
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import train_on_pairs
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.token_sums import TokenSums

MakePolicy = Callable[..., Policy]


def make_pairs(n: int = 24) -> list[EncodedPair]:
    generator = torch.Generator().manual_seed(11)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(6, 60, (length,), generator=generator).tolist()

    return [EncodedPair(f"{i:06d}", tokens(2, 9), tokens(1, 20), tokens(1, 20), (0.7, 0.3)) for i in range(n)]


PAIRS = make_pairs()


def settings(**changes: Any) -> TrainSettings:
    values = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 1, "micro_batch_tokens": 200}
    return TrainSettings(**(values | changes))


def reference_of(policy: Policy, pairs: list[EncodedPair], sums: TokenSums = TokenSums.PLAIN) -> torch.Tensor:
    return all_pair_logps(policy.model, pairs, policy.pad_token_id, 2000, lambda *_: None, sums=sums)


def train(
    make_policy: MakePolicy, objective: str = "dpo", seed: int = 0, pairs: list[EncodedPair] = PAIRS, **changes: Any
) -> tuple[Policy, list[dict[str, float]]]:
    policy = make_policy()
    built = get_objective(objective)
    sums = TokenSums.TAILS if built.definition.needs_tails else TokenSums.PLAIN
    reference = None if built.reference_free else reference_of(policy, pairs, sums)
    return policy, train_on_pairs(policy, pairs, reference, built, settings(**changes), seed, lambda *_: None)


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in policy.model.parameters()])


def test_dpo_raises_reward_accuracy_and_lowers_the_loss(make_policy: MakePolicy) -> None:
    _, curve = train(make_policy, epochs=12)
    first, last = curve[:3], curve[-3:]
    assert first[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)  # policy and reference are the same
    assert first[0]["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert sum(row["reward_accuracy"] for row in last) / 3 > 0.95
    assert sum(row["loss"] for row in last) / 3 < 0.55
    assert last[-1]["reward_margin"] > first[0]["reward_margin"] + 0.3


@pytest.mark.parametrize("objective", objective_names())
def test_every_objective_lowers_its_own_loss(make_policy: MakePolicy, objective: str) -> None:
    _, curve = train(make_policy, objective, epochs=6)
    epochs = [sum(row["loss"] for row in curve[start : start + 3]) / 3 for start in (0, 15)]
    # random pairs are hardly the policy's own, so that wpo gives them next to no weight
    assert epochs[1] < epochs[0] - (0.001 if objective == "wpo" else 0.02)


def test_the_nll_objectives_keep_the_chosen_response_likely(make_policy: MakePolicy) -> None:
    nll = {name: train(make_policy, name, epochs=6)[1][-1]["nll"] for name in ("dpo", "aipo", "dpo_nll")}
    assert nll["aipo"] < nll["dpo"]
    assert nll["dpo_nll"] < nll["dpo"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(make_policy: MakePolicy) -> None:
    (one, curve), (other, same_curve) = (train(make_policy, "aipo", seed=4, epochs=2) for _ in range(2))
    assert torch.equal(weights(one), weights(other))
    assert curve == same_curve


def test_another_seed_another_order_other_weights(make_policy: MakePolicy) -> None:
    assert not torch.equal(weights(train(make_policy, seed=1)[0]), weights(train(make_policy, seed=2)[0]))


@pytest.mark.parametrize("objective", ["dpo", "simpo", "aipo", "aot", "aot_unpaired"])
def test_accumulation_does_not_depend_on_the_micro_batches(make_policy: MakePolicy, objective: str) -> None:
    # a learning rate at which rounding of tiny gradients cannot become a whole AdamW step of any weight
    changes = {"learning_rate": 1e-4, "epochs": 2}
    whole, whole_curve = train(make_policy, objective, micro_batch_tokens=100_000, **changes)
    for tokens in (1, 90):
        parts, curve = train(make_policy, objective, micro_batch_tokens=tokens, **changes)
        assert torch.allclose(weights(whole), weights(parts), rtol=0, atol=1e-5)
        for one, other in zip(whole_curve, curve, strict=True):
            # until the first update, made at step 2, accuracy is the sign of nothing but rounding
            names = one.keys() - ({"reward_accuracy"} if one["step"] <= 2 else set())
            assert {name: one[name] for name in names} == pytest.approx(
                {name: other[name] for name in names}, rel=2e-3, abs=2e-4
            )


def test_the_curve_has_one_row_per_step_with_what_was_measured(make_policy: MakePolicy) -> None:
    reached: list[tuple[int, int, str]] = []
    policy = make_policy()
    reference = reference_of(policy, PAIRS)
    curve = train_on_pairs(
        policy, PAIRS, reference, get_objective("dpo"), settings(epochs=2), 0, lambda *at: reached.append(at)
    )
    assert [row["step"] for row in curve] == [1, 2, 3, 4, 5, 6]
    assert reached == [(step, 6, "steps") for step in range(1, 7)]
    assert all(math.isfinite(value) for row in curve for value in row.values())
    assert curve[0]["lr"] == 0 < curve[1]["lr"] == pytest.approx(3e-3)  # ceil(0.1 * 6) = 1 step of warm-up
    assert all(one["lr"] > other["lr"] > 0 for one, other in itertools.pairwise(curve[1:]))
    epoch = curve[:3]
    for name, lengths in (
        ("length_chosen_tokens", [len(pair.chosen) for pair in PAIRS]),
        ("length_rejected_tokens", [len(pair.rejected) for pair in PAIRS]),
    ):
        assert sum(row[name] for row in epoch) / 3 == pytest.approx(sum(lengths) / len(lengths), rel=1e-6)
    gaps = reference[:, 0] - reference[:, 1]
    assert sum(row["s_ref"] for row in epoch) / 3 == pytest.approx(float(gaps.mean()), rel=1e-4)
    assert curve[0]["gradient_weight"] == pytest.approx(0.5, abs=1e-4)  # Eq. 8 at s_theta = s_ref, alpha = 0


def test_a_reference_free_objective_needs_and_reports_no_reference(make_policy: MakePolicy) -> None:
    _, curve = train(make_policy, "simpo")
    assert "s_ref" not in curve[0]
    assert 0 < curve[0]["gradient_weight"] < 1


def test_a_last_batch_that_is_smaller_counts_its_pairs_in_full(make_policy: MakePolicy) -> None:
    _, curve = train(make_policy, pairs=PAIRS[:9], warmup_ratio=0.0)
    assert len(curve) == 2
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_gradients_are_clipped_to_the_norm(make_policy: MakePolicy) -> None:
    free, curve = train(make_policy, warmup_ratio=0.0, weight_decay=0.0, max_gradient_norm=1e9)
    assert curve[0]["gradient_norm"] > 1e-3
    clipped, clipped_curve = train(make_policy, warmup_ratio=0.0, weight_decay=0.0, max_gradient_norm=1e-12)
    assert clipped_curve[0]["gradient_norm"] == curve[0]["gradient_norm"]  # measured before clipping
    start = weights(make_policy())
    assert (weights(clipped) - start).abs().max() < 0.1 * (weights(free) - start).abs().max()


def test_a_learning_rate_beyond_reason_fails_with_the_reason(make_policy: MakePolicy) -> None:
    with pytest.raises(StageFailed, match=r"not finite.*lower train\.learning_rate|gradient norm.*learning_rate"):
        train(make_policy, learning_rate=1e30, epochs=3)


def test_weights_that_are_not_finite_after_the_last_update_fail_too(make_policy: MakePolicy) -> None:
    with pytest.raises(StageFailed, match=r"lower train\.learning_rate"):
        train(make_policy, pairs=PAIRS[:8], warmup_ratio=0.0, learning_rate=1e39)


def test_a_reference_that_is_not_finite_names_its_pairs(make_policy: MakePolicy) -> None:
    policy = make_policy()
    reference = reference_of(policy, PAIRS)
    reference[7, 0] = float("nan")
    with pytest.raises(StageFailed, match="the dpo loss is not finite for pairs 000007"):
        train_on_pairs(policy, PAIRS, reference, get_objective("dpo"), settings(), 0, lambda *_: None)


def test_training_that_is_all_warm_up_is_refused(make_policy: MakePolicy) -> None:
    before = weights(make_policy())
    with pytest.raises(StageFailed, match="1 optimiser steps of 24 pairs are all warm-up"):
        train(make_policy, batch_size=24)
    with pytest.raises(StageFailed, match=r"lower train\.batch_size or train\.warmup_ratio"):
        train(make_policy, batch_size=12, warmup_ratio=0.6)
    policy, _ = train(make_policy, batch_size=24, warmup_ratio=0.0)
    assert not torch.equal(weights(policy), before)


def test_an_objective_on_win_rates_says_which_pair_has_none(make_policy: MakePolicy) -> None:
    bare = [EncodedPair(pair.id, pair.prompt, pair.chosen, pair.rejected) for pair in PAIRS]
    with pytest.raises(StageFailed, match=r"sppo needs chosen_win_rate .* pair 0000\d\d has none"):
        train(make_policy, "sppo", pairs=bare)
