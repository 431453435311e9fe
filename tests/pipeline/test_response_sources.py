"""Where a recipe's responses come from: existing ones as they came or ranked anew, in keys, checks and stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_variants import make_variant

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.errors import UserError
from aipo_lab.models.chat import encode_prompt, encode_response, user_message
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.graph import GraphBuilder, TrialGraph
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_values
from aipo_lab.prompts.reading import DataPlace, FoundData
from aipo_lab.sweeps.plan import runtime_of
from aipo_lab.training.pairs import encode_pairs

RunStage = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]
WORLD = ("pairs", {"source": "world", "limit": 6})


def micro(*overrides: tuple[str, Any]) -> Recipe:
    return build_recipe(profile_values("micro"), overrides)


def graph_of(recipe: Recipe) -> TrialGraph:
    data = _AnyData()
    return GraphBuilder(recipe, BaseModel(), runtime_of(recipe.compute), BenchmarkResources({}, {}), data=data).build()


class _AnyData(dict[str, FoundData]):
    def __missing__(self, key: str) -> FoundData:
        return FoundData(place=DataPlace(), content="content")


def test_ranked_anew_an_iteration_ranks_its_slice_and_answers_nothing() -> None:
    graph = graph_of(micro(WORLD, ("pairs.ranked_by", "ranker")))
    first, second = graph.iterations[0].steps, graph.iterations[1].steps
    assert list(first) == ["slice_responses", "rank", "pair", "reference", "train"]
    assert first["rank"].request.inputs == {"responses": first["slice_responses"].reference}
    parts = [steps["slice_responses"].request.config for steps in (first, second)]
    assert [(one["part"], one["parts"]) for one in parts] == [(0, 3), (1, 3)]
    assert not {"instruct", "respond"} & {node.stage for node in graph.nodes().values()}


def test_the_ranker_is_in_the_key_only_where_it_ranks() -> None:
    def pairs(*more: tuple[str, Any]) -> str:
        return graph_of(micro(WORLD, *more)).iterations[0].steps["train"].key

    anew = ("pairs.ranked_by", "ranker")
    assert pairs() == pairs(("rank.length_bias", 0.5)) != pairs(anew)
    assert pairs(anew) != pairs(anew, ("rank.length_bias", 0.5))


def test_keys_of_data_that_are_taken_as_they_came_hold_nothing_new() -> None:
    recipe = build_recipe(profile_values("micro"), [("pairs", {"source": "file", "path": "x"})])
    node = graph_of(recipe).iterations[0].data
    assert node is not None and not {"ranked_by", "responses_column", "world"} & node.request.config.keys()
    assert node.request.config["content"] == "content"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([WORLD, ("world", None)], "pairs.source world is the dataset of a world, and the recipe has none"),
        (
            [("pairs", {"source": "file", "path": "x", "ranked_by": "ranker"}), ("world", None)],
            "rank.ranker proxy knows",
        ),
        ([("pairs", {"source": "file", "path": "x"}), ("objective.name", "sppo")], "sppo needs win rates"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[tuple[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        micro(*overrides)


def test_win_rates_follow_from_the_ranker_or_the_annotator() -> None:
    assert micro(WORLD, ("objective.name", "sppo")).ranks is False
    assert micro(("pairs", {"source": "file", "path": "x", "ranked_by": "ranker"}), ("objective.name", "sppo")).ranks


def test_given_responses_become_tokens_once_by_the_recipes_template(run_stage_on: RunStage, tmp_path: Path) -> None:
    """From texts to what is trained: the stages after it need no tokenizer, so the template is in force to the end."""
    from transformers import AutoTokenizer

    folder = make_variant(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    recipe = micro(("model.chat_template", "plain"))
    chat = recipe.model.chat()
    row = {"id": "0", "prompt": "Say rain", "responses": ["rain", "rain rain", "rain rain rain"]}
    config = {"slices": "all", "part": 0, "parts": 1, "text": "chat", "chat": chat.model_dump()}
    inputs = {"pairs": {"responses.jsonl": [row]}, "policy": {"model": folder}}
    ((made,), summary) = run_stage_on("slice_responses", config, inputs, "responses.jsonl")
    assert summary == {"prompts": 1, "responses": 3}
    assert made["prompt_token_ids"] == encode_prompt(tokenizer, user_message("Say rain"), chat)
    assert made["prompt_token_ids"] != encode_prompt(tokenizer, user_message("Say rain"))
    expected = [encode_response(tokenizer, text, True, chat) for text in row["responses"]]
    assert [one["token_ids"] for one in made["responses"]] == expected
    assert [one["tokens"] for one in made["responses"]] == [len(tokens) for tokens in expected]
    inputs = {"responses": {"responses.jsonl": [made]}}
    ranked, _ = run_stage_on("rank", {"ranker": "length", "seed": 0}, inputs, "ranking.jsonl")
    pairs, _ = run_stage_on("pair", {}, {"ranking": {"ranking.jsonl": ranked}}, "pairs.jsonl")
    ((encoded,), _) = encode_pairs(pairs, None, 999, 999)
    assert encoded.prompt == made["prompt_token_ids"]
    assert (encoded.chosen, encoded.rejected) == (expected[0], expected[2])


def test_given_pairs_have_the_tokens_of_the_recipes_template_too(run_stage_on: RunStage, tmp_path: Path) -> None:
    folder = make_variant(tmp_path / "model")
    chat = micro(("model.chat_template", "plain")).model.chat()
    said = {role: [{"role": "assistant", "content": text}] for role, text in (("chosen", "rain"), ("rejected", "sea"))}
    row = {"id": "0", "prompt": user_message("Say rain"), **said}
    inputs = {"pairs": {"pairs.jsonl": [row]}, "policy": {"model": folder}}
    config = {"slices": "all", "part": 0, "parts": 1, "text": "chat", "chat": chat.model_dump()}
    rows, _ = run_stage_on("slice_pairs", config, inputs, "pairs.jsonl")
    ((encoded,), _) = encode_pairs(rows, None, 999, 999)
    assert encoded.prompt == rows[0]["prompt_token_ids"] and encoded.chosen == rows[0]["chosen_token_ids"]


def test_a_worlds_dataset_is_made_by_the_stage(run_stage_on: RunStage, tmp_path: Path) -> None:
    common = {"n_held_out": 0, "benchmarks": {}, "limit": 5, "world": {"name": "micro", "seed": 0}}
    pairs, summary = run_stage_on("given_pairs", common, {}, "pairs.jsonl")
    assert len(pairs) == summary["pairs"] == 5 and {"chosen", "rejected", "chosen_score"} <= pairs[0].keys()
    lists, _ = run_stage_on("given_pairs", common | {"ranked_by": "ranker"}, {}, "responses.jsonl")
    assert [row["prompt"] for row in lists] == [row["prompt"][0]["content"] for row in pairs]
    assert {len(row["responses"]) for row in lists} == {4}


def test_slices_of_the_pool_are_disjoint_and_of_all_of_it(run_stage_on: RunStage) -> None:
    world = {"name": "micro", "seed": 0}
    common = {"source": "pool", "n_prompts": 10_000, "seed": 3, "world": world, "engine": {}, "parts": 3}
    inputs = {"policy": {"unused.jsonl": []}}
    parts = [
        {row["prompt"] for row in run_stage_on("instruct", common | {"part": part}, inputs, "prompts.jsonl")[0]}
        for part in range(3)
    ]
    whole, _ = run_stage_on("instruct", common | {"parts": 1}, inputs, "prompts.jsonl")
    assert set.union(*parts) == {row["prompt"] for row in whole}
    assert sum(map(len, parts)) == len(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_slice_smaller_than_a_batch_is_refused_before_any_work() -> None:
    from aipo_lab.pipeline.checks import batch_problems

    values = [
        ("instruct.source", "pool"),
        ("instruct.draw", "slices"),
        ("instruct.n_prompts", 2000),
        ("iterations", 50),
    ]
    (problem,) = batch_problems(micro(*values, ("train.batch_size", 64)))
    assert "each of 50 slices 40" in problem.text
