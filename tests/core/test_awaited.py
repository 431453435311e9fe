"""Names that recipes may use before anything provides them: read, planned, refused at a run, replaced by the real."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins
from aipo_lab.core.registry import Definition, Registry
from aipo_lab.generation.engine import ENGINES
from aipo_lab.pipeline.checks import check_recipes, machine_problems
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.prompts.source import PROMPTS
from aipo_lab.ranking.ranker import RANKERS

PAIRRM = ("rank", {"ranker": "pairrm", "batch_size": 4})


@pytest.fixture
def registry() -> Registry[Definition]:
    return Registry("thing", "tests.awaited", "aipo_lab.prompts", awaited={"later": "wait for it"})


def test_an_awaited_name_is_no_name_until_it_is_registered(registry: Registry[Definition]) -> None:
    assert registry.awaited("later") == "wait for it"
    assert registry.awaited("never") is None
    assert "later" not in registry.names()
    assert registry.identity("later") == {"awaited": True}
    with pytest.raises(UserError, match="'later' is known but not installed here: wait for it"):
        registry.get("later")
    registry.add("later", Definition())
    assert registry.awaited("later") is None
    assert registry.identity("later") == {}


def test_a_recipe_may_name_it_with_settings_of_its_own_and_reads_back_equal() -> None:
    recipe = build_recipe(profile_values("micro"), [PAIRRM])
    assert recipe.resolved()["rank"] == {"ranker": "pairrm", "batch_size": 4}
    assert build_recipe(recipe.resolved()) == recipe
    with pytest.raises(UserError, match=r"shard_prompts"):
        build_recipe(profile_values("paper"), [("engine.shard_prompts", 0)])


def test_a_run_is_refused_with_what_to_do_and_a_misspelt_name_is_still_a_mistake() -> None:
    recipe = build_recipe(profile_values("micro"), [PAIRRM])
    with pytest.raises(UserError, match=r"rank\.ranker: pairrm is known but not installed: .*plug-in"):
        check_recipes([(recipe, Origins())], "the test")
    assert len(machine_problems([recipe, recipe])) == 1
    with pytest.raises(UserError, match="unknown ranker 'pairm'"):
        build_recipe(profile_values("micro"), [("rank.ranker", "pairm")])


def test_what_registers_the_name_takes_its_place() -> None:
    with RANKERS.restored():
        RANKERS.add("pairrm", replace(RANKERS.get("proxy")))
        with pytest.raises(UserError, match="batch_size"):
            build_recipe(profile_values("micro"), [PAIRRM])


def test_the_paper_needs_nothing_that_is_neither_registered_nor_awaited() -> None:
    values = profile_values("paper")
    named = (ENGINES, values["engine"]["name"]), (RANKERS, values["rank"]["ranker"]), (PROMPTS, "dataset")
    for registry, name in named:
        assert name in registry.names() or registry.awaited(name), name
