"""Weighted sums of other objectives, such as MPO's: one loss that pulls several ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aipo_lab.core.errors import UserError
from aipo_lab.objectives.definition import Objective, ObjectiveDefinition, PairLogps, register
from aipo_lab.objectives.paper import dpo
from aipo_lab.objectives.pointwise import bco_pair
from aipo_lab.objectives.reference_free import sft

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTED_SUM = "weighted_sum"


@register(WEIGHTED_SUM, nll_weight=1.0)
def mpo(logps: PairLogps) -> Tensor:
    """MPO (Wang et al. 2024): 0.8 DPO + 0.2 BCO + 1 SFT, beta 0.1; TRL's `loss_type` list with `loss_weights`.

    The terms and weights where a recipe gives none; any others are `terms: [{name, weight, ...}, ...]`.
    """
    preference = 0.8 * dpo(logps, beta=0.1, label_smoothing=0.0) + 0.2 * bco_pair(logps, beta=0.1)
    return preference + sft(logps)


def weighted_sum(terms: Sequence[tuple[float, Objective]]) -> Objective:
    """The objective whose loss is the sum of weight times loss; it needs what any of its terms needs.

    Raises `UserError` without terms.
    """
    if not terms:
        raise UserError(f"{WEIGHTED_SUM} needs at least one term: [{{name: dpo, weight: 1.0}}, ...]")
    definitions = [one.definition for _, one in terms]
    nll_weights = [weight * one.nll_weight for weight, one in terms if one.nll_weight is not None]

    def loss(logps: PairLogps) -> Tensor:
        losses = [weight * one.definition.loss(logps, **one.hyperparameters) for weight, one in terms]
        return sum(losses[1:], start=losses[0])

    definition = ObjectiveDefinition(
        WEIGHTED_SUM,
        loss,
        {},
        reference_free=all(one.reference_free for one in definitions),
        length_normalised=all(one.length_normalised for one in definitions),
        needs_win_rates=any(one.needs_win_rates for one in definitions),
        nll_weight=sum(nll_weights) if nll_weights else None,
        across_pairs=any(one.across_pairs for one in definitions),
        needs_tails=any(one.needs_tails for one in definitions),
        needs_policy_weights=any(one.needs_policy_weights for one in definitions),
    )
    return Objective(definition)
