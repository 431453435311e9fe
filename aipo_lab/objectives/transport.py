"""Losses that compare distributions over a batch instead of pairs: sorted against sorted (optimal transport).

They are `across_pairs`: the batch they are given has to be all pairs of an optimiser step. Training sees to that, so a
result does not depend on micro-batches or the number of processes (TRL sorts within what one device computes at once).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.objectives.definition import BETA, SMOOTHING, PairLogps, register
from aipo_lab.objectives.paper import smoothed_logistic

if TYPE_CHECKING:
    from torch import Tensor


@register("aot", across_pairs=True, beta=BETA, label_smoothing=SMOOTHING)
def aot(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """AOT on paired data (Melnyk et al. 2024): -log sigmoid(beta (sorted s_theta - sorted s_ref)).

    The i-th smallest gap of the policy against the i-th smallest of the reference: gaps shall grow as a distribution
    (stochastic dominance), not pair by pair. TRL 1's `aot`, which earlier versions call `aot_pair` (their `aot` is
    `aot_unpaired`).
    """
    return smoothed_logistic(beta * _sorted_gap(logps.s_theta, logps.s_ref), label_smoothing)


@register("aot_pair", across_pairs=True, beta=BETA, label_smoothing=SMOOTHING)
def aot_pair(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """The name that TRL before 1.0 has for `aot` on paired data: the same loss."""
    return aot(logps, beta=beta, label_smoothing=label_smoothing)


@register("aot_unpaired", across_pairs=True, beta=BETA, label_smoothing=SMOOTHING)
def aot_unpaired(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """AOT on unpaired data (Melnyk et al. 2024): -log sigmoid(beta (sorted r_w - sorted r_l)); TRL 1's `aot_unpaired`.

    The i-th smallest log ratio of the chosen responses against the i-th smallest of the rejected ones.
    """
    gap = _sorted_gap(logps.chosen_log_ratio, logps.rejected_log_ratio)
    return smoothed_logistic(beta * gap, label_smoothing)


def _sorted_gap(upper: Tensor, lower: Tensor) -> Tensor:
    """Each of `upper` less the one of `lower` that has the same rank; in the order of `upper`."""
    places = upper.argsort(stable=True).argsort(stable=True)
    return upper - lower.sort().values[places]
