"""The iteration axes run for real: what each trial was trained on and against, and what they computed together."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from small_sweep import run_small_sweep

from aipo_lab.core.jsonl import read_json, read_jsonl
from aipo_lab.sweeps.points import Point, find_point

AXES = {"reference": ["previous", "base", "ema"], "data": ["accumulated"], "start": ["base"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("axes")
    plain = {"objective": "dpo", "beta": [0.1]}
    run_small_sweep(
        folder,
        [
            plain,
            *({**plain, axis: values} for axis, values in AXES.items() if axis != "reference"),
            {**plain, "reference": ["base", "ema"]},
        ],
    )
    return folder / "runs"


def point(runs: Path, name: str, t: int) -> Point:
    return find_point(f"dpo-b0.1{name}@{t}", runs / "tiny", None)


def step(runs: Path, name: str, t: int, stage: str) -> Path:
    node = point(runs, name, t).graph.iterations[t].steps[stage]
    return runs / "store" / node.stage / node.key


def test_all_trials_end_and_share_the_first_iteration(runs: Path) -> None:
    with (runs / "tiny" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 15 and {row["state"] for row in rows} == {"complete"}
    by_iteration = [{row["checkpoint"] for row in rows if row["iteration"] == str(t)} for t in range(3)]
    assert [len(checkpoints) for checkpoints in by_iteration] == [1, 1, 5]
    weights = [(runs / "store" / one / "model" / "model.safetensors").read_bytes() for one in by_iteration[2]]
    assert len(set(weights)) == 5
    made = {stage.name: len(list(stage.iterdir())) for stage in (runs / "store").iterdir() if stage.is_dir()}
    assert {name: made[name] for name in ("instruct", "respond", "rank", "pair", "ema", "accumulate", "train")} == {
        "instruct": 2, "respond": 2, "rank": 2, "pair": 2, "ema": 1, "accumulate": 1, "train": 6,
    }  # fmt: skip


def test_accumulated_pairs_are_all_of_them_each_with_its_own_reference(runs: Path) -> None:
    name = "-data=accumulated"
    pairs = read_jsonl(step(runs, name, 1, "accumulate") / "pairs.jsonl")
    own = [read_jsonl(step(runs, name, t, "pair") / "pairs.jsonl") for t in (0, 1)]
    assert [row["id"] for row in pairs] == [f"{t}-{row['id']}" for t in (0, 1) for row in own[t]]
    assert [row["chosen_token_ids"] for row in pairs] == [row["chosen_token_ids"] for rows in own for row in rows]
    reference = read_jsonl(step(runs, name, 1, "reference") / "reference.jsonl")
    assert [row["id"] for row in reference] == [row["id"] for row in pairs]
    assert read_json(step(runs, name, 1, "train") / "manifest.json")["summary"]["pairs"] == len(pairs)


def test_a_reference_of_another_policy_is_apart_from_the_start_and_no_fault(runs: Path) -> None:
    gaps = {}
    for name in ("", "-data=accumulated", "-reference=base", "-reference=ema", "-start=base"):
        train = step(runs, name, 1, "train")
        gaps[name] = read_jsonl(train / "curve.jsonl")[0]["reference_gap_max"]
        assert read_json(train / "manifest.json")["summary"]["warnings"] == []
    assert gaps[""] < 1e-3 and gaps["-data=accumulated"] < 1e-3
    assert gaps["-reference=base"] > gaps["-reference=ema"] > 1e-2
    assert gaps["-start=base"] > 1e-2
