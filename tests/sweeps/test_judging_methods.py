"""Self-Rewarding and Meta-Rewarding from start to end in the micro world, whose policy is taught to judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.jsonl import read_json, read_jsonl
from aipo_lab.core.store import Store
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.ranking.llm_judge.settings import LLMJudgeSettings
from aipo_lab.sweeps.study import Study, StudyListener
from aipo_lab.sweeps.sweep import Sweep, load_sweep
from aipo_lab.worlds.micro import judging
from aipo_lab.worlds.world import get_world

METHODS = Path(__file__).parents[2] / "sweeps" / "methods"
SMALL: list[tuple[str, Any]] = [
    ("model.micro.steps", 60),
    ("model.micro.batch_size", 32),
    ("model.micro.hidden_size", 64),
    ("model.micro.layers", 1),
    ("model.micro.mlp_size", 96),
    ("model.micro.learning_rate", 8e-3),
    ("instruct.source", "pool"),
    ("instruct.n_prompts", 16),
    ("respond.n_candidates", 3),
    ("respond.sampling.max_new_tokens", 24),
    ("train.batch_size", 4),
    ("benchmarks.micro.n_prompts", 8),
    ("benchmarks.micro.sampling.max_new_tokens", 24),
    ("iterations", 1),
    ("compute.workers", 1),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for both methods, which start from the same base model."""
    return Store(tmp_path_factory.mktemp("methods") / "store")


def run(name: str, store: Store, folder: Path) -> Study:
    sweep = load_sweep(METHODS / f"{name}.yaml", overrides=SMALL)
    study = Study.open(sweep, store, folder / name, folder)
    study.run(lambda: InlineExecutor(study.store, 1), StudyListener())
    assert not study.failures
    return study


def made(study: Study, stage: str) -> list[Path]:
    return [study.store.path(node.stage, node.key) for node in study.graph.nodes.values() if node.stage == stage]


def test_self_rewarding_trains_on_its_own_grades(store: Store, tmp_path: Path) -> None:
    study = run("self_rewarding", store, tmp_path)
    (ranking,) = made(study, "rank")
    summary = read_json(ranking / "manifest.json")["summary"]
    assert summary["judge"] == "the policy" and summary["unanswered"] == 0
    assert summary["unparsable"] < summary["judgments"] / 2
    judged = [one for record in read_jsonl(ranking / "judgments.jsonl") for one in record["judged"]]
    assert {len(one["judgments"]) for one in judged} == {3}
    assert all(0 <= score <= 5 for row in read_jsonl(ranking / "ranking.jsonl") for score in row["scores"])


def test_meta_rewarding_trains_on_judgments_too(store: Store, tmp_path: Path) -> None:
    study = run("meta_rewarding", store, tmp_path)
    (ranking,), (pairs,), (training,) = (made(study, stage) for stage in ("rank", "pair", "train"))
    summary = read_json(ranking / "manifest.json")["summary"]
    assert summary["meta_battles"] > summary["meta_unparsable"]
    about_judging = [row for row in read_jsonl(pairs / "pairs.jsonl") if row["id"].endswith("/judge")]
    assert len(about_judging) == summary["judge_pairs"] > 0
    assert all(row["chosen_score"] > row["rejected_score"] and row["chosen_token_ids"] for row in about_judging)
    counted = read_json(pairs / "manifest.json")["summary"]
    assert counted["judge_pairs"] == len(about_judging)
    assert read_json(training / "manifest.json")["summary"]["pairs"] == counted["pairs"] + len(about_judging)


def recipe_rank(sweep: Sweep) -> LLMJudgeSettings:
    settings = sweep.trials[0].recipe.rank
    assert isinstance(settings, LLMJudgeSettings)
    return settings


def test_the_recipes_ask_in_the_words_the_micro_policy_was_taught() -> None:
    sweeps = {name: load_sweep(METHODS / f"{name}.yaml") for name in ("self_rewarding", "meta_rewarding")}
    published = {"self_rewarding": (2, 4, 3, 0.7, 0.9), "meta_rewarding": (4, 7, 5, 0.8, 0.95)}
    for name, sweep in sweeps.items():
        recipe, rank = sweep.trials[0].recipe, recipe_rank(sweep)
        assert rank.template == judging.SCORE_TEMPLATE and rank.asks_policy()
        assert re.search(rank.score_pattern, judging.judgment(4))[1] == "4"  # type: ignore[index]
        sampling = recipe.respond.sampling
        found = recipe.iterations, recipe.respond.n_candidates, rank.samples, sampling.temperature, sampling.top_p
        assert found == published[name]
        assert recipe.objective.at(0).hyperparameters["beta"] == 0.1
    meta = recipe_rank(sweeps["meta_rewarding"]).meta
    assert meta is not None and meta.template == judging.META_TEMPLATE and meta.iterations == 2


def test_demonstrated_judgments_are_true() -> None:
    import random

    from aipo_lab.worlds.micro.demonstrations import DemonstrationConfig
    from aipo_lab.worlds.micro.instructions import parse_instruction

    world, draw, seen = get_world("micro", 0), random.Random(0), set()
    for prompt in world.pool(300):
        request = parse_instruction(prompt)
        assert request is not None
        question, reply = judging.draw_judging(draw, world.knowledge, prompt, request, DemonstrationConfig())  # type: ignore[attr-defined]
        if question.endswith("What is that worth?"):
            response = question.split("\n")[1]
            assert reply == judging.judgment(judging.score_of(world.quality(prompt, response)))
            seen.add("score")
        elif question.endswith("What is worth more?"):
            _, first, second, _ = question.split("\n")
            qualities = [world.quality(prompt, text[3:]) for text in (first, second)]
            assert qualities[int(reply[0]) - 1] == max(qualities)
            seen.add("pair")
        else:
            _, response, *judgments, _ = question.split("\n")
            truth = judging.score_of(world.quality(prompt, response))
            errors = [abs(int(text[-2]) - truth) for text in judgments]
            assert errors[int(reply[0]) - 1] == min(errors)
            seen.add("meta")
    assert seen == {"score", "pair", "meta"}
