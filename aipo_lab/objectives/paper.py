"""The five losses of the paper's Table 6.

Conventions where the paper is silent (label smoothing, what a length counts) follow the official code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.objectives.definition import BETA, SMOOTHING, Hyperparameter, PairLogps, register

if TYPE_CHECKING:
    from torch import Tensor


def smoothed_logistic(margin: Tensor, label_smoothing: float) -> Tensor:
    """-(1-e) log sigmoid(m) - e log sigmoid(-m): the logistic loss when a share e of labels is flipped."""
    from torch.nn.functional import logsigmoid

    loss = -logsigmoid(margin)
    if label_smoothing == 0.0:
        return loss
    return (1 - label_smoothing) * loss - label_smoothing * logsigmoid(-margin)


@register("dpo", beta=BETA, label_smoothing=SMOOTHING)
def dpo(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """DPO (Rafailov et al. 2024; paper Eq. 5): -log sigmoid(beta (s_theta - s_ref))."""
    return smoothed_logistic(beta * (logps.s_theta - logps.s_ref), label_smoothing)


@register(
    "dpo_nll",
    nll_weight="alpha",
    beta=BETA,
    alpha=Hyperparameter(0.2, "weight of the NLL term (alpha in the paper's Table 6)"),
    label_smoothing=SMOOTHING,
)
def dpo_nll(logps: PairLogps, *, beta: float, alpha: float, label_smoothing: float) -> Tensor:
    """DPO + NLL (Pang et al. 2024; paper Table 6): DPO - (alpha/|y_w|) log pi(y_w|x)."""
    return dpo(logps, beta=beta, label_smoothing=label_smoothing) + alpha * logps.nll


@register(
    "simpo",
    reference_free=True,
    length_normalised=True,
    beta=Hyperparameter(2.0, "scale of the length-normalised log-probabilities", positive=True),
    gamma=Hyperparameter(0.5, "target margin, not scaled by beta"),
    label_smoothing=SMOOTHING,
)
def simpo(logps: PairLogps, *, beta: float, gamma: float, label_smoothing: float) -> Tensor:
    """SimPO (Meng et al. 2024; paper Table 6): logistic in beta times the gap of mean log-probabilities - gamma."""
    gap = logps.chosen / logps.chosen_lengths - logps.rejected / logps.rejected_lengths
    return smoothed_logistic(beta * gap - gamma, label_smoothing)


@register(
    "alpha_dpo",
    beta=BETA,
    alpha=Hyperparameter(0.03, "weight of the agreement term alpha * s_ref"),
    label_smoothing=SMOOTHING,
)
def alpha_dpo(logps: PairLogps, *, beta: float, alpha: float, label_smoothing: float) -> Tensor:
    """alpha-DPO (paper Eq. 6): -log sigmoid(beta (s_theta - (1 + alpha) s_ref))."""
    return smoothed_logistic(beta * (logps.s_theta - (1 + alpha) * logps.s_ref), label_smoothing)


@register(
    "aipo",
    nll_weight="lambda_",
    beta=BETA,
    alpha=Hyperparameter(0.05, "weight of the agreement term alpha * s_ref"),
    lambda_=Hyperparameter(0.2, "weight of the NLL term"),
    label_smoothing=SMOOTHING,
)
def aipo(logps: PairLogps, *, beta: float, alpha: float, lambda_: float, label_smoothing: float) -> Tensor:
    """AIPO (paper Eq. 10): alpha-DPO + lambda * NLL of the chosen response per token (Eq. 9)."""
    return alpha_dpo(logps, beta=beta, alpha=alpha, label_smoothing=label_smoothing) + lambda_ * logps.nll
