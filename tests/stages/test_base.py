"""A base model is its content: the folder of this run is used, checked when opened, wherever it lies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.models.policy import POLICIES
from aipo_lab.stages.definition import Runtime, StageNode, get_stage, run_stage

WORLD = {"name": "micro", "seed": 0}
ENGINE = {"batch_size": 64, "shard_prompts": 8}
SAMPLING = {"temperature": 1.0, "max_new_tokens": 8}


@pytest.fixture
def folder(base_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the base model that a test may change."""
    POLICIES.clear()
    return Path(shutil.copytree(base_model_folder, tmp_path / "given"))


def base_node(folder: Path) -> StageNode:
    request = ArtifactRequest("base", 1, {"micro": None, "fingerprint": fingerprint_folder(folder)}, {})
    return StageNode(request, Runtime(model_folder=str(folder)))


def make(node: StageNode, store: Store) -> Path:
    return run_stage(node, store, lambda *_: None).path


def user_nodes(base: StageNode, put_artifact: Callable[..., str]) -> dict[str, StageNode]:
    """A node of every stage that opens a policy, on the base model."""
    message = [{"role": "user", "content": "Name a colour."}]
    pair = {"id": "0", "prompt": message, "chosen_score": 1.0, "rejected_score": 0.0}
    pair |= {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    pairs = put_artifact("pair", {"pairs.jsonl": [pair]})
    prompts = put_artifact("instruct", {"prompts.jsonl": [{"id": "0", "prompt": "Name a colour.", "source": "pool"}]})
    objective = {"name": "simpo", "hyperparameters": {"beta": 2.0, "gamma": 0.5}}
    sampled = {"sampling": SAMPLING, "seed": 1, "engine": ENGINE}
    made: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "instruct": (sampled | {"world": WORLD, "n_prompts": 2}, {}),
        "respond": (sampled | {"n_candidates": 2}, {"prompts": prompts}),
        "reference": ({}, {"pairs": pairs}),
        "train": ({"objective": objective, "seed": 0, "learning_rate": 1e-3}, {"pairs": pairs}),
        "answer": (sampled | {"benchmark": "micro", "world": WORLD, "n_prompts": 2}, {}),
    }
    return {
        stage: StageNode(
            ArtifactRequest(stage, get_stage(stage).version, config, {"policy": base.reference} | inputs), base.runtime
        )
        for stage, (config, inputs) in made.items()
    }


STAGES = ("instruct", "respond", "reference", "train", "answer")


def test_the_artifact_holds_no_place(store: Store, folder: Path) -> None:
    made = make(base_node(folder), store)
    assert [path.name for path in made.iterdir()] == ["manifest.json"]
    assert str(folder) not in (made / "manifest.json").read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_other_weights_at_the_same_place_are_not_used_under_the_old_key(
    store: Store, folder: Path, put_artifact: Callable[..., str], stage: str
) -> None:
    base = base_node(folder)
    make(base, store)
    weights = folder / "model.safetensors"
    before = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time say nothing
    node = user_nodes(base, put_artifact)[stage]
    with pytest.raises(StageFailed, match="has changed since this run began"):
        make(node, store)
    assert not store.contains(stage, node.key)


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_that_is_gone_is_a_message_that_says_how_to_supply_it(
    store: Store, folder: Path, put_artifact: Callable[..., str], stage: str
) -> None:
    base = base_node(folder)
    make(base, store)
    shutil.rmtree(folder)
    with pytest.raises(StageFailed, match=r"is gone.*--set model\.source=FOLDER"):
        make(user_nodes(base, put_artifact)[stage], store)


@pytest.mark.parametrize("linked", [False, True])
def test_a_moved_folder_is_the_same_model_also_in_a_store_that_links_to_the_old_place(
    store: Store, folder: Path, put_artifact: Callable[..., str], tmp_path: Path, linked: bool
) -> None:
    made = make(base_node(folder), store)
    if linked:  # as version 1 of the stage left it
        (made / "model").symlink_to(folder)
        manifest = json.loads((made / "manifest.json").read_text())
        (made / "manifest.json").write_text(json.dumps(manifest | {"summary": {"linked_to": str(folder)}}))
    moved = folder.rename(tmp_path / "moved here")
    base = base_node(moved)
    assert store.find(base.stage, base.key) is not None
    answers = read_jsonl(make(user_nodes(base, put_artifact)["answer"], store) / "answers.jsonl")
    assert len(answers) == 2


def test_a_snapshot_of_links_is_the_same_model(store: Store, folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshot", folder.rename(tmp_path / "blobs")
    snapshot.mkdir()
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert fingerprint_folder(snapshot) == fingerprint_folder(blobs)
    make(base_node(snapshot), store)
