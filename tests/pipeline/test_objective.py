"""Weighted sums in a recipe: their terms are checked like any objective, are in the key, and are trained as a sum."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.errors import UserError
from aipo_lab.objectives import OBJECTIVES, get_objective, register
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.graph import GraphBuilder, Iteration
from aipo_lab.pipeline.plugins import used_plugins
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_values
from aipo_lab.stages.definition import Runtime

TERMS = [{"name": "aipo", "weight": 0.7, "alpha": [0.1, 0.2, 0.3]}, {"name": "simpo", "weight": 0.3, "beta": 2}]
NUMBERS = [torch.tensor([value], dtype=torch.float64) for value in (-14.0, -11.5, -15.0, -10.0, 12.0, 9.0)]


def recipe_with(terms: Any, **more: Any) -> Recipe:
    return build_recipe(profile_values("micro"), [("objective", {"name": "weighted_sum", "terms": terms} | more)])


def iterations(recipe: Recipe) -> tuple[Iteration, ...]:
    return GraphBuilder(recipe, BaseModel(), Runtime(), BenchmarkResources({}, {})).build().iterations


def test_the_loss_is_the_sum_with_the_hyperparameters_of_the_iteration() -> None:
    recipe = recipe_with(TERMS)
    for t, alpha in enumerate((0.1, 0.2, 0.3)):
        parts = get_objective("aipo", alpha=alpha)(*NUMBERS), get_objective("simpo", beta=2)(*NUMBERS)
        assert recipe.objective.at(t).build()(*NUMBERS).item() == pytest.approx(float(0.7 * parts[0] + 0.3 * parts[1]))


def test_without_terms_it_is_mpo() -> None:
    recipe = build_recipe(profile_values("micro"), [("objective", {"name": "weighted_sum"})])
    assert torch.equal(recipe.objective.at(0).build()(*NUMBERS), get_objective("weighted_sum")(*NUMBERS))
    assert "terms" not in recipe.objective.at(0).model_dump(exclude_none=True)


def test_terms_are_in_the_key_of_the_training_and_decide_whether_there_is_a_reference() -> None:
    first, *_ = iterations(recipe_with(TERMS))
    config = first.steps["train"].request.config["objective"]
    assert config["terms"][0] == {
        "name": "aipo",
        "weight": 0.7,
        "hyperparameters": {"beta": 0.1, "alpha": 0.1, "lambda_": 0.2, "label_smoothing": 0.0},
    }
    assert "reference" in first.steps
    free, *_ = iterations(recipe_with([TERMS[1], {"name": "sft", "weight": 1}]))
    assert "reference" not in free.steps


def test_what_a_term_is_made_of_is_in_the_key_like_the_objective_itself() -> None:
    with OBJECTIVES.restored():
        register("changed_dpo", version=2)(lambda logps: logps.s_ref - logps.s_theta)
        config = recipe_with([TERMS[0], {"name": "changed_dpo", "weight": 1}]).objective.at(0)
        assert used_plugins({"objective": config.model_dump(exclude_none=True)}) == {
            "objective.terms.1": OBJECTIVES.identity("changed_dpo")
        }


def test_other_objectives_have_no_terms_in_their_key() -> None:
    recipe = build_recipe(profile_values("micro"), [("objective", {"name": "dpo"})])
    first, *_ = iterations(recipe)
    assert first.steps["train"].request.config["objective"].keys() == {"name", "hyperparameters"}


@pytest.mark.parametrize(
    ("terms", "rule"),
    [
        ([], "at least 1"),
        ([{"name": "dpo"}], "terms.0.weight: required"),
        ([{"name": "dpo", "weight": 0}], "terms.0.weight: .*greater than 0"),
        ([{"name": "dpoo", "weight": 1}], "unknown objective 'dpoo'; did you mean 'dpo'"),
        ([{"name": "dpo", "weight": 1, "gamma": 1}], "unknown hyperparameter 'gamma' of dpo"),
        ([{"name": "dpo", "weight": 1, "bta": 1}], "unknown key 'bta'"),
        ([{"name": "dpo", "weight": 1, "beta": [0.1, 0.2]}], r"objective\.terms\.0\.beta: a schedule needs one value"),
    ],
)
def test_bad_terms_are_refused_by_place_and_rule(terms: Any, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        recipe_with(terms)


def test_terms_beside_another_objective_or_a_hyperparameter_of_the_sum_are_refused() -> None:
    with pytest.raises(UserError, match=r"terms are for the objective weighted_sum, not for aipo; set name"):
        build_recipe(profile_values("micro"), [("objective", {"name": "aipo", "terms": TERMS})])
    with pytest.raises(UserError, match="unknown hyperparameter 'beta' of weighted_sum; it takes none"):
        recipe_with(TERMS, beta=0.1)
