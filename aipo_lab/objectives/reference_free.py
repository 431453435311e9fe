"""Losses without a reference policy: a contrast of the policy's own likelihoods, held by the chosen response's NLL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.objectives.definition import BETA, SMOOTHING, Hyperparameter, PairLogps, register
from aipo_lab.objectives.paper import smoothed_logistic

if TYPE_CHECKING:
    from torch import Tensor


@register(
    "cpo",
    nll_weight="alpha",
    reference_free=True,
    beta=BETA,
    alpha=Hyperparameter(1.0, "weight of the NLL term (TRL's cpo_alpha)"),
    label_smoothing=SMOOTHING,
)
def cpo(logps: PairLogps, *, beta: float, alpha: float, label_smoothing: float) -> Tensor:
    """CPO (Xu et al. 2024, Eq. 3 and its NLL term): -log sigmoid(beta s_theta) + alpha * NLL of y_w per token.

    The NLL is the mean per response, as in all objectives here; TRL takes it over all chosen tokens of a batch.
    """
    return smoothed_logistic(beta * logps.s_theta, label_smoothing) + alpha * logps.nll


@register(
    "orpo",
    nll_weight=1.0,
    reference_free=True,
    length_normalised=True,
    beta=Hyperparameter(0.1, "weight of the odds ratio term (the paper's lambda)", positive=True),
)
def orpo(logps: PairLogps, *, beta: float) -> Tensor:
    """ORPO (Hong et al. 2024, Eqs. 4, 6, 7): NLL of the chosen response per token - beta log sigmoid(log odds ratio).

    odds(y) = p / (1 - p) with p the geometric mean of y's token probabilities. TRL's NLL covers the prompt too;
    here, as in the paper, it is the response's.
    """
    from torch.nn.functional import logsigmoid

    chosen = _log_odds(logps.chosen / logps.chosen_lengths)
    rejected = _log_odds(logps.rejected / logps.rejected_lengths)
    return logps.nll - beta * logsigmoid(chosen - rejected)


@register("sft", nll_weight=1.0, reference_free=True, length_normalised=True)
def sft(logps: PairLogps) -> Tensor:
    """The chosen response's NLL per token alone, of use as a term of `weighted_sum`; TRL's `sft`.

    The mean is per response; TRL takes it over all chosen tokens of a batch, which is the same for one pair.
    """
    return logps.nll + 0 * logps.rejected  # the rejected response has a gradient, of 0, as in every objective


def _log_odds(mean_logps: Tensor) -> Tensor:
    """log(p / (1-p)) of p = exp(mean_logps).

    1 - p is kept above the resolution of the numbers: log-probabilities nearer to 0 than that are rounding,
    and an exact 0 would give an infinite gradient.
    """
    import torch

    resolution = torch.finfo(mean_logps.dtype).eps
    return mean_logps - torch.log(resolution - torch.expm1(mean_logps))
