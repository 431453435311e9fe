"""Runs one stage for real on hand-made input artifacts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.jsonl import read_jsonl, write_jsonl
from aipo_lab.stages.definition import StageNode, get_stage, run_stage
from aipo_lab.store import ArtifactRequest, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def put_artifact(store: Store) -> Callable[..., str]:
    """Publishes an artifact of JSON-lines files (lists) and linked folders (paths); returns its reference."""
    numbers = itertools.count()

    def put(stage: str, files: Mapping[str, list[dict[str, Any]] | Path]) -> str:
        def build(folder: Path) -> dict[str, Any]:
            for name, content in files.items():
                if isinstance(content, Path):
                    (folder / name).symlink_to(content)
                else:
                    write_jsonl(folder / name, content)
            return {}

        request = ArtifactRequest(stage, 0, {"number": next(numbers)}, {})
        return f"{stage}/{store.make(request, build).key}"

    return put


@pytest.fixture
def run_stage_on(store: Store, put_artifact: Callable[..., str]) -> Callable[..., Any]:
    """Runs a stage on `inputs` (files by input name); returns the rows of its `output` and its summary."""

    def run(
        stage: str, config: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Any]], output: str
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        references = {name: put_artifact("input", files) for name, files in inputs.items()}
        request = ArtifactRequest(stage, get_stage(stage).version, config, references)
        artifact = run_stage(StageNode(request), store, lambda *_: None)
        return read_jsonl(artifact.file(output)), artifact.summary

    return run
