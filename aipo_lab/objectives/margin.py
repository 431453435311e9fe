"""Losses of DPO's margin beta (s_theta - s_ref): another shape, another shift, another term beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.objectives.definition import BETA, SMOOTHING, Hyperparameter, PairLogps, register
from aipo_lab.objectives.paper import dpo_nll, smoothed_logistic

if TYPE_CHECKING:
    from torch import Tensor


@register("hinge", beta=BETA)
def hinge(logps: PairLogps, *, beta: float) -> Tensor:
    """Hinge loss: max(0, 1 - beta (s_theta - s_ref)).

    SLiC-HF (Zhao et al. 2023) on the log ratios to the reference, as in RSO (Liu et al. 2023, its
    hinge-norm loss) with their gamma as beta; TRL's `hinge`. A pair with a margin past 1 has no gradient.
    """
    return (1 - beta * (logps.s_theta - logps.s_ref)).clamp(min=0)


@register(
    "r_dpo",
    beta=BETA,
    alpha=Hyperparameter(0.05, "reward per token of length, which the policy must not earn"),
    label_smoothing=SMOOTHING,
)
def r_dpo(logps: PairLogps, *, beta: float, alpha: float, label_smoothing: float) -> Tensor:
    """Length-regularised DPO (Park et al. 2024): -log sigmoid(beta (s_theta - s_ref) + alpha (|y_w| - |y_l|)).

    Their objective is E[r - alpha |y|] - beta KL, hence r = beta log(pi/pi_ref) + alpha |y| + a constant of the
    prompt: a longer chosen response already explains part of the preference, so its pair pushes less.
    """
    length_margin = alpha * (logps.chosen_lengths - logps.rejected_lengths)
    return smoothed_logistic(beta * (logps.s_theta - logps.s_ref) + length_margin, label_smoothing)


@register(
    "rpo",
    nll_weight="alpha",
    beta=BETA,
    alpha=Hyperparameter(1.0, "weight of the NLL term (TRL's rpo_alpha)"),
    label_smoothing=SMOOTHING,
)
def rpo(logps: PairLogps, *, beta: float, alpha: float, label_smoothing: float) -> Tensor:
    """DPO + alpha * NLL with the weight 1 of iterative RPO (Pang et al. 2024, v3); TRL's `rpo_alpha`.

    The function is that of `dpo_nll`, whose default weight is the AIPO paper's 0.2. TRL takes the mean NLL over
    all chosen tokens of a batch (in 1.16 as loss types sigmoid and sft); here it is the mean per response, so
    that a pair's loss does not depend on the rest of its batch. TRL 0.9 and the official AIPO
    code weigh the other term, alpha * DPO + NLL: that is alpha times this loss with weight 1/alpha.
    """
    return dpo_nll(logps, beta=beta, alpha=alpha, label_smoothing=label_smoothing)


@register(
    "robust",
    beta=BETA,
    label_smoothing=Hyperparameter(0.1, "share of flipped preferences, corrected for", high=0.5, below_high=True),
)
def robust(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """Robust DPO (Chowdhury et al. 2024): an unbiased estimate of DPO's loss when a share e of labels is flipped.

    [-(1-e) log sigmoid(m) + e log sigmoid(-m)] / (1-2e) with DPO's margin m; TRL's `robust`. Unlike label
    smoothing it has no lower bound: -e m / (1-2e) for large m.
    """
    from torch.nn.functional import logsigmoid

    margin = beta * (logps.s_theta - logps.s_ref)
    clean, flipped = -logsigmoid(margin), -logsigmoid(-margin)
    return ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)
