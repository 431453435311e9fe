"""Stages whose engine has the model elsewhere: what reaches the engine, what is loaded here, and what a kill leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from generation.completion_server import MODEL, CompletionServer
from model_variants import make_variant

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.generation.openai_engine import OpenaiEngineSettings
from aipo_lab.models.policy import POLICIES, Policy, load_policy
from aipo_lab.stages.definition import Runtime, StageNode, get_stage, run_stage

PROMPTS = [{"id": f"{n:06d}", "prompt": f"name {n} rivers", "source": "pool"} for n in range(5)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    return make_variant(tmp_path / "model", generation_config={"eos_token_id": 2})


@pytest.fixture
def policy(folder: Path) -> Policy:
    return load_policy(folder, "cpu", "float32")


def respond(
    store: Store, put_artifact: Callable[..., str], folder: Path, server: CompletionServer, **how: Any
) -> Callable[[], Path]:
    """Runs the stage once at each call; gives the file of responses."""
    given = {"model": MODEL, "base_url": server.base_url, "attempts": 1, "shard_prompts": 2, **how}
    engine = OpenaiEngineSettings(**given)
    config = {"engine": engine.identity(), "seed": 1, "n_candidates": 2, "sampling": {"max_new_tokens": 8}}
    inputs = {
        "policy": put_artifact("input", {"model": folder}),
        "prompts": put_artifact("input", {"prompts.jsonl": PROMPTS}),
    }
    request = ArtifactRequest("respond", get_stage("respond").version, config, inputs)

    def run() -> Path:
        node = StageNode(request, Runtime(engine=engine.how()))
        return run_stage(node, store, lambda *_: None).file("responses.jsonl")

    return run


def test_a_server_answers_a_stage_and_no_weights_are_loaded_here(
    store: Store, put_artifact: Callable[..., str], folder: Path, policy: Policy
) -> None:
    POLICIES.clear()
    with CompletionServer(policy, folder) as server:
        rows = read_jsonl(respond(store, put_artifact, folder, server)())
        sent = [body["prompt"] for body in server.bodies]
    assert not POLICIES._policies
    assert sorted(row["prompt_token_ids"] for row in rows) == sorted(sent)
    assert [row["id"] for row in rows] == [row["id"] for row in PROMPTS]
    for one in (one for row in rows for one in row["responses"]):
        assert one["tokens"] == len(one["token_ids"])
        assert one["text"] == policy.tokenizer.decode(one["token_ids"], skip_special_tokens=True)


def test_a_stage_that_failed_goes_on_from_what_was_paid_for(
    store: Store, put_artifact: Callable[..., str], folder: Path, policy: Policy
) -> None:
    down = True

    def fault(body: dict[str, Any], n: int) -> str | None:
        return "server_error" if down and len(server.answered) >= 3 else None

    with CompletionServer(policy, folder, fault=fault) as server:
        run = respond(store, put_artifact, folder, server, concurrency=1)
        with pytest.raises(StageFailed, match="1 of 2 prompts got no completions"):
            run()
        assert len(server.answered) == 3
        down = False
        rows = read_jsonl(run())
        assert len(rows) == len(PROMPTS)
        assert set(server.answered.values()) == {1}
    assert not list(store.root.rglob("replies"))  # the artifact has it all
