"""The pair stage in the graph: former keys stay, and a seed and the policy are in a key only where they count."""

from __future__ import annotations

from typing import Any

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.checks import batch_problems
from aipo_lab.pipeline.graph import GraphBuilder
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.stages.definition import Runtime, StageNode


def pair_nodes(*overrides: tuple[str, Any], profile: str = "micro") -> list[StageNode]:
    recipe = build_recipe(profile_values(profile), overrides)
    trial = GraphBuilder(recipe, BaseModel(), Runtime(), BenchmarkResources({}, {})).build()
    return [iteration.steps["pair"] for iteration in trial.iterations[:-1]]


def test_without_new_settings_the_key_is_the_former_one() -> None:
    (first, *_) = pair_nodes()
    assert first.request.version == 3
    assert first.request.config == {"max_response_tokens": 160, "drop_truncated": False, "drop_urls": True}
    assert list(first.request.inputs) == ["ranking"]


def test_rules_that_draw_have_a_seed_of_their_own_each_iteration() -> None:
    seeds = [node.request.config["seed"] for node in pair_nodes(("pair.select.rule", "max_random"))]
    assert len(set(seeds)) == len(seeds) == 3
    others = [node.request.config["seed"] for node in pair_nodes(("pair.select.rule", "random"), ("seed", 1))]
    assert not set(seeds) & set(others)
    assert all("seed" not in node.request.config for node in pair_nodes(("pair.select.rule", "widest")))


def test_the_policy_is_an_input_where_its_tokenizer_counts() -> None:
    for setting in ("official", "drop_template_leakage"):
        (first, *_) = pair_nodes((f"pair.filters.{setting}", True))
        assert sorted(first.request.inputs) == ["policy", "ranking"]
    (first, *_) = pair_nodes(("pair.filters.drop_refusals", True))
    assert list(first.request.inputs) == ["ranking"]


def test_several_pairs_of_a_prompt_may_fill_larger_batches() -> None:
    sizes = [("instruct.n_prompts", 40), ("train.batch_size", 60)]
    (problem,) = batch_problems(build_recipe(profile_values("micro"), sizes))
    assert "40 prompts (instruct.n_prompts) make at most 40 pairs" in problem.text
    several = [*sizes, ("pair.select.pairs_per_prompt", 4)]
    assert list(batch_problems(build_recipe(profile_values("micro"), several))) == []


def test_only_objectives_that_need_tails_have_them_in_the_reference() -> None:
    def reference(name: str) -> dict[str, Any]:
        recipe = build_recipe(profile_values("micro"), [("objective.name", name)])
        trial = GraphBuilder(recipe, BaseModel(), Runtime(), BenchmarkResources({}, {})).build()
        return dict(trial.iterations[0].steps["reference"].request.config)

    assert reference("ld_dpo") == reference("dpo") | {"tails": True}
    assert reference("wpo") == reference("dpo")
