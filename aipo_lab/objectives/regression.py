"""Losses that fit the log ratio to the reference to a target, by squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.objectives.definition import Hyperparameter, PairLogps, register

if TYPE_CHECKING:
    from torch import Tensor

SPPO_BETA = Hyperparameter(0.001, "1/eta: log ratios are fitted to (win rate - 1/2) / beta", positive=True)


@register(
    "ipo",
    length_normalised=True,
    beta=Hyperparameter(0.1, "tau: the gap per token is fitted to 1 / (2 beta)", positive=True),
)
def ipo(logps: PairLogps, *, beta: float) -> Tensor:
    """IPO (Azar et al. 2023, Eq. 17): (h - 1/(2 beta))^2, h the gap of the log ratios, each divided by its length.

    Per token as in TRL (0.9 to 1.16), whose authors confirmed with IPO's that the paper's results use it. The
    official AIPO code inherits this from TRL 0.9's forward pass. Means, not sums, keep beta comparable over lengths.
    """
    chosen = logps.chosen_log_ratio / logps.chosen_lengths
    rejected = logps.rejected_log_ratio / logps.rejected_lengths
    return (chosen - rejected - 1 / (2 * beta)) ** 2


@register("sppo", needs_win_rates=True, beta=SPPO_BETA)
def sppo(logps: PairLogps, *, beta: float) -> Tensor:
    """SPPO (Wu et al. 2024, Eq. 4.7 with eta = 1/beta): half the squared errors of both log ratios.

    The targets are (P_w - 1/2)/beta and (P_l - 1/2)/beta, with P the win rate among the prompt's candidates.
    The factor 1/2 is the official code's.
    """
    chosen_win_rate, rejected_win_rate = logps.win_rates
    return _squared_errors(logps, (chosen_win_rate - 0.5) / beta, (rejected_win_rate - 0.5) / beta) / 2


@register("sppo_hard", beta=SPPO_BETA)
def sppo_hard(logps: PairLogps, *, beta: float) -> Tensor:
    """SPPO with win rates 1 and 0: (r_w - 1/(2 beta))^2 + (r_l + 1/(2 beta))^2; TRL's `sppo_hard`.

    TRL leaves out the factor 1/2 of `sppo`, so this is twice its value for win rates of 1 and 0.
    """
    return _squared_errors(logps, 0.5 / beta, -0.5 / beta)


def _squared_errors(logps: PairLogps, chosen_target: Tensor | float, rejected_target: Tensor | float) -> Tensor:
    return (logps.chosen_log_ratio - chosen_target) ** 2 + (logps.rejected_log_ratio - rejected_target) ** 2
