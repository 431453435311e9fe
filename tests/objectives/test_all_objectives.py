"""What holds for every registered objective, present and future; the win rates some need; recipes that use them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from preference_pairs import DTYPES, PAIRS, WIN_RATES, extras, sigmoid, tensors

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.objectives import get_definition, get_objective, mean_win_rates, objective_names
from aipo_lab.pipeline.recipe import ObjectiveConfig

NAMES = objective_names()
EXTREME_BY_TOKEN = {"tails": [-1e4, 0.0], "reference_tails": [0.0, -1e4], "policy_weights": [1e3, 1e-9]}

# what holds for every registered objective, with defaults


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_finite_differences(name: str) -> None:
    objective = get_objective(name)
    arguments = tensors(PAIRS)
    policy = [argument.requires_grad_() for argument in arguments[:2]]

    def loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return objective(chosen, rejected, *arguments[2:], **extras(3))

    assert torch.autograd.gradcheck(loss, policy, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [(1, 1), (3, 400)])
@pytest.mark.parametrize(("large", "small"), [(-1e4, -1e-3), (-1e4, 0.0)])
def test_extreme_margins_give_finite_losses_and_gradients(
    name: str, dtype: torch.dtype, lengths: tuple[int, int], large: float, small: float
) -> None:
    sides = [(large, small), (small, large), (large, large), (small, small)]
    pairs = [
        {"lw": lw, "ll": ll, "rw": rw, "rl": rl, "nw": lengths[0], "nl": lengths[1]}
        for lw, ll in sides
        for rw, rl in sides
    ]
    arguments = tensors(pairs, dtype)
    policy = [argument.requires_grad_() for argument in arguments[:2]]
    rates = {
        key: torch.full((len(pairs),), value, dtype=dtype) for key, value in zip(WIN_RATES, (1.0, 0.0), strict=True)
    }
    rates |= {key: torch.tensor([extreme] * len(pairs), dtype=dtype) for key, extreme in EXTREME_BY_TOKEN.items()}
    values = get_objective(name)(*arguments, **rates)
    values.sum().backward()
    assert values.isfinite().all()
    assert values.dtype == dtype
    assert all(argument.grad.isfinite().all() for argument in policy)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_down_the_gradient_widens_the_gap_of_a_wrongly_ordered_pair(name: str) -> None:
    arguments = tensors(PAIRS[2:])
    policy = [argument.requires_grad_() for argument in arguments[:2]]
    get_objective(name)(*arguments, **extras(1)).sum().backward()
    chosen, rejected = (argument.grad.item() for argument in policy)
    assert chosen < rejected
    if name != "apo_down":  # which lowers the chosen response too
        assert chosen < 0 <= rejected


@pytest.mark.parametrize("name", NAMES)
def test_losses_have_the_shape_of_the_batch_and_no_row_touches_another(name: str) -> None:
    objective = get_objective(name)
    together = objective(*tensors(PAIRS), **extras(3))
    rates = extras(3)
    assert together.shape == (3,)
    for i, pair in enumerate(PAIRS):
        row = {key: value[i : i + 1] for key, value in rates.items()}
        alone = torch.equal(objective(*tensors([pair]), **row), together[i : i + 1])
        assert alone or objective.definition.across_pairs


@pytest.mark.parametrize("name", NAMES)
def test_losses_follow_their_pairs_when_the_batch_is_reordered(name: str) -> None:
    objective, order = get_objective(name), [2, 0, 1]
    rates = extras(3)
    reordered = objective(*tensors([PAIRS[i] for i in order]), **{key: value[order] for key, value in rates.items()})
    assert torch.equal(reordered, objective(*tensors(PAIRS), **rates)[order])


@pytest.mark.parametrize("name", NAMES)
def test_the_definition_tells_which_inputs_count(name: str) -> None:
    objective, arguments = get_objective(name), tensors(PAIRS[:1])
    before = objective(*arguments, **extras(1)).item()
    moved_reference = tensors([PAIRS[0] | {"rw": -1.0, "rl": -2.5}])
    assert (objective(*moved_reference, **extras(1)).item() == before) == objective.reference_free
    needs = {
        ("chosen_win_rate", "rejected_win_rate"): objective.needs_win_rates,
        ("tails",): objective.definition.needs_tails,
        ("policy_weights",): objective.definition.needs_policy_weights,
    }
    for names, needed in needs.items():
        moved = {name: extras(1)[name] + torch.tensor([0.1, 0.3][: extras(1)[name].dim()]) for name in names}
        assert (objective(*arguments, **extras(1) | moved).mean().item() != before) == needed
    twice_as_long = [2 * argument for argument in arguments]
    same = objective(*twice_as_long, **extras(1)).item() == before
    assert same == objective.definition.length_normalised


def test_which_objectives_are_reference_free_normalised_or_need_win_rates() -> None:
    definitions = [get_definition(name) for name in NAMES]
    assert [one.name for one in definitions if one.reference_free] == ["simpo", "cpo", "orpo", "sft"]
    normalised = ["simpo", "sigmoid_norm", "ipo", "orpo", "sft"]
    assert [one.name for one in definitions if one.length_normalised] == normalised
    assert [one.name for one in definitions if one.needs_win_rates] == ["sppo"]
    assert [one.name for one in definitions if one.across_pairs] == ["aot", "aot_pair", "aot_unpaired"]
    assert [one.name for one in definitions if one.needs_tails] == ["ld_dpo"]
    assert [one.name for one in definitions if one.needs_policy_weights] == ["wpo"]


def test_the_papers_five_come_first() -> None:
    assert NAMES[:5] == ["dpo", "dpo_nll", "simpo", "alpha_dpo", "aipo"]
    assert set(NAMES) >= {"ipo", "hinge", "kto_pair", "sppo", "sppo_hard", "r_dpo", "rpo", "orpo", "cpo"}
    assert set(NAMES) >= {"apo_zero", "nca_pair", "robust"}


@pytest.mark.parametrize("name", NAMES)
def test_every_definition_is_documented(name: str) -> None:
    definition = get_definition(name)
    assert definition.loss.__doc__ and len(definition.loss.__doc__) > 40
    assert all(len(one.meaning) > 5 for one in definition.hyperparameters.values())


@pytest.mark.parametrize(("name", "missing"), [("ld_dpo", "tails and reference_tails"), ("wpo", "policy_weights")])
def test_objectives_by_token_say_what_is_missing(name: str, missing: str) -> None:
    with pytest.raises(UserError, match=missing):
        get_objective(name)(*tensors(PAIRS))


# win rates


@pytest.mark.parametrize("given_rates", [{}, {"chosen_win_rate": torch.ones(3)}, {"rejected_win_rate": torch.ones(3)}])
def test_sppo_without_win_rates_says_what_is_missing(given_rates: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UserError, match=r"win rates.*chosen_win_rate and rejected_win_rate.*sppo_hard"):
        get_objective("sppo")(*tensors(PAIRS), **given_rates)


def test_win_rates_are_means_of_pairwise_probabilities() -> None:
    p = sigmoid(1.5)
    assert mean_win_rates([2.0, 0.5]) == pytest.approx([(0.5 + p) / 2, (0.5 + 1 - p) / 2], rel=1e-12)
    assert mean_win_rates([3.0, 3.0, 3.0]) == [0.5, 0.5, 0.5]
    assert mean_win_rates([1e308, 0.0, -1e308]) == pytest.approx([2.5 / 3, 0.5, 0.5 / 3])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_win_rates_share_half_a_win_each_and_keep_the_order(scores: list[float]) -> None:
    rates = mean_win_rates(scores)
    assert sum(rates) == pytest.approx(len(scores) / 2)
    ranked = [rates[i] for i in sorted(range(len(scores)), key=scores.__getitem__)]
    assert all(worse <= better + 1e-12 for worse, better in pairwise(ranked))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_win_rates_of_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(StageFailed, match="finite scores"):
        mean_win_rates([0.1, bad])


# hyperparameters in recipes


@pytest.mark.parametrize(
    ("name", "key", "value", "rule"),
    [
        ("robust", "label_smoothing", 0.5, "must be >= 0 and < 0.5"),
        ("robust", "label_smoothing", 0.6, "< 0.5"),
        ("r_dpo", "alpha", -0.1, ">= 0"),
        ("sppo", "beta", 0.0, "> 0"),
        ("ipo", "label_smoothing", 0.1, "unknown hyperparameter 'label_smoothing' of ipo"),
        ("orpo", "lambda", 0.1, "unknown hyperparameter 'lambda' of orpo"),
    ],
)
def test_a_recipe_refuses_what_an_objective_does_not_take(name: str, key: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ObjectiveConfig.model_validate({"name": name, key: value})


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_may_schedule_every_hyperparameter_of_every_objective(name: str) -> None:
    definition = get_definition(name)
    defaults = {key: one.default for key, one in definition.hyperparameters.items()}
    schedules = {key.rstrip("_"): [value, value + 0.01] for key, value in defaults.items()}
    config = ObjectiveConfig.model_validate({"name": name, **schedules})
    assert config.at(0).hyperparameters == defaults
    assert config.at(1).hyperparameters == {key: value + 0.01 for key, value in defaults.items()}
