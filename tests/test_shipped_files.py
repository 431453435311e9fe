"""Every recipe and sweep that is shipped is what it says: objective, reference, T, P, base model, at every scale."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aipo_lab.cli import main
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_names, profile_values
from aipo_lab.sweeps.foreseen import foresee_graph
from aipo_lab.sweeps.sweep import Sweep, load_sweep, single_run

SWEEPS = Path(__file__).parents[1] / "sweeps"
PAPER_MODELS = {
    "paper": "mistralai/Mistral-Nemo-Instruct-2407",
    "paper-mistral-7b-v0.2": "mistralai/Mistral-7B-Instruct-v0.2",
    "paper-mistral-7b-v0.3": "mistralai/Mistral-7B-Instruct-v0.3",
    "paper-llama-3-8b": "meta-llama/Meta-Llama-3-8B-Instruct",
    "paper-gemma-2-9b": "google/gemma-2-9b-it",
    "paper-gemma-2-27b": "google/gemma-2-27b-it",
    "paper-llama-3-70b": "meta-llama/Meta-Llama-3-70B-Instruct",
    "paper-mistral-large": "mistralai/Mistral-Large-Instruct-2407",
}


def planned(name: str, profile: str | None) -> Sweep:
    return load_sweep(SWEEPS / f"{name}.yaml", profile, check=True, elsewhere=True)


def scale(recipe: Recipe) -> tuple[int, int]:
    return recipe.iterations, recipe.instruct.n_prompts


def test_the_paper_has_a_profile_for_every_base_model() -> None:
    assert {name for name in profile_names() if name.startswith("paper")} == PAPER_MODELS.keys()
    for name, source in PAPER_MODELS.items():
        assert build_recipe(profile_values(name)).model.source == source


@pytest.mark.parametrize("name", PAPER_MODELS)
def test_the_profile_is_the_papers_section_3(name: str) -> None:
    recipe = build_recipe(profile_values(name))
    train, respond, instruct = recipe.train, recipe.respond, recipe.instruct
    assert scale(recipe) == (15, 20_000)
    assert (train.batch_size, train.learning_rate, train.epochs, train.warmup_ratio) == (256, 5e-7, 1, 0.1)
    assert (train.max_prompt_tokens, train.max_response_tokens, train.precision) == (512, 2048, "bfloat16")
    assert (train.weight_decay, train.max_gradient_norm, train.lora) == (0, 1, None)
    assert (respond.n_candidates, respond.max_prompt_tokens) == (5, 512)
    sampling = respond.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_new_tokens) == (0.4, 1, 50, 2048)
    assert (instruct.source, instruct.n_examples, instruct.min_tokens, instruct.max_tokens) == (
        "self_instruct",
        8,
        4,
        512,
    )
    few_shot = instruct.sampling
    assert (few_shot.temperature, few_shot.top_p, few_shot.top_k, few_shot.max_new_tokens) == (0.5, 0.9, 50, 1024)
    assert (recipe.rank.ranker, recipe.engine.name, recipe.engine.dtype) == ("pairrm", "vllm", "bfloat16")
    assert (recipe.prompts.source, recipe.pair.drop_truncated, recipe.pair.drop_urls) == ("dataset", True, True)
    assert recipe.benchmarks.names() == ["alpaca_eval", "arena_hard", "mt_bench"]
    assert recipe.benchmarks.judge is not None and recipe.benchmarks.judge.model == "gpt-4-1106-preview"


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_trains_the_objective_it_names_against_the_policy_it_started_from(name: str) -> None:
    graph = foresee_graph(single_run(name)).graph
    ((trial, recipe),) = [(graph.trials[one], graph.recipes[one]) for one in graph.trials]
    expected = {"micro": "dpo", "laptop": "dpo"}.get(name, "aipo")
    assert recipe.objective.name == expected
    assert len(trial.iterations) == recipe.iterations + 1
    for iteration in trial.iterations[:-1]:
        train, reference = iteration.steps["train"].request, iteration.steps["reference"].request
        assert train.config["objective"]["name"] == expected
        assert train.inputs["policy"] == reference.inputs["policy"] == iteration.policy.reference
        assert train.inputs["reference"] == iteration.steps["reference"].reference
    if expected == "aipo":
        assert recipe.objective.at(0).hyperparameters == {
            "beta": 0.1,
            "alpha": 0.05,
            "lambda_": 0.2,
            "label_smoothing": 0.0,
        }


@pytest.mark.parametrize(
    ("name", "profile", "expected"),
    [
        ("table6", "micro", {("dpo", 3), ("dpo_nll", 3), ("simpo", 4), ("alpha_dpo", 4), ("aipo", 6)}),
        ("table6", "paper", {("dpo", 3), ("dpo_nll", 3), ("simpo", 4), ("alpha_dpo", 4), ("aipo", 6)}),
        ("table6_seeds", "micro", {("dpo", 5), ("dpo_nll", 5), ("simpo", 5), ("alpha_dpo", 5), ("aipo", 5)}),
        ("figure1", "micro", {("dpo", 4)}),
        ("figure1", "laptop", {("dpo", 3)}),
        ("figure1", "paper-mistral-7b-v0.2", {("dpo", 3)}),
        ("table1", "micro", {("dpo", 4)}),
        ("table1", "laptop", {("dpo", 4)}),
        ("table1", "paper-mistral-7b-v0.2", {("dpo", 4)}),
        ("table3", "micro", {("aipo", 3)}),
        ("table3", "paper", {("aipo", 7)}),
        ("figure7a", "micro", {("dpo", 3)}),
        ("figure7a", "paper", {("dpo", 5)}),
        ("length_bias", "micro", {("dpo", 4), ("aipo", 4)}),
        ("iteration_axes", "micro", {("dpo", 12)}),
        ("table5", "micro", {("dpo", 6)}),
        ("over_optimisation", "micro", {("dpo", 4)}),
        ("table2", "micro", {("dpo", 2)}),
        ("table2", "laptop", {("dpo", 2)}),
        ("table2", "paper-mistral-7b-v0.2", {("dpo", 2)}),
        ("table4", "micro", {("dpo", 3)}),
        ("table4", "laptop", {("dpo", 3)}),
        ("table4", "paper-mistral-7b-v0.2", {("dpo", 3)}),
    ],
)
def test_a_sweep_holds_the_objectives_it_says_and_each_trial_trains_its_own(
    name: str, profile: str, expected: set[tuple[str, int]]
) -> None:
    sweep = planned(name, profile)
    names = [trial.objective for trial in sweep.trials]
    assert {(one, names.count(one)) for one in names} == expected
    graph = foresee_graph(sweep).graph
    for trial in sweep.trials:
        for t, iteration in enumerate(graph.trials[trial.name].iterations[:-1]):
            objective = iteration.steps["train"].request.config["objective"]
            assert objective == trial.recipe.objective.at(t).model_dump(exclude_none=True)
            assert objective["name"] == trial.objective
            assert ("reference" in iteration.steps) == (trial.objective != "simpo")


@pytest.mark.parametrize(
    ("profile", "total"), [("micro", 768), ("laptop", 160), ("paper", 120_000), ("paper-mistral-7b-v0.2", 120_000)]
)
def test_figure_1_holds_t_times_p_constant(profile: str, total: int) -> None:
    scales = [scale(trial.recipe) for trial in planned("figure1", profile).trials]
    assert {t * p for t, p in scales} == {total}
    assert len(set(scales)) == len(scales) >= 3


@pytest.mark.parametrize("profile", ["micro", "laptop", "paper-mistral-7b-v0.2"])
def test_table_1_differs_in_the_origin_of_pairs_alone(profile: str) -> None:
    sweep = planned("table1", profile)
    graph = foresee_graph(sweep).graph
    made = {}
    for trial in sweep.trials:
        first = graph.trials[trial.name].iterations[0]
        made[trial.hyperparameters()["method"]] = [node.stage for node in first.steps.values()]
    trained = ["reference", "train"]
    assert made == {
        "uf": ["slice_pairs", *trained],
        "pairrm_uf": ["slice_responses", "rank", "pair", *trained],
        "pairrm_gen_uf": ["instruct", "respond", "rank", "pair", *trained],
        "pairrm_gen_si_uf": ["instruct", "respond", "rank", "pair", *trained],
    }
    recipes = [trial.recipe for trial in sweep.trials]
    assert [one.instruct.source for one in recipes[2:]] == ["pool", "self_instruct"]
    assert {one.iterations for one in recipes} == {1}
    origins = {"pairs", "instruct"}
    assert len({one.model_dump_json(exclude=origins) for one in recipes}) == 1
    if profile.startswith("paper"):
        assert {scale(one) for one in recipes} == {(1, 60_000)}
        assert {one.train.batch_size for one in recipes} == {128}
        assert {one.model.source for one in recipes} == {"mistralai/Mistral-7B-Instruct-v0.2"}
        assert [one.pairs.limit for one in recipes if one.pairs is not None] == [60_000, 60_000]


def test_table_3_and_figure_7a_differ_in_the_base_model() -> None:
    table3 = [trial.recipe for trial in planned("table3", "paper").trials]
    assert {one.model.source for one in table3} == set(PAPER_MODELS.values()) - {"mistralai/Mistral-7B-Instruct-v0.3"}
    for recipe in table3:
        (name,) = [name for name, source in PAPER_MODELS.items() if source == recipe.model.source]
        overlay = build_recipe(profile_values(name))
        assert (recipe.engine, recipe.compute) == (overlay.engine, overlay.compute), name
    figure7a = [trial.recipe.model.source for trial in planned("figure7a", "paper").trials]
    assert len(set(figure7a)) == 5
    for name in ("table3", "figure7a"):
        assert [trial.recipe.model.micro.steps for trial in planned(name, "micro").trials] == [150, 300, 600]


def test_every_shipped_sweep_is_tested_here() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in text for path in SWEEPS.glob("*.yaml"))


def test_the_plan_of_table_6_at_the_papers_size_takes_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    started = time.process_time()
    arguments: list[Any] = ["plan", str(SWEEPS / "table6.yaml"), "--profile", "paper", "--gpus", "8", "--gpu", "h100"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert time.process_time() - started < 20
    assert "table6-paper: 20 trials, profile paper" in result.output
    for pattern in (
        r"judging together: 591,465 calls, \$[\d,.]+ expected, \$[\d,.]+ at most",
        r"On 8 h100 \(989 TFLOP/s bf16, 80 GiB each\)",
        r"GPU-hours: [\d,]+ expected, [\d,]+ at most",
        r"wall time: \d+ d \d\d h expected, \d+ d \d\d h at most",
        r"disk: 7\.3 TB for 300 checkpoints",
        r"rank\.model 'llm-blender/PairRM' is not a folder here",
    ):
        assert re.search(pattern, result.output), pattern
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_running_the_paper_here_says_all_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["sweep", str(SWEEPS / "table6.yaml"), "--profile", "paper"])
    assert result.exit_code == 2
    assert "compute.device: cuda" in result.output
    assert not list(tmp_path.iterdir())
