"""Every stage that commits parts, killed and its parts damaged meanwhile: they are made again, to the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from part_damages import DAMAGES

from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.stages import rank as rank_stage
from aipo_lab.stages.definition import StageNode, get_stage, run_stage
from aipo_lab.worlds.world import get_world

WORLD = {"name": "micro", "seed": 0}
ENGINE = {"batch_size": 64, "shard_prompts": 4}
SAMPLING = {"temperature": 1.0, "max_new_tokens": 12}
PROMPTS = [{"id": f"{i:06d}", "prompt": text, "source": "pool"} for i, text in enumerate(get_world("micro").pool(10))]
RESPONSES = [
    {
        "id": row["id"],
        "prompt": row["prompt"],
        "responses": [{"text": text, "tokens": 5, "finish_reason": "stop"} for text in ("That is so.", "Yes.")],
    }
    for row in PROMPTS
]
SOME_DAMAGES = ("empty", "torn", "not UTF-8", "of other inputs")
"""The part's own test has them all."""

STAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "instruct": (
        {
            "n_prompts": 16,
            "max_tokens": 40,
            "max_rounds": 3,
            "sampling": {"temperature": 0.9, "max_new_tokens": 48},
            "seed": 5,
            "world": WORLD,
            "engine": ENGINE,
        },
        {},
    ),
    "respond": (
        {"n_candidates": 2, "sampling": SAMPLING, "seed": 4, "engine": ENGINE},
        {"prompts": {"prompts.jsonl": PROMPTS}},
    ),
    "rank": (
        {"length_bias": 0.1, "noise_sd": 0.5, "seed": 5, "world": WORLD},
        {"responses": {"responses.jsonl": RESPONSES}},
    ),
    "answer": (
        {"benchmark": "micro", "world": WORLD, "n_prompts": 10, "sampling": SAMPLING, "seed": 4, "engine": ENGINE},
        {},
    ),
}


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def killed_late(stage: str) -> Callable[..., None]:
    """Progress that dies once there are several parts: of `instruct` after two rounds, of others at the end."""
    n_calls = 0

    def progress(done: int, total: int, unit: str) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2 if stage == "instruct" else done == total:
            raise Killed

    return progress


@pytest.fixture
def node(
    request: pytest.FixtureRequest, put_artifact: Callable[..., str], base_model_folder: Path, monkeypatch: Any
) -> StageNode:
    monkeypatch.setattr(rank_stage, "SHARD_ROWS", 4)
    name = request.param
    config, inputs = STAGES[name]
    files: Mapping[str, Any] = inputs if name == "rank" else {"policy": {"model": base_model_folder}, **inputs}
    references = {one: put_artifact("input", content) for one, content in files.items()}
    return StageNode(ArtifactRequest(name, get_stage(name).version, config, references))


@pytest.mark.parametrize("node", STAGES, indirect=True)
def test_damaged_parts_are_made_again_to_the_same_bytes(
    node: StageNode, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run_stage(node, store, lambda *_: None).manifest["files"]
    shutil.rmtree(store.path(node.stage, node.key))
    with pytest.raises(Killed):
        run_stage(node, store, killed_late(node.stage))
    parts = store.root / node.stage / f".work-{node.key}" / "parts"
    files = sorted(path for path in parts.rglob("*") if path.is_file())
    assert len(files) >= 2
    contents = [path.read_bytes() for path in files]
    for name in SOME_DAMAGES:
        caplog.clear()
        for path, content in zip(files, contents, strict=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            path.write_bytes(content)
        DAMAGES[name](files[1])
        kept = shutil.copytree(parts, parts.parent.parent / "kept")
        again = run_stage(node, store, lambda *_: None)
        assert again.manifest["files"] == whole, name
        dropped = [record.getMessage() for record in caplog.records if "is dropped and made again" in record.message]
        assert [str(files[1]) in message for message in dropped] == [True], name
        shutil.rmtree(again.path)
        parts.parent.mkdir()
        shutil.move(kept, parts)
