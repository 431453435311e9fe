"""Seeds are repeats of every point: in the sweep file, in the plan, and in what is said of judge and noise floor."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_sweep import write_sweep

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_json
from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.benchmark_notes import benchmark_notes, judge_sentences, noise_floors
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.resolution import n_repeats, smallest_differences
from aipo_lab.sweeps.sweep import load_sweep, single_run

SWEEPS = Path(__file__).parents[2] / "sweeps"
DPO = [{"objective": "dpo", "beta": [0.1, 0.5]}]


def test_seeds_repeat_every_point_from_the_recipes_seed_on(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path, DPO, seeds=3), None, [("seed", 7)])
    assert [trial.name for trial in sweep.trials][:4] == [
        "dpo-b0.1-seed=7", "dpo-b0.1-seed=8", "dpo-b0.1-seed=9", "dpo-b0.5-seed=7",
    ]  # fmt: skip
    assert [trial.recipe.seed for trial in sweep.trials] == [7, 8, 9, 7, 8, 9]
    assert n_repeats(sweep) == 3
    assert [trial.name for trial in load_sweep(write_sweep(tmp_path, DPO)).trials] == ["dpo-b0.1", "dpo-b0.5"]


def test_seeds_beside_a_swept_seed_and_no_number_are_refused(tmp_path: Path) -> None:
    both = write_sweep(tmp_path, [{"objective": "dpo", "seed": [1, 2]}], seeds=2)
    with pytest.raises(UserError, match=r"seeds: 2 .* space entry 1 sweeps seed as well; keep one"):
        load_sweep(both)
    for wrong in (0, 101, "five"):
        with pytest.raises(UserError, match="seeds"):
            load_sweep(write_sweep(tmp_path, DPO, seeds=wrong))


def test_table6_seeds_is_two_by_two_and_five_seeds() -> None:
    sweep = load_sweep(SWEEPS / "table6_seeds.yaml")
    assert len(sweep.trials) == 25 and n_repeats(sweep) == 5
    settings = {trial.objective: trial.hyperparameters() for trial in sweep.trials}
    assert settings["dpo_nll"]["alpha"] == settings["aipo"]["lambda"]
    assert settings["alpha_dpo"]["alpha"] == settings["aipo"]["alpha"]
    assert {settings[name]["beta"] for name in ("dpo", "dpo_nll", "alpha_dpo", "aipo")} == {"0.1"}


def test_a_plan_says_what_can_be_told_apart(tmp_path: Path) -> None:
    (alone,) = smallest_differences(load_sweep(write_sweep(tmp_path, DPO)))
    assert "16 prompts" in alone and "nothing will be said to hold" in alone and "80 % power" in alone
    (several,) = smallest_differences(load_sweep(write_sweep(tmp_path, DPO, seeds=5)))
    assert "means of 5 seeds" in several and "this one seed" not in several


def _scores(store: Store, node: StageNode, win: float, length: float) -> None:
    values = {"judged_win_rate": win, "win_rate": win, "quality": 0.5, "length_tokens": length}
    made = {name: {"value": value, "se": 1.0, "n": 9} for name, value in values.items()}
    store.make(node.request, lambda folder: write_json(folder / "scores.json", made) or {})


def test_the_floor_is_how_far_two_rounds_of_the_base_model_differ(tmp_path: Path) -> None:
    graph = build_graph(load_sweep(write_sweep(tmp_path, [{"objective": "dpo"}], seeds=2)))
    store = Store(tmp_path / "store")
    assert noise_floors(graph, store) == {}
    for trial, win, length in zip(graph.trials.values(), (52.0, 49.0), (20.5, 19.5), strict=True):
        _scores(store, trial.iterations[0].scores["micro"], 50.0, 20.0)
        _scores(store, trial.again["micro"][1], win, length)
    floor = noise_floors(graph, store)["micro"]
    assert floor.differences["judged_win_rate"] == (2.0, -1.0) and floor.mean("length_tokens") == 0.5
    judge, said = benchmark_notes(graph, store)["micro"]
    assert "1.5 points by the judge" in said and "0.5 tokens in length" in said and "over 2 seeds" in said
    assert "pays 0.05 of quality" in judge


def test_what_the_judge_likes_is_said() -> None:
    blind = build_graph(single_run("micro", [("benchmarks.judge_length_bias", 0.0)]))
    assert "no taste for length" in judge_sentences(blind)["micro"]
