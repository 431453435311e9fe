"""Exports of pairs: every row of the stage's file in a dataset that `datasets` and TRL read, and a card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.sweeps.export_pairs import DATA_FILE, _write_parquet, export_pairs
from aipo_lab.sweeps.points import find_point


@pytest.fixture
def runs(finished_sweep: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_sweep / "runs", tmp_path / "runs")


def load(folder: Path, tmp_path: Path) -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def test_the_dataset_has_the_iterations_pairs_as_trl_wants_them(runs: Path, tmp_path: Path) -> None:
    from trl.data_utils import is_conversational

    point = find_point("dpo-b0.1@1", runs / "tiny", None)
    n_pairs = export_pairs(point, tmp_path / "pairs")
    train = point.store.find(*point.graph.iterations[2].policy.reference.split("/"))
    assert train is not None
    stored = read_jsonl(point.store.root / train.manifest["inputs"]["pairs"] / "pairs.jsonl")
    data = load(tmp_path / "pairs", tmp_path)
    assert list(data) == stored and len(stored) == n_pairs == train.summary["pairs"]
    assert list(data.column_names)[:4] == ["id", "prompt", "chosen", "rejected"]
    assert is_conversational(data[0])
    card = (tmp_path / "pairs" / "README.md").read_text()
    assert train.manifest["inputs"]["pairs"] in card and point.checkpoint in card and "dpo-b0.1@2 was trained" in card
    assert f"| kept | {n_pairs} |" in card
    with pytest.raises(UserError, match="--force"):
        export_pairs(point, tmp_path / "pairs")


def test_the_last_iteration_makes_no_pairs_and_freed_ones_are_said_to_be(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"makes no pairs; .* trained on those of dpo-b0.1@1"):
        export_pairs(find_point("dpo-b0.1@2", runs / "tiny", None), tmp_path / "pairs")
    shutil.rmtree(runs / "store" / "pair")
    with pytest.raises(UserError, match=r"the pairs of iteration 0, pair/.* is not in the store"):
        export_pairs(find_point("dpo-b0.1@0", runs / "tiny", None), tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()


def test_rows_may_lack_columns_and_texts_may_hold_what_utf_8_cannot(runs: Path, tmp_path: Path) -> None:
    point = find_point("dpo-b0.1@0", runs / "tiny", None)
    reference = point.graph.iterations[0].steps["pair"].reference
    rows = read_jsonl(point.store.root / reference / "pairs.jsonl")
    del rows[0]["prompt_token_ids"]
    rows[1]["chosen"][0]["content"] = "cut \ud83d"
    from aipo_lab.core.unicode import repaired_json

    write_jsonl(tmp_path / "rows.jsonl", rows)
    _write_parquet(tmp_path / "pairs" / DATA_FILE, repaired_json(read_jsonl(tmp_path / "rows.jsonl")))
    data = load(tmp_path / "pairs", tmp_path)
    assert data[0]["prompt_token_ids"] is None and data[1]["prompt_token_ids"] == rows[1]["prompt_token_ids"]
    assert data[1]["chosen"][0]["content"] == "cut \ufffd"
