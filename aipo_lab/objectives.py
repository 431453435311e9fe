"""The preference losses: pure functions of log-probabilities and lengths, and their registry.

Notation of the paper: s_theta = log pi(y_w|x) - log pi(y_l|x), s_ref the same under the reference policy.
Conventions where the paper is silent (label smoothing, what a length counts) follow the official code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aipo_lab.config import suggest
from aipo_lab.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Hyperparameter:
    """Default and legal range of a hyperparameter: `low` to `high`, `low` itself excluded if `positive`."""

    default: float
    meaning: str
    low: float = 0.0
    high: float = math.inf
    positive: bool = False

    def problem(self, name: str, value: object) -> str | None:
        """What is wrong with `value`, or None."""
        bound = "> 0" if self.positive else f">= {self.low:g}"
        rule = bound if math.isinf(self.high) else f"{bound} and <= {self.high:g}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} = {value!r} must be a finite number {rule}"
        if value < self.low or value > self.high or (self.positive and value == 0):
            return f"{name} = {value!r} must be {rule}"
        return None


BETA = Hyperparameter(0.1, "strength of the preference term", positive=True)
SMOOTHING = Hyperparameter(0.0, "assumed share of flipped preferences", high=0.5)


@dataclass(frozen=True)
class PairLogps:
    """What a loss is a function of; tensors of shape (batch,), see `Objective`."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor

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


Loss = Callable[..., "Tensor"]


@dataclass(frozen=True)
class ObjectiveDefinition:
    """A registered loss with its hyperparameters."""

    name: str
    loss: Loss
    hyperparameters: dict[str, Hyperparameter]
    reference_free: bool


REGISTRY: dict[str, ObjectiveDefinition] = {}


def register(name: str, *, reference_free: bool = False, **hyperparameters: Hyperparameter) -> Callable[[Loss], Loss]:
    """Register a loss function under `name`; its hyperparameters are its keyword-only arguments."""

    def add(loss: Loss) -> Loss:
        assert name not in REGISTRY, f"objective {name} registered twice"
        REGISTRY[name] = ObjectiveDefinition(name, loss, hyperparameters, reference_free)
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

    def __call__(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
        chosen_lengths: Tensor,
        rejected_lengths: Tensor,
    ) -> Tensor:
        """Losses, shape (batch,), differentiable in the policy log-probabilities."""
        logps = PairLogps(
            policy_chosen_logps,
            policy_rejected_logps,
            reference_chosen_logps,
            reference_rejected_logps,
            chosen_lengths,
            rejected_lengths,
        )
        return self.definition.loss(logps, **self.hyperparameters)


def objective_names() -> list[str]:
    """All registered names, in the order of the paper's Table 6."""
    return list(REGISTRY)


def get_definition(name: str) -> ObjectiveDefinition:
    """The registered objective; raises `UserError` (a `ValueError`) listing the valid names."""
    if name not in REGISTRY:
        raise UserError(f"unknown objective {name!r}; {suggest(str(name), objective_names())}")
    return REGISTRY[name]


def get_objective(name: str, **hyperparameters: Any) -> Objective:
    """The objective `name` with `hyperparameters` (missing ones take their defaults).

    Raises `ValueError` naming every unknown or out-of-range hyperparameter and the valid ones.
    """
    definition = get_definition(name)
    given = {("lambda_" if key == "lambda" else key): value for key, value in hyperparameters.items()}
    problems = hyperparameter_problems(definition, given)
    if problems:
        raise UserError.from_problems(f"objective {name}:", problems)
    values = {key: float(given.get(key, spec.default)) for key, spec in definition.hyperparameters.items()}
    return Objective(definition, values)


def hyperparameter_problems(definition: ObjectiveDefinition, given: dict[str, Any]) -> list[str]:
    """Every unknown or out-of-range entry of `given` (Python names, `lambda_`), as sentences."""
    valid = list(definition.hyperparameters)
    problems = []
    for key, value in given.items():
        if key not in valid:
            problems.append(f"unknown hyperparameter {key!r} of {definition.name}; {suggest(key, valid)}")
        elif problem := definition.hyperparameters[key].problem(key, value):
            problems.append(problem)
    return problems


def _smoothed_logistic(margin: Tensor, label_smoothing: float) -> Tensor:
    """-(1-e) log sigmoid(m) - e log sigmoid(-m): the logistic loss when a share e of labels is flipped."""
    from torch.nn.functional import logsigmoid

    loss = -logsigmoid(margin)
    if label_smoothing == 0.0:
        return loss
    return (1 - label_smoothing) * loss - label_smoothing * logsigmoid(-margin)


@register("dpo", beta=BETA, label_smoothing=SMOOTHING)
def dpo(logps: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """DPO (Rafailov et al. 2024; paper Eq. 5): -log sigmoid(beta (s_theta - s_ref))."""
    return _smoothed_logistic(beta * (logps.s_theta - logps.s_ref), label_smoothing)


@register(
    "dpo_nll",
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
    beta=Hyperparameter(2.0, "scale of the length-normalised log-probabilities", positive=True),
    gamma=Hyperparameter(0.5, "target margin, not scaled by beta"),
    label_smoothing=SMOOTHING,
)
def simpo(logps: PairLogps, *, beta: float, gamma: float, label_smoothing: float) -> Tensor:
    """SimPO (Meng et al. 2024; paper Table 6): logistic in beta times the gap of mean log-probabilities - gamma."""
    gap = logps.chosen / logps.chosen_lengths - logps.rejected / logps.rejected_lengths
    return _smoothed_logistic(beta * gap - gamma, label_smoothing)


@register(
    "alpha_dpo",
    beta=BETA,
    alpha=Hyperparameter(0.03, "weight of the agreement term alpha * s_ref"),
    label_smoothing=SMOOTHING,
)
def alpha_dpo(logps: PairLogps, *, beta: float, alpha: float, label_smoothing: float) -> Tensor:
    """alpha-DPO (paper Eq. 6): -log sigmoid(beta (s_theta - (1 + alpha) s_ref))."""
    return _smoothed_logistic(beta * (logps.s_theta - (1 + alpha) * logps.s_ref), label_smoothing)


@register(
    "aipo",
    beta=BETA,
    alpha=Hyperparameter(0.05, "weight of the agreement term alpha * s_ref"),
    lambda_=Hyperparameter(0.2, "weight of the NLL term"),
    label_smoothing=SMOOTHING,
)
def aipo(logps: PairLogps, *, beta: float, alpha: float, lambda_: float, label_smoothing: float) -> Tensor:
    """AIPO (paper Eq. 10): alpha-DPO + lambda * NLL of the chosen response per token (Eq. 9)."""
    return alpha_dpo(logps, beta=beta, alpha=alpha, label_smoothing=label_smoothing) + lambda_ * logps.nll
