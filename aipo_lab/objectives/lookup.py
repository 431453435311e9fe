"""From a name and hyperparameters, as a user writes them, to an objective."""

from __future__ import annotations

from typing import Any

from aipo_lab.core.config import suggest
from aipo_lab.core.errors import UserError
from aipo_lab.objectives.definition import OBJECTIVES, Objective, ObjectiveDefinition


def objective_names() -> list[str]:
    """All names: those of the paper's Table 6 in its order, the others of this package, then plug-ins."""
    return OBJECTIVES.names()


def get_definition(name: str) -> ObjectiveDefinition:
    """The objective's definition, from this package or a plug-in.

    Raises `UserError` (a `ValueError`) listing the valid names, or naming the plug-in that is broken.
    """
    return OBJECTIVES.get(name)


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
            known = suggest(key, valid) if valid else "it takes none"
            problems.append(f"unknown hyperparameter {key!r} of {definition.name}; {known}")
        elif problem := definition.hyperparameters[key].problem(key, value):
            problems.append(problem)
    return problems
