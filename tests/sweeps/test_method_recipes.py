"""Every method of `sweeps/methods/` runs in the micro world from start to end and does what its paper says."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_sweep import RECIPE, aipo_lab

from aipo_lab.core.jsonl import read_json, read_jsonl
from aipo_lab.pipeline.graph import Iteration
from aipo_lab.sweeps.foreseen import foresee_graph
from aipo_lab.sweeps.points import find_point
from aipo_lab.sweeps.sweep import load_sweep

METHODS = Path(__file__).parents[2] / "sweeps" / "methods"
FILES = {path.stem: path for path in sorted(METHODS.glob("*.yaml")) if path.stem != "compare"}
SMALLER: dict[str, dict[str, Any]] = {
    "sdpo": {"pairs.limit": 24},
    "iterative_rpo": {"rank.least_quality": 0.0},  # so small a policy gets nothing right, but not all wrong
}
OBJECTIVES = {
    "aipo": "aipo",
    "iterative_dpo": "dpo",
    "iterative_rpo": "rpo",
    "r_dpo": "r_dpo",
    "sdpo": "dpo",
    "snorkel": "dpo",
    "sppo": "sppo",
}
PAPER = {
    "aipo": "paper",
    "iterative_dpo": "paper-llama-3-8b",
    "iterative_rpo": "paper-llama-3-8b",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All methods in one sweep, each with its own settings but for sizes; returns the folder of the runs."""
    folder = tmp_path_factory.mktemp("methods")
    own = {"instruct.source", "respond.n_candidates", "iterations"}
    values = {
        "name": "small",
        "profile": "micro",
        "recipe": {key: value for key, value in RECIPE.items() if key not in own},
        "methods": {name: str(FILES[name]) for name in OBJECTIVES},
        "space": [{"method": name, **SMALLER.get(name, {})} for name in OBJECTIVES],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    sizes = ("--set", "iterations=2", "--set", "instruct.n_prompts=16", "--set", "compute.workers=1")
    done = aipo_lab("sweep", "small.yaml", "--tracker", "none", *sizes, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs"


def iterations(runs: Path, method: str) -> tuple[str, tuple[Iteration, ...]]:
    """The name of the method's trial, and its iterations."""
    with (runs / "small" / "results.csv").open(newline="") as stream:
        (name,) = {row["trial"] for row in csv.DictReader(stream) if row["method"] == method}
    return name, find_point(f"{name}@0", runs / "small", None).graph.iterations


def step(runs: Path, method: str, t: int, name: str) -> Path:
    node = iterations(runs, method)[1][t].steps[name]
    return runs / "store" / node.stage / node.key


def test_all_methods_end(runs: Path) -> None:
    with (runs / "small" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["state"] for row in rows} == {"complete"}
    assert {row["method"]: row["objective"] for row in rows} == OBJECTIVES
    assert len(rows) == 3 * len(OBJECTIVES)
    report = (runs / "small" / "report.html").read_text()
    assert all(name in report for name in OBJECTIVES) and "Best trial of each method" in report


@pytest.mark.parametrize("method", OBJECTIVES)
def test_what_is_trained_is_the_methods_objective_against_the_policy_it_started_from(runs: Path, method: str) -> None:
    _, path = iterations(runs, method)
    for t in (0, 1):
        manifest = read_json(step(runs, method, t, "train") / "manifest.json")
        assert manifest["config"]["objective"]["name"] == OBJECTIVES[method]
        assert path[t].steps["reference"].request.inputs["policy"] == path[t].policy.reference
        assert path[t].steps["train"].request.inputs["policy"] == path[t].policy.reference
    assert path[0].policy.reference != path[1].policy.reference


@pytest.mark.parametrize(("method", "n"), [("snorkel", 5), ("sppo", 5), ("iterative_dpo", 8), ("iterative_rpo", 8)])
def test_every_prompt_has_the_methods_number_of_answers(runs: Path, method: str, n: int) -> None:
    rows = read_jsonl(step(runs, method, 0, "respond") / "responses.jsonl")
    assert len(rows) == 16 and {len(row["responses"]) for row in rows} == {n}


@pytest.mark.parametrize("method", ["snorkel", "sppo", "iterative_dpo", "r_dpo"])
def test_every_iteration_has_other_prompts_where_the_method_splits_them(runs: Path, method: str) -> None:
    asked = [{row["prompt"] for row in read_jsonl(step(runs, method, t, "instruct") / "prompts.jsonl")} for t in (0, 1)]
    assert [len(one) for one in asked] == [16, 16] and not asked[0] & asked[1]


def test_sdpo_generates_nothing_and_takes_its_pairs_part_by_part(runs: Path) -> None:
    _, path = iterations(runs, "sdpo")
    assert [list(one.steps) for one in path] == [["pair", "reference", "train"]] * 2 + [[]]
    parts = [read_jsonl(step(runs, "sdpo", t, "pair") / "pairs.jsonl") for t in (0, 1)]
    ids = [[row["id"] for row in part] for part in parts]
    assert [len(one) for one in ids] == [12, 12] and ids[0] + ids[1] == sorted(ids[0] + ids[1])
    assert all(row["chosen_score"] > row["rejected_score"] for part in parts for row in part)
    references = [read_jsonl(step(runs, "sdpo", t, "reference") / "reference.jsonl") for t in (0, 1)]
    assert [[row["id"] for row in one] for one in references] == ids


def test_sppo_fits_log_ratios_to_win_rates_among_all_answers(runs: Path) -> None:
    """From the ranker's scores to the loss of the first step, where every log ratio is 0."""
    ranked = {row["id"]: row for row in read_jsonl(step(runs, "sppo", 0, "rank") / "ranking.jsonl")}
    pairs = read_jsonl(step(runs, "sppo", 0, "pair") / "pairs.jsonl")
    losses = []
    for pair in pairs:
        scores = ranked[pair["id"]]["scores"]
        for role, pick in (("chosen", max), ("rejected", min)):
            rate = sum(1 / (1 + math.exp(other - pick(scores))) for other in scores) / len(scores)
            assert pair[f"{role}_win_rate"] == pytest.approx(rate, abs=1e-9)
        targets = [(pair[f"{role}_win_rate"] - 0.5) / 0.02 for role in ("chosen", "rejected")]
        losses.append(sum(target**2 for target in targets) / 2)
    first = read_jsonl(step(runs, "sppo", 0, "train") / "curve.jsonl")[0]
    n = read_json(step(runs, "sppo", 0, "train") / "manifest.json")["config"]["batch_size"]
    assert n < len(losses) and min(losses) < first["loss"] < max(losses)
    assert any(pair["chosen_win_rate"] < 0.99 for pair in pairs)


def test_iterative_rpo_sets_right_answers_against_wrong_ones(runs: Path) -> None:
    pairs = read_jsonl(step(runs, "iterative_rpo", 0, "pair") / "pairs.jsonl")
    assert {(row["chosen_score"], row["rejected_score"]) for row in pairs} == {(1.0, 0.0)}
    of_prompts = [row["id"].split("/")[0] for row in pairs]
    assert max(map(of_prompts.count, of_prompts)) == 2
    assert "loss_nll" in read_jsonl(step(runs, "iterative_rpo", 0, "train") / "curve.jsonl")[0]


@pytest.mark.parametrize("method", FILES)
def test_a_method_names_its_source_and_plans_at_the_papers_scale(method: str) -> None:
    text = FILES[method].read_text()
    assert "arXiv" in text or "model card" in text, "say where the published settings are from"
    sweep = load_sweep(FILES[method], PAPER.get(method, "paper-mistral-7b-v0.2"), check=True, elsewhere=True)
    (trial,) = foresee_graph(sweep).graph.trials.values()
    assert len(trial.iterations) == sweep.trials[0].recipe.iterations + 1


def test_the_comparison_holds_every_method_over_three_seeds() -> None:
    sweep = load_sweep(METHODS / "compare.yaml")
    held = [(trial.hyperparameters()["method"], trial.recipe.seed) for trial in sweep.trials]
    assert sorted(held) == sorted((name, seed) for name in FILES for seed in (0, 1, 2))
    assert len({trial.recipe.iterations for trial in sweep.trials}) == 1
    assert len({trial.recipe.benchmarks.model_dump_json() for trial in sweep.trials}) == 1
