"""The objectives beside the paper's five, against plain `math` and TRL, and how they relate to each other.

The TRL values below were made once with TRL 1.16.0 and torch 2.13.0 in float64, by calling TRL's own loss code
on one pair at a time: `DPOTrainer._compute_loss` with a model that returns the pair's log-probabilities spread
evenly over its tokens (reference precomputed), `CPOTrainer.cpo_loss` on sums, and `ORPOTrainer.odds_ratio_loss`
(which computes in float32) on means per token. The pairs are those of `PAIRS`.
"""

from __future__ import annotations

import math

import pytest
import torch
from preference_pairs import DTYPES, PAIRS, log_sigmoid, losses, sigmoid, swapped, tensors

from aipo_lab.objectives import get_definition, get_objective, objective_names

# against TRL


@pytest.mark.parametrize(
    ("name", "hyperparameters", "trl"),
    [
        ("dpo", {"beta": 0.1}, [0.5759394198788437, 0.2204174099184509, 0.9130152523999526]),
        ("hinge", {"beta": 0.1}, [0.75, 0.0, 1.4]),
        ("ipo", {"beta": 0.1}, [22.5625, 5.175624999999999, 32.32734693877551]),
        ("nca_pair", {"beta": 0.1}, [1.3270735140051224, 1.1316924136362039, 1.4962777387631836]),
        (
            "robust",
            {"beta": 0.1, "label_smoothing": 0.1},
            [0.5446894198788437, 0.04541740991845091, 0.9630152523999527],
        ),
        ("sppo_hard", {"beta": 0.1}, [28.25, 16.0, 98.0]),
        ("sppo_hard", {"beta": 0.001}, [497503.25, 486106.0, 504008.0]),
        ("apo_zero", {"beta": 0.1}, [0.9375909671773106, 0.6665911661731414, 1.099667994624956]),
        # loss types sigmoid and sft with weights 1 and 0.7; with one pair TRL's mean over tokens is ours
        ("rpo", {"beta": 0.1, "alpha": 0.7}, [1.3926060865455103, 1.2704174099184506, 3.7130152523999524]),
        ("cpo", {"beta": 0.1, "alpha": 0.0}, [0.8259394198788436, 0.06504356177659054, 1.3132616875182228]),
        (
            "cpo",
            {"beta": 0.1, "alpha": 0.0, "label_smoothing": 0.2},
            [0.7759394198788436, 0.6050435617765907, 1.1132616875182229],
        ),
    ],
)
def test_values_equal_those_of_trl(name: str, hyperparameters: dict[str, float], trl: list[float]) -> None:
    assert losses(name, **hyperparameters) == pytest.approx(trl, rel=1e-12)


def test_kto_pair_equals_trl_with_batches_of_one_pair() -> None:
    # TRL 0.9.3: the mean of what `DPOTrainer.dpo_loss` gives for each pair alone
    trl = [0.373189392006474, 0.09859977774981471, 0.7070905448624065]
    assert losses("kto_pair", beta=0.3) == pytest.approx(trl, rel=1e-12)


def test_orpo_adds_the_nll_to_trls_odds_ratio_term() -> None:
    nll, trl_term = [14 / 12, 3 / 2, 20 / 5], [-0.1852385252714157, -0.42453745007514954, -0.8653290271759033]
    expected = [one - term for one, term in zip(nll, trl_term, strict=True)]
    assert losses("orpo", beta=0.3) == pytest.approx(expected, rel=1e-6)


# against the formulas, worked out with plain math


def test_hinge_is_zero_past_the_margin_and_linear_before_it() -> None:
    # s_theta - s_ref is 2.5, 14 and -4
    assert losses("hinge", beta=0.2) == pytest.approx([1 - 0.5, 0.0, 1 + 0.8], rel=1e-12)


def test_ipo_fits_the_gap_per_token() -> None:
    expected = [
        (r_w - r_l - 1 / (2 * 0.5)) ** 2 for r_w, r_l in [(1 / 12, -1.5 / 9), (5 / 2, -9 / 40), (-2 / 5, 2 / 7)]
    ]
    assert losses("ipo", beta=0.5) == pytest.approx(expected, rel=1e-12)


def test_r_dpo_adds_the_length_difference_to_the_margin() -> None:
    expected = [-log_sigmoid(0.1 * gap + 0.05 * tokens) for gap, tokens in [(2.5, 3), (14, -38), (-4, -2)]]
    assert losses("r_dpo", beta=0.1, alpha=0.05) == pytest.approx(expected, rel=1e-12)


def test_r_dpo_pushes_less_where_the_chosen_response_is_longer() -> None:
    def weight(length_chosen: int) -> float:
        arguments = tensors([PAIRS[0] | {"nw": length_chosen}])
        arguments[0].requires_grad_()
        get_objective("r_dpo", alpha=0.05)(*arguments).sum().backward()
        return -arguments[0].grad.item()

    assert weight(20) < weight(9) < weight(3)


def test_robust_weighs_the_flipped_label_negatively() -> None:
    expected = [(-0.8 * log_sigmoid(m) + 0.2 * log_sigmoid(-m)) / 0.6 for m in (0.25, 1.4, -0.4)]
    assert losses("robust", beta=0.1, label_smoothing=0.2) == pytest.approx(expected, rel=1e-12)


def test_kto_pair_measures_each_response_against_the_others_divergence() -> None:
    # per pair: chosen less max(0, rejected), max(0, chosen) less rejected
    gaps = [(1 - 0, 1 + 1.5), (5 - 0, 5 + 9), (-2 - 2, 0 - 2)]
    expected = [(1 - sigmoid(0.3 * a) + 1 - sigmoid(0.3 * b)) / 2 for a, b in gaps]
    assert losses("kto_pair", beta=0.3) == pytest.approx(expected, rel=1e-12)


def test_apo_zero_and_nca_pair_take_each_log_ratio_alone() -> None:
    ratios = [(1, -1.5), (5, -9), (-2, 2)]
    apo = [1 - sigmoid(0.3 * r_w) + sigmoid(0.3 * r_l) for r_w, r_l in ratios]
    assert losses("apo_zero", beta=0.3) == pytest.approx(apo, rel=1e-12)
    nca = [-log_sigmoid(0.3 * r_w) - log_sigmoid(-0.3 * r_w) / 2 - log_sigmoid(-0.3 * r_l) / 2 for r_w, r_l in ratios]
    assert losses("nca_pair", beta=0.3) == pytest.approx(nca, rel=1e-12)


def test_sppo_fits_the_log_ratios_to_the_win_rates() -> None:
    # targets (P - 1/2)/beta with beta = 0.1: (3, -2), (4, -4.5), (0.5, 0)
    expected = [((1 - 3) ** 2 + (-1.5 + 2) ** 2) / 2, ((5 - 4) ** 2 + (-9 + 4.5) ** 2) / 2, (2.5**2 + 2**2) / 2]
    assert losses("sppo", beta=0.1) == pytest.approx(expected, rel=1e-12)
    assert expected[0] == 2.125


def test_sppo_hard_is_twice_sppo_with_certain_win_rates() -> None:
    certain = {"chosen_win_rate": torch.ones(3).double(), "rejected_win_rate": torch.zeros(3).double()}
    soft = get_objective("sppo", beta=0.01)(*tensors(PAIRS), **certain).tolist()
    assert losses("sppo_hard", beta=0.01) == pytest.approx([2 * value for value in soft], rel=1e-12)


def test_cpo_is_logistic_in_s_theta_plus_the_nll() -> None:
    expected = [-log_sigmoid(0.1 * s) + 0.5 * nll for s, nll in [(-2.5, 14 / 12), (27, 3 / 2), (-10, 20 / 5)]]
    assert losses("cpo", beta=0.1, alpha=0.5) == pytest.approx(expected, rel=1e-12)


def test_orpo_is_the_nll_plus_the_log_odds_ratio() -> None:
    def odds(mean: float) -> float:
        return math.exp(mean) / (1 - math.exp(mean))

    means = [(-14 / 12, -11.5 / 9), (-3 / 2, -30 / 40), (-20 / 5, -10 / 7)]
    expected = [-w - 0.3 * log_sigmoid(math.log(odds(w) / odds(l))) for w, l in means]  # noqa: E741
    assert losses("orpo", beta=0.3) == pytest.approx(expected, rel=1e-12)


def test_orpo_is_exact_where_a_response_is_nearly_certain() -> None:
    certain, likely = {"lw": -1e-9 * 12, "nw": 12}, {"ll": -9.0, "nl": 9}
    # log odds: of exp(-1e-9), -1e-9 - ln(1e-9) = 20.723; of exp(-1), -1 - ln(1 - 1/e) = -0.541
    gap = (-1e-9 - math.log(1e-9)) - (-1 - math.log(-math.expm1(-1)))
    assert losses("orpo", [PAIRS[0] | certain | likely], beta=0.3) == pytest.approx(
        [1e-9 + 0.3 * math.log1p(math.exp(-gap))], rel=1e-6
    )
    reverse = {"lw": -12.0, "ll": -1e-9 * 9}
    assert losses("orpo", [PAIRS[0] | reverse], beta=0.3) == pytest.approx([1 + 0.3 * gap], rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chosen", [0.0, -1e-30, -1e-9, -1e-4])
@pytest.mark.parametrize("rejected", [0.0, -1e-30, -1e-9, -1e-4])
def test_orpo_has_finite_gradients_at_certainty(dtype: torch.dtype, chosen: float, rejected: float) -> None:
    arguments = tensors([PAIRS[0] | {"lw": chosen, "ll": rejected}], dtype)
    policy = [argument.requires_grad_() for argument in arguments[:2]]
    value = get_objective("orpo")(*arguments)
    value.sum().backward()
    assert value.isfinite().all()
    assert all(argument.grad.isfinite().all() for argument in policy)
    assert policy[0].grad.item() < 0 < policy[1].grad.item()


# relations between objectives


@pytest.mark.parametrize(
    ("name", "zeroed", "same_as"),
    [
        ("r_dpo", {"alpha": 0}, "dpo"),
        ("rpo", {"alpha": 0}, "dpo"),
        ("robust", {"label_smoothing": 0}, "dpo"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_without_its_own_term_it_is_dpo_bit_for_bit(
    name: str, zeroed: dict[str, float], same_as: str, dtype: torch.dtype
) -> None:
    arguments = tensors(PAIRS, dtype)
    assert torch.equal(
        get_objective(name, beta=0.3, **zeroed)(*arguments), get_objective(same_as, beta=0.3)(*arguments)
    )


def test_rpo_is_dpo_nll_with_another_default_weight() -> None:
    assert get_objective("rpo").hyperparameters["alpha"] == 1.0
    assert losses("rpo") == losses("dpo_nll", alpha=1.0) != losses("dpo_nll")
    assert losses("rpo", alpha=0.2, label_smoothing=0.1) == losses("dpo_nll", label_smoothing=0.1)
    # TRL 0.9's form, alpha * DPO + NLL, is alpha times ours with weight 1/alpha
    nll = [14 / 12, 3 / 2, 20 / 5]
    old = [4.0 * one + term for one, term in zip(losses("dpo"), nll, strict=True)]
    assert [4.0 * one for one in losses("rpo", alpha=0.25)] == pytest.approx(old, rel=1e-12)


def test_cpo_is_dpo_without_reference_and_with_nll() -> None:
    no_reference = [pair | {"rw": 0.0, "rl": 0.0} for pair in PAIRS]
    assert losses("cpo") == pytest.approx(losses("rpo", no_reference), rel=1e-12)


def test_robust_is_unbiased_when_labels_are_flipped_as_often_as_it_assumes() -> None:
    as_given, flipped = losses("robust", label_smoothing=0.2), losses("robust", swapped(PAIRS), label_smoothing=0.2)
    mean = [0.8 * one + 0.2 * other for one, other in zip(as_given, flipped, strict=True)]
    assert mean == pytest.approx(losses("dpo"), rel=1e-12)


@pytest.mark.parametrize("name", ["dpo", "simpo", "r_dpo", "cpo"])
def test_label_smoothing_mixes_the_losses_of_both_orders(name: str) -> None:
    # without a target margin and an NLL term, swapping the responses negates the margin
    off = {key: 0.0 for key in ("alpha", "gamma") if key in get_definition(name).hyperparameters and name != "r_dpo"}
    as_given, flipped = losses(name, **off), losses(name, swapped(PAIRS), **off)
    mixed = [0.7 * one + 0.3 * other for one, other in zip(as_given, flipped, strict=True)]
    assert losses(name, label_smoothing=0.3, **off) == pytest.approx(mixed, rel=1e-12)
    half = losses(name, label_smoothing=0.5, **off)
    assert half == pytest.approx(losses(name, swapped(PAIRS), label_smoothing=0.5, **off), rel=1e-12)


def test_label_smoothing_is_a_hyperparameter_only_where_it_is_defined() -> None:
    smoothed = {name for name in objective_names() if "label_smoothing" in get_definition(name).hyperparameters}
    assert smoothed >= {"dpo", "dpo_nll", "simpo", "alpha_dpo", "aipo", "r_dpo", "rpo", "robust", "cpo"}
    assert not smoothed & {"hinge", "ipo", "kto_pair", "apo_zero", "nca_pair", "sppo", "sppo_hard", "orpo"}
