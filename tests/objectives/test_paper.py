"""The losses against values worked out by hand with plain `math`, and their behaviour at the edges.

Expected values follow the formulas of the paper's Table 6 and the conventions of the official code, written
here on their own: sigmoid as a quotient, sums in nats, lengths in tokens.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.objectives import get_definition, get_objective, objective_names

# chosen 12 tokens, rejected 9 tokens; every number is a sum of log-probabilities in nats
PAIR = {"lw": -14.0, "ll": -11.5, "rw": -15.0, "rl": -10.0, "nw": 12, "nl": 9}
OTHER_PAIR = {"lw": -3.0, "ll": -30.0, "rw": -8.0, "rl": -21.0, "nw": 2, "nl": 40}


def log_sigmoid(z: float) -> float:
    return math.log(1 / (1 + math.exp(-z)))


def tensors(*pairs: dict[str, float], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.tensor([pair[name] for pair in pairs], dtype=dtype) for name in ("lw", "ll", "rw", "rl", "nw", "nl")]


def loss(name: str, *pairs: dict[str, float], **hyperparameters: float) -> list[float]:
    return get_objective(name, **hyperparameters)(*tensors(*pairs)).tolist()


def test_dpo_is_the_formula() -> None:
    # s_theta = -14 + 11.5 = -2.5, s_ref = -15 + 10 = -5, so the margin is 0.5 * 2.5
    assert loss("dpo", PAIR, beta=0.5) == pytest.approx([-log_sigmoid(0.5 * (-2.5 - -5.0))], rel=1e-12)
    assert loss("dpo", PAIR, beta=0.5) == pytest.approx([0.2519291], rel=1e-6)  # ln(1 + exp(-1.25))
    # s_theta = 27, s_ref = 13
    assert loss("dpo", PAIR, OTHER_PAIR, beta=0.1)[1] == pytest.approx(-log_sigmoid(0.1 * 14), rel=1e-12)


def test_dpo_nll_adds_alpha_times_the_mean_nll_per_token() -> None:
    expected = -log_sigmoid(0.1 * 2.5) + 0.4 * 14.0 / 12
    assert loss("dpo_nll", PAIR, beta=0.1, alpha=0.4) == pytest.approx([expected], rel=1e-12)


def test_simpo_normalises_by_length_and_does_not_scale_gamma_by_beta() -> None:
    margin = 2.0 * (-14.0 / 12) - 2.0 * (-11.5 / 9) - 0.5
    assert loss("simpo", PAIR, beta=2.0, gamma=0.5) == pytest.approx([-log_sigmoid(margin)], rel=1e-12)
    scaled_gamma = 2.0 * (-14.0 / 12 + 11.5 / 9 - 0.5)
    assert abs(loss("simpo", PAIR, beta=2.0, gamma=0.5)[0] + log_sigmoid(scaled_gamma)) > 0.1


def test_alpha_dpo_weighs_the_reference_gap_by_one_plus_alpha() -> None:
    margin = 0.1 * -2.5 - (1 + 0.5) * 0.1 * -5.0
    assert loss("alpha_dpo", PAIR, beta=0.1, alpha=0.5) == pytest.approx([-log_sigmoid(margin)], rel=1e-12)


def test_aipo_has_the_agreement_term_inside_and_the_nll_term_outside() -> None:
    margin = 0.1 * -2.5 - (1 + 0.05) * 0.1 * -5.0
    expected = -log_sigmoid(margin) - 0.2 / 12 * -14.0
    assert loss("aipo", PAIR, beta=0.1, alpha=0.05, lambda_=0.2) == pytest.approx([expected], rel=1e-12)
    second = -log_sigmoid(0.1 * 27 - 1.05 * 0.1 * 13) - 0.2 / 2 * -3.0
    assert loss("aipo", PAIR, OTHER_PAIR, beta=0.1, alpha=0.05, lambda_=0.2)[1] == pytest.approx(second, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "margin", "nll"),
    [
        ("dpo", {"beta": 0.1}, 0.25, 0.0),
        ("dpo_nll", {"beta": 0.1, "alpha": 0.4}, 0.25, 0.4 * 14 / 12),
        ("simpo", {"beta": 2.0, "gamma": 0.5}, 2 * (11.5 / 9 - 14 / 12) - 0.5, 0.0),
        ("alpha_dpo", {"beta": 0.1, "alpha": 0.5}, 0.5, 0.0),
        ("aipo", {"beta": 0.1, "alpha": 0.5, "lambda_": 0.2}, 0.5, 0.2 * 14 / 12),
    ],
)
def test_label_smoothing_mixes_both_orders_and_leaves_the_nll_term_alone(
    name: str, hyperparameters: dict[str, float], margin: float, nll: float
) -> None:
    expected = -0.9 * log_sigmoid(margin) - 0.1 * log_sigmoid(-margin) + nll
    assert loss(name, PAIR, label_smoothing=0.1, **hyperparameters) == pytest.approx([expected], rel=1e-12)


def test_table_6_is_registered_in_its_order_with_its_hyperparameters() -> None:
    names = {name: set(get_definition(name).hyperparameters) - {"label_smoothing"} for name in objective_names()}
    assert list(names)[:5] == ["dpo", "dpo_nll", "simpo", "alpha_dpo", "aipo"]
    assert names["dpo"] == {"beta"}
    assert names["dpo_nll"] == names["alpha_dpo"] == {"beta", "alpha"}
    assert names["simpo"] == {"beta", "gamma"}
    assert names["aipo"] == {"beta", "alpha", "lambda_"}


logps = st.floats(-500, 0, width=32)
lengths = st.integers(1, 400)


@given(
    pair=st.tuples(logps, logps, logps, logps, lengths, lengths),
    beta=st.floats(0.01, 5),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_aipo_without_alpha_and_lambda_is_dpo_bit_for_bit(pair, beta, smoothing, dtype) -> None:
    arguments = [torch.tensor([value], dtype=dtype) for value in pair]
    dpo = get_objective("dpo", beta=beta, label_smoothing=smoothing)(*arguments)
    aipo = get_objective("aipo", beta=beta, alpha=0, lambda_=0, label_smoothing=smoothing)(*arguments)
    assert torch.equal(dpo, aipo)
    for name in ("alpha_dpo", "dpo_nll"):
        other = get_objective(name, beta=beta, alpha=0, label_smoothing=smoothing)(*arguments)
        assert torch.equal(dpo, other), name


@pytest.mark.parametrize("name", objective_names()[:5])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_equal_finite_differences(name: str, smoothing: float) -> None:
    objective = get_objective(name, label_smoothing=smoothing)
    arguments = tensors(PAIR, OTHER_PAIR)
    policy = [argument.requires_grad_() for argument in arguments[:2]]
    assert torch.autograd.gradcheck(lambda lw, ll: objective(lw, ll, *arguments[2:]), policy, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["dpo", "alpha_dpo"])
def test_gradient_weight_is_equation_8(name: str) -> None:
    alpha = {"alpha": 0.3} if name == "alpha_dpo" else {}
    arguments = tensors(PAIR)
    arguments[0].requires_grad_()
    get_objective(name, beta=0.1, **alpha)(*arguments).sum().backward()
    weight = 1 / (1 + math.exp(-0.1 * ((1 + alpha.get("alpha", 0.0)) * -5.0 - -2.5)))
    assert arguments[0].grad.item() == pytest.approx(-0.1 * weight, rel=1e-12)


@pytest.mark.parametrize("name", objective_names()[:5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_huge_margins_neither_overflow_nor_become_nan(name: str, dtype: torch.dtype, sign: int) -> None:
    pair = {"lw": -1e7, "ll": -1.0, "rw": -1.0, "rl": -1e7, "nw": 3, "nl": 4}
    if sign < 0:
        pair = {"lw": -1.0, "ll": -1e7, "rw": -1e7, "rl": -1.0, "nw": 3, "nl": 4}
    arguments = tensors(pair, dtype=dtype)
    policy = [argument.requires_grad_() for argument in arguments[:2]]
    losses = get_objective(name)(*arguments)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(argument.grad).all() for argument in policy)
    assert losses.item() > 1e5 if sign > 0 else losses.item() < 10


@pytest.mark.parametrize("name", objective_names()[:5])
def test_losses_have_the_shape_of_the_batch_and_no_row_touches_another(name: str) -> None:
    alone = [loss(name, pair)[0] for pair in (PAIR, OTHER_PAIR)]
    assert loss(name, PAIR, OTHER_PAIR) == alone
    assert get_objective(name)(*tensors(PAIR, OTHER_PAIR)).shape == (2,)


def test_only_simpo_ignores_the_reference() -> None:
    moved = PAIR | {"rw": -1.0}
    for name in objective_names()[:5]:
        free = get_objective(name).reference_free
        assert free == (name == "simpo")
        assert (loss(name, PAIR) == loss(name, moved)) == free


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown objective 'aippo'") as caught:
        get_objective("aippo")
    assert isinstance(caught.value, UserError)
    assert "did you mean 'aipo'" in str(caught.value)
    assert all(name in str(caught.value) for name in objective_names())


@pytest.mark.parametrize(
    ("name", "unknown"), [("dpo", "alpha"), ("dpo", "gamma"), ("simpo", "lambda_"), ("aipo", "betta")]
)
def test_an_unknown_hyperparameter_lists_the_valid_ones(name: str, unknown: str) -> None:
    with pytest.raises(ValueError, match=f"unknown hyperparameter '{unknown}' of {name}") as caught:
        get_objective(name, **{unknown: 0.1})
    listed = str(caught.value).split("valid: ")[1].split(", ")
    assert listed == list(get_definition(name).hyperparameters)


@pytest.mark.parametrize(
    ("name", "key", "value", "rule"),
    [
        ("dpo", "beta", 0, "> 0"),
        ("dpo", "beta", -0.1, "> 0"),
        ("dpo", "beta", math.nan, "finite"),
        ("dpo", "beta", math.inf, "finite"),
        ("dpo", "beta", "0.1", "finite number"),
        ("dpo", "beta", True, "finite number"),
        ("dpo", "label_smoothing", 0.6, "<= 0.5"),
        ("dpo", "label_smoothing", -0.1, ">= 0"),
        ("simpo", "gamma", -0.5, ">= 0"),
        ("alpha_dpo", "alpha", -0.01, ">= 0"),
        ("aipo", "lambda_", -1, ">= 0"),
        ("aipo", "lambda", -1, ">= 0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_rule(name: str, key: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        get_objective(name, **{key: value})
    assert rule in str(caught.value)
    assert key in str(caught.value)


def test_all_problems_of_one_call_come_together() -> None:
    with pytest.raises(ValueError, match="objective aipo") as caught:
        get_objective("aipo", beta=-1, gamma=1, label_smoothing=2)
    for part in ("beta = -1", "unknown hyperparameter 'gamma'", "label_smoothing = 2"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", objective_names()[:5])
def test_defaults_fill_in_what_is_left_out(name: str) -> None:
    definition = get_definition(name)
    defaults = {key: one.default for key, one in definition.hyperparameters.items()}
    assert get_objective(name).hyperparameters == defaults
    changed = get_objective(name, beta=0.7).hyperparameters
    assert changed == defaults | {"beta": 0.7}


def test_lambda_may_be_spelled_as_in_yaml() -> None:
    with_yaml_name = get_objective("aipo", **{"lambda": 0.5})
    assert with_yaml_name.hyperparameters == get_objective("aipo", lambda_=0.5).hyperparameters


def test_every_hyperparameter_says_what_it_means() -> None:
    for name in objective_names():
        for key, one in get_definition(name).hyperparameters.items():
            assert len(one.meaning) > 5, (name, key)
            assert one.problem(key, one.default) is None
