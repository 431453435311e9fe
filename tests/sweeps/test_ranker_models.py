"""A ranker's model in a sweep: its content is in the key of `rank`, its place is not, and `sweep.yaml` keeps both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from reward_models import write_reward_model

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import Store
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.study import Study, StudyListener
from aipo_lab.sweeps.sweep import Sweep, load_sweep

SIZE = {"steps": 4, "batch_size": 4, "documents_per_step": 2, "hidden_size": 32, "layers": 1, "mlp_size": 32}
RECIPE = {f"model.micro.{name}": value for name, value in SIZE.items()} | {
    "iterations": 1,
    "instruct": {"source": "pool", "n_prompts": 8},
    "respond.n_candidates": 3,
    "respond.sampling.max_new_tokens": 12,
    "train.batch_size": 2,
    "benchmarks.micro.n_prompts": 4,
    "benchmarks.micro.sampling.max_new_tokens": 12,
}


def sweep_with(model: Path, folder: Path) -> Sweep:
    file = folder / f"{model.name}.yaml"
    recipe = {**RECIPE, "rank": {"ranker": "reward_model", "model": str(model)}}
    content = {"name": "ranked", "recipe": recipe, "space": [{"objective": "dpo"}]}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_sweep(file)


def test_the_place_of_a_model_is_in_no_key_and_its_content_is(tmp_path: Path) -> None:
    first = write_reward_model(tmp_path / "first")
    moved = Path(shutil.copytree(first, tmp_path / "moved"))
    other = write_reward_model(tmp_path / "other", seed=1)
    keys = [set(build_graph(sweep_with(model, tmp_path)).nodes) for model in (first, moved, other)]
    assert keys[0] == keys[1]
    assert {reference.split("/")[0] for reference in keys[0] - keys[2]} >= {"rank"}
    assert {reference.split("/")[0] for reference in keys[0] & keys[2]} >= {"base", "instruct", "respond"}


def test_a_model_that_is_not_there_is_an_error_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rank\.model '.*nowhere' is not a folder that exists"):
        build_graph(sweep_with(tmp_path / "nowhere", tmp_path))


def test_a_sweep_is_ranked_by_it_and_is_reopened_without_it(tmp_path: Path) -> None:
    model = write_reward_model(tmp_path / "reward")
    study = Study.open(sweep_with(model, tmp_path), Store(tmp_path / "store"), tmp_path / "out", tmp_path)
    study.run(lambda: InlineExecutor(study.store, 1), StudyListener())
    (ranking,) = (tmp_path / "store" / "rank").glob("*/ranking.jsonl")
    rows = read_jsonl(ranking)
    assert len(rows) == 8 and all(len(row["scores"]) == 3 for row in rows)
    saved = yaml.safe_load((tmp_path / "out" / "sweep.yaml").read_text(encoding="utf-8"))
    assert [one["folders"] for one in saved["rankers"].values()] == [{"model": str(model)}]
    shutil.rmtree(model)
    again = Study.reopen(SweepFolder(tmp_path / "out"))
    assert again.graph.nodes.keys() == study.graph.nodes.keys()
