"""Recipes without a world and on data of one's own: what they refuse before any work, and what is in their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.errors import UserError
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.data import data_node, find_all_data
from aipo_lab.pipeline.graph import GraphBuilder, TrialGraph
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_values
from aipo_lab.stages.definition import Runtime

OWN: dict[str, Any] = {
    "world": None,
    "prompts": {"source": "file", "path": "p.jsonl"},
    "rank": {"ranker": "length"},
    "benchmarks": {"constraints": None, "held_out": {}},
}
PAIRS = {"pairs": {"source": "file", "path": "p.jsonl"}}


def recipe(**changes: Any) -> Recipe:
    return build_recipe(profile_values("laptop"), list((OWN | changes).items()))


def graph(built: Recipe) -> TrialGraph:
    data = find_all_data([built])
    resources = BenchmarkResources({"held_out": "none", "alpaca_eval": "files"})
    return GraphBuilder(built, BaseModel(Path("/m"), "x"), Runtime(), resources, data=data).build()


def keys(built: Recipe) -> dict[str, str]:
    return {name: node.key for name, node in graph(built).iterations[0].steps.items()}


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Q {n}", "text": "x", "chosen": "a", "rejected": "b"} for n in range(3)]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "proxy": ({"rank": {"ranker": "proxy"}}, r"rank\.ranker proxy knows quality from a world.*use one of .*length"),
    "the pool": ({"prompts": {"source": "world"}}, r"prompts\.source world is the pool of a world.*use one of .*file"),
    "embedded": ({"benchmarks": {"held_out": {}}}, r"benchmarks\.constraints knows quality from a world.*to null"),
    "no benchmark": ({"benchmarks": {"constraints": None}}, "set at least one of .*held_out"),
    "micro": ({"model": {"source": "micro"}}, "model.source micro is trained to speak of the micro world"),
    "win rates": (PAIRS | {"objective": {"name": "sppo"}}, "sppo needs win rates.*pairs.chosen_score_column"),
    "no own prompts": (
        {"world": {"name": "constraints"}, "prompts": {"source": "world"}},
        "held_out asks prompts of one's own data",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_a_world_is_refused_with_what_does_not(name: str) -> None:
    changes, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        recipe(**changes)


@pytest.mark.parametrize("none", [None, {"name": "none"}])
def test_a_recipe_without_a_world_survives_being_saved(none: Any) -> None:
    built = recipe(world=none)
    assert built.world is None
    assert build_recipe(built.resolved()) == built


def test_pairs_need_no_ranker_and_no_prompts() -> None:
    built = recipe(**PAIRS, rank={"ranker": "proxy"}, prompts={"source": "world"})
    stages = [node.stage for node in graph(built).nodes().values()]
    assert set(stages) == {
        "base",
        "given_pairs",
        "slice_pairs",
        "reference",
        "train",
        "answer_official",
        "judge_official",
    }


def test_the_place_of_data_is_in_no_key_and_their_content_is() -> None:
    before = keys(recipe())
    Path("p.jsonl").rename("other.jsonl")
    assert keys(recipe(prompts={"source": "file", "path": "other.jsonl"})) == before
    with Path("other.jsonl").open("a") as stream:
        stream.write('{"prompt": "one more"}\n')
    changed = keys(recipe(prompts={"source": "file", "path": "other.jsonl"}))
    assert all(changed[name] != before[name] for name in before)


def test_a_missing_column_is_found_before_any_work() -> None:
    with pytest.raises(UserError, match=r"there is no column 'question'; .*valid: prompt, text, chosen, rejected"):
        find_all_data([recipe(prompts={"source": "file", "path": "p.jsonl", "column": "question"})])
    with pytest.raises(UserError, match=r"no column 'query'.*\n.*set pairs.prompt_column to null"):
        find_all_data([recipe(pairs={"source": "file", "path": "p.jsonl", "prompt_column": "query"})])


def test_official_benchmarks_are_held_out_of_the_data_whatever_their_limit() -> None:
    def pool(**alpaca: Any) -> Any:
        benchmarks = {"constraints": None, "held_out": {}, "judge": {"model": "gpt-4o"}, "alpaca_eval": alpaca}
        built = recipe(benchmarks=benchmarks)
        resources = BenchmarkResources({"held_out": "none", "alpaca_eval": "files"}, {})
        return data_node(built, find_all_data([built]), resources, Runtime())

    assert list(pool(limit=3).request.config["benchmarks"]) == ["alpaca_eval"]
    assert pool(limit=3).key == pool(limit=5).key
