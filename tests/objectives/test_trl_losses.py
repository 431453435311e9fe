"""Objectives that users of TRL know, against TRL 1.16's own loss code on the same tensors, batch by batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl_loss import trl_loss

from aipo_lab.core.errors import UserError
from aipo_lab.objectives import Objective, get_objective, weighted_sum

pytest.importorskip("trl", reason="TRL is not installed (pip install 'aipo-lab[perf]')")

Tokens = list[float]
Pair = tuple[Tokens, Tokens, Tokens, Tokens]


def _response(n_tokens: int) -> st.SearchStrategy[Tokens]:
    return st.lists(st.floats(-6, -1e-3), min_size=n_tokens, max_size=n_tokens)


def _pair(lengths: tuple[int, int]) -> st.SearchStrategy[Pair]:
    chosen, rejected = lengths
    return st.tuples(_response(chosen), _response(rejected), _response(chosen), _response(rejected))


PAIRS = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(_pair)
BATCHES = st.lists(PAIRS, min_size=1, max_size=4)


def our_loss(objective: Objective, batch: list[Pair], **by_token: torch.Tensor) -> float:
    sums = [torch.tensor([sum(pair[i]) for pair in batch], dtype=torch.float64) for i in range(4)]
    lengths = [torch.tensor([len(pair[i]) for pair in batch], dtype=torch.float64) for i in range(2)]
    return float(objective(*sums, *lengths, **by_token).mean())


CASES: list[tuple[str, dict[str, float], dict[str, Any]]] = [
    ("exo_pair", {}, {"loss_type": ["exo_pair"], "label_smoothing": 0.001}),
    ("exo_pair", {"beta": 0.7, "label_smoothing": 0.2}, {"loss_type": ["exo_pair"], "label_smoothing": 0.2}),
    ("bco_pair", {"beta": 0.3}, {"loss_type": ["bco_pair"]}),
    ("apo_down", {"beta": 0.3}, {"loss_type": ["apo_down"]}),
    ("apo_zero", {"beta": 0.3}, {"loss_type": ["apo_zero"]}),
    ("discopop", {"beta": 0.1}, {"loss_type": ["discopop"]}),
    ("discopop", {"beta": 0.2, "gamma": 0.5}, {"loss_type": ["discopop"], "discopop_tau": 0.5}),
    ("sigmoid_norm", {"beta": 2.0}, {"loss_type": ["sigmoid_norm"]}),
    ("aot", {"beta": 0.3}, {"loss_type": ["aot"]}),
    ("aot_pair", {"beta": 0.3, "label_smoothing": 0.1}, {"loss_type": ["aot"], "label_smoothing": 0.1}),
    ("aot_unpaired", {"beta": 0.3, "label_smoothing": 0.1}, {"loss_type": ["aot_unpaired"], "label_smoothing": 0.1}),
]


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
@given(batch=BATCHES)
@settings(max_examples=25, deadline=None)
def test_every_batch_has_trls_loss(
    name: str, ours: dict[str, float], theirs: dict[str, Any], batch: list[Pair]
) -> None:
    objective = get_objective(name, **ours)
    expected = trl_loss(*zip(*batch, strict=True), beta=objective.hyperparameters["beta"], **theirs)
    assert our_loss(objective, batch) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@given(batch=BATCHES)
@settings(max_examples=25, deadline=None)
def test_ld_dpo_has_trls_loss(alpha: float, batch: list[Pair]) -> None:
    expected = trl_loss(*zip(*batch, strict=True), loss_type=["sigmoid"], ld_alpha=alpha)
    past = [[sum(one[min(len(pair[0]), len(pair[1])) :]) for one in pair] for pair in batch]
    tails = torch.tensor(past, dtype=torch.float64)
    made = our_loss(get_objective("ld_dpo", alpha=alpha), batch, tails=tails[:, :2], reference_tails=tails[:, 2:])
    assert made == pytest.approx(expected, rel=1e-9)


@given(batch=BATCHES, square=st.floats(-5, -0.1))
@settings(max_examples=25, deadline=None)
def test_wpo_has_trls_loss(batch: list[Pair], square: float) -> None:
    squares = [[square + 0.1 * i for i in range(len(pair[role]))] for role in (0, 1) for pair in batch]
    expected = trl_loss(*zip(*batch, strict=True), loss_type=["sigmoid"], log_squares=squares)
    weights = [
        math.exp(sum(a - b for a, b in zip(one, of_one, strict=True)) / len(one))
        for one, of_one in zip([pair[role] for role in (0, 1) for pair in batch], squares, strict=True)
    ]
    made = our_loss(
        get_objective("wpo"), batch, policy_weights=torch.tensor(weights, dtype=torch.float64).view(2, -1).T
    )
    assert made == pytest.approx(expected, rel=1e-9)


@given(batch=st.lists(PAIRS, min_size=1, max_size=1))
@settings(max_examples=25, deadline=None)
def test_sft_is_trls_for_one_pair(batch: list[Pair]) -> None:
    expected = trl_loss(*zip(*batch, strict=True), loss_type=["sft"])
    assert our_loss(get_objective("sft"), batch) == pytest.approx(expected, rel=1e-9)


@given(batch=st.lists(_pair((3, 5)), min_size=1, max_size=4))  # chosen responses of one length: TRL's mean is ours
@settings(max_examples=25, deadline=None)
def test_a_weighted_sum_is_trls_list_of_losses(batch: list[Pair]) -> None:
    theirs = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]}
    expected = pytest.approx(trl_loss(*zip(*batch, strict=True), **theirs), rel=1e-9)
    terms = [(0.8, get_objective("dpo")), (0.2, get_objective("bco_pair")), (1.0, get_objective("sft"))]
    assert our_loss(weighted_sum(terms), batch) == expected
    assert our_loss(get_objective("weighted_sum"), batch) == expected


def test_a_weighted_sum_needs_what_its_terms_need() -> None:
    mixed = weighted_sum([(2.0, get_objective("sppo")), (1.0, get_objective("aot")), (0.5, get_objective("aipo"))])
    assert mixed.needs_win_rates and mixed.definition.across_pairs and not mixed.reference_free
    assert mixed.nll_weight == pytest.approx(0.5 * 0.2)
    free = weighted_sum([(1.0, get_objective("simpo")), (1.0, get_objective("orpo"))])
    assert free.reference_free and free.definition.length_normalised
    without = weighted_sum([(1.0, get_objective("dpo"))])
    assert without.nll_weight is None, "there is no such term, which is not one of weight 0"
    with pytest.raises(UserError, match="at least one term"):
        weighted_sum([])
