"""Losses of DPO's margin beta (s_theta - s_ref): another shape, another shift, another term beside it."""

from __future__ import annotations

import math
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


@register(
    "exo_pair",
    beta=BETA,
    label_smoothing=Hyperparameter(0.001, "share e of flipped preferences in the target", high=0.5, positive=True),
)
def exo_pair(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """EXO on pairs (Ji et al. 2024, Eq. 16): the reverse KL divergence from the policy's preference to the data's.

    q (log q - log(1-e)) + (1-q) (log(1-q) - log e) with q = sigmoid(m), m DPO's margin; TRL's `exo_pair`. DPO takes the
    forward divergence. The target must not be certain, hence e > 0; the paper's e is the default.
    """
    from torch.nn.functional import logsigmoid

    margin = beta * (logps.s_theta - logps.s_ref)
    wins = margin.sigmoid() * (logsigmoid(margin) - math.log1p(-label_smoothing))
    return wins + (-margin).sigmoid() * (logsigmoid(-margin) - math.log(label_smoothing))


@register(
    "discopop",
    beta=BETA,
    gamma=Hyperparameter(0.05, "temperature of the blend (TRL's discopop_tau)", high=1.0, positive=True),
)
def discopop(logps: PairLogps, *, beta: float, gamma: float) -> Tensor:
    """DiscoPOP (Lu et al. 2024, Eq. 5), a loss found by a language model: a blend of DPO's and an exponential.

    -(1-w) log sigmoid(m) + w exp(-m) with w = sigmoid(m / gamma), m DPO's margin; TRL's `discopop`. The product
    w exp(-m) is taken in logarithms, so that a large negative margin, where TRL's is infinity times 0, stays finite.
    """
    from torch.nn.functional import logsigmoid

    margin = beta * (logps.s_theta - logps.s_ref)
    exponential = (logsigmoid(margin / gamma) - margin).exp()
    return exponential - (-margin / gamma).sigmoid() * logsigmoid(margin)


@register("sigmoid_norm", length_normalised=True, beta=BETA)
def sigmoid_norm(logps: PairLogps, *, beta: float) -> Tensor:
    """DPO on log ratios per token: -log sigmoid(beta (r_w/|y_w| - r_l/|y_l|)); TRL's `sigmoid_norm` (Tulu 3's loss)."""
    from torch.nn.functional import logsigmoid

    chosen = logps.chosen_log_ratio / logps.chosen_lengths
    return -logsigmoid(beta * (chosen - logps.rejected_log_ratio / logps.rejected_lengths))
