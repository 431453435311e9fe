"""Losses that judge each response by its own log ratio to the reference: is it more likely than before, or less?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.objectives.definition import BETA, PairLogps, register

if TYPE_CHECKING:
    from torch import Tensor


@register("kto_pair", beta=BETA)
def kto_pair(logps: PairLogps, *, beta: float) -> Tensor:
    """KTO on pairs (Ethayarajh et al. 2023, report, Eq. 7), with r the log ratio and r+ = max(0, r).

    Mean of 1 - sigmoid(beta (r_w - r_l+)) and 1 - sigmoid(beta (r_w+ - r_l)): each response is measured against
    the divergence from the reference estimated on the other one. TRL 0.9 (removed since) and the official AIPO
    code estimate it over the micro-batch; here it is the pair's own (their value with batches of one pair), so
    that the result does not depend on micro-batches or the number of processes.
    """
    chosen, rejected = logps.chosen_log_ratio, logps.rejected_log_ratio
    chosen_loss = (beta * (rejected.clamp(min=0) - chosen)).sigmoid()
    rejected_loss = (beta * (rejected - chosen.clamp(min=0))).sigmoid()
    return (chosen_loss + rejected_loss) / 2


@register("apo_zero", beta=BETA)
def apo_zero(logps: PairLogps, *, beta: float) -> Tensor:
    """APO-zero (D'Oosterlinck et al. 2024, Eq. 7): 1 - sigmoid(beta r_w) + sigmoid(beta r_l); TRL's `apo_zero`.

    For pairs whose chosen response is better than what the policy writes.
    """
    return (-beta * logps.chosen_log_ratio).sigmoid() + (beta * logps.rejected_log_ratio).sigmoid()


@register("nca_pair", beta=BETA)
def nca_pair(logps: PairLogps, *, beta: float) -> Tensor:
    """NCA for two responses (Chen et al. 2024, noise contrastive alignment); TRL's `nca_pair`.

    -log sigmoid(beta r_w) - 1/2 log sigmoid(-beta r_w) - 1/2 log sigmoid(-beta r_l): the chosen response's
    likelihood is kept from falling, not only its lead over the rejected one.
    """
    from torch.nn.functional import logsigmoid

    chosen, rejected = beta * logps.chosen_log_ratio, beta * logps.rejected_log_ratio
    return -logsigmoid(chosen) - (logsigmoid(-chosen) + logsigmoid(-rejected)) / 2


@register("apo_down", beta=BETA)
def apo_down(logps: PairLogps, *, beta: float) -> Tensor:
    """APO-down (D'Oosterlinck et al. 2024, Eq. 8): sigmoid(beta r_w) + 1 - sigmoid(beta (r_w - r_l)); TRL's `apo_down`.

    For pairs whose chosen response is worse than what the policy writes: both are made less likely, the rejected more
    so.
    """
    chosen, rejected = beta * logps.chosen_log_ratio, beta * logps.rejected_log_ratio
    return chosen.sigmoid() + (rejected - chosen).sigmoid()


@register("bco_pair", beta=BETA)
def bco_pair(logps: PairLogps, *, beta: float) -> Tensor:
    """BCO on pairs (Jung et al. 2024): -log sigmoid(beta r_w) - log sigmoid(-beta r_l); TRL 1's `bco_pair`.

    A classifier of the two responses. The paper and TRL before 1.0 subtract from both rewards a running mean of all
    rewards so far; TRL 1 leaves it out, and so does this, because it makes a pair's loss depend on what came before.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * logps.chosen_log_ratio) - logsigmoid(-beta * logps.rejected_log_ratio)
