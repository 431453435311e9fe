"""The preference losses: pure functions of log-probabilities and lengths, and their registry.

One file per family: `paper` (the paper's Table 6), `margin`, `pointwise`, `regression`, `reference_free`, `transport`,
`by_token`, `weighted`. A new loss is one function with `@register` in one of them or in a new file beside them, or in
another package (see `docs/extending.md`). May be imported by training, stages and above; these names are what plug-ins
build on.
"""

from __future__ import annotations

from aipo_lab.objectives.definition import (
    BETA,
    HYPERPARAMETER_NAMES,
    OBJECTIVES,
    SMOOTHING,
    Hyperparameter,
    Loss,
    Objective,
    ObjectiveDefinition,
    PairLogps,
    register,
)

# The order of registration is the order in which the objectives are listed: Table 6 first.
# isort: off
from aipo_lab.objectives import paper as paper
from aipo_lab.objectives import margin as margin
from aipo_lab.objectives import pointwise as pointwise
from aipo_lab.objectives import regression as regression
from aipo_lab.objectives import reference_free as reference_free
from aipo_lab.objectives import transport as transport
from aipo_lab.objectives import by_token as by_token
from aipo_lab.objectives import weighted as weighted

# isort: on
from aipo_lab.objectives.lookup import get_definition, get_objective, hyperparameter_problems, objective_names
from aipo_lab.objectives.weighted import WEIGHTED_SUM, weighted_sum
from aipo_lab.objectives.win_rates import mean_win_rates

__all__ = [
    "BETA",
    "HYPERPARAMETER_NAMES",
    "OBJECTIVES",
    "SMOOTHING",
    "WEIGHTED_SUM",
    "Hyperparameter",
    "Loss",
    "Objective",
    "ObjectiveDefinition",
    "PairLogps",
    "get_definition",
    "get_objective",
    "hyperparameter_problems",
    "mean_win_rates",
    "objective_names",
    "register",
    "weighted_sum",
]
