"""What an objective is: its inputs, its hyperparameters, its definition, and the registry of all of them.

Notation of the paper: s_theta = log pi(y_w|x) - log pi(y_l|x), s_ref the same under the reference policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aipo_lab.core.errors import UserError
from aipo_lab.core.registry import Definition, Registry

if TYPE_CHECKING:
    from torch import Tensor

HYPERPARAMETER_NAMES = ("beta", "alpha", "gamma", "lambda_", "label_smoothing")


@dataclass(frozen=True)
class Hyperparameter:
    """Default and legal range of a hyperparameter: `low` to `high`.

    `low` itself is excluded if `positive`, `high` itself if `below_high`.
    """

    default: float
    meaning: str
    low: float = 0.0
    high: float = math.inf
    positive: bool = False
    below_high: bool = False

    def problem(self, name: str, value: object) -> str | None:
        """What is wrong with `value`, or None."""
        rule = "> 0" if self.positive else f">= {self.low:g}"
        if not math.isinf(self.high):
            rule += f" and {'<' if self.below_high else '<='} {self.high:g}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} = {value!r} must be a finite number {rule}"
        too_low = value < self.low or (self.positive and value == 0)
        too_high = value > self.high or (self.below_high and value == self.high)
        return f"{name} = {value!r} must be {rule}" if too_low or too_high else None


BETA = Hyperparameter(0.1, "strength of the preference term", positive=True)
SMOOTHING = Hyperparameter(0.0, "assumed share of flipped preferences", high=0.5)


@dataclass(frozen=True)
class PairLogps:
    """What a loss is a function of; tensors of shape (batch,), see `Objective`.

    A win rate is the mean probability that a response beats the candidates of its prompt, itself included with
    1/2, according to the ranker (`mean_win_rates`); given only for objectives with `needs_win_rates`.
    `tails`, `reference_tails`: (batch, 2), the part of the log-probabilities of chosen and rejected that lies past the
    length of the shorter of the two; given only for objectives with `needs_tails`. `policy_weights`: (batch, 2)
    without gradient, how like the policy's own the responses are: the exponential of the mean over tokens of
    log pi(token) - log of the sum of squares of the policy's probabilities there; given only with
    `needs_policy_weights`.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    chosen_win_rate: Tensor | None = None
    rejected_win_rate: Tensor | None = None
    tails: Tensor | None = None
    reference_tails: Tensor | None = None
    policy_weights: Tensor | None = None

    @property
    def s_theta(self) -> Tensor:
        """log pi(y_w|x) - log pi(y_l|x) under the policy."""
        return self.chosen - self.rejected

    @property
    def s_ref(self) -> Tensor:
        """log pi(y_w|x) - log pi(y_l|x) under the reference policy."""
        return self.reference_chosen - self.reference_rejected

    @property
    def nll(self) -> Tensor:
        """Eq. 9: mean negative log-likelihood per token of the chosen response."""
        return -self.chosen / self.chosen_lengths

    @property
    def chosen_log_ratio(self) -> Tensor:
        """log pi(y_w|x) of the policy less that of the reference policy."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_log_ratio(self) -> Tensor:
        """log pi(y_l|x) of the policy less that of the reference policy."""
        return self.rejected - self.reference_rejected

    @property
    def win_rates(self) -> tuple[Tensor, Tensor]:
        """The win rates of chosen and rejected; raises `UserError` if they were not given."""
        if self.chosen_win_rate is None or self.rejected_win_rate is None:
            raise UserError(
                "this objective needs the ranker's win rates of both responses: give chosen_win_rate and "
                "rejected_win_rate (see aipo_lab.objectives.mean_win_rates), or use one that does not, like sppo_hard"
            )
        return self.chosen_win_rate, self.rejected_win_rate


Loss = Callable[..., "Tensor"]


@dataclass(frozen=True)
class ObjectiveDefinition(Definition):
    """A registered loss with its hyperparameters, and what it needs to know.

    `reference_free`: it does not depend on the reference policy. `length_normalised`: it compares
    log-probabilities per token, not their sums. `needs_win_rates`: it needs the ranker's win rates. `across_pairs`: a
    pair's loss depends on the other pairs, so that it must be given all pairs of an optimiser step at once.
    `needs_tails`, `needs_policy_weights`: what else it needs of the pairs' tokens, see `PairLogps`.
    `nll_weight`: the weight of the chosen response's NLL per token in it (a hyperparameter's name or a number), None
    without such a term.
    """

    name: str
    loss: Loss
    hyperparameters: dict[str, Hyperparameter]
    reference_free: bool = False
    length_normalised: bool = False
    needs_win_rates: bool = False
    nll_weight: str | float | None = None
    across_pairs: bool = False
    needs_tails: bool = False
    needs_policy_weights: bool = False


OBJECTIVES: Registry[ObjectiveDefinition] = Registry("objective", "aipo_lab.objectives", "aipo_lab.objectives")


def register(
    name: str,
    *,
    reference_free: bool = False,
    length_normalised: bool = False,
    needs_win_rates: bool = False,
    nll_weight: str | float | None = None,
    across_pairs: bool = False,
    needs_tails: bool = False,
    needs_policy_weights: bool = False,
    version: int = 1,
    **hyperparameters: Hyperparameter,
) -> Callable[[Loss], Loss]:
    """Register a loss function under `name`; its hyperparameters are its keyword-only arguments.

    Raises `UserError` if the name is taken or a hyperparameter is none of `HYPERPARAMETER_NAMES`, the only ones
    that recipes and result tables know.
    """

    def add(loss: Loss) -> Loss:
        if unknown := [key for key in hyperparameters if key not in HYPERPARAMETER_NAMES]:
            valid = ", ".join(HYPERPARAMETER_NAMES)
            raise UserError(f"objective {name!r}: {', '.join(unknown)} must be among the names recipes know: {valid}")
        definition = ObjectiveDefinition(
            name,
            loss,
            hyperparameters,
            reference_free,
            length_normalised,
            needs_win_rates,
            nll_weight,
            across_pairs,
            needs_tails,
            needs_policy_weights,
            version=version,
        )
        OBJECTIVES.add(name, definition)
        return loss

    return add


@dataclass(frozen=True)
class Objective:
    """A loss with its hyperparameters fixed. Call it with tensors of shape (batch,).

    Log-probabilities are sums over response tokens in nats, end token included; lengths count the same
    tokens. A reference-free objective ignores the reference log-probabilities (they may be zeros).
    """

    definition: ObjectiveDefinition
    hyperparameters: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The registered name."""
        return self.definition.name

    @property
    def reference_free(self) -> bool:
        """Whether the loss does not depend on the reference policy."""
        return self.definition.reference_free

    @property
    def nll_weight(self) -> float | None:
        """The weight of the NLL term in the loss, None without one."""
        weight = self.definition.nll_weight
        return self.hyperparameters[weight] if isinstance(weight, str) else weight

    @property
    def needs_win_rates(self) -> bool:
        """Whether the loss needs `chosen_win_rate` and `rejected_win_rate`."""
        return self.definition.needs_win_rates

    def __call__(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
        chosen_lengths: Tensor,
        rejected_lengths: Tensor,
        *,
        chosen_win_rate: Tensor | None = None,
        rejected_win_rate: Tensor | None = None,
        tails: Tensor | None = None,
        reference_tails: Tensor | None = None,
        policy_weights: Tensor | None = None,
    ) -> Tensor:
        """Losses, shape (batch,), differentiable in the policy log-probabilities; see `PairLogps` for the rest.

        Raises `UserError` if the objective needs what is not given.
        """
        logps = PairLogps(
            policy_chosen_logps,
            policy_rejected_logps,
            reference_chosen_logps,
            reference_rejected_logps,
            chosen_lengths,
            rejected_lengths,
            chosen_win_rate,
            rejected_win_rate,
            tails,
            reference_tails,
            policy_weights,
        )
        return self.definition.loss(logps, **self.hyperparameters)
