"""The entries of a sweep's folder: the base model once, unfinished answers left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from aipo_lab.browsing.entries import Entry, sweep_entries
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import load_sweep


def open_study(folder: Path, store: Store, **axes: list[Any]) -> Study:
    """A sweep of two iterations over DPO settings, nothing run."""
    values = {"name": "small", "recipe": {"iterations": 2}, "space": [{"objective": "dpo", "beta": [0.1], **axes}]}
    (folder / "small.yaml").write_text(yaml.safe_dump(values))
    return Study.open(load_sweep(folder / "small.yaml"), store, folder / "out", folder)


def publish(study: Study, node: StageNode, name: str) -> None:
    def build(folder: Path) -> dict[str, Any]:
        write_jsonl(folder / name, [])
        return {}

    study.store.make(node.request, build)


def finish(study: Study, trial: int, t: int, judged: bool = True) -> None:
    iteration = list(study.graph.trials.values())[trial].iterations[t]
    publish(study, iteration.answers["micro"], "answers.jsonl")
    if judged:
        publish(study, iteration.scores["micro"], "judgments.jsonl")


def shown(entries: list[Entry]) -> list[tuple[str, bool]]:
    return [(entry.label, entry.judgments is not None) for entry in entries]


def test_the_base_model_is_one_entry_and_the_unfinished_is_skipped(tmp_path: Path, store: Store) -> None:
    study = open_study(tmp_path, store, beta=[0.1, 0.5])
    finish(study, 0, 0)
    finish(study, 0, 1)
    finish(study, 1, 2, judged=False)
    entries = sweep_entries(tmp_path / "out")
    assert shown(entries) == [
        ("base model", True),
        ("dpo-b0.1, iteration 1", True),
        ("dpo-b0.5, iteration 2", False),
    ]
    assert all(entry.benchmark == "micro" and entry.answers.is_file() for entry in entries)


def test_base_models_that_differ_between_trials_keep_apart(tmp_path: Path, store: Store) -> None:
    study = open_study(tmp_path, store, seed=[0, 1])
    finish(study, 0, 0)
    finish(study, 1, 0)
    assert shown(sweep_entries(tmp_path / "out")) == [
        ("base model of dpo-b0.1-seed=0", True),
        ("base model of dpo-b0.1-seed=1", True),
    ]


def test_nothing_finished_says_when_to_look_again(tmp_path: Path, store: Store) -> None:
    open_study(tmp_path, store)
    with pytest.raises(UserError, match=r"no finished answers in the store .*aipo-lab status"):
        sweep_entries(tmp_path / "out")
    with pytest.raises(UserError, match="holds no sweep"):
        sweep_entries(tmp_path)
