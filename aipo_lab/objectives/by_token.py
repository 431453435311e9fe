"""Losses that weigh a pair's tokens or the pair by what the policy gives single tokens, on top of DPO.

What they need beside sums and lengths they declare, and training computes it: see `PairLogps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.core.errors import UserError
from aipo_lab.objectives.definition import BETA, SMOOTHING, Hyperparameter, PairLogps, register
from aipo_lab.objectives.paper import dpo, smoothed_logistic

if TYPE_CHECKING:
    from torch import Tensor


@register(
    "ld_dpo",
    needs_tails=True,
    beta=BETA,
    alpha=Hyperparameter(0.5, "weight of tokens past the length of the shorter response, 0 to 1", high=1.0),
    label_smoothing=SMOOTHING,
)
def ld_dpo(logps: PairLogps, *, beta: float, alpha: float, label_smoothing: float) -> Tensor:
    """LD-DPO (Liu et al. 2024): DPO on length-desensitised log-probabilities, of policy and reference alike.

    log pi(y) is replaced by its sum over the first l tokens plus alpha times the rest, l the length of the shorter of
    the two responses; TRL's `ld_alpha` with `sigmoid`. alpha = 1 is DPO; 0 ignores what the longer one has more.
    """
    if logps.tails is None or logps.reference_tails is None:
        raise UserError("ld_dpo needs the log-probabilities past the shorter response: give tails and reference_tails")
    tails = logps.tails - logps.reference_tails
    gap = logps.s_theta - logps.s_ref - (1 - alpha) * (tails[:, 0] - tails[:, 1])
    return smoothed_logistic(beta * gap, label_smoothing)


@register("wpo", needs_policy_weights=True, beta=BETA, label_smoothing=SMOOTHING)
def wpo(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """WPO (Zhou et al. 2024, Eq. 2, sampled alignment): DPO times how likely the policy writes both responses.

    The factor is the product of both `policy_weights`, without gradient; TRL's `use_weighting` with `sigmoid`.
    """
    if logps.policy_weights is None:
        raise UserError("wpo needs the policy's weights of both responses: give policy_weights")
    return logps.policy_weights.detach().prod(dim=1) * dpo(logps, beta=beta, label_smoothing=label_smoothing)
