"""A ranker that is trained first: its stages, what the results say of it, and where its pairs may come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_sweep import RECIPE

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, write_jsonl
from aipo_lab.core.store import Store
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.figures.over_optimisation import draw_over_optimisation, get_over_optimisation_data
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.study import Study, StudyListener
from aipo_lab.sweeps.sweep import Sweep, load_sweep

TRAIN = {"epochs": 2, "batch_size": 8, "learning_rate": 0.003}


def sweep_with(folder: Path, train: dict[str, Any], space: dict[str, Any] | None = None, **rank: Any) -> Sweep:
    recipe = {**RECIPE, "rank": {"ranker": "reward_model", "train": {**TRAIN, **train}, **rank}}
    file = folder / "learned.yaml"
    entry = {"objective": "dpo", **(space or {})}
    file.write_text(yaml.safe_dump({"name": "learned", "recipe": recipe, "space": [entry]}), encoding="utf-8")
    return load_sweep(file)


def stages(sweep: Sweep) -> list[str]:
    return [reference.split("/")[0] for reference in build_graph(sweep).nodes]


def test_it_is_trained_once_or_in_every_iteration(tmp_path: Path) -> None:
    assert stages(sweep_with(tmp_path, {})).count("train_reward") == 1
    each = stages(sweep_with(tmp_path, {"pairs": "current"}))
    assert (each.count("train_reward"), each.count("rank")) == (2, 4)


def test_rankers_share_responses_and_labels_and_differ_by_their_pairs(tmp_path: Path) -> None:
    sweep = sweep_with(tmp_path, {}, {"rank.train.n_pairs": [4, 16]})
    found = stages(sweep)
    assert (found.count("train_reward"), found.count("respond"), found.count("rank")) == (2, 3, 1 + 4)


@pytest.mark.parametrize(
    ("train", "rank", "said"),
    [
        ({}, {"model": "owner/name"}, "leave one of the two out"),
        ({"pairs": "file", "path": "nowhere.jsonl"}, {}, r"rank\.train\.path 'nowhere\.jsonl' is no file"),
        ({"pairs": "file"}, {}, "set both or neither"),
        ({"labels": {"ranker": "pairrm"}}, {}, "reads or asks a model, which labels cannot"),
        ({"labels": {"ranker": "llm_judge"}}, {}, "reads or asks a model, which labels cannot"),
    ],
)
def test_bad_settings_are_errors_before_any_work(
    tmp_path: Path, train: dict[str, Any], rank: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        build_graph(sweep_with(tmp_path, train, **rank))


def test_without_a_world_nobody_knows_the_truth() -> None:
    values = profile_values("paper")
    for train, wrong in (({}, True), ({"pairs": "file", "path": "pairs.jsonl"}, False)):
        overrides = [("rank", {"ranker": "reward_model", "train": train})]
        if wrong:
            with pytest.raises(UserError, match=r"rank\.train\.labels: proxy knows quality from a world"):
                build_recipe(values, overrides)
        else:
            assert build_recipe(values, overrides).rank.training() is not None


def test_without_model_and_training_there_is_nothing_to_rank_with(tmp_path: Path) -> None:
    file = tmp_path / "nothing.yaml"
    recipe = {**RECIPE, "rank": {"ranker": "reward_model"}}
    content = {"name": "nothing", "recipe": recipe, "space": [{"objective": "dpo"}]}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"set rank\.model to a folder.*or train"):
        build_graph(load_sweep(file))


def test_a_fixed_set_is_its_content(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": f"What is {number}?"}],
            "chosen": [{"role": "assistant", "content": "The fox."}],
            "rejected": [{"role": "assistant", "content": "There is more."}],
        }
        for number in range(9)
    ]
    graphs = []
    for name, content in (("a", rows), ("b", rows), ("c", rows[1:])):
        write_jsonl(tmp_path / f"{name}.jsonl", content)
        graphs.append(
            set(build_graph(sweep_with(tmp_path, {"pairs": "file", "path": str(tmp_path / f"{name}.jsonl")})).nodes)
        )
    assert graphs[0] == graphs[1] != graphs[2]


def test_results_hold_what_the_ranker_thinks_and_how_good_it_is(tmp_path: Path) -> None:
    sweep = sweep_with(tmp_path, {"labels": {"ranker": "length"}}, {"rank.train.n_pairs": [4, 24]})
    study = Study.open(sweep, Store(tmp_path / "store"), tmp_path / "out", tmp_path)
    rows = study.run(lambda: InlineExecutor(study.store, 1), StudyListener())
    assert not study.failures
    first = [row for row in rows if row.iteration == 0]
    assert {"rank/mean_score", "rank/mean_best_score", "rank/accuracy", "rank/accuracy_se"} <= first[0].metrics.keys()
    assert first[0].metrics["rank/mean_score"] < first[0].metrics["rank/mean_best_score"]
    assert not any(name.startswith("rank/") for row in rows if row.iteration == 2 for name in row.metrics)
    for folder in (tmp_path / "store" / "train_reward").glob("*/"):
        metrics = read_json(folder / "metrics.json")
        assert 0 <= metrics["accuracy"]["value"] <= 100 and metrics["accuracy"]["n"] > 0
        assert (folder / "model" / "model.safetensors").is_file()
    data = get_over_optimisation_data(rows, BENCHMARK_METRICS["micro"])
    paths = [path for _, path in data.groupby("trial", sort=False)]
    assert [len(path) for path in paths] == [2, 2]
    assert data["accuracy"].is_monotonic_increasing
    by_trial = {row.trial: row.metrics for row in rows if row.iteration == 1}
    for path in paths:
        trial = path["trial"].iloc[0]
        before = next(row.metrics["rank/mean_score"] for row in first if row.trial == trial)
        assert path["score_gain"].tolist() == [0, by_trial[trial]["rank/mean_score"] - before]
        assert path["quality"].iloc[1] == by_trial[trial]["micro/quality"]
    drawn = draw_over_optimisation(data, tmp_path / "figure")
    assert [path.suffix for path in drawn] == [".png", ".pdf"]
    assert draw_over_optimisation(get_over_optimisation_data([], BENCHMARK_METRICS["micro"]), tmp_path / "none") == []
