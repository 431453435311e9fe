"""The objective in a recipe: a name with hyperparameters, each a number or one per iteration, or a sum of such."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.objectives import (
    HYPERPARAMETER_NAMES,
    WEIGHTED_SUM,
    ObjectiveDefinition,
    get_definition,
    get_objective,
    hyperparameter_problems,
)
from aipo_lab.training.config import ObjectiveSettings, TermSettings

Schedule = float | list[float]
"""A hyperparameter: one value, or one value per iteration."""


class SingleObjective(StrictModel):
    """An objective and its hyperparameters; left-out ones take the objective's defaults."""

    name: str = Field("dpo", description="objective: see aipo_lab.objectives")
    beta: Schedule | None = Field(
        None, description="strength of the preference term, > 0 (tau of ipo, 1/eta of sppo, lambda of the orpo paper)"
    )
    alpha: Schedule | None = Field(
        None,
        description="weight of the agreement term (of the NLL term in dpo_nll, rpo, cpo; of the length term in r_dpo)",
    )
    gamma: Schedule | None = Field(None, description="target margin of simpo; temperature of discopop's blend")
    lambda_: Schedule | None = Field(None, alias="lambda", description="weight of the NLL term of aipo")
    label_smoothing: Schedule | None = Field(None, description="assumed share of flipped preferences, 0 to 0.5")

    @field_validator("beta", "alpha", "gamma", "lambda_", "label_smoothing", mode="before")
    @classmethod
    def _number_or_schedule(cls, value: object) -> object:
        values = value if isinstance(value, list) else [value]
        if value is None or (values and all(_is_number(one) for one in values)):
            return value
        raise ValueError("must be a number, or a list with one number per iteration")

    @model_validator(mode="after")
    def _valid_for_the_objective(self) -> SingleObjective:
        definition = get_definition(self.name)
        problems = [
            problem
            for key, value in self.given().items()
            for one in (value if isinstance(value, list) else [value])
            for problem in hyperparameter_problems(definition, {key: one})
        ]
        if problems:
            raise ValueError("; ".join(problems).replace("lambda_", "lambda"))
        return self

    def given(self) -> dict[str, Schedule]:
        """The hyperparameters the recipe sets, by Python name."""
        values = {key: getattr(self, key) for key in HYPERPARAMETER_NAMES}
        return {key: value for key, value in values.items() if value is not None}

    def schedules(self) -> dict[str, list[float]]:
        """The hyperparameters that are given for every iteration, by YAML name."""
        return {key.rstrip("_"): value for key, value in self.given().items() if isinstance(value, list)}

    def at(self, iteration: int) -> ObjectiveSettings:
        """The objective with all hyperparameters at iteration t = 0, 1, …"""
        chosen = {key: value[iteration] if isinstance(value, list) else value for key, value in self.given().items()}
        return ObjectiveSettings(name=self.name, hyperparameters=get_objective(self.name, **chosen).hyperparameters)


class ObjectiveTerm(SingleObjective):
    """One term of a weighted sum."""

    weight: float = Field(gt=0, description="factor of the term's loss, > 0")

    def term_at(self, iteration: int) -> TermSettings:
        """The term with all hyperparameters at iteration t = 0, 1, …"""
        return TermSettings(weight=self.weight, **self.at(iteration).model_dump(exclude_none=True))


class ObjectiveConfig(SingleObjective):
    """The objective; a `weighted_sum` of others says which."""

    terms: list[ObjectiveTerm] | None = Field(
        None, min_length=1, description="terms of weighted_sum: [{name, weight, hyperparameters}, ...]; none: MPO's"
    )

    @model_validator(mode="after")
    def _terms_belong_to_a_sum(self) -> ObjectiveConfig:
        if self.terms is not None and self.name != WEIGHTED_SUM:
            raise ValueError(
                f"terms are for the objective {WEIGHTED_SUM}, not for {self.name}; set name: {WEIGHTED_SUM}"
            )
        return self

    @property
    def definition(self) -> ObjectiveDefinition:
        """The objective's definition; of a sum, what its terms need together."""
        return get_definition(self.name) if self.terms is None else self.at(0).build().definition

    def schedules(self) -> dict[str, list[float]]:
        """See `SingleObjective.schedules`; those of terms too."""
        of_terms = {
            f"terms.{number}.{key}": value
            for number, term in enumerate(self.terms or [])
            for key, value in term.schedules().items()
        }
        return super().schedules() | of_terms

    def at(self, iteration: int) -> ObjectiveSettings:
        """See `SingleObjective.at`."""
        settings = super().at(iteration)
        if self.terms is None:
            return settings
        return settings.model_copy(update={"terms": [term.term_at(iteration) for term in self.terms]})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
